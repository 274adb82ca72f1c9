package policy

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/rebound-mq/rebound/events"
)

// Set is an immutable set of policies. It is safe for concurrent use.
//
// A policy is put together key by key from the layers that apply. Each overrides
// those before it:
//
//  1. the default
//  2. the service
//  3. the service's operation type
//  4. the account: under the default, the service, the operation type
//  5. the campaign: likewise
//  6. the account and the campaign together: likewise
//  7. the operation's own overrides, which [Policy.Override] lays over it
//
// Within a layer, a policy file overrides the built-in policies. So a file's default
// overrides the built-in default, but not a service of the built-in policies.
// Classification rules are inherited: those of the upper layer come first and replace
// those below that have the same name. Every other key is replaced, lists included.
type Set struct {
	name   string
	source []byte
	// sections are the names at the top level of the file, sorted.
	sections []string
	layers   map[scope]*layer

	// The fields below are computed from layers.

	root                *place
	services            map[string]*servicePlace
	accounts, campaigns map[string]uint32 // numbers from 1 for the names that matches use
	matches             map[match]*layer
	places              uint32 // how many there are

	// composed holds policies for accounts and campaigns that [Set.Find] has returned.
	composed *lru.Cache[match, *Policy]
}

// mostComposed is how many policies for accounts and campaigns are kept.
const mostComposed = 4096

// place is the default, a service or an operation type of a service, with the part of
// its policy that does not depend on account and campaign.
type place struct {
	number uint32
	within *place // nil for the default
	kinds  matchKind
	policy Policy
}

// servicePlace is a service with its operation types.
type servicePlace struct {
	place
	operations map[string]*place
}

// match is what a layer of an account or a campaign applies to, by number; 0 is any.
// Its layer in Set has the layers of wider places for the same account and campaign
// merged in, so that at most one layer of a kind applies.
type match struct{ place, account, campaign uint32 }

// matchKind is a set of the kinds of matches of a place, which spares most operations
// from looking for any.
type matchKind uint8

const (
	ofAccount matchKind = 1 << iota
	ofCampaign
	ofBoth
)

// Query names the operation to find the policy of.
type Query struct {
	Service   string `json:"service"`
	Operation string `json:"operation"`
	// Account and Campaign may be empty.
	Account  string `json:"accountId,omitempty"`
	Campaign string `json:"campaignId,omitempty"`
	// Priority is the operation's own. It counts only with PriorityGiven, and
	// affects delays, not the policy.
	Priority      events.Priority `json:"-"`
	PriorityGiven bool            `json:"-"`
}

// Resolve returns the policy for q. It allocates nothing, and takes the same time
// however many policies there are. The slices of the policy are shared and must not be
// changed.
//
// If an account and a campaign together would make baseDelay longer than maxDelay,
// baseDelay is cut to maxDelay.
func (s *Set) Resolve(q Query) Policy {
	at, m := s.find(q)
	if m == (match{place: m.place}) {
		return at.policy
	}
	return s.compose(at, m)
}

// Find returns what [Set.Resolve] returns without copying it. The policy is shared and must
// not be changed.
func (s *Set) Find(q Query) *Policy {
	at, m := s.find(q)
	if m == (match{place: m.place}) {
		return &at.policy
	}
	if p, ok := s.composed.Get(m); ok {
		return p
	}
	p := s.compose(at, m)
	s.composed.Add(m, &p)
	return &p
}

// find returns the place of an operation, and the account and campaign that may match.
func (s *Set) find(q Query) (*place, match) {
	at := s.at(q.Service, q.Operation)
	return at, match{at.number, s.accounts[q.Account], s.campaigns[q.Campaign]}
}

// compose returns the policy of a place for an account or a campaign, or both.
func (s *Set) compose(at *place, m match) Policy {
	p := at.policy
	if m.account != 0 {
		s.match(at, ofAccount, m.account, 0).applyTo(&p)
	}
	if m.campaign != 0 {
		s.match(at, ofCampaign, 0, m.campaign).applyTo(&p)
	}
	if m.account != 0 && m.campaign != 0 {
		s.match(at, ofBoth, m.account, m.campaign).applyTo(&p)
	}
	p.BaseDelay = min(p.BaseDelay, p.MaxDelay)
	return p
}

// at returns the narrowest place for a key.
func (s *Set) at(service, operation string) *place {
	known, ok := s.services[service]
	if !ok {
		return s.root
	}
	if narrower, ok := known.operations[operation]; ok {
		return narrower
	}
	return &known.place
}

// match returns the layer of a kind that applies at a place, or nil.
func (s *Set) match(at *place, kind matchKind, account, campaign uint32) *layer {
	for ; at != nil; at = at.within {
		if at.kinds&kind == 0 {
			continue
		}
		if l := s.matches[match{at.number, account, campaign}]; l != nil {
			return l
		}
	}
	return nil
}

