package handlers_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestStart_ClusterWithoutALeaderIsWaitedFor(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t, 3)
	r := connect(t, cluster.URL())
	config := handlers.Config{Limits: streams.Limits{Replicas: 3}, Policies: policySet(t, quick)}
	begin(r, config)()
	cluster.Stop(0)
	cluster.Stop(1)

	nc := testkit.Connect(t, cluster.URLs()[2])
	left := testkit.JetStream(t, nc)
	testkit.Eventually(t, time.Minute, "the server that is left knowing that it leads nothing", func() bool {
		if cluster.Leader() >= 0 {
			return false
		}
		for _, name := range []string{"RETRY", "RETRY_INTAKE", "RETRY_OUTCOMES", "RETRY_DEAD", "KV_RETRY_POLICIES"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			s, err := left.Stream(ctx, name)
			cancel()
			// Without a leader it answers even so, for some streams.
			if err == nil && s.CachedInfo().Cluster.Leader != "" {
				return false
			}
		}
		return true
	})
	var log testkit.Buffer
	reasons := make(chan string, 1000)
	config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	config.Waiting = func(reason string) { reasons <- reason }
	type result struct {
		s   *handlers.Service
		err error
	}
	started := make(chan result, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	go func() {
		s, err := handlers.Start(ctx, nc, config)
		started <- result{s, err}
	}()
	select {
	case reason := <-reasons:
		// A server that knows the streams without a leader may still say what they are.
		if !strings.HasPrefix(reason, "waiting at the start for stream RETRY") && !strings.HasPrefix(reason, "waiting at the start for the policies in force: ") {
			t.Errorf("it says %q, want what it waits for", reason)
		}
	case r := <-started:
		t.Fatalf("it does not wait: %v", r.err)
	case <-time.After(30 * time.Second):
		t.Fatal("it says nothing for 30 s")
	}
	if !strings.Contains(log.String(), "waiting at the start") {
		t.Errorf("the log does not tell:\n%s", log.String())
	}
	cluster.Restart(0, 1)
	got := <-started
	if got.err != nil {
		t.Fatal(got.err)
	}
	stop, end := context.WithTimeout(context.Background(), 10*time.Second)
	defer end()
	if err := got.s.Stop(stop); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "waiting at the start"); n > 20 {
		t.Errorf("the log tells %d times that it waits", n)
	}
}

func TestStart_MissingPermissionIsAnErrorAndNotWaitedFor(t *testing.T) {
	t.Parallel()
	server := testkit.PlainServer(t, &natsd.Options{JetStream: true, StoreDir: t.TempDir(), Users: []*natsd.User{{
		Username: "u", Password: "p", Permissions: &natsd.Permissions{Publish: &natsd.SubjectPermission{
			Allow: []string{">"}, Deny: []string{"$JS.API.STREAM.*.RETRY_DEAD"},
		}},
	}}})
	nc := testkit.Connect(t, server.ClientURL(), nats.UserInfo("u", "p"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := handlers.Start(ctx, nc, handlers.Config{
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Waiting: func(reason string) { t.Errorf("it waits: %s", reason) },
	})
	var denied *natsconn.PermissionError
	if !errors.As(err, &denied) || !strings.Contains(err.Error(), "RETRY_DEAD") {
		t.Errorf("the error is %v, want one that names what is missing", err)
	}
}
