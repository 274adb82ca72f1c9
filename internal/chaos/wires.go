//go:build linux

package chaos

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

// wire is a TCP connection between two processes that can be cut and slowed.
type wire struct {
	name  string
	proxy *toxiproxy.Proxy
}

func layWire(name string, port int) (*wire, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	w := &wire{name: name, proxy: toxiproxy.NewProxy(server, name, "127.0.0.1:0", "127.0.0.1:"+strconv.Itoa(port))}
	if err := w.proxy.Start(); err != nil {
		return nil, fmt.Errorf("laying the wire %s: %w", name, err)
	}
	return w, nil
}

// port is where the wire begins.
func (w *wire) port() int {
	_, port, err := net.SplitHostPort(w.proxy.Listen)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(port)
	return n
}

var directions = [...]string{"upstream", "downstream"}

// cut lets nothing through any more; connections stay open, as when a network fails.
func (w *wire) cut() error {
	for _, d := range directions {
		if err := w.add(fmt.Sprintf(`{"name": "cut-%[1]s", "type": "timeout", "stream": "%[1]s", "attributes": {"timeout": 0}}`, d)); err != nil {
			return err
		}
	}
	return nil
}

// slow makes everything take longer by delay, and by a quarter of it more or less.
func (w *wire) slow(delay time.Duration) error {
	for _, d := range directions {
		if err := w.add(fmt.Sprintf(`{"name": "slow-%[1]s", "type": "latency", "stream": "%[1]s", "attributes": {"latency": %d, "jitter": %d}}`,
			d, delay.Milliseconds(), delay.Milliseconds()/4)); err != nil {
			return err
		}
	}
	return nil
}

func (w *wire) add(toxic string) error {
	if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		return fmt.Errorf("the wire %s: %w", w.name, err)
	}
	return nil
}

// mend takes away whatever was done to the wire.
func (w *wire) mend() { w.proxy.Toxics.ResetToxics(context.Background()) }

// layWires lays a wire between each two nodes when the kind asks for it.
func (h *history) layWires() error {
	if !h.kind.Wires {
		return nil
	}
	for i := range h.nodes {
		for j, to := range h.nodes {
			if i == j {
				continue
			}
			w, err := layWire(fmt.Sprintf("n%d-n%d", i+1, j+1), to.cluster)
			if err != nil {
				return err
			}
			h.addWire(w)
			h.routes[[2]int{i, j}] = w
		}
	}
	return nil
}

// route returns the wire from one node to another, nil when there is none.
func (h *history) route(from, to int) *wire { return h.routes[[2]int{from, to}] }

func (h *history) addWire(w *wire) {
	h.wires = append(h.wires, w)
	h.closers = append(h.closers, w.proxy.Stop)
}

// serverURLs are the addresses of the nodes as one instance knows them.
func (h *history) serverURLs(instance string) (string, error) {
	if !h.kind.Wires {
		return h.urls(), nil
	}
	all := make([]string, len(h.nodes))
	for i, n := range h.nodes {
		w, err := layWire(fmt.Sprintf("%s-n%d", instance, i+1), n.client)
		if err != nil {
			return "", err
		}
		h.addWire(w)
		all[i] = fmt.Sprintf("nats://127.0.0.1:%d", w.port())
	}
	return strings.Join(all, ","), nil
}
