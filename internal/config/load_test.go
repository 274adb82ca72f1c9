package config_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

func TestLoad_FillsInDefaults(t *testing.T) {
	c := load(t, nil, "HOME=/home/ann")
	want := map[string]any{
		"Embedded": true, "StoreDir": "/home/ann/.local/state/rebound", "Listen": "127.0.0.1:4222",
		"HTTP": "127.0.0.1:8422", "Replicas": 0, "Prefix": "retry", "OutcomesMaxAge": 7 * 24 * time.Hour,
		"DeadMaxAge": time.Duration(0), "SyncInterval": 2 * time.Minute, "SyncAlways": false,
		"Lease": 30 * time.Second, "MaxInFlight": 8192, "MaxInFlightBytes": int64(256 << 20), "ForgetIdleAfter": time.Hour, "LogLevel": slog.LevelInfo, "LogFormat": "text",
		"Servers": "[nats://127.0.0.1:4222]", "Backpressure": gate.Limits{}.OrDefaults(),
	}
	got := map[string]any{
		"Embedded": c.Embedded(), "StoreDir": c.StoreDir, "Listen": c.Listen,
		"HTTP": c.HTTP, "Replicas": c.Replicas, "Prefix": c.Prefix, "OutcomesMaxAge": c.OutcomesMaxAge,
		"DeadMaxAge": c.DeadMaxAge, "SyncInterval": c.SyncInterval, "SyncAlways": c.SyncAlways,
		"Lease": c.Lease, "MaxInFlight": c.MaxInFlight, "MaxInFlightBytes": c.MaxInFlightBytes, "ForgetIdleAfter": c.ForgetIdleAfter, "LogLevel": c.LogLevel, "LogFormat": c.LogFormat,
		"Servers": fmt.Sprint(c.Servers()), "Backpressure": c.Backpressure,
	}
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s is %v, want %v", name, got[name], w)
		}
	}
	for _, v := range c.Values() {
		if v.Source != "default" {
			t.Errorf("%s comes from %s", v.Key, v.Source)
		}
	}
	if err := c.CheckServe(); err != nil {
		t.Errorf("the service refuses the defaults: %v", err)
	}
}

func TestLoad_EveryLimitOfBackpressureCanBeOff(t *testing.T) {
	flags := []string{
		"--pressure-failure-share=off", "--pressure-active=off", "--pressure-store-delay=off",
		"--pressure-scheduler-delay=off", "--pressure-cpu=off", "--pressure-memory=off",
	}
	want := gate.Limits{
		FailureShare: gate.Off, Services: 3, Active: gate.Off, StoreDelay: gate.Off, SchedulerDelay: gate.Off, CPUPressure: gate.Off, Memory: gate.Off,
	}
	if got := load(t, flags, "HOME=/h").Backpressure; got != want {
		t.Errorf("the limits are %+v, want %+v", got, want)
	}
}

func TestLoad_HeavierPlacesWin(t *testing.T) {
	file := write(t, "listen: 127.0.0.1:1\nhttp: 127.0.0.1:2\nprefix: from-file\n")
	flags := []string{"--listen=127.0.0.1:5"}
	c := load(t, flags, "HOME=/h", "REBOUND_LISTEN=127.0.0.1:3", "REBOUND_HTTP=127.0.0.1:4", "REBOUND_CONFIG="+file)

	for key, want := range map[string]config.Value{
		"listen":   {Key: "listen", Value: "127.0.0.1:5", Source: "--listen"},
		"http":     {Key: "http", Value: "127.0.0.1:4", Source: "REBOUND_HTTP"},
		"prefix":   {Key: "prefix", Value: "from-file", Source: file + ":3:9"},
		"replicas": {Key: "replicas", Value: "0", Source: "default"},
	} {
		if got := value(c, key); got != want {
			t.Errorf("%s is %+v, want %+v", key, got, want)
		}
	}
	if c.Listen != "127.0.0.1:5" || c.HTTP != "127.0.0.1:4" || c.Prefix != "from-file" {
		t.Errorf("in force are %s, %s, %s", c.Listen, c.HTTP, c.Prefix)
	}
	if c.File != file {
		t.Errorf("the file is %q, want %q", c.File, file)
	}
}

