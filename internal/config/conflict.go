package config

import "slices"

// connectionKeys are the settings that a context already includes, so none of
// them can be combined with one.
var connectionKeys = []string{
	"nats", "creds", "nkey", "user", "password", "token", "tls-ca", "tls-cert", "tls-key",
}

// identities are the ways to say who connects; only one can be in force.
var identities = [][]string{{"creds"}, {"nkey"}, {"user", "password"}, {"token"}}

// resolveConflicts keeps, of settings that exclude each other, the one from the
// heavier layer. Two from the same layer are an issue.
func (l *loader) resolveConflicts(winners map[string]*given) {
	l.settleContext(winners)
	l.settleIdentity(winners)
	l.demandPair(winners, "user", "password")
	l.demandPair(winners, "tls-cert", "tls-key")
}

func (l *loader) settleContext(winners map[string]*given) {
	context := winners["context"]
	if context.text == "" {
		return
	}
	if nats := winners["nats"]; nats.text != "" && nats.layer > context.layer {
		displace(context, "nats", nats)
		return
	}
	for _, key := range connectionKeys {
		g := winners[key]
		switch {
		case g.text == "":
		case g.layer < context.layer:
			displace(g, "context", context)
		default:
			l.issue(g.source, key, "it cannot be combined with the context (%s), which says how to connect", context.source)
		}
	}
}

func (l *loader) settleIdentity(winners map[string]*given) {
	heaviest := layerDefault
	for _, keys := range identities {
		heaviest = max(heaviest, weight(winners, keys))
	}
	var chosen []string
	for _, keys := range identities {
		if w := weight(winners, keys); w == heaviest && w > layerDefault {
			chosen = append(chosen, keys[0])
		}
	}
	if len(chosen) == 0 {
		return
	}
	by := winners[chosen[0]]
	for _, keys := range identities {
		if slices.Contains(chosen, keys[0]) {
			continue
		}
		for _, key := range keys {
			if g := winners[key]; g.text != "" {
				displace(g, chosen[0], by)
			}
		}
	}
	for _, key := range chosen[1:] {
		l.issue(winners[key].source, key, "it cannot be combined with %s (%s); only one can say who connects", chosen[0], by.source)
	}
}

// weight returns the heaviest layer that sets one of the keys, or layerDefault
// when none has a value.
func weight(winners map[string]*given, keys []string) layer {
	w := layerDefault
	for _, key := range keys {
		if g := winners[key]; g.text != "" {
			w = max(w, g.layer)
		}
	}
	return w
}

func (l *loader) demandPair(winners map[string]*given, a, b string) {
	ga, gb := winners[a], winners[b]
	switch {
	case ga.text != "" && gb.text == "":
		l.issue(ga.source, a, "it needs %s, which is not set", b)
	case gb.text != "" && ga.text == "":
		l.issue(gb.source, b, "it needs %s, which is not set", a)
	}
}

// displace empties a value that another setting overrides.
func displace(g *given, key string, by *given) {
	g.text = ""
	g.source = "not used: " + key + " is set (" + by.source + ")"
}
