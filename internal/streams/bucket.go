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
)

// Bucket opens a key-value bucket, which it makes when there is none. One that
// exists is taken as it is.
func Bucket(ctx context.Context, js jetstream.JetStream, config jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	kv, err := js.KeyValue(ctx, config.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, config)
		if errors.Is(err, jetstream.ErrBucketExists) {
			// Another instance made it between the two calls.
			kv, err = js.KeyValue(ctx, config.Bucket)
		}
		if err != nil {
			return nil, fmt.Errorf("making bucket %s: %w", config.Bucket, err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening bucket %s: %w", config.Bucket, err)
	}
	return kv, nil
}

// IsConflict reports whether err says that a compare-and-set of a key was refused
// for the sake of another write: one that was made, or one that the servers of a
// cluster have not agreed upon yet and may still drop. Either way nothing was
// written, and the key is to be read anew, from its leader.
func IsConflict(err error) bool {
	return errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) ||
		HasCode(err, jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// IsPending reports whether err is a conflict with a write that the servers of a
// cluster have not agreed upon yet: what is read now is older than that.
func IsPending(err error) bool {
	return HasCode(err, jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

const (
	// codeNoLeader is the server's answer while a stream has no leader.
	codeNoLeader jetstream.ErrorCode = 10008
	// CodeWriteInProcess is its answer to a message whose id is that of one which the
	// servers of a cluster have not agreed upon yet.
	CodeWriteInProcess jetstream.ErrorCode = 10158
)

// HasCode reports whether err is an API error with one of the codes.
func HasCode(err error, codes ...jetstream.ErrorCode) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && slices.Contains(codes, api.ErrorCode)
}

// EntryGet reads a key from the leader of its bucket, which is read where a
// compare-and-set follows: a replica, which may answer a plain get, need not know yet
// of what was just written. [IsGone] holds for the error when the key is not there;
// revision is that of its deletion then, or 0.
func EntryGet(ctx context.Context, js jetstream.JetStream, bucket, key string) (value []byte, revision uint64, err error) {
	var m *jetstream.RawStreamMsg
	err = UntilAnswered(ctx, func(ctx context.Context) error {
		m, err = LeaderGet(ctx, js, "KV_"+bucket, LastBySubject("$KV."+bucket+"."+key))
		return err
	})
	switch {
	case err != nil:
		return nil, 0, err
	case m.Header.Get("KV-Operation") != "" || m.Header.Get("Nats-Marker-Reason") != "":
		return nil, m.Sequence, jetstream.ErrMsgNotFound
	}
	return m.Data, m.Sequence, nil
}

// answer is the answer to one try of a write.
type answer struct {
	revision uint64
	err      error
}

// write puts until it is answered, for a few seconds or until ctx ends. It goes on listening for the answers
// to earlier tries: a stream that is not replicated refuses what it has already as a
// conflict, but says before that it was made.
func write(ctx context.Context, put func(context.Context) (uint64, error)) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, allTries)
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
			again.Reset(oneTry)
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
				again.Reset(oneTry / 10)
			}
		case <-ctx.Done():
			return 0, fmt.Errorf("no answer in %d tries (%w): %w", tries, ctx.Err(), last.err)
		}
	}
}

// errNoAnswer is the error of a write to which nothing has come back.
var errNoAnswer = errors.New("nothing came back")

// lateAnswer is how long after a conflict the answer to an earlier try of the same
// write may come.
const lateAnswer = 50 * time.Millisecond

const (
	// oneTry is how long the answer to one request is waited for. A leader that steps
	// down leaves some without an answer.
	oneTry = 200 * time.Millisecond
	// allTries is after how long nobody is there: longer than a leader that steps down
	// takes to be followed by another.
	allTries = 3 * time.Second
)

// UntilAnswered asks again and again until a leader answers, for a few seconds or
// until ctx ends.
func UntilAnswered(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, allTries)
	defer cancel()
	for try := 1; ; try++ {
		// Each try has twice the time of the one before: the servers may be far away.
		once, cancel := context.WithTimeout(ctx, oneTry<<min(try-1, 4))
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

// isNoAnswer reports whether err is no word of a leader's: nobody has answered, there
// is no leader, or the servers of a cluster have not yet agreed upon the write of an
// earlier try.
func isNoAnswer(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		HasCode(err, codeNoLeader, CodeWriteInProcess)
}

// Pause waits a random while of up to most milliseconds, itself at most twenty, for
// somebody else to be through. The error is that of ctx.
func Pause(ctx context.Context, most int) error {
	timer := time.NewTimer(time.Duration(rand.Int64N(int64(min(most, 20)) * int64(time.Millisecond))))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// BucketKey spells a key of ours, service:operation, in the characters that a bucket
// allows: its parts become two tokens, and what no name contains is written in hex.
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
