package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/events"
	// The program is built by a test, so only this makes its code part of what a cached result
	// is the result of.
	_ "github.com/rebound-mq/rebound/internal/cli"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	// killsTogether is how often the program is killed together with its embedded server, and
	// killsApart how often in each of the other ways.
	killsTogether = 20
	killsApart    = 10
	operations    = 3000
	// settle bounds the time from the last kill until everything has ended. The governor paces
	// that, slowly on a busy machine.
	settle = 10 * time.Minute
)

// patient never gives up because of a crash: while a server is away the target does not respond.
const patient = `
default:
  maxAttempts: 1000
  baseDelay: 20ms
  maxDelay: 1500ms
  backoffStrategy: exponential
  jitterType: full
  attemptTimeout: 10s
`

// policy lets every operation go on its own.
const policy = patient + `
  enableCircuitBreaker: false
`

// guarded has a circuit breaker, so that operations are held.
const guarded = patient + `
  enableCircuitBreaker: true
  circuitBreakerThreshold: 5
  circuitBreakerTimeout: 400ms
`

// program is a running rebound process.
type program struct {
	cmd *exec.Cmd
	log *os.File
}

func TestProgram_LosesNothingWhenItIsKilled(t *testing.T) {
	binary := build(t)
	serve := func(policy string) []string {
		policies := filepath.Join(t.TempDir(), "policies.yaml")
		if err := os.WriteFile(policies, []byte(policy), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{"serve", "--http", "off", "--lease", "2s", "--policies", policies, "--log-level", "warn"}
	}

	t.Run("together with its embedded server", func(t *testing.T) {
		t.Parallel()
		addr := testkit.Addr(t)
		args := append(serve(policy), "--store-dir", filepath.Join(t.TempDir(), "store"), "--listen", addr)
		url := "nats://" + addr
		p := start(t, binary, args)
		await(t, url)
		torment(t, url, killsTogether, false, false, func() {
			p.kill(t)
			p = start(t, binary, args)
		})
		p.kill(t)
	})

	two := func(t *testing.T, policy string, outages, workers bool) {
		t.Parallel()
		url := testkit.Server(t).ClientURL()
		args := append(serve(policy), "--nats", url)
		running := []*program{start(t, binary, args), start(t, binary, args)}
		await(t, url)
		n := 0
		torment(t, url, killsApart, outages, workers, func() {
			running[n%2].kill(t)
			running[n%2] = start(t, binary, args)
			n++
		})
		for _, p := range running {
			p.kill(t)
		}
	}
	t.Run("as one of two instances on an outside server", func(t *testing.T) { two(t, policy, false, false) })
	t.Run("as one of two instances while workers report on half the operations", func(t *testing.T) { two(t, policy, false, true) })
	t.Run("as one of two instances while the target fails and heals and the lanes fill", func(t *testing.T) { two(t, guarded, true, false) })
}

// torment submits operations while it kills the program kills times, and checks how each
// operation ended. With outages the target is down half of the time until the last kill. With
// workers half the operations are taken from a stream and reported on.
func torment(t *testing.T, url string, kills int, outages, workers bool, kill func()) {
	nc := testkit.Connect(t, url, nats.ReconnectWait(20*time.Millisecond), nats.ReconnectBufSize(-1))
	js := testkit.JetStream(t, nc)
	target := newTarget(t, nc, outages)
	if workers {
		target.takeFromStream(t, nc)
	}

	target.down.Store(outages)
	var submitting sync.WaitGroup
	var submitted atomic.Int64
	for worker := range 4 {
		submitting.Go(func() {
			for i := worker; i < operations; i += 4 {
				submit(t, js, i, workers && i%2 == 0)
				submitted.Add(1)
			}
		})
	}
	mostHeld := uint64(0)
	if outages {
		// The kills begin once the lanes fill.
		testkit.Eventually(t, time.Minute, "operations being held", func() bool {
			held, err := heldNow(js)
			mostHeld = held
			return err == nil && held >= 20
		})
	}
	for n := range kills {
		// Spread the kills over the submissions, each at a random moment.
		testkit.Eventually(t, time.Minute, "submissions going on", func() bool {
			return int(submitted.Load()) >= operations*n/kills
		})
		if outages {
			target.down.Store(n%2 == 0)
		}
		<-time.After(time.Duration(rand.IntN(300)) * time.Millisecond)
		kill()
		if held, err := heldNow(js); err == nil {
			mostHeld = max(mostHeld, held)
		}
	}
	target.down.Store(false)
	submitting.Wait()
	if t.Failed() {
		return
	}

	awaitSettled(t, js, operations)
	if workers && target.taken.Load() < operations/2 {
		t.Errorf("the worker had %d attempts at %d operations, too few to test anything", target.taken.Load(), operations/2)
	}
	outcomes, err := read(js)
	if err != nil {
		t.Fatalf("reading the outcomes: %v", err)
	}

	letters := deadletter.New(js, "")
	doubled, wrong := 0, 0
	for i := range operations {
		id := strconv.Itoa(i)
		got := outcomes[id]
		if len(got) != 1 {
			if doubled++; doubled <= 5 {
				t.Errorf("operation %s has %d outcomes, want 1: %+v", id, len(got), got)
			}
			continue
		}
		want := events.RetrySuccess
		if hopeless(id) {
			want = events.RetryFailed
			if _, err := letters.Get(context.Background(), got[0].ID); err != nil {
				t.Errorf("operation %s failed and has no dead letter: %v", id, err)
			}
		}
		if got[0].Outcome != want {
			if wrong++; wrong <= 5 {
				t.Errorf("operation %s ended as %s, want %s: %+v", id, got[0].Outcome, want, got[0])
			}
		}
		if want == events.RetrySuccess && !target.succeeded(id) {
			t.Errorf("operation %s has a success as its outcome but never succeeded at the target", id)
		}
	}
	t.Logf("%d kills, %d operations, %d attempts at the target, of them %d repeats, at most %d held",
		kills, operations, target.attempts.Load(), target.repeats.Load(), mostHeld)
}

// hopeless operations fail for good at the target.
func hopeless(id string) bool { return hash(id)%5 == 0 }

func hash(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return h.Sum32()
}

// target fails some operations for good, and half of the others at their first redelivery unless
// it has outages: further failures would keep the breaker opening and the governor slow.
type target struct {
	attempts, repeats atomic.Int64
	outages           bool
	// taken counts the attempts taken from a stream.
	taken atomic.Int64
	// down makes it fail every attempt.
	down atomic.Bool

	mu   sync.Mutex // guards the fields below
	done map[string]bool
	made map[string]int // attempts by id and number
}

func newTarget(t *testing.T, nc *nats.Conn, outages bool) *target {
	t.Helper()
	tg := &target{outages: outages, done: make(map[string]bool), made: make(map[string]int)}
	service, err := micro.AddService(nc, micro.Config{Name: "load", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Stop() })
	err = service.AddEndpoint("op", micro.HandlerFunc(func(r micro.Request) {
		if code, message := tg.attempt(nats.Header(r.Headers())); code != "" {
			_ = r.Error(code, message, nil)
			return
		}
		_ = r.Respond(nil)
	}), micro.WithEndpointSubject("load.op"))
	if err != nil {
		t.Fatal(err)
	}
	return tg
}

// attempt makes one attempt and returns the code and the message of its failure.
func (tg *target) attempt(h nats.Header) (code, message string) {
	id := h.Get("ce-id")
	tg.attempts.Add(1)
	tg.mu.Lock()
	tg.made[id+" "+h.Get(events.HeaderAttempt)]++
	tg.mu.Unlock()
	if h.Get(events.HeaderRepeated) != "" {
		tg.repeats.Add(1)
	}
	switch {
	case tg.down.Load():
		return "503", "down"
	case hopeless(id):
		return "404", "no such thing"
	case !tg.outages && hash(id)%2 == 0 && h.Get(events.HeaderAttempt) == "2":
		return "503", "busy"
	}
	tg.mu.Lock()
	tg.done[id] = true
	tg.mu.Unlock()
	return "", ""
}

// takeFromStream makes the target also a worker of a stream.
func (tg *target) takeFromStream(t *testing.T, nc *nats.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	c, err := client.New(ctx, client.Config{Conn: nc})
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.StartStreamWorker(ctx, client.StreamWorkerConfig{Service: "load", Operation: "op"}, func(_ context.Context, r *client.Request) error {
		tg.taken.Add(1)
		if code, message := tg.attempt(r.Header); code != "" {
			return &client.Error{Code: code, Message: message}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := errors.Join(w.Stop(ctx), c.Close(ctx)); err != nil {
			t.Errorf("stopping the worker: %v", err)
		}
	})
}

// again returns how many attempts were made more than once.
func (tg *target) again() int {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	n := 0
	for _, made := range tg.made {
		if made > 1 {
			n++
		}
	}
	return n
}

func (tg *target) succeeded(id string) bool {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	return tg.done[id]
}

// submit retries publishing until it is acknowledged, as a careful service does.
func submit(t *testing.T, js jetstream.JetStream, i int, published bool) {
	m := nats.NewMsg("retry.submit.load.op")
	m.Data = []byte("payload " + strconv.Itoa(i))
	for k, v := range map[string]string{"ce-specversion": "1.0", "ce-id": strconv.Itoa(i), "ce-source": "/crash", "ce-type": events.TypeFailed} {
		m.Header[k] = []string{v}
	}
	if published {
		m.Header["ce-delivery"] = []string{string(events.Publish)}
	}
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, err := js.PublishMsg(ctx, m, jetstream.WithMsgID("crash-"+strconv.Itoa(i)))
		cancel()
		if err == nil {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Errorf("operation %d could not be submitted within a minute", i)
}

// read returns the outcomes by event id.
func read(js jetstream.JetStream) (map[string][]events.Outcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, "RETRY_OUTCOMES")
	if err != nil {
		return nil, err
	}
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{"retry.outcome.>"}})
	if err != nil {
		return nil, err
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]events.Outcome)
	for left := int(info.NumPending); left > 0; {
		batch, err := consumer.FetchNoWait(min(left, 1000))
		if err != nil {
			return nil, err
		}
		n := 0
		for m := range batch.Messages() {
			var o events.Outcome
			if err := json.Unmarshal(m.Data(), &o); err != nil {
				return nil, err
			}
			out[o.EventID] = append(out[o.EventID], o)
			n++
		}
		if n == 0 {
			return nil, fmt.Errorf("%d outcomes did not come: %w", left, batch.Error())
		}
		left -= n
	}
	return out, nil
}

