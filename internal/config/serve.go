package config

import "strings"

// onlyEmbedded are the settings of the embedded server. A flag that sets one of
// them together with an outside server would have no effect.
var onlyEmbedded = []string{"store-dir", "listen", "sync-interval", "max-store"}

// onlyOutside are the settings for an outside server.
var onlyOutside = []string{"creds", "nkey", "tls-ca", "tls-cert", "tls-key"}

// CheckServe checks what the service demands beyond a client command. The error
// is an [*Error].
func (c *Config) CheckServe() error {
	var found []Issue
	refuse := func(v Value, problem string) {
		found = append(found, Issue{Source: v.Source, Key: v.Key, Problem: problem})
	}
	if !c.Embedded() {
		for _, key := range onlyEmbedded {
			if v := c.value(key); strings.HasPrefix(v.Source, "--") {
				refuse(v, "it is about the embedded server, which does not run when --nats or --context is given")
			}
		}
		return issues(found)
	}
	for _, key := range onlyOutside {
		if v := c.value(key); v.Value != "" {
			refuse(v, "the embedded server has no use for it; it goes with --nats")
		}
	}
	if c.Replicas > 1 {
		refuse(c.value("replicas"), "the embedded server is one server; more replicas need a cluster and --nats")
	}
	if c.StoreDir == "" {
		refuse(c.value("store-dir"), "no home directory is known to put it in; set --store-dir")
	}
	if c.HTTP != "" && c.HTTP == c.Listen && !strings.HasSuffix(c.HTTP, ":0") {
		refuse(c.value("http"), "it is the address of --listen, too; choose two")
	}
	return issues(found)
}

func (c *Config) value(key string) Value {
	for _, v := range c.values {
		if v.Key == key {
			return v
		}
	}
	return Value{Key: key}
}
