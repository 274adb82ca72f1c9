package testkit_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/embedded"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m, testkit.ProxyLeaks()...) }

func TestServer_StoresOnFiles(t *testing.T) {
	t.Parallel()
	s := testkit.Server(t)
	js := testkit.JetStream(t, testkit.Connect(t, s.ClientURL()))
	stream := createStream(t, js, 1)
	if stream.CachedInfo().Config.Storage != jetstream.FileStorage {
		t.Errorf("storage is %v, want file", stream.CachedInfo().Config.Storage)
	}
	publish(t, js)
}

func TestServer_RunsBesideAnother(t *testing.T) {
	t.Parallel()
	a, b := testkit.Server(t), testkit.Server(t)
	if a.ClientURL() == b.ClientURL() || a.StoreDir() == b.StoreDir() {
		t.Errorf("two servers share %s or %s", a.ClientURL(), a.StoreDir())
	}
}

func TestServer_StartsOnTheFilesOfAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	inDir := func(o *embedded.Options) { o.StoreDir = dir }
	first := testkit.Server(t, inDir)
	js := testkit.JetStream(t, testkit.Connect(t, first.ClientURL()))
	createStream(t, js, 1)
	publish(t, js)
	first.Shutdown()

	second := testkit.Server(t, inDir)
	js = testkit.JetStream(t, testkit.Connect(t, second.ClientURL()))
	s, err := js.Stream(t.Context(), "TEST")
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d messages are left, want 1", n)
	}
}

func TestCluster_ReplicatesAndOutlivesAServer(t *testing.T) {
	t.Parallel()
	c := testkit.Cluster(t, 3)
	js := testkit.JetStream(t, testkit.Connect(t, c.URL()))
	s := createStream(t, js, 3)
	publish(t, js)

	stopped := c.Leader()
	c.Stop(stopped)
	testkit.Eventually(t, 30*time.Second, "the two remaining servers answering", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.Publish(ctx, "test.x", nil)
		return err == nil
	})
	c.Restart(stopped)
	testkit.Eventually(t, 30*time.Second, "all three replicas are current", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		info, err := s.Info(ctx)
		if err != nil || info.Cluster == nil || len(info.Cluster.Replicas) != 2 {
			return false
		}
		return info.Cluster.Replicas[0].Current && info.Cluster.Replicas[1].Current
	})
}

func TestRedis_AnswersStopsAndComesBack(t *testing.T) {
	t.Parallel()
	r := testkit.Redis(t)
	if err := ping(r.Addr()); err != nil {
		t.Fatal(err)
	}
	r.Stop()
	if err := ping(r.Addr()); err == nil {
		t.Error("a stopped server answers")
	}
	r.Restart()
	if err := ping(r.Addr()); err != nil {
		t.Errorf("a restarted server: %v", err)
	}
	r.Pause()
	if err := ping(r.Addr()); err == nil {
		t.Error("a paused server answers")
	}
	r.Resume()
	if err := ping(r.Addr()); err != nil {
		t.Errorf("a resumed server: %v", err)
	}
	r.Pause() // a paused server is stopped at the end of the test, too
}

func TestRedis_FailsTheTestWithoutAServer(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	message := failure(t, func(f testing.TB) { testkit.Redis(f) })
	if !strings.Contains(message, "redis-server is not on PATH") {
		t.Errorf("message is %q", message)
	}
}

func TestEventually_LooksUntilTheConditionHolds(t *testing.T) {
	t.Parallel()
	var looks int
	testkit.Eventually(t, 10*time.Second, "three looks", func() bool {
		looks++
		return looks == 3
	})
	if looks != 3 {
		t.Errorf("looked %d times, want 3", looks)
	}
}

func TestEventually_FailsAtTheEndOfItsBound(t *testing.T) {
	for says, c := range map[string]struct{ look, most time.Duration }{
		"when looks take no time": {0, 20 * time.Millisecond},
		"later when looks linger": {50 * time.Millisecond, 200 * time.Millisecond},
	} {
		t.Run(says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				message := failure(t, func(f testing.TB) {
					testkit.Eventually(f, 20*time.Millisecond, "pigs fly", func() bool { time.Sleep(c.look); return false })
				})
				if took := time.Since(began); message != "not within 20ms: pigs fly" || took > c.most {
					t.Errorf("after %s the message is %q, want it after %s at most", took, message, c.most)
				}
			})
		})
	}
}

func TestLogger_IsSafeAfterTheTest(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	var wg sync.WaitGroup
	t.Run("a test that leaves a goroutine that logs", func(t *testing.T) {
		log := testkit.Logger(t)
		log.Info("during the test")
		wg.Go(func() {
			<-end
			log.Info("after the test")
		})
	})
	close(end)
	wg.Wait()
}

func createStream(t *testing.T, js jetstream.JetStream, replicas int) jetstream.Stream {
	t.Helper()
	s, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "TEST", Subjects: []string{"test.>"}, Replicas: replicas,
	})
	if err != nil {
		t.Fatalf("creating a stream: %v", err)
	}
	return s
}

func publish(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	if _, err := js.Publish(t.Context(), "test.x", []byte("x")); err != nil {
		t.Fatalf("publishing: %v", err)
	}
}

func ping(addr string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprint(c, "PING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && line != "+PONG\r\n" {
		err = fmt.Errorf("answer is %q", line)
	}
	return err
}

// failure runs f with a fake test and returns the message with which that test fails.
func failure(t *testing.T, f func(testing.TB)) string {
	t.Helper()
	fake := &failingTest{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(fake)
	}()
	<-done
	if fake.message == "" {
		t.Fatal("the test did not fail")
	}
	return fake.message
}

type failingTest struct {
	testing.TB
	message string
}

func (f *failingTest) Helper() {}

func (f *failingTest) Fatalf(format string, args ...any) {
	f.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}