// awaitSettled waits until each of n operations has an outcome and nothing waits. It only asks for
// counts, so that watching does not slow the service down.
func awaitSettled(t *testing.T, js jetstream.JetStream, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last counts
	var failed error
	for {
		now, err := progress(ctx, js)
		switch {
		case err != nil:
			failed = err
		case now.settled(n):
			return
		default:
			last = now
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("after %s there are %+v, want %d outcomes and nothing else (last error: %v)", settle, last, n, failed)
		}
	}
}

// counts are the numbers of operations by state.
type counts struct{ Outcomes, Submitted, Due, Parked, Held uint64 }

func (c counts) settled(n int) bool {
	return c.Outcomes >= uint64(n) && c == counts{Outcomes: c.Outcomes}
}

// progress counts the outcomes and what is not settled yet.
func progress(ctx context.Context, js jetstream.JetStream) (c counts, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, count := range []struct {
		n               *uint64
		stream, subject string
	}{
		{&c.Outcomes, "RETRY_OUTCOMES", "retry.outcome.>"},
		{&c.Submitted, "RETRY_INTAKE", "retry.submit.>"},
		{&c.Due, "RETRY", "retry.due.>"},
		{&c.Parked, "RETRY", "retry.parked.>"},
		{&c.Held, "RETRY", "retry.held.>"},
	} {
		if *count.n, err = streams.Count(ctx, js, count.stream, count.subject); err != nil {
			return c, err
		}
	}
	return c, nil
}

