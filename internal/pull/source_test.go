package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// fakeSource delivers messages from memory and records how they are settled.
type fakeSource struct {
	opens    int // how often it was opened
	failures int // how often opening still fails
	asked    []int
	messages chan *fakeMessage
	fail     chan error    // ends a pull
	late     time.Duration // how long before the pull that brings them messages were requested

	mu      sync.Mutex // guards the fields below
	settled []string
	led     time.Time // since when the leader leads, as last asked
	elected time.Time // since when it does
	silent  error     // of a leader that does not answer
}

func newFakeSource(sequences ...uint64) *fakeSource {
	s := &fakeSource{messages: make(chan *fakeMessage, 100), fail: make(chan error)}
	for _, n := range sequences {
		s.messages <- &fakeMessage{source: s, sequence: n}
	}
	return s
}

func (s *fakeSource) Close()               {}
func (s *fakeSource) Stream() string       { return "S" }
func (s *fakeSource) Name() string         { return "c" }
func (s *fakeSource) Lease() time.Duration { return time.Minute }
func (s *fakeSource) Made() time.Time      { return time.Time{} }
func (s *fakeSource) Led() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.led
}

// leads sets who leads as last asked, who does, and whether that one answers.
func (s *fakeSource) leads(led, elected time.Time, silent error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.led, s.elected, s.silent = led, elected, silent
}

func (s *fakeSource) Look(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.led = s.elected
	return s.silent
}

func (s *fakeSource) Open(context.Context) (Consumer, error) {
	if s.opens++; s.failures > 0 {
		s.failures--
		return nil, errors.New("no leader")
	}
	return s, nil
}

func (s *fakeSource) Receive(ctx context.Context, n int, take func(Delivery, time.Time)) error {
	s.asked = append(s.asked, n)
	asked := time.Now()
	for range n {
		select {
		case m := <-s.messages:
			take(m, asked.Add(-s.late))
		case err := <-s.fail:
			return err
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func (s *fakeSource) settle(m *fakeMessage, how string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled = append(s.settled, fmt.Sprint(m.sequence, " ", how))
	return nil
}

// was returns how messages were settled, in any order.
func (s *fakeSource) was() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(slices.Values(s.settled))
}

type fakeMessage struct {
	source   *fakeSource
	sequence uint64
}

func (m *fakeMessage) Subject() string      { return "s" }
func (m *fakeMessage) Headers() nats.Header { return nil }
func (m *fakeMessage) Data() []byte         { return nil }
func (m *fakeMessage) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{NumDelivered: 3, Sequence: jetstream.SequencePair{Stream: m.sequence}}, nil
}
func (m *fakeMessage) Ack() error        { return m.source.settle(m, "acked") }
func (m *fakeMessage) InProgress() error { return m.source.settle(m, "renewed") }
func (m *fakeMessage) Nak() error        { return m.source.settle(m, "given back") }
func (m *fakeMessage) NakWithDelay(d time.Duration) error {
	return m.source.settle(m, "given back after "+d.String())
}

// running is a puller that runs until the test stops it.
type running struct {
	*Puller
	draining chan struct{}
	done     chan struct{}
}

func run(t *testing.T, s *fakeSource, limit int, handle Handler) *running {
	t.Helper()
	r := &running{draining: make(chan struct{}), done: make(chan struct{})}
	most := NewLimit(limit, 1)
	r.Puller = New(s, handle, Config{
		Conn: new(nats.Conn), Limit: most, Later: NewQueue(most), Bytes: NewBytes(1 << 20), Draining: r.draining, Log: slog.New(slog.DiscardHandler),
	})
	go func() { r.Run(t.Context()); close(r.done) }()
	return r
}

// drain drains the puller and waits for its end.
func (r *running) drain() {
	close(r.draining)
	<-r.done
}

// holding is a puller that keeps the only message of its source in flight.
type holding struct {
	*running
	message *Message
	release chan struct{}
}

// runHolding runs a puller of a source with one message, of a consumer that is led since then.
func runHolding(t *testing.T, s *fakeSource, limit int, led time.Time) *holding {
	t.Helper()
	s.leads(led, led, nil)
	h := &holding{release: make(chan struct{})}
	h.running = run(t, s, limit, func(_ context.Context, m *Message) error {
		h.message = m
		<-h.release
		return nil
	})
	return h
}

// end lets the message be settled, and drains the puller.
func (h *holding) end() {
	close(h.release)
	h.drain()
}

func TestPuller_SettlesAMessageByWhatItsHandlerReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSource(1, 2, 3)
		r := run(t, s, 10, func(_ context.Context, m *Message) error {
			switch m.Sequence() {
			case 1:
				return nil
			case 2:
				return fmt.Errorf("stopping: %w", ErrGiveBack)
			default:
				return errors.New("no")
			}
		})
		synctest.Wait()
		r.drain()
		if got, want := s.was(), []string{"1 acked", "2 given back", "3 given back after 300ms"}; !slices.Equal(got, want) {
			t.Errorf("settled %q, want %q", got, want)
		}
		if r.Handled() != 3 || r.Unacked() != 0 {
			t.Errorf("%d messages were handled and %d are in flight, want 3 and 0", r.Handled(), r.Unacked())
		}
	})
}

