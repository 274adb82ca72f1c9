//go:build unix

package testkit

import (
	"net"
	"strconv"
	"syscall"
	"testing"
)

// Port returns a port of 127.0.0.1 on which the test may start a server any number of times. Until
// the test ends the operating system gives it to nobody else, even while no server listens; then
// connections to it are refused.
func Port(t testing.TB) int {
	t.Helper()
	fd, err := newSocket()
	if err != nil {
		t.Fatalf("testkit: making a socket: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	port, err := bind(fd)
	if err != nil {
		t.Fatalf("testkit: reserving a port: %v", err)
	}
	return port
}

// Addr returns the address of a new [Port] as host:port.
func Addr(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(Port(t)))
}

func newSocket() (fd int, err error) {
	// A process that starts meanwhile would inherit it and keep the port.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0); err == nil {
		syscall.CloseOnExec(fd)
	}
	return fd, err
}

// bind binds a socket that will never listen to a free port. The port then counts as taken for
// whoever asks for any, but a server that names it may listen, because both set SO_REUSEADDR.
func bind(fd int) (port int, err error) {
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	addr, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return addr.(*syscall.SockaddrInet4).Port, nil
}
