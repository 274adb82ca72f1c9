package testkit

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
)

// LeafNode is a leaf node of a NATS server, its hub. Either has its own JetStream.
type LeafNode struct {
	URL, Hub string    // of the leaf node, and of its hub
	Link     *CutProxy // between the two
}

// Leaf starts a NATS server with JetStream in a domain, and a leaf node of it. Both are stopped
// when the test ends.
func Leaf(t testing.TB, domain string) *LeafNode {
	t.Helper()
	hub := domainServer(t, domain, natsd.LeafNodeOpts{Host: "127.0.0.1", Port: natsd.RANDOM_PORT})
	ports, err := hub.Varz(nil)
	if err != nil {
		t.Fatalf("testkit: reading the port for leaf nodes: %v", err)
	}
	link := Proxy(t, fmt.Sprintf("127.0.0.1:%d", ports.LeafNode.Port))
	remote := &url.URL{Scheme: "nats", Host: link.Addr()}
	leaf := domainServer(t, domain+"-leaf", natsd.LeafNodeOpts{Remotes: []*natsd.RemoteLeafOpts{{URLs: []*url.URL{remote}}}})
	// Once it is connected it hears, a moment later, that its hub takes requests.
	nc := Connect(t, leaf.ClientURL())
	Eventually(t, startTimeout, "the leaf node handing on requests", func() bool {
		_, err := nc.Request("$JS."+domain+".API.INFO", nil, time.Second)
		return err == nil
	})
	return &LeafNode{URL: leaf.ClientURL(), Hub: hub.ClientURL(), Link: link}
}

func domainServer(t testing.TB, name string, leaf natsd.LeafNodeOpts) *natsd.Server {
	t.Helper()
	return PlainServer(t, &natsd.Options{ServerName: name, JetStream: true, JetStreamDomain: name, StoreDir: t.TempDir(), LeafNode: leaf})
}