func TestLoad_EverySettingWorksInEveryPlace(t *testing.T) {
	texts := map[string]string{
		"nats": "nats://a:1,nats://b:2", "context": "prod", "creds": "/c", "nkey": "/n", "user": "ann",
		"password": "pw", "token": "tk", "tls-ca": "/ca", "tls-cert": "/cert", "tls-key": "/key",
		"prefix": "again", "store-dir": "/store", "listen": "0.0.0.0:9", "http": "off", "replicas": "3",
		"redis": "redis://r:1/2", "policies": "/p.yaml", "sync-interval": "always", "max-store": "10GiB", "outcomes-max-age": "2d",
		"outcomes-max-bytes": "1MiB", "dead-max-age": "30d", "max-submitted": "9", "max-in-flight": "10", "lease": "5s",
		"pressure-failure-share": "0.9", "pressure-services": "5", "pressure-active": "500", "pressure-store-delay": "250ms",
		"pressure-scheduler-delay": "1s", "pressure-cpu": "1", "pressure-memory": "off",
		"max-in-flight-bytes": "2MiB", "forget-idle-after": "20m", "log-level": "debug", "log-format": "json",
	}
	partner := map[string]string{
		"user": "password", "password": "user", "tls-cert": "tls-key", "tls-key": "tls-cert",
	}
	for _, v := range load(t, nil, "HOME=/h").Values() {
		text, ok := texts[v.Key]
		if !ok {
			t.Errorf("%s is not tested", v.Key)
			continue
		}
		variable := "REBOUND_" + strings.ToUpper(strings.ReplaceAll(v.Key, "-", "_"))
		environ, flags, lines := []string{"HOME=/h"}, []string{}, v.Key+": "+text+"\n"
		if p := partner[v.Key]; p != "" {
			environ = append(environ, "REBOUND_"+strings.ToUpper(strings.ReplaceAll(p, "-", "_"))+"="+texts[p])
		}
		shown := make([]string, 0, 3)
		for _, c := range []*config.Config{
			load(t, append(flags, "--"+v.Key, text), environ...),
			load(t, nil, append(environ, variable+"="+text)...),
			load(t, []string{"--config", write(t, lines)}, environ...),
		} {
			if value(c, v.Key).Source == "default" {
				t.Errorf("%s is not read", v.Key)
			}
			shown = append(shown, value(c, v.Key).Value)
		}
		if shown[0] != shown[1] || shown[1] != shown[2] || shown[0] == v.Value {
			t.Errorf("%s is %q, default %q", v.Key, shown, v.Value)
		}
	}
}

