package scheduler

import (
	"maps"
	"slices"

	"github.com/rebound-mq/rebound/events"
)

// Set is an immutable set of policies. It is safe for concurrent use.
//
// A policy is laid together key by key from the layers that apply, of which
// each covers those before it:
//
//  1. the default
//  2. the service
//  3. the service's operation type
//  4. the account: under the default, the service, the operation type
//  5. the campaign: likewise
//  6. the account and the campaign together: likewise
//  7. the operation's own overrides, which [Policy.Override] lays over it
//
// Within a layer, what a policy file says covers what the built-in policies say
// there; so a file's default lies under the service that only the built-in
// policies name, and above the built-in default. Classification rules are
// inherited: those of the upper layer are asked first, and replace those below
// that bear the same name. Every other key is replaced, lists included.
type Set struct {
	name   string
	source []byte
	layers map[scope]*layer

	// What follows is computed from layers.

	fallback            Policy
	services            map[string]*servicePolicies
	accounts, campaigns map[string]uint32 // numbers from 1 for the names that matches use
	matches             map[match]*layer
	places              uint32 // how many there are, but for the default
}

// servicePolicies are the policies of a service, resolved as far as they do not
// depend upon account and campaign.
type servicePolicies struct {
	placed
	operations map[string]*placed
}

// placed is a policy of a place in the tree of services and operation types.
// Places are numbered from 1; 0 is the default.
type placed struct {
	place  uint32
	policy Policy
}

// match is the scope of a layer that names an account or a campaign, by number.
type match struct{ place, account, campaign uint32 }

// maxMatches is how many matches can apply to one operation.
const maxMatches = 9

// Query names the operation that a policy is wanted for.
type Query struct {
	Service   string `json:"service"`
	Operation string `json:"operation"`
	// Account and Campaign may be empty.
	Account  string `json:"accountId,omitempty"`
	Campaign string `json:"campaignId,omitempty"`
	// Priority is the operation's own. It counts only with PriorityGiven, and
	// bears upon delays, not upon the policy.
	Priority      events.Priority `json:"-"`
	PriorityGiven bool            `json:"-"`
}

// Resolve returns the policy for q. It allocates nothing, and takes the same
// time however many policies there are. The slices of the policy are shared and
// must not be changed.
//
// Where a match of an account and one of a campaign do not go together, so that
// baseDelay would be longer than maxDelay, baseDelay is cut to maxDelay.
func (s *Set) Resolve(q Query) Policy {
	base, places, n := s.base(q)
	p := *base
	var found [maxMatches]*layer
	if matching := s.matching(found[:0], q, places[:n]); len(matching) > 0 {
		for _, l := range matching {
			l.keys.apply(&p, &l.values)
		}
		p.BaseDelay = min(p.BaseDelay, p.MaxDelay)
	}
	return p
}

// base returns q's policy apart from its account and campaign, and the n places
// that apply to q, the widest first.
func (s *Set) base(q Query) (p *Policy, places [3]uint32, n int) {
	service, ok := s.services[q.Service]
	if !ok {
		return &s.fallback, places, 1
	}
	places[1] = service.place
	operation, ok := service.operations[q.Operation]
	if !ok {
		return &service.policy, places, 2
	}
	places[2] = operation.place
	return &operation.policy, places, 3
}

// matching appends to found the matches that apply to q, the lowest first.
func (s *Set) matching(found []*layer, q Query, places []uint32) []*layer {
	if len(s.matches) == 0 {
		return found
	}
	account, campaign := s.accounts[q.Account], s.campaigns[q.Campaign]
	if account != 0 {
		found = s.matchingAt(found, places, account, 0)
	}
	if campaign != 0 {
		found = s.matchingAt(found, places, 0, campaign)
	}
	if account != 0 && campaign != 0 {
		found = s.matchingAt(found, places, account, campaign)
	}
	return found
}

func (s *Set) matchingAt(found []*layer, places []uint32, account, campaign uint32) []*layer {
	for _, place := range places {
		if l := s.matches[match{place, account, campaign}]; l != nil {
			found = append(found, l)
		}
	}
	return found
}

// applying returns all layers that apply to q, the lowest first.
func (s *Set) applying(q Query) []*layer {
	var layers []*layer
	for _, sc := range []scope{{}, {service: q.Service}, {service: q.Service, operation: q.Operation}} {
		if l := s.layers[sc]; l != nil && !slices.Contains(layers, l) {
			layers = append(layers, l)
		}
	}
	_, places, n := s.base(q)
	return s.matching(layers, q, places[:n])
}

// newSet computes a set from its layers.
func newSet(name string, source []byte, layers map[scope]*layer) *Set {
	s := &Set{
		name: name, source: source, layers: layers,
		services: make(map[string]*servicePolicies),
		accounts: make(map[string]uint32), campaigns: make(map[string]uint32), matches: make(map[match]*layer),
	}
	if l := layers[scope{}]; l != nil {
		l.over(&s.fallback)
	}
	for _, sc := range s.scopes() {
		place := s.settle(sc.place())
		if !sc.matches() {
			continue
		}
		s.matches[match{place, numbered(s.accounts, sc.account), numbered(s.campaigns, sc.campaign)}] = layers[sc]
	}
	return s
}

// settle computes the policy of a place and returns the place's number.
func (s *Set) settle(sc scope) uint32 {
	if sc.service == "" {
		return 0
	}
	service := s.services[sc.service]
	if service == nil {
		service = &servicePolicies{placed: placed{s.next(), s.fallback}, operations: make(map[string]*placed)}
		if l := s.layers[scope{service: sc.service}]; l != nil {
			l.over(&service.policy)
		}
		s.services[sc.service] = service
	}
	if sc.operation == "" {
		return service.place
	}
	operation := service.operations[sc.operation]
	if operation == nil {
		operation = &placed{s.next(), service.policy}
		if l := s.layers[sc]; l != nil {
			l.over(&operation.policy)
		}
		service.operations[sc.operation] = operation
	}
	return operation.place
}

func (s *Set) next() uint32 {
	s.places++
	return s.places
}

// numbered returns the number of a name, which it gets when it has none; the
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
