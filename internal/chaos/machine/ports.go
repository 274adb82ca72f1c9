//go:build linux

package machine

import (
	"errors"
	"net"
	"os"
	"strconv"
)

const (
	// Ports are taken below those that the kernel gives to outgoing connections, so that
	// a server that was stopped finds its own free when it comes back.
	firstPort, lastPort = 20000, 32000
	blockSize           = 16
)

// Ports is a block of ports of one history alone: whoever listens on the first one
// has the others.
type Ports struct {
	guard net.Listener
	next  int
}

// TakePorts takes a block of ports that is free.
func TakePorts() (*Ports, error) {
	blocks := (lastPort - firstPort) / blockSize
	for i := range blocks {
		first := firstPort + (os.Getpid()*7+i)%blocks*blockSize
		guard, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(first)) //nolint:noctx // a listener of this machine
		if err == nil {
			return &Ports{guard: guard, next: first + 1}, nil
		}
	}
	return nil, errors.New("no free block of ports on this machine")
}

// Take returns a port that nobody listens on.
func (p *Ports) Take() (int, error) {
	end := p.guard.Addr().(*net.TCPAddr).Port + blockSize
	for p.next < end {
		port := p.next
		p.next++
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)) //nolint:noctx // a listener of this machine
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("the block of ports of this history is used up")
}

// Release gives the block back.
func (p *Ports) Release() { _ = p.guard.Close() }