func TestPuller_AsksForNoMoreThanTheLimitAndRenewsLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSource(1, 2, 3)
		release := make(chan struct{})
		r := run(t, s, 2, func(context.Context, *Message) error {
			<-release
			return nil
		})
		time.Sleep(25 * time.Second) // virtual time; each lease is renewed once by then
		if r.Unacked() != 2 || len(s.asked) != 1 || s.asked[0] != 2 {
			t.Errorf("%d messages are in flight after asking for %v, want both of one pull", r.Unacked(), s.asked)
		}
		if got, want := s.was(), []string{"1 renewed", "2 renewed"}; !slices.Equal(got, want) {
			t.Errorf("settled %q, want %q", got, want)
		}
		close(release)
		synctest.Wait()
		r.drain()
		if r.Handled() != 3 {
			t.Errorf("%d messages were handled, want the third, too, once the limit allowed it", r.Handled())
		}
	})
}

func TestPuller_MessagesOfAFormerPullWaitForAPermit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSource(1, 2, 3)
		s.late = time.Second
		release := make(chan struct{})
		handling := 0
		r := run(t, s, 1, func(_ context.Context, m *Message) error {
			handling++
			<-release
			handling--
			return nil
		})
		for handled := 0; handled < 3; {
			synctest.Wait()
			if handling > 1 {
				t.Errorf("%d messages are handled at once, want no more than the limit, 1", handling)
			}
			select {
			case release <- struct{}{}:
				handled++
			case s.fail <- errSilent: // of a pull that has the permit
			}
		}
		synctest.Wait()
		r.drain()
		if got, want := s.was(), []string{"1 acked", "2 acked", "3 acked"}; !slices.Equal(got, want) {
			t.Errorf("settled %q, want %q", got, want)
		}
	})
}

func TestPuller_MessageThatComesLateInAPullIsHandledAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSource()
		began := time.Now()
		var handled time.Duration
		r := run(t, s, 10, func(context.Context, *Message) error {
			handled = time.Since(began)
			return nil
		})
		const late = 54 * time.Second // nearly the lease, and between two renewals
		time.Sleep(late)              // virtual time
		s.messages <- &fakeMessage{source: s, sequence: 1}
		synctest.Wait()
		if got, want := s.was(), []string{"1 acked"}; !slices.Equal(got, want) || handled != late || len(s.asked) != 1 {
			t.Errorf("settled %q in pulls of %v, handled after %v; want %q in one pull, at once after %v", got, s.asked, handled, want, late)
		}
		r.drain()
	})
}

