package testkit_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rebound-mq/rebound/internal/embedded"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestPort_IsGivenToNobodyElseWhileItsServerIsDown(t *testing.T) {
	t.Parallel()
	other := testkit.Server(t)
	reserved(t, testkit.Addr(t), other)

	nats := testkit.Server(t)
	nats.Shutdown()
	reserved(t, nats.Addr(), other)
	testkit.Server(t, func(o *embedded.Options) { o.Port = nats.Port() })

	redis := testkit.Redis(t)
	redis.Stop()
	reserved(t, redis.Addr(), other)
	redis.Restart()
}

// reserved checks that nobody listens at addr, and that the operating system gives its port neither
// to a server nor to a connection to another server.
func reserved(t *testing.T, addr string, other *testkit.NATSServer) {
	t.Helper()
	at, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	// only leaves the operating system no other port to choose.
	only := func(_, _ string, c syscall.RawConn) (err error) {
		controlErr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, at.Port<<16|at.Port)
		})
		return errors.Join(controlErr, err)
	}
	l, err := (&net.ListenConfig{Control: only}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if errors.Is(err, unix.ENOPROTOOPT) {
		t.Skip("narrowing the choice of a port needs Linux 6.3")
	}
	if err == nil {
		l.Close()
	}
	if !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("listening on any port gives %v, want the reserved one to be in use", err)
	}
	c, err := (&net.Dialer{Control: only}).DialContext(t.Context(), "tcp", other.Addr())
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("connecting from any port gives %v, want the reserved one not to be available", err)
	}
	if c, err = net.Dial("tcp", addr); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("connecting to the reserved port gives %v, %v, want it refused", c, err)
	}
}
