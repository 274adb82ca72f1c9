package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"syscall"
)

// PortError means that the server cannot listen on the address.
type PortError struct {
	Host string
	Port int
	Err  error
}

// Error implements error.
func (e *PortError) Error() string {
	addr := net.JoinHostPort(e.Host, strconv.Itoa(e.Port))
	if errors.Is(e.Err, syscall.EADDRINUSE) {
		return fmt.Sprintf("listening on %s: the port is already in use; choose another with --listen or use that server with --nats nats://%s",
			addr, addr)
	}
	return fmt.Sprintf("listening on %s: %v; choose another address with --listen", addr, cause(e.Err))
}

// Unwrap returns the error of the operating system.
func (e *PortError) Unwrap() error { return e.Err }

// StoreError means that the store directory cannot be used.
type StoreError struct {
	Dir string
	Err error
}

// Error implements error.
func (e *StoreError) Error() string {
	return fmt.Sprintf("store directory %q: it cannot be written: %v; choose another with --store-dir", e.Dir, cause(e.Err))
}

// Unwrap returns the error of the operating system.
func (e *StoreError) Unwrap() error { return e.Err }

// LockError means that another process uses the store directory.
type LockError struct {
	Dir string
	// Holder describes that process, such as "process 4711 on host, since 2006-01-02 15:04:05".
	// It is empty if unknown.
	Holder string
}

// Error implements error.
func (e *LockError) Error() string {
	by := "another rebound"
	if e.Holder != "" {
		by += " (" + e.Holder + ")"
	}
	return fmt.Sprintf("store directory %q: it is in use by %s; stop that one or choose another directory with --store-dir",
		e.Dir, by)
}

// cause returns the reason given by the operating system, without the operation and the name,
// which the message has already.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
