package natsconn_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/pflag"

	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/embedded"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestConnect_UsesTheURL(t *testing.T) {
	t.Parallel()
	s := testkit.Server(t)
	nc := connect(t, load(t, "--nats="+s.ClientURL()))
	if nc.Opts.Name != "a test" {
		t.Errorf("the name is %q", nc.Opts.Name)
	}
	usable(t, nc)
}

func TestConnect_WithoutSettingsHonoursNATSURL(t *testing.T) {
	t.Parallel()
	s := testkit.Server(t)
	cfg, err := config.Load(nil, []string{"HOME=" + t.TempDir(), "NATS_URL=" + s.ClientURL()}, "")
	if err != nil {
		t.Fatal(err)
	}
	usable(t, connect(t, cfg))
}

func TestConnect_InProcessNeedsNoURL(t *testing.T) {
	t.Parallel()
	s, err := embedded.Start(t.Context(), embedded.Options{StoreDir: t.TempDir(), Port: embedded.RandomPort, User: "ann", Password: "pw"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	cfg, err := config.Load(nil, []string{
		"HOME=" + t.TempDir(), "NATS_URL=tls://192.0.2.1:1", "REBOUND_USER=ann", "REBOUND_PASSWORD=pw",
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	usable(t, connect(t, cfg, s.InProcess()))
}

func TestConnect_UsesEachIdentity(t *testing.T) {
	t.Parallel()
	id := newIdentity(t)
	for name, c := range map[string]struct {
		server string
		flags  []string
	}{
		"user and password": {passwordServer(t), []string{"--user=ann", "--password=s3cret"}},
		"token":             {tokenServer(t), []string{"--token=s3cret"}},
		"nkey":              {id.nkeyServer(t), []string{"--nkey=" + id.seedFile}},
		"creds":             {id.jwtServer(t), []string{"--creds=" + id.credsFile}},
		"TLS":               {tlsServer(t, certificates(t)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			flags := append(c.flags, "--nats="+c.server)
			if name == "TLS" {
				pki := certificates(t)
				flags = []string{"--nats=" + tlsServer(t, pki), "--tls-ca=" + pki.ca, "--tls-cert=" + pki.cert, "--tls-key=" + pki.key}
			}
			connect(t, load(t, flags...))
			if name == "TLS" {
				return
			}
			_, err := natsconn.Connect(t.Context(), load(t, "--nats="+c.server), "x", testkit.Logger(t))
			if !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("without credentials: %v", err)
			}
		})
	}
}

func TestConnect_FailsWithOneClearSentence(t *testing.T) {
	t.Parallel()
	refused := "nats://" + testkit.Addr(t)
	pki := certificates(t)
	tls := tlsServer(t, pki)
	id := newIdentity(t)
	user := strings.TrimPrefix(passwordServer(t), "nats://")
	for name, c := range map[string]struct {
		flags []string
		want  string
	}{
		"nobody listens": {
			[]string{"--nats=" + refused},
			"connecting to NATS at " + refused + ": no server answers there; start one, for example with `rebound serve`, or name another with --nats",
		},
		"the password is wrong": {
			[]string{"--nats=nats://ann:wr0ng@" + user},
			"connecting to NATS at nats://[redacted]@" + user + ": the server refuses the credentials, or asks for some and none are given",
		},
		"the credentials file is missing":       {[]string{"--nats=" + id.jwtServer(t), "--creds=/does/not/exist"}, "open /does/not/exist: no such file or directory"},
		"the seed file is missing":              {[]string{"--nats=" + refused, "--nkey=/does/not/exist"}, "open /does/not/exist: no such file or directory"},
		"the certificate of the CA is missing":  {[]string{"--nats=" + tls, "--tls-ca=/does/not/exist"}, "open /does/not/exist: no such file or directory"},
		"the certificate of the CA is no PEM":   {[]string{"--nats=" + tls, "--tls-ca=" + pki.key}, "root certificate"},
		"the authority is not known":            {[]string{"--nats=" + tls}, "certificate signed by unknown authority"},
		"the server asks for a certificate":     {[]string{"--nats=" + tls, "--tls-ca=" + pki.ca}, "set --tls-cert and --tls-key"},
		"the private key is not the right kind": {[]string{"--nats=" + tls, "--tls-cert=" + pki.cert, "--tls-key=" + pki.ca}, "client certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := natsconn.Connect(t.Context(), load(t, c.flags...), "x", testkit.Logger(t))
			var failed *natsconn.ConnectError
			if !errors.As(err, &failed) {
				t.Fatalf("error is %v, want a ConnectError", err)
			}
			if text := err.Error(); !strings.Contains(text, c.want) || strings.Contains(text, "\n") || strings.Contains(text, "wr0ng") {
				t.Errorf("message is %q, want %q", text, c.want)
			}
			t.Log(err)
		})
	}
}

func TestConnect_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err = natsconn.Connect(ctx, load(t, "--nats="+silent.Addr().String()), "x", testkit.Logger(t), nats.Timeout(10*time.Minute))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	// Much sooner than the connection would give up by itself, on any machine.
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("it took %v to give up", took)
	}
}

