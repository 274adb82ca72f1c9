package natsconn_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestCheckServer_AcceptsOurs(t *testing.T) {
	t.Parallel()
	usable(t, connect(t, load(t, "--nats="+testkit.Server(t).ClientURL())))
}

func TestCheckServer_RefusesAnOldVersion(t *testing.T) {
	t.Parallel()
	for version, tooOld := range map[string]bool{
		"2.11.9": true, "1.4.1": true, "2.9.0-beta.1": true,
		"2.12.0": false, "2.12.0-preview.1": false, "3.0.0": false, "dev": false,
	} {
		url := versionProxy(t, testkit.Server(t).Addr(), version)
		err := natsconn.CheckServer(t.Context(), jetStream(t, connect(t, load(t, "--nats="+url))))
		var old *natsconn.VersionError
		if errors.As(err, &old) != tooOld {
			t.Fatalf("%s: error is %v", version, err)
		}
		want := "the NATS server at " + url + " is version " + version + "; Rebound needs 2.12 or newer, which has scheduled messages"
		if tooOld && err.Error() != want {
			t.Errorf("message is %q, want %q", err, want)
		}
	}
}

func TestCheckServer_RefusesAServerWithoutJetStream(t *testing.T) {
	t.Parallel()
	with := natsd.NewAccount("WITHOUT")
	for name, c := range map[string]struct {
		options *natsd.Options
		want    string
	}{
		"not on the server": {&natsd.Options{}, "JetStream is not enabled; start it with `nats-server --jetstream`"},
		"not for the account": {
			&natsd.Options{
				JetStream: true, StoreDir: t.TempDir(), Accounts: []*natsd.Account{with},
				Users: []*natsd.User{{Username: "ann", Password: "s3cret", Account: with}},
			},
			"JetStream is not enabled",
		},
		"not for the user": {
			&natsd.Options{
				JetStream: true, StoreDir: t.TempDir(),
				Users: []*natsd.User{{Username: "ann", Password: "s3cret", Permissions: &natsd.Permissions{
					Publish: &natsd.SubjectPermission{Deny: []string{"$JS.>"}},
				}}},
			},
			"may this user not publish to $JS.API.>",
		},
	} {
		t.Run(name, func(t *testing.T) {
			flags := []string{"--nats=" + runServer(t, c.options)}
			if len(c.options.Users) > 0 {
				flags = append(flags, "--user=ann", "--password=s3cret")
			}
			err := natsconn.CheckServer(t.Context(), jetStream(t, connect(t, load(t, flags...))))
			var js *natsconn.JetStreamError
			if !errors.As(err, &js) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want %q", err, c.want)
			}
			t.Log(err)
		})
	}
}

func TestCheckServer_RefusesAServerWhoseMessagesAreTooSmall(t *testing.T) {
	t.Parallel()
	for most, tooSmall := range map[int32]bool{32 << 10: true, 64 << 10: true, natsconn.MinPayload - 1: true, natsconn.MinPayload: false} {
		url := runServer(t, &natsd.Options{JetStream: true, StoreDir: t.TempDir(), MaxPayload: most})
		err := natsconn.CheckServer(t.Context(), jetStream(t, connect(t, load(t, "--nats="+url))))
		var small *natsconn.PayloadError
		if errors.As(err, &small) != tooSmall || (err != nil) != tooSmall {
			t.Errorf("max_payload %d: the error is %v, want one: %t", most, err, tooSmall)
			continue
		}
		want := fmt.Sprintf("the NATS server at %s has a max_payload of %d bytes; Rebound needs at least 262144, for an operation with its state and for its own answers", url, most)
		if tooSmall && (err.Error() != want || natsconn.Passes(err)) {
			t.Errorf("the error is %q and passes: %t, want %q, which does not", err, natsconn.Passes(err), want)
		}
	}
}

func TestCheckServer_RefusesAnAccountWithoutStorageOnDisk(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		maxStore int64
		refused  bool
	}{"nothing": {0, true}, "something": {1 << 30, false}, "everything": {-1, false}} {
		account := natsd.NewAccount("A")
		server := testkit.PlainServer(t, &natsd.Options{
			JetStream: true, StoreDir: t.TempDir(), Accounts: []*natsd.Account{account},
			Users: []*natsd.User{{Username: "ann", Password: "s3cret", Account: account}},
		})
		account, err := server.LookupAccount("A")
		if err != nil {
			t.Fatal(err)
		}
		limits := map[string]natsd.JetStreamAccountLimits{"": {MaxMemory: 1 << 20, MaxStore: tc.maxStore, MaxStreams: -1, MaxConsumers: -1}}
		if err := account.EnableJetStream(limits, nil); err != nil {
			t.Fatal(err)
		}
		err = natsconn.CheckServer(t.Context(), jetStream(t, connect(t, load(t, "--nats=nats://"+server.Addr().String(), "--user=ann", "--password=s3cret"))))
		var js *natsconn.JetStreamError
		if errors.As(err, &js) != tc.refused || (err != nil) != tc.refused || tc.refused && (!strings.Contains(err.Error(), "no storage on disk") || natsconn.Passes(err)) {
			t.Errorf("an account that may store %s: the error is %v, want one that does not pass: %t", name, err, tc.refused)
		}
	}
}

func TestClockSkew_OfTheSameMachineIsWithinItsUncertainty(t *testing.T) {
	t.Parallel()
	c := testkit.Cluster(t, 3)
	js := jetStream(t, connect(t, load(t, "--nats="+c.URL())))
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "CLOCK", Subjects: []string{"clock"}, Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	server, err := natsconn.ClockSkew(t.Context(), js.Conn())
	if err != nil {
		t.Fatal(err)
	}
	leader, err := natsconn.LeaderClockSkew(t.Context(), js, "CLOCK")
	if err != nil {
		t.Fatal(err)
	}
	for name, skew := range map[string]natsconn.Skew{"the server's": server, "the leader's": leader} {
		// It is one machine with one clock.
		if off := skew.Offset.Abs(); off > skew.Uncertainty+time.Millisecond || skew.Uncertainty <= 0 || skew.Uncertainty > time.Second {
			t.Errorf("%s clock is %v ± %v away", name, skew.Offset, skew.Uncertainty)
		}
	}
	if _, err := natsconn.LeaderClockSkew(t.Context(), js, "NONE"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("for a stream that does not exist: %v", err)
	}
}

// versionProxy passes connections on to a server and makes it claim another version, as
// an older server would.
func versionProxy(t *testing.T, addr, version string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { relay(client, addr, version) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return "nats://" + l.Addr().String()
}

func relay(client net.Conn, addr, version string) {
	defer client.Close()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer server.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	relayAs(client, server, version)
	client.Close()
	<-done
}

// relayAs passes on a server's lines with another version.
func relayAs(client io.Writer, server io.Reader, version string) {
	said := `"version":"` + natsd.VERSION + `"`
	lines := bufio.NewReader(server)
	for {
		line, err := lines.ReadString('\n')
		if strings.HasPrefix(line, "INFO ") {
			line = strings.Replace(line, said, `"version":"`+version+`"`, 1)
		}
		if _, werr := io.WriteString(client, line); werr != nil || err != nil {
			return
		}
	}
}