func TestLoad_AllIssuesAreReportedAtOnce(t *testing.T) {
	file := write(t, "store_dirr: /x\nlisten: nowhere\nhttp: [a, b]\nreplicas: 2\nreplicas: 3\nnonsense: 1\nmaxInFlight: 7\n")
	err := loadError(t, []string{"--config", file, "--log-level=loud", "--nats=ftp://x"},
		"HOME=/h", "REBOUND_OUTCOMES_MAX_AGE=soon", "REBOUND_MAX_STORE=-1")
	want := []string{
		file + `:1:1: store_dirr: no setting has this name; did you mean store-dir?`,
		file + `:2:9: listen: "nowhere" is not an address, such as 127.0.0.1:4222`,
		file + `:3:7: http: it takes a single value`,
		file + `:5:1: replicas: it is set twice, first in line 4`,
		file + `:6:1: nonsense: no setting has this name`,
		file + `:7:1: maxInFlight: no setting has this name; did you mean max-in-flight?`,
		`--log-level: "loud" is not a level; use debug, info, warn or error`,
		`--nats: "ftp://x" has the scheme "ftp"; use nats, tls, ws or wss`,
		`REBOUND_OUTCOMES_MAX_AGE: "soon" is not a duration, such as "500ms", "90s", "2h" or "7d"`,
		`REBOUND_MAX_STORE: "-1" is not a number of bytes, such as "1048576", "256MiB" or "1.5GB"`,
	}
	got := strings.Split(err.Error(), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("issues are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestLoad_EachBadValueIsOneClearSentence(t *testing.T) {
	for flag, want := range map[string]string{
		"--nats=host:99999":                 `"host:99999" has the port "99999"; a port is a number from 1 to 65535`,
		"--nats=nats://":                    `"nats://" names no host`,
		"--context=../x":                    `"../x" is not the name of a context`,
		"--prefix=Retry":                    `"Retry" cannot begin subjects and streams`,
		"--prefix=a.b":                      `"a.b" cannot begin subjects and streams`,
		"--prefix=rebound-shop":             `"rebound-shop" is for endpoints`,
		"--listen=127.0.0.1:70000":          `"127.0.0.1:70000" has the port "70000"; a port is a number from 0 to 65535`,
		"--listen=":                         `"" is not an address`,
		"--http=on":                         `"on" is not an address, such as 127.0.0.1:4222, or "off"`,
		"--replicas=6":                      `"6" is not a whole number from 0 to 5`,
		"--replicas=two":                    `"two" is not a whole number from 0 to 5`,
		"--sync-interval=0":                 `"0" is less than a millisecond; use "always" to lose nothing`,
		"--sync-interval=never":             `"never" is not a duration, such as "500ms", "90s", "2h" or "7d", or "always"`,
		"--outcomes-max-age=1s":             `"1s" is less than 2m0s, for which message ids are remembered; 0 means for ever`,
		"--dead-max-age=-1h":                `"-1h" is negative`,
		"--dead-max-age=999999999d":         `"999999999d" is longer than 292 years`,
		"--max-store=9999999TiB":            `"9999999TiB" is more bytes than a number can hold`,
		"--max-store=1 potato":              `"1 potato" is not a number of bytes`,
		"--lease=1s":                        `"1s" is not from 2s to 1h`,
		"--max-in-flight=0":                 `"0" is not a whole number from 1 to 1000000`,
		"--forget-idle-after=0":             `"0" is less than 1s`,
		"--max-in-flight-bytes=1":           `"1" is less than 1048576 bytes`,
		"--pressure-failure-share=75":       `"75" is not a number above 0 and up to 1, or "off"`,
		"--pressure-failure-share=0":        `"0" is not a number above 0 and up to 1, or "off"`,
		"--pressure-cpu=NaN":                `"NaN" is not a number above 0 and up to 1, or "off"`,
		"--pressure-memory=none":            `"none" is not a number above 0 and up to 1, or "off"`,
		"--pressure-services=off":           `"off" is not a whole number from 1 to 128`,
		"--pressure-active=0":               `"0" is not a whole number from 1 to 1000000000, or "off"`,
		"--pressure-store-delay=0":          `"0" is less than a millisecond; "off" is for no limit`,
		"--pressure-scheduler-delay=soon":   `"soon" is not a duration, such as "500ms", "90s", "2h" or "7d", or "off"`,
		"--log-format=xml":                  `"xml" is not one of text, json`,
		"--user=ann":                        `it needs password, which is not set`,
		"--tls-key=/k":                      `it needs tls-cert, which is not set`,
		"--config=/does/not/exist.yaml":     `the configuration file cannot be read: open /does/not/exist.yaml: no such file or directory`,
		"--creds=-----BEGIN NATS USER JWT-": `this is the secret itself; give the path of the file that holds it`,
	} {
		t.Run(flag, func(t *testing.T) {
			err := loadError(t, []string{flag}, "HOME=/h")
			name, _, _ := strings.Cut(flag, "=")
			if got := err.Error(); !strings.HasPrefix(got, name+": "+want) || strings.Contains(got, "\n") {
				t.Errorf("message is %q, want %q", got, name+": "+want)
			}
		})
	}
}

func TestLoad_InvalidYAMLIsLocated(t *testing.T) {
	for text, want := range map[string]string{
		"a: b: c\n":            ":1:5: it is not YAML: mapping values are not allowed in this context",
		"listen: \"x\n":        ": it is not YAML: found unexpected end of stream",
		"- x\n":                ":1:1: the file is not a list of settings",
		"a: 1\n---\nb: 2\n":    ": it is not YAML: it holds more than one document",
		"password: *hunter2\n": ":1:11: it is not YAML: unknown anchor (quote a value that begins with *) referenced",
		"a: \xff\n":            ": it is not YAML: invalid leading UTF-8 octet",
	} {
		err := loadError(t, []string{"--config", write(t, text)}, "HOME=/h")
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: message is %q, want %q", text, err, want)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the message %q shows a password", err)
		}
	}
}