func TestPuller_WhatTheFormerLeaderOfAConsumerDeliveredIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		elected := time.Now()
		s := newFakeSource(1)
		r := runHolding(t, s, 10, elected)
		lost := func() bool {
			synctest.Wait()
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.message.lost
		}
		unsure := func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.unsure
		}
		for _, pull := range []struct {
			leader string
			led    time.Time
			want   bool
		}{
			{"the same", elected, false}, {"none that says since when", time.Time{}, false}, {"another", elected.Add(time.Second), true},
		} {
			synctest.Wait()
			s.leads(pull.led, pull.led, nil)
			s.fail <- jetstream.ErrNoHeartbeat
			synctest.Wait()
			if !unsure() {
				t.Errorf("after a pull that failed, and before the leader is known to be %s, it is sure of the leader, want not", pull.leader)
			}
			time.Sleep(longestPause) // of the bubble's clock, until it pulls again
			if got := lost(); got != pull.want {
				t.Errorf("after a pull that failed, with the leader being %s, the lease may be lost: %t, want %t", pull.leader, got, pull.want)
			}
		}
		r.end()
	})
}

func TestPuller_LooksForTheLeaderWhileItCannotPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		elected := time.Now()
		s := newFakeSource(1)
		r := runHolding(t, s, 1, elected)
		for _, c := range []struct {
			when         string
			elected      time.Time
			silent       error
			unsure, lost bool
		}{
			{"under the same leader", elected, nil, false, false},
			{"without an answer", elected, context.DeadlineExceeded, true, false},
			{"under the same leader again", elected, nil, false, false},
			{"under another leader", elected.Add(time.Minute), nil, false, true},
		} {
			s.leads(s.Led(), c.elected, c.silent)
			time.Sleep(2 * lookEvery) // of the bubble's clock
			synctest.Wait()
			r.mu.Lock()
			if r.unsure != c.unsure || r.message.lost != c.lost {
				t.Errorf("%s it is unsure: %t, and its lease may be lost: %t; want %t and %t", c.when, r.unsure, r.message.lost, c.unsure, c.lost)
			}
			r.mu.Unlock()
		}
		if len(s.asked) != 1 {
			t.Errorf("it pulled %d times, want once: no more may be in flight", len(s.asked))
		}
		r.end()
	})
}

func TestPuller_RenewalsCountUpToTheLeadersLastAnswer(t *testing.T) {
	for name, elected := range map[string]time.Time{"a cluster": time.Now(), "a server alone": {}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeSource(1)
				r := runHolding(t, s, 1, elected)
				lease := s.Lease()
				for _, c := range []struct {
					when   string
					lasts  time.Duration
					silent error
					lost   bool
				}{
					{"while it answers", 10 * lease, nil, false},
					{"while it does not for less than half of a lease", lease/2 - 10*time.Second, context.DeadlineExceeded, false},
					{"once it answers again", lease, nil, false},
					{"while it does not for longer", lease/2 + 10*time.Second, context.DeadlineExceeded, true},
					{"once it answers after that", lease, nil, true},
				} {
					s.leads(elected, elected, c.silent)
					time.Sleep(c.lasts) // of the bubble's clock
					synctest.Wait()
					r.mu.Lock()
					if lost := r.message.mayBeLost(time.Now()); lost != c.lost {
						t.Errorf("%s, the lease may be lost: %t, want %t", c.when, lost, c.lost)
					}
					r.mu.Unlock()
				}
				r.end()
			})
		})
	}
}

func TestPuller_TriesAgainUntilTheConsumerIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSource(1)
		s.failures = 5
		missed := 0
		draining := make(chan struct{})
		p := New(s, func(context.Context, *Message) error { return nil }, Config{
			Conn: new(nats.Conn), Limit: NewLimit(1, 1), Bytes: NewBytes(1), Missed: func() { missed++ },
			Draining: draining, Log: slog.New(slog.DiscardHandler),
		})
		done := make(chan struct{})
		go func() { p.Run(t.Context()); close(done) }()
		time.Sleep(10 * time.Second) // virtual time
		if p.Handled() != 1 || s.opens != 6 || missed != 5 {
			t.Errorf("%d messages were handled after %d tries, of which %d were reported as failed; want 1, 6 and 5", p.Handled(), s.opens, missed)
		}
		close(draining)
		<-done
	})
}
