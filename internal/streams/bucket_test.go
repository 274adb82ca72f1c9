package streams_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestBucket_AnswersAreConflictsPendingOrNeither(t *testing.T) {
	answer := func(code jetstream.ErrorCode) error {
		return fmt.Errorf("nats: %w", &jetstream.APIError{Code: 400, ErrorCode: code})
	}
	for name, c := range map[string]struct {
		err               error
		conflict, pending bool
	}{
		"another value is there":                 {answer(jetstream.JSErrCodeStreamWrongLastSequence), true, false},
		"another value is being agreed upon":     {answer(jetstream.JSErrCodeStreamWrongLastSequenceConstant), true, true},
		"a key exists":                           {jetstream.ErrKeyExists, true, false},
		"a revision is another":                  {jetstream.ErrKeyRevisionMismatch, true, false},
		"the stream is full":                     {answer(10077), false, false},
		"there is no leader":                     {answer(10008), false, false},
		"nobody listens":                         {jetstream.ErrNoStreamResponse, false, false},
		"the answer did not come":                {context.DeadlineExceeded, false, false},
		"the connection is closed":               {nats.ErrConnectionClosed, false, false},
		"the key is not there":                   {jetstream.ErrKeyNotFound, false, false},
		"the write itself is being agreed upon":  {answer(10158), false, false},
		"nothing is wrong":                       {nil, false, false},
		"a server says it in an unknown wording": {errors.New("wrong last sequence: 5"), false, false},
	} {
		if got := streams.IsConflict(c.err); got != c.conflict {
			t.Errorf("%s: conflict is %v, want %v", name, got, c.conflict)
		}
		if got := streams.IsPending(c.err); got != c.pending {
			t.Errorf("%s: pending is %v, want %v", name, got, c.pending)
		}
	}
}

// count adds 1 to the number under a key, n times.
func count(ctx context.Context, bucket *streams.Expiring, key string, n int) error {
	for range n {
		for try := 1; ; try++ {
			value, revision, err := bucket.Latest(ctx, key)
			if err != nil && !streams.IsGone(err) {
				return err
			}
			number, _ := strconv.Atoi(string(value)) // no value counts as 0
			_, err = bucket.Replace(ctx, key, []byte(strconv.Itoa(number+1)), revision, time.Hour)
			if err == nil {
				break
			}
			if !streams.IsConflict(err) {
				return err
			}
			if err := streams.Pause(ctx, try); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestBucket_EveryReplacementIsMadeOnce counts at three servers at once while the leader of the
// bucket moves, which leaves writes unanswered.
func TestBucket_EveryReplacementIsMadeOnce(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	js := testkit.JetStream(t, testkit.Connect(t, cluster.URL()))
	config := jetstream.KeyValueConfig{Bucket: "NUMBERS", Replicas: 3, Storage: jetstream.MemoryStorage}
	open := func(js jetstream.JetStream) *streams.Expiring {
		t.Helper()
		bucket, err := streams.ExpiringBucket(ctx, js, config)
		if err != nil {
			t.Fatal(err)
		}
		return bucket
	}
	numbers := open(js)
	const each = 300
	var counting sync.WaitGroup
	for _, url := range cluster.URLs() {
		bucket := open(testkit.JetStream(t, testkit.Connect(t, url)))
		counting.Go(func() {
			if err := count(ctx, bucket, "n", each); err != nil {
				t.Error(err)
			}
		})
	}
	done := make(chan struct{})
	go func() { counting.Wait(); close(done) }()
	moved := testkit.MoveLeader(t, js, "KV_NUMBERS", 2*time.Second, done)
	value, _, err := numbers.Latest(ctx, "n")
	if err != nil || string(value) != strconv.Itoa(3*each) {
		t.Errorf("the number is %s with error %v after %d moves of the leader, want %d and none", value, err, moved, 3*each)
	}
	t.Logf("the leader moved %d times", moved)
}

func TestBucketKey_IsUniqueAndValid(t *testing.T) {
	keys := map[string]string{}
	for _, key := range []string{"a:b", "a.b", "a::b", "a:=3Ab", ":a", "a:", "a b", "ä:ö", "a", "=", "a:b:c"} {
		spelt := streams.BucketKey(key)
		if other, ok := keys[spelt]; ok {
			t.Errorf("%q and %q are both spelt %q", key, other, spelt)
		}
		keys[spelt] = key
	}
	if got := streams.BucketKey("billing:charge"); got != "billing.charge" {
		t.Errorf("billing:charge is spelt %q, want billing.charge", got)
	}
}
