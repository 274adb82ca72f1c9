package embedded_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/embedded"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestStart_IsReadyWithWhatWasStored(t *testing.T) {
	t.Parallel()
	o := embedded.Options{StoreDir: filepath.Join(t.TempDir(), "made", "for us"), Port: embedded.RandomPort}
	first := start(t, o)
	js := testkit.JetStream(t, testkit.Connect(t, first.ClientURL()))
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "KEPT", Subjects: []string{"kept.>"}})
	if err != nil {
		t.Fatal(err)
	}
	const messages = 5000
	for range messages {
		if _, err := js.PublishAsync("kept.x", make([]byte, 100), jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	first.Shutdown()
	first.Shutdown() // a second call is harmless
	<-first.Done()

	second := start(t, o)
	js = testkit.JetStream(t, testkit.Connect(t, second.ClientURL()))
	s, err := js.Stream(t.Context(), "KEPT")
	if err != nil {
		t.Fatalf("right after Start: %v", err)
	}
	if n := s.CachedInfo().State.Msgs; n != messages {
		t.Errorf("%d messages right after Start, want %d", n, messages)
	}
	if second.StoreDir() != o.StoreDir {
		t.Errorf("store directory is %s, want %s", second.StoreDir(), o.StoreDir)
	}
}

func TestServer_InProcessConnectionReachesIt(t *testing.T) {
	t.Parallel()
	s := start(t, embedded.Options{StoreDir: t.TempDir(), Port: embedded.RandomPort})
	nc := testkit.Connect(t, "", s.InProcess())
	if _, err := testkit.JetStream(t, nc).AccountInfo(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestServer_RequiresCredentials(t *testing.T) {
	t.Parallel()
	s := start(t, embedded.Options{StoreDir: t.TempDir(), Port: embedded.RandomPort, User: "ann", Password: "pw"})
	if nc, err := nats.Connect(s.ClientURL(), nats.Timeout(10*time.Second)); !errors.Is(err, nats.ErrAuthorization) {
		nc.Close()
		t.Errorf("without credentials: %v", err)
	}
	testkit.Connect(t, s.ClientURL(), nats.UserInfo("ann", "pw"))
	testkit.Connect(t, "", s.InProcess(), nats.UserInfo("ann", "pw"))
}

func TestServer_HasTheLimits(t *testing.T) {
	t.Parallel()
	s := start(t, embedded.Options{
		StoreDir: t.TempDir(), Port: embedded.RandomPort,
		MaxStore: 10 << 20, MaxPayload: 4096, SyncAlways: true,
	})
	nc := testkit.Connect(t, s.ClientURL())
	if nc.MaxPayload() != 4096 {
		t.Errorf("the maximum payload is %d, want 4096", nc.MaxPayload())
	}
	_, err := testkit.JetStream(t, nc).CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "BIG", Subjects: []string{"big"}, MaxBytes: 20 << 20,
	})
	if err == nil {
		t.Error("a stream larger than the maximum of the store was accepted")
	}
}

func TestStart_RefusesABusyPort(t *testing.T) {
	port := testkit.Port(t)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := embedded.Options{StoreDir: t.TempDir(), Port: port}

	_, err = embedded.Start(t.Context(), o)
	var busy *embedded.PortError
	if !errors.As(err, &busy) || busy.Port != port {
		t.Fatalf("error is %v, want a PortError", err)
	}
	want := "listening on " + addr + ": the port is already in use; choose another with --listen or use that server with --nats nats://" + addr
	if err.Error() != want {
		t.Errorf("message is %q\nwant %q", err, want)
	}

	l.Close()
	start(t, o) // the failed start left no lock behind
}

func TestStart_RefusesAForeignAddress(t *testing.T) {
	_, err := embedded.Start(t.Context(), embedded.Options{StoreDir: t.TempDir(), Host: "192.0.2.1", Port: embedded.RandomPort})
	var port *embedded.PortError
	if !errors.As(err, &port) || !strings.Contains(err.Error(), "choose another address with --listen") {
		t.Errorf("error is %v, want a PortError", err)
	}
}

func TestStart_RefusesAStoreItCannotWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{
		"the directory is a file":             file,
		"the directory is inside a file":      filepath.Join(file, "sub"),
		"the directory cannot be written":     "/proc",
		"the directory cannot be made":        "/proc/rebound",
		"no directory is given":               "",
		"the name of the directory is absurd": strings.Repeat("x", 300),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := embedded.Start(t.Context(), embedded.Options{StoreDir: dir, Port: embedded.RandomPort})
			var store *embedded.StoreError
			if !errors.As(err, &store) {
				t.Fatalf("error is %v, want a StoreError", err)
			}
			if n := strings.Count(err.Error(), "\n"); n != 0 {
				t.Errorf("message has %d line breaks: %s", n, err)
			}
			t.Log(err)
		})
	}
}

func TestStart_RefusesAStoreInUse(t *testing.T) {
	o := embedded.Options{StoreDir: t.TempDir(), Port: embedded.RandomPort}
	first := start(t, o)
	_, err := embedded.Start(t.Context(), o)
	var locked *embedded.LockError
	if !errors.As(err, &locked) {
		t.Fatalf("error is %v, want a LockError", err)
	}
	if want := "process " + strconv.Itoa(os.Getpid()); !strings.Contains(err.Error(), want) {
		t.Errorf("message %q does not say %q", err, want)
	}
	t.Log(err)

	first.Shutdown()
	start(t, o)
}

func TestStart_EndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := embedded.Options{StoreDir: t.TempDir(), Port: embedded.RandomPort}
	if _, err := embedded.Start(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("error is %v, want context.Canceled", err)
	}
	start(t, o)
}

func TestServer_MessagesReachTheLogger(t *testing.T) {
	t.Parallel()
	var log recorder
	s := start(t, embedded.Options{
		StoreDir: t.TempDir(), Port: embedded.RandomPort, Host: "0.0.0.0", Logger: slog.New(&log),
	})
	if !log.has(slog.LevelInfo, "the embedded NATS server is ready") {
		t.Error("the start is not logged")
	}
	if !log.has(slog.LevelDebug, "Server is ready") {
		t.Error("the server's notices are not logged at debug level")
	}
	if !log.has(slog.LevelWarn, "asks for no credentials") {
		t.Error("an open server on all interfaces gives no warning")
	}
	testkit.Connect(t, s.ClientURL()) // clients cannot connect to 0.0.0.0
}

func start(t *testing.T, o embedded.Options) *embedded.Server {
	t.Helper()
	if o.Logger == nil {
		o.Logger = testkit.Logger(t)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := embedded.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

// recorder is a slog handler that keeps messages.
type recorder struct {
	mu      sync.Mutex // guards records
	records []slog.Record
}

func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recorder) WithGroup(string) slog.Handler            { return r }

func (r *recorder) Handle(_ context.Context, rec slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, rec)
	return nil
}

func (r *recorder) has(level slog.Level, text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.records {
		if rec.Level == level && strings.Contains(rec.Message, text) {
			return true
		}
	}
	return false
}