// applying returns all layers that apply to q, the lowest first.
func (s *Set) applying(q Query) []*layer {
	var layers []*layer
	for _, of := range []scope{{}, {account: q.Account}, {campaign: q.Campaign}, {account: q.Account, campaign: q.Campaign}} {
		for _, sc := range []scope{
			of,
			{q.Service, "", of.account, of.campaign},
			{q.Service, q.Operation, of.account, of.campaign},
		} {
			if l := s.layers[sc]; l != nil && !slices.Contains(layers, l) {
				layers = append(layers, l)
			}
		}
	}
	return layers
}

// newSet computes a set from its layers.
func newSet(name string, source []byte, layers map[scope]*layer) *Set {
	s := &Set{
		name: name, source: source, layers: layers,
		root: new(place), services: make(map[string]*servicePlace),
		accounts: make(map[string]uint32), campaigns: make(map[string]uint32), matches: make(map[match]*layer),
	}
	s.composed, _ = lru.New[match, *Policy](mostComposed) // fails for no size above 0
	if l := layers[scope{}]; l != nil {
		l.over(&s.root.policy)
	}
	for _, sc := range s.scopes() { // wider places come first
		at := s.settle(sc.place())
		if !sc.matches() {
			continue
		}
		kind := ofBoth
		if sc.campaign == "" {
			kind = ofAccount
		} else if sc.account == "" {
			kind = ofCampaign
		}
		account, campaign := numbered(s.accounts, sc.account), numbered(s.campaigns, sc.campaign)
		merged := layers[sc].merge(s.match(at, kind, account, campaign))
		s.matches[match{at.number, account, campaign}] = merged
		at.kinds |= kind
	}
	return s
}

// settle returns a place, computing its policy if the place is new.
func (s *Set) settle(sc scope) *place {
	if sc.service == "" {
		return s.root
	}
	service := s.services[sc.service]
	if service == nil {
		service = &servicePlace{s.within(s.root, scope{service: sc.service}), make(map[string]*place)}
		s.services[sc.service] = service
	}
	if sc.operation == "" {
		return &service.place
	}
	operation := service.operations[sc.operation]
	if operation == nil {
		narrower := s.within(&service.place, sc)
		operation = &narrower
		service.operations[sc.operation] = operation
	}
	return operation
}

// within returns a new place within another.
func (s *Set) within(wider *place, sc scope) place {
	s.places++
	p := place{number: s.places, within: wider, policy: wider.policy}
	if l := s.layers[sc]; l != nil {
		l.over(&p.policy)
	}
	return p
}

// numbered returns the number of a name and assigns the next one to a new name. The
// empty name has 0.
func numbered(numbers map[string]uint32, name string) uint32 {
	if name == "" {
		return 0
	}
	if numbers[name] == 0 {
		numbers[name] = uint32(len(numbers)) + 1
	}
	return numbers[name]
}

// scopes returns the scopes of all layers in order.
func (s *Set) scopes() []scope { return slices.SortedFunc(maps.Keys(s.layers), scope.compare) }

// Names returns the services, and the keys of the operation types, that have policies of their own.
func (s *Set) Names() (names []string) {
	for service, at := range s.services {
		names = append(names, service)
		for operation := range at.operations {
			names = append(names, events.Key(service, operation))
		}
	}
	return names
}

// Publishes reports whether any policy delivers by publish.
func (s *Set) Publishes() bool {
	for _, l := range s.layers {
		if l.keys.has(keyDelivery) && l.values.Delivery == events.Publish {
			return true
		}
	}
	return false
}

// Name returns the name that the set was parsed under.
func (s *Set) Name() string { return s.name }

// Services returns the services that the policy file has policies for, sorted.
func (s *Set) Services() []string {
	return slices.DeleteFunc(s.Sections(), func(name string) bool { return name == defaultLayer })
}

// Sections returns the names at the top level of the policy file, sorted: default, and the
// services that it has policies for. It is empty for the built-in policies and for a file that
// sets nothing.
func (s *Set) Sections() []string { return slices.Clone(s.sections) }

// Source returns a copy of the file that the set was parsed from, byte for byte.
func (s *Set) Source() []byte { return slices.Clone(s.source) }

//go:embed builtin.yaml
var builtin []byte

// Builtin returns the built-in policies: the original design's
// DEFAULT_RETRY_CONFIGS, two services that it names without values, and a default.
// Its [Set.Source] is their file, whose comments give the reasons.
func Builtin() *Set { return parsedBuiltin() }

var parsedBuiltin = sync.OnceValue(func() *Set {
	set, err := parse(nil, BuiltinFile, builtin)
	if err != nil {
		panic(err) // the file is a constant, and a test reads it
	}
	return set
})

// LoadFile reads the policy file at path; see [Parse].
func LoadFile(path string) (*Set, error) {
	src, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the policy file: %w", err)
	}
	return Parse(path, src)
}

// readFile reads at most one byte more than a policy file may have.
func readFile(path string) (src []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, MaxSource+1))
}
