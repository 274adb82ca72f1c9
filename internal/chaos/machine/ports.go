//go:build linux

package machine

import (
	"errors"
	"net"
	"os"
	"strconv"
)

const (
	// The range lies below the ports of outgoing connections, so that a restarted server finds
	// its port free.
	firstPort, lastPort = 20000, 32000
	blockSize           = 16
)

// Ports is a block of ports reserved for one history: whoever listens on the first port owns the
// block.
type Ports struct {
	guard net.Listener
	next  int
}

// TakePorts reserves a free block of ports.
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

// Take returns a port on which nobody listens.
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

// Release releases the block.
func (p *Ports) Release() { _ = p.guard.Close() }
