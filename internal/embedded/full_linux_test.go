package embedded_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/embedded"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestServer_StartsJetStreamAgainAfterAFullDisk(t *testing.T) {
	t.Parallel()
	dir := testkit.SmallDisk(t, 64<<20)
	var log recorder
	s := start(t, embedded.Options{
		StoreDir: filepath.Join(dir, "store"), Port: embedded.RandomPort, MaxStore: 1 << 30, SyncAlways: true, Logger: slog.New(&log),
	})
	t.Cleanup(s.Shutdown) // before its disk is unmounted
	js := testkit.JetStream(t, testkit.Connect(t, s.ClientURL()))
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "KEPT", Subjects: []string{"kept"}}); err != nil {
		t.Fatal(err)
	}
	stored := uint64(0)
	publish := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.Publish(ctx, "kept", make([]byte, 32<<10), jetstream.WithRetryAttempts(0))
		if err == nil {
			stored++
		}
		return err == nil
	}
	for range 10 {
		if !publish() {
			t.Fatal("the empty disk refuses a message")
		}
	}
	filler := filepath.Join(dir, "filler")
	testkit.FillDisk(t, filler)
	testkit.Eventually(t, 30*time.Second, "JetStream being switched off and that being logged", func() bool {
		publish()
		return log.has(slog.LevelError, "cannot write, so JetStream is off")
	})
	if trouble := s.Trouble(); !strings.Contains(trouble, "the disk is full") {
		t.Errorf("Trouble returns %q", trouble)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 30*time.Second, "it storing again", publish)
	stream, err := js.Stream(t.Context(), "KEPT")
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n < stored {
		t.Errorf("%d messages are left of %d that were acknowledged", n, stored)
	}
	if trouble := s.Trouble(); trouble != "" {
		t.Errorf("once the server stores again Trouble returns %q", trouble)
	}
	if !log.has(slog.LevelInfo, "has JetStream on again") {
		t.Error("the log does not say that it stores again")
	}
}
