package handlers

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/policies"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// watchedBucket is a bucket, and its watcher, that shows the updates of the test.
type watchedBucket struct {
	jetstream.KeyValue
	jetstream.KeyWatcher
	updates chan jetstream.KeyValueEntry
}

func (b *watchedBucket) Watch(context.Context, string, ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	return b, nil
}
func (b *watchedBucket) Updates() <-chan jetstream.KeyValueEntry { return b.updates }
func (b *watchedBucket) Stop() error                             { return nil }

// bucketOf is JetStream whose only bucket is b.
type bucketOf struct {
	jetstream.JetStream
	b *watchedBucket
}

func (j bucketOf) KeyValue(context.Context, string) (jetstream.KeyValue, error) { return j.b, nil }

// applied is a revision as a watcher sees it.
type applied struct {
	jetstream.KeyValueEntry
	number uint64
	source string
}

func (a applied) Revision() uint64                { return a.number }
func (a applied) Created() time.Time              { return time.Now() }
func (a applied) Operation() jetstream.KeyValueOp { return jetstream.KeyValuePut }
func (a applied) Value() []byte                   { return []byte(a.source) }

func TestPolicyFollower_PutsARevisionInForceTheMomentItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &watchedBucket{updates: make(chan jetstream.KeyValueEntry)}
		bucket, err := policies.Open(t.Context(), bucketOf{b: b}, "")
		if err != nil {
			t.Fatal(err)
		}
		f := &policyFollower{bucket: bucket, start: policy.Builtin(), log: slog.New(slog.DiscardHandler)}
		f.put(f.start, policies.Revision{})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { f.run(ctx) })
		began := time.Now()
		for number := range uint64(20) {
			b.updates <- applied{number: number + 1, source: "billing: {maxAttempts: 7}\n"}
			synctest.Wait()
			if state, set := f.standing(); state.Revision != number+1 || set.Resolve(policy.Query{Service: "billing"}).MaxAttempts != 7 {
				t.Errorf("revision %d is in force once revision %d has come", state.Revision, number+1)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("20 revisions were in force %s after they came, want at once", took)
		}
		cancel()
		running.Wait()
	})
}