// heldNow counts the operations in lanes.
func heldNow(js jetstream.JetStream) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return streams.Count(ctx, js, "RETRY", "retry.held.>")
}

// build compiles the program.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "rebound")
	cmd := exec.Command("go", "build", "-o", binary, "github.com/rebound-mq/rebound/cmd/rebound")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	return binary
}

func start(t *testing.T, binary string, args []string) *program {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "rebound-*.log")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting the program: %v", err)
	}
	p := &program{cmd: cmd, log: log}
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			if out, err := os.ReadFile(log.Name()); err == nil && len(out) > 0 {
				t.Logf("process %d wrote:\n%.4000s", cmd.Process.Pid, out)
			}
		}
	})
	return p
}

// kill ends the process like kill -9 and waits until it is gone.
func (p *program) kill(t *testing.T) {
	t.Helper()
	if p.cmd.ProcessState != nil {
		t.Fatalf("process %d had ended by itself: %s", p.cmd.Process.Pid, p.cmd.ProcessState)
	}
	p.end()
}

func (p *program) end() {
	if p.cmd.ProcessState != nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	_ = p.log.Close()
}

// await waits until a service is ready.
func await(t *testing.T, url string) {
	t.Helper()
	testkit.Eventually(t, 30*time.Second, "the service being ready", func() bool {
		nc, err := nats.Connect(url, nats.Timeout(time.Second))
		if err != nil {
			return false
		}
		defer nc.Close()
		_, err = nc.Request("rebound.status", nil, time.Second)
		return err == nil
	})
}
