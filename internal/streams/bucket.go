package streams

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/backoff"
)

// Bucket opens a key-value bucket, creating it if it is missing. It leaves the configuration of
// an existing one unchanged.
func Bucket(ctx context.Context, js jetstream.JetStream, config jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	kv, err := js.KeyValue(ctx, config.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, config)
		if errors.Is(err, jetstream.ErrBucketExists) {
			// Another instance created it between the two calls.
			kv, err = js.KeyValue(ctx, config.Bucket)
		}
		if err != nil {
			return nil, fmt.Errorf("creating bucket %s: %w", config.Bucket, err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening bucket %s: %w", config.Bucket, err)
	}
	return kv, nil
}

// IsConflict reports whether err means that a compare-and-set of a key was refused because of
// another write: one that was made, or one on which the servers of a cluster have not agreed yet
// and which may still be dropped. Nothing was written in either case, and the key must be read
// again from its leader.
func IsConflict(err error) bool {
	return errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) ||
		HasCode(err, jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// IsPending reports whether err is a conflict with a write on which the servers of a cluster have
// not agreed yet: a read now returns an older value.
func IsPending(err error) bool {
	return HasCode(err, jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

const (
	// codeNoLeader is the server's answer while a stream has no leader.
	codeNoLeader jetstream.ErrorCode = 10008
	// CodeWriteInProcess answers a message with the id of another one on which the servers of a
	// cluster have not agreed yet.
	CodeWriteInProcess jetstream.ErrorCode = 10158
)

// HasCode reports whether err is an API error with one of the codes.
func HasCode(err error, codes ...jetstream.ErrorCode) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && slices.Contains(codes, api.ErrorCode)
}

// EntryGet reads a key from the leader of its bucket, as needed before a compare-and-set: a plain
// get may be answered by a replica that does not know the latest write yet. If the key does not
// exist, [IsGone] is true of the error, and revision is that of its deletion, or 0.
func EntryGet(ctx context.Context, js jetstream.JetStream, bucket, key string) (value []byte, revision uint64, err error) {
	var m *jetstream.RawStreamMsg
	err = UntilAnswered(ctx, func(ctx context.Context) error {
		m, err = LeaderGet(ctx, js, "KV_"+bucket, LastBySubject("$KV."+bucket+"."+key))
		return err
	})
	switch {
	case err != nil:
		return nil, 0, err
	case wire.HeaderValue(m.Header, "KV-Operation") != "" || wire.HeaderValue(m.Header, "Nats-Marker-Reason") != "":
		return nil, m.Sequence, jetstream.ErrMsgNotFound
	}
	return m.Data, m.Sequence, nil
}

// answer is the answer to one try of a write.
type answer struct {
	revision uint64
	err      error
}

// write repeats put until it is answered, until totalTimeout is over, or until ctx ends. It keeps
// listening for the answers to earlier tries: an unreplicated stream refuses a repeated write as
// a conflict, but acknowledges the first one before.
func write(ctx context.Context, put func(context.Context) (uint64, error)) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, totalTimeout)
	answers := make(chan answer)
	var trying sync.WaitGroup
	defer func() {
		cancel()
		trying.Wait()
	}()
	again := time.NewTimer(0)
	defer again.Stop()
	last := answer{err: errNoAnswer}
	for waiting, tries := 0, 0; ; {
		select {
		case <-again.C:
			if IsConflict(last.err) {
				return 0, last.err
			}
			waiting, tries = waiting+1, tries+1
			trying.Go(func() {
				revision, err := put(ctx)
				select {
				case answers <- answer{revision, err}:
				case <-ctx.Done():
				}
			})
			again.Reset(tryTimeout)
		case last = <-answers:
			waiting--
			switch {
			case last.err == nil:
				return last.revision, nil
			case IsConflict(last.err) && waiting > 0:
				again.Reset(lateAnswer)
			case !isNoAnswer(last.err):
				return 0, last.err
			case waiting == 0:
				again.Reset(tryTimeout / 10)
			}
		case <-ctx.Done():
			return 0, fmt.Errorf("no answer in %d tries (%w): %w", tries, ctx.Err(), last.err)
		}
	}
}

// errNoAnswer means that a write was not answered.
var errNoAnswer = errors.New("no answer")

// lateAnswer is how long after a conflict the answer to an earlier try of the same write may
// arrive.
const lateAnswer = 50 * time.Millisecond

const (
	// tryTimeout is how long to wait for the answer to one request. A leader that steps down leaves
	// some unanswered.
	tryTimeout = 200 * time.Millisecond
	// totalTimeout is when to give up: it exceeds the time that a stream takes to change its leader.
	totalTimeout = 3 * time.Second
)

// UntilAnswered repeats ask until a leader answers, for a few seconds or until ctx ends.
func UntilAnswered(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, totalTimeout)
	defer cancel()
	for try := 1; ; try++ {
		// Each try gets twice the time of the previous one, because the servers may be far away.
		once, cancel := context.WithTimeout(ctx, tryTimeout<<min(try-1, 4))
		err := ask(once)
		cancel()
		if err == nil || !isNoAnswer(err) {
			return err
		}
		if ended := Pause(ctx, 10*try); ended != nil {
			return fmt.Errorf("no answer in %d tries (%w): %w", try, ended, err)
		}
	}
}

// isNoAnswer reports whether err is not the answer of a leader: nobody answered, there is no
// leader, or the servers of a cluster have not agreed yet on the write of an earlier try.
func isNoAnswer(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		HasCode(err, codeNoLeader, CodeWriteInProcess)
}

// Pause waits for a random time of up to most milliseconds, at most twenty, to let another writer
// finish. The error is that of ctx.
func Pause(ctx context.Context, most int) error {
	if !backoff.Sleep(ctx, time.Duration(rand.Int64N(int64(min(most, 20))*int64(time.Millisecond)))) {
		return ctx.Err()
	}
	return nil
}

// BucketKey encodes a key service:operation in the characters allowed in a bucket: its parts
// become two tokens, and characters that no name contains are written in hex.
func BucketKey(key string) string {
	var b strings.Builder
	for i := 0; i < len(key); i++ {
		switch c := key[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		case c == ':' && i > 0 && i < len(key)-1 && key[i-1] != ':':
			b.WriteByte('.')
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}
