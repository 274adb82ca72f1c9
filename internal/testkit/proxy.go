package testkit

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

// CutProxy is a TCP proxy to a server that can be cut.
type CutProxy struct {
	t     testing.TB
	proxy *toxiproxy.Proxy
}

// Proxy starts a proxy to upstream, a host:port, on a free port, and stops it when the test ends.
func Proxy(t testing.TB, upstream string) *CutProxy {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := &CutProxy{t: t, proxy: toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", upstream)}
	if err := p.proxy.Start(); err != nil {
		t.Fatalf("testkit: starting a proxy to %s: %v", upstream, err)
	}
	t.Cleanup(p.proxy.Stop)
	return p
}

// Addr returns the proxy's address as host:port.
func (p *CutProxy) Addr() string { return p.proxy.Listen }

// Cut drops everything in both directions. Connections stay open, as in a network failure.
func (p *CutProxy) Cut() {
	p.t.Helper()
	for _, direction := range directions {
		toxic := `{"name": "` + direction + `", "type": "timeout", "stream": "` + direction + `", "attributes": {"timeout": 0}}`
		if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			p.t.Fatalf("testkit: cutting the proxy: %v", err)
		}
	}
}

// Mend undoes [CutProxy.Cut]. It closes the old connections.
func (p *CutProxy) Mend() {
	p.t.Helper()
	for _, direction := range directions {
		if err := p.proxy.Toxics.RemoveToxic(context.Background(), direction); err != nil {
			p.t.Fatalf("testkit: mending the proxy: %v", err)
		}
	}
}

// Slow delays everything from the server by delay.
func (p *CutProxy) Slow(delay time.Duration) {
	p.t.Helper()
	toxic := fmt.Sprintf(`{"name": "slow", "type": "latency", "stream": "downstream", "attributes": {"latency": %d}}`, delay.Milliseconds())
	if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		p.t.Fatalf("testkit: slowing the proxy down: %v", err)
	}
}

var directions = [...]string{"upstream", "downstream"}

// ProxyLeaks are options for [Main] in packages that use [Proxy]: toxiproxy leaks the goroutine
// of a closed connection that has undelivered data.
func ProxyLeaks() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreTopFunction("github.com/Shopify/toxiproxy/v2/toxics.(*NoopToxic).Pipe"),
		goleak.IgnoreTopFunction("github.com/Shopify/toxiproxy/v2/toxics.(*TimeoutToxic).Pipe"),
	}
}