func TestLoad_FileIsFoundInItsPlaces(t *testing.T) {
	xdg := t.TempDir()
	if err := os.MkdirAll(filepath.Join(xdg, "rebound"), 0o700); err != nil {
		t.Fatal(err)
	}
	standard := filepath.Join(xdg, "rebound", "rebound.yaml")
	if err := os.WriteFile(standard, []byte("prefix: standard\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	named, argument := write(t, "prefix: named\n"), write(t, "prefix: argument\n")
	for name, c := range map[string]struct {
		flags, environ []string
		argument, want string
	}{
		"in the XDG directory":                 {environ: []string{"XDG_CONFIG_HOME=" + xdg}, want: "standard"},
		"in the home directory":                {environ: []string{"HOME=" + t.TempDir()}, want: "retry"},
		"a relative XDG directory is ignored":  {environ: []string{"XDG_CONFIG_HOME=relative"}, want: "retry"},
		"the variable outweighs the directory": {environ: []string{"XDG_CONFIG_HOME=" + xdg, "REBOUND_CONFIG=" + named}, want: "named"},
		"the flag outweighs the variable":      {flags: []string{"--config", argument}, environ: []string{"REBOUND_CONFIG=" + named}, want: "argument"},
		"an empty flag means no file":          {flags: []string{"--config="}, environ: []string{"REBOUND_CONFIG=" + named}, want: "retry"},
		"the argument outweighs all":           {environ: []string{"REBOUND_CONFIG=" + named}, argument: argument, want: "argument"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := config.Load(flagSet(t, c.flags), c.environ, c.argument)
			if err != nil {
				t.Fatal(err)
			}
			if got.Prefix != c.want {
				t.Errorf("prefix is %q, want %q", got.Prefix, c.want)
			}
		})
	}
}

func TestLoad_EmptyFilesAndValuesSetNothing(t *testing.T) {
	for _, text := range []string{"", "# only a comment\n", "---\n", "listen:\n", "listen: null\n", "{}\n"} {
		c := load(t, []string{"--config", write(t, text)}, "HOME=/h", "REBOUND_HTTP=")
		if c.Listen != "127.0.0.1:4222" || c.HTTP != "127.0.0.1:8422" {
			t.Errorf("%q: listen is %q, http %q", text, c.Listen, c.HTTP)
		}
	}
}

func TestLoad_PathsMeanTheSameEverywhere(t *testing.T) {
	file := write(t, "policies: policies.yaml\ncreds: ~/rebound.creds\nstore-dir: /absolute\n")
	c := load(t, []string{"--config", file, "--tls-ca", "ca.pem"}, "HOME=/home/ann")
	for name, paths := range map[string][2]string{
		"relative in a file":     {c.Policies, filepath.Join(filepath.Dir(file), "policies.yaml")},
		"in the home directory":  {c.Creds, "/home/ann/rebound.creds"},
		"absolute":               {c.StoreDir, "/absolute"},
		"relative in a flag":     {c.TLSCA, "ca.pem"},
		"as shown in the values": {value(c, "creds").Value, "/home/ann/rebound.creds"},
	} {
		if paths[0] != paths[1] {
			t.Errorf("%s: %q, want %q", name, paths[0], paths[1])
		}
	}
	if c := load(t, nil, "XDG_STATE_HOME=/state", "HOME=/h"); c.StoreDir != "/state/rebound" {
		t.Errorf("the store directory is %q, want it in $XDG_STATE_HOME", c.StoreDir)
	}
}

func TestServers_AreReadFromEveryForm(t *testing.T) {
	for name, flags := range map[string][]string{
		"with commas":       {"--nats=a:1, tls://b:2"},
		"repeated":          {"--nats=a:1", "--nats=tls://b:2"},
		"a list in a file":  {"--config", write(t, "nats: [a:1, 'tls://b:2']\n")},
		"a block in a file": {"--config", write(t, "nats:\n- a:1\n- tls://b:2\n")},
	} {
		if got := fmt.Sprint(load(t, flags, "HOME=/h", "NATS_URL=nats://unused").Servers()); got != "[nats://a:1 tls://b:2]" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := fmt.Sprint(load(t, nil, "NATS_URL=nats://other:1").Servers()); got != "[nats://other:1]" {
		t.Errorf("with NATS_URL: %s", got)
	}
	if c := load(t, nil, "NATS_URL=nats://other:1"); !c.Embedded() {
		t.Error("NATS_URL keeps the service from running its own server")
	}
	if err := loadError(t, nil, "NATS_URL=x://y"); !strings.HasPrefix(err.Error(), "NATS_URL: ") {
		t.Errorf("message is %q", err)
	}
}

func TestLoad_SettlesSettingsThatExcludeEachOther(t *testing.T) {
	for name, c := range map[string]struct {
		file    string
		environ []string
		flags   []string
		want    string // key=value of what is in force, or the issue
	}{
		"a context in a flag displaces servers and credentials of the file": {
			file: "nats: a:1\ncreds: /c\ntls-ca: /ca\n", flags: []string{"--context=prod"}, want: "context=prod",
		},
		"servers in a flag displace the context of the file": {
			file: "context: prod\n", flags: []string{"--nats=b:2"}, want: "nats=nats://b:2",
		},
		"servers in a flag go with credentials of the environment": {
			file: "context: prod\n", environ: []string{"REBOUND_CREDS=/c"}, flags: []string{"--nats=b:2"}, want: "nats=nats://b:2 creds=/c",
		},
		"context and servers in one place are an issue": {
			flags: []string{"--context=prod", "--nats=b:2"},
			want:  "--nats: it cannot be combined with the context (--context), which says how to connect",
		},
		"credentials in a heavier place than the context are an issue": {
			environ: []string{"REBOUND_CONTEXT=prod"}, flags: []string{"--creds=/c"},
			want: "--creds: it cannot be combined with the context (REBOUND_CONTEXT), which says how to connect",
		},
		"credentials in a flag displace the user of the file": {
			file: "user: ann\npassword: pw\n", flags: []string{"--creds=/c"}, want: "creds=/c",
		},
		"a user in a flag with the password in the environment displaces a token of the file": {
			file: "token: tk\n", environ: []string{"REBOUND_PASSWORD=pw"}, flags: []string{"--user=ann"},
			want: "user=ann password=[redacted]",
		},
		"two identities in one place are an issue": {
			flags: []string{"--creds=/c", "--nkey=/n"},
			want:  "--nkey: it cannot be combined with creds (--creds); only one can say who connects",
		},
		"an empty flag takes back what the file says": {
			file: "nats: a:1\ncreds: /c\n", flags: []string{"--creds="}, want: "nats=nats://a:1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			flags := append([]string{"--config", write(t, c.file)}, c.flags...)
			got, err := config.Load(flagSet(t, flags), append(c.environ, "HOME=/h"), "")
			text := fmt.Sprint(err)
			if err == nil {
				text = connection(got)
			}
			if text != c.want {
				t.Errorf("result is %q, want %q", text, c.want)
			}
		})
	}
}

func TestValues_DisplacedOnesNameWhatDisplacedThem(t *testing.T) {
	c := load(t, []string{"--config", write(t, "creds: /c\n"), "--context=prod"}, "HOME=/h")
	want := config.Value{Key: "creds", Source: "not used: context is set (--context)"}
	if got := value(c, "creds"); got != want {
		t.Errorf("creds is %+v, want %+v", got, want)
	}
}

func TestLoad_UnknownVariablesAreWarnings(t *testing.T) {
	c := load(t, nil, "HOME=/h", "REBOUND_STOREDIR=/x", "REBOUND_ZEBRA=1",
		"REBOUND_PORT=tcp://10.0.0.1:4222", "REBOUND_PORT_4222_TCP=x", "REBOUND_SERVICE_HOST=10.0.0.1", "REBOUNDER=1")
	want := []string{
		"REBOUND_STOREDIR: no setting has this variable; did you mean REBOUND_STORE_DIR?",
		"REBOUND_ZEBRA: no setting has this variable",
	}
	if !slices.Equal(c.Warnings, want) {
		t.Errorf("warnings are %q, want %q", c.Warnings, want)
	}
}

func TestAddClientFlags_AddsThoseOfTheConnectionAlone(t *testing.T) {
	client := pflag.NewFlagSet("client", pflag.ContinueOnError)
	config.AddClientFlags(client)
	client.String("listen", "mine", "a flag of the command's own")
	if client.Lookup("nats") == nil || client.Lookup("config") == nil || client.Lookup("store-dir") != nil {
		t.Errorf("flags are\n%s", client.FlagUsages())
	}
	if err := client.Parse([]string{"--listen=own"}); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(client, []string{"HOME=/h"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:4222" {
		t.Errorf("a flag of the command's own was taken for ours: listen is %q", c.Listen)
	}
}

func TestCheckServe_RefusesWhatHasNoEffect(t *testing.T) {
	for name, c := range map[string]struct {
		flags []string
		want  string
	}{
		"an outside server and its own store":     {[]string{"--nats=a:1", "--store-dir=/x"}, "--store-dir: it is about the embedded server"},
		"credentials and its own server":          {[]string{"--creds=/c"}, "--creds: the embedded server has no use for it"},
		"replicas and its own server":             {[]string{"--replicas=3"}, "--replicas: the embedded server is one server"},
		"one address twice":                       {[]string{"--http=127.0.0.1:4222"}, "--http: it is the address of --listen, too"},
		"nothing, with an outside server":         {[]string{"--nats=a:1", "--creds=/c", "--replicas=3"}, ""},
		"nothing, with two free ports":            {[]string{"--listen=127.0.0.1:0", "--http=127.0.0.1:0"}, ""},
		"nothing, with a user for its own server": {[]string{"--user=a", "--password=b"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := load(t, c.flags, "HOME=/h").CheckServe()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
				t.Errorf("error is %v, want %q", err, c.want)
			}
		})
	}
	if err := load(t, nil).CheckServe(); err == nil || !strings.Contains(err.Error(), "set --store-dir") {
		t.Errorf("without a home directory: %v", err)
	}
}

func TestListenHostPort_SplitsTheAddress(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:4333": "127.0.0.1 4333", ":4222": "0.0.0.0 4222", "[::1]:1": "::1 1", "localhost:0": "localhost -1",
	} {
		host, port := load(t, []string{"--listen=" + listen}, "HOME=/h").ListenHostPort()
		if got := fmt.Sprint(host, " ", port); got != want {
			t.Errorf("%s is %s, want %s", listen, got, want)
		}
	}
}

func flagSet(t *testing.T, args []string) *pflag.FlagSet {
	t.Helper()
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	config.AddServerFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return flags
}

func load(t *testing.T, args []string, environ ...string) *config.Config {
	t.Helper()
	c, err := config.Load(flagSet(t, args), environ, "")
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return c
}

func loadError(t *testing.T, args []string, environ ...string) error {
	t.Helper()
	c, err := config.Load(flagSet(t, args), environ, "")
	var all *config.Error
	if !errors.As(err, &all) || c != nil {
		t.Fatalf("%q: error is %v, want a config.Error", args, err)
	}
	return err
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rebound.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func value(c *config.Config, key string) config.Value {
	for _, v := range c.Values() {
		if v.Key == key {
			return v
		}
	}
	return config.Value{}
}

// connection returns the connection settings in force.
func connection(c *config.Config) string {
	var parts []string
	for _, key := range []string{"nats", "context", "creds", "nkey", "user", "password", "token", "tls-ca"} {
		if v := value(c, key); v.Value != "" {
			parts = append(parts, key+"="+v.Value)
		}
	}
	return strings.Join(parts, " ")
}
