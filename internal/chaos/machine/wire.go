//go:build linux

package machine

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Wire is a TCP connection between two processes that can be cut and slowed.
type Wire struct {
	Name  string
	proxy *toxiproxy.Proxy
}

// LayWire lays a wire to a port of this machine.
func LayWire(name string, port int) (*Wire, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	w := &Wire{Name: name, proxy: toxiproxy.NewProxy(server, name, "127.0.0.1:0", "127.0.0.1:"+strconv.Itoa(port))}
	if err := w.proxy.Start(); err != nil {
		return nil, fmt.Errorf("laying the wire %s: %w", name, err)
	}
	return w, nil
}

// Port returns the port at which the wire begins.
func (w *Wire) Port() int {
	_, port, err := net.SplitHostPort(w.proxy.Listen)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(port)
	return n
}

var directions = [...]string{"upstream", "downstream"}

// Cut drops everything; connections stay open, as in a network failure.
func (w *Wire) Cut() error {
	for _, d := range directions {
		if err := w.add(fmt.Sprintf(`{"name": "cut-%[1]s", "type": "timeout", "stream": "%[1]s", "attributes": {"timeout": 0}}`, d)); err != nil {
			return err
		}
	}
	return nil
}

// Slow delays everything by delay, with a jitter of a quarter of it.
func (w *Wire) Slow(delay time.Duration) error {
	for _, d := range directions {
		if err := w.add(fmt.Sprintf(`{"name": "slow-%[1]s", "type": "latency", "stream": "%[1]s", "attributes": {"latency": %d, "jitter": %d}}`,
			d, delay.Milliseconds(), delay.Milliseconds()/4)); err != nil {
			return err
		}
	}
	return nil
}

func (w *Wire) add(toxic string) error {
	if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		return fmt.Errorf("the wire %s: %w", w.Name, err)
	}
	return nil
}

// Mend undoes [Wire.Cut] and [Wire.Slow].
func (w *Wire) Mend() { w.proxy.Toxics.ResetToxics(context.Background()) }

// Remove closes the wire and its connections.
func (w *Wire) Remove() { w.proxy.Stop() }