func TestConn_ComesBackByItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := testkit.Server(t, func(o *embedded.Options) { o.StoreDir = dir })
	log := &recorder{}
	cfg := load(t, "--nats="+first.ClientURL())
	nc, err := natsconn.Connect(t.Context(), cfg, "x", slog.New(log), fast...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	first.Shutdown()
	testkit.Eventually(t, 10*time.Second, "the disconnect is logged", func() bool { return log.has("disconnected from NATS") })

	// For a while the server refuses everybody; that must not end the connection.
	strict := testkit.Server(t, func(o *embedded.Options) {
		o.StoreDir, o.Port, o.User, o.Password = dir, first.Port(), "ann", "pw"
	})
	testkit.Eventually(t, 10*time.Second, "two refusals", func() bool { return log.count("Authorization Violation") >= 3 })
	strict.Shutdown()

	testkit.Server(t, func(o *embedded.Options) { o.StoreDir, o.Port = dir, first.Port() })
	testkit.Eventually(t, 10*time.Second, "the reconnect is logged", func() bool { return log.has("reconnected to NATS") })
	usable(t, nc)
}

func TestConn_AsynchronousErrorsAreLogged(t *testing.T) {
	t.Parallel()
	s := testkit.Server(t)
	log := &recorder{}
	nc, err := natsconn.Connect(t.Context(), load(t, "--nats="+s.ClientURL()), "x", slog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	sub, err := nc.SubscribeSync("flood")
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.SetPendingLimits(1, -1); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := nc.Publish("flood", nil); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, 10*time.Second, "the loss is logged", func() bool {
		return log.has("a subscription falls behind") && log.has("flood")
	})
}

// fast makes a connection reconnect quickly.
var fast = []nats.Option{nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectJitter(0, 0)}

func load(t *testing.T, args ...string) *config.Config {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddServerFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(flags, []string{"HOME=" + t.TempDir()}, "")
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func connect(t *testing.T, cfg *config.Config, options ...nats.Option) *natsconn.Conn {
	t.Helper()
	nc, err := natsconn.Connect(t.Context(), cfg, "a test", testkit.Logger(t), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func usable(t *testing.T, nc *natsconn.Conn) {
	t.Helper()
	if err := natsconn.CheckServer(t.Context(), jetStream(t, nc)); err != nil {
		t.Error(err)
	}
}

func jetStream(t *testing.T, nc *natsconn.Conn) jetstream.JetStream {
	t.Helper()
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// recorder is a slog handler that records what is logged.
type recorder struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithGroup(string) slog.Handler            { return r }

func (r *recorder) WithAttrs(attrs []slog.Attr) slog.Handler {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range attrs {
		r.lines = append(r.lines, a.String())
	}
	return r
}

func (r *recorder) Handle(_ context.Context, rec slog.Record) error {
	line := rec.Message
	rec.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
	return nil
}

func (r *recorder) count(text string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, line := range r.lines {
		if strings.Contains(strings.ToLower(line), strings.ToLower(text)) {
			n++
		}
	}
	return n
}

func (r *recorder) has(text string) bool { return r.count(text) > 0 }
