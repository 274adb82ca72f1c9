// Package redisstore shares circuit breakers between instances in Redis. [Store] is its
// [breaker.Store].
package redisstore

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nuid"
	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/internal/redisconn"
	"github.com/rebound-mq/rebound/internal/shrink"
)

// Store is a [breaker.Store] in Redis 5 or newer, or a compatible server. A script runs each
// [breaker.Step] on Redis's own clock, so instances need no common time. Every key has a TTL.
// Each circuit's key has its own hash tag, so that a Redis Cluster spreads the circuits; changes
// are published by pub/sub. It is safe for concurrent use.
//
// A failover may lose the last writes, because Redis replicates asynchronously. The instances
// notice that and send what they know.
type Store struct {
	client redis.UniversalClient
	prefix string

	mu      sync.Mutex           // guards the fields below
	indexed map[string]time.Time // when a key was last written to the index
	epoch   string
}

//go:embed clock.lua
var clockLua string

//go:embed step.lua
var stepLua string

//go:embed ping.lua
var pingLua string

//go:embed clean.lua
var cleanLua string

var (
	stepScript  = redis.NewScript(clockLua + stepLua)
	pingScript  = redis.NewScript(pingLua)
	cleanScript = redis.NewScript(cleanLua)
)

// DefaultPrefix is the prefix of Rebound's keys and channels in Redis.
const DefaultPrefix = "rebound:breaker:"

// PrefixOf returns the prefix of keys and channels of the deployment with a subject prefix,
// empty for the default one.
func PrefixOf(subjects string) string { return redisconn.Prefix(subjects, "breaker") }

// New returns the store behind client, which may be a single node, Sentinel or a Cluster; make it
// with options passed through [Options]. All names in Redis begin with prefix, [DefaultPrefix]
// when empty. The caller closes the client. New does no I/O.
func New(client redis.UniversalClient, prefix string) *Store {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	return &Store{client: client, prefix: prefix, indexed: map[string]time.Time{}}
}

// Options adjusts o so that a call ends with its context even if Redis hangs, and is not retried:
// an instance that cannot reach Redis goes on alone rather than wait.
func Options(o *redis.UniversalOptions) *redis.UniversalOptions { return redisconn.Options(o) }

// String names the kind of the store.
func (*Store) String() string { return "redis" }

func (r *Store) circuitKey(key string) string { return r.prefix + "{" + key + "}" }
func (r *Store) indexKey() string             { return r.prefix + "index" }
func (r *Store) epochKey() string             { return r.prefix + "epoch" }
func (r *Store) channel() string              { return r.prefix + "changes" }

// wireEvent is a [breaker.Event] as step.lua reads it.
type wireEvent struct {
	Kind       breaker.Kind    `json:"kind"`
	Key        string          `json:"key"`
	By         string          `json:"by,omitempty"`
	Generation uint64          `json:"gen,omitempty"`
	Seen       uint64          `json:"seen,omitempty"`
	SeenGen    uint64          `json:"seengen,omitempty"`
	Tally      wireTally       `json:"tally"`
	Probe      string          `json:"probe,omitempty"`
	Result     string          `json:"result,omitempty"`
	For        int64           `json:"for,omitempty"`
	Operator   string          `json:"operator,omitempty"`
	Note       string          `json:"note,omitempty"`
	Circuit    json.RawMessage `json:"circuit,omitempty"`
	Diverged   bool            `json:"diverged,omitempty"`
	Returned   []string        `json:"returned,omitempty"`
}

type wireTally struct {
	breaker.Tally
	Millis float64 `json:"ms,omitempty"`
}

type wireSettings struct {
	breaker.Settings
	Timeout int64 `json:"timeout"`
	Window  int64 `json:"window"`
	Lease   int64 `json:"lease"`
}

type wireReply struct {
	Now     int64           `json:"now"`
	Lost    bool            `json:"lost"`
	Granted bool            `json:"granted"`
	Next    int64           `json:"next"`
	Written bool            `json:"written"`
	Changed bool            `json:"changed"`
	From    breaker.State   `json:"from"`
	Circuit json.RawMessage `json:"circuit"`
}

// Apply implements [breaker.Store].
func (r *Store) Apply(ctx context.Context, key string, e breaker.Event, _ time.Time, s breaker.Settings) (breaker.Reply, error) {
	event, settings, err := arguments(key, e, s)
	if err != nil {
		return breaker.Reply{}, err
	}
	if err := r.index(ctx, key); err != nil {
		return breaker.Reply{}, err
	}
	idle := breaker.CircuitTTL
	if e.Idle > 0 {
		idle = max(e.Idle, s.OrDefaults().Window)
	}
	text, err := stepScript.Run(ctx, r.client, []string{r.circuitKey(key)},
		event, settings, r.channel(), breaker.CircuitTTL.Milliseconds(), breaker.HeldTTL.Milliseconds(), idle.Milliseconds()).Text()
	if err != nil {
		return breaker.Reply{}, fmt.Errorf("breaker: %s of %s in Redis: %w", e.Kind, key, err)
	}
	return readAnswer(text, e)
}

func arguments(key string, e breaker.Event, s breaker.Settings) (event, settings []byte, err error) {
	t := e.Tally
	if e.Kind == breaker.Return {
		t = breaker.Tally{}
		t.Add(e.Attempt(), true)
	}
	w := wireEvent{
		Kind: e.Kind, Key: key, By: e.By, Generation: e.Generation, Seen: e.Seen, SeenGen: e.SeenGeneration,
		Tally: wireTally{t, inMillis(t.ResponseTime)}, Probe: e.Probe,
		For: min(e.For, breaker.LongestTrip).Milliseconds(), Operator: e.Operator, Note: e.Note, Diverged: e.Diverged, Returned: e.Returned,
	}
	if e.Kind == breaker.Return {
		w.Result = [...]string{breaker.Success: "success", breaker.Failure: "failure", breaker.Ignored: "ignored", breaker.Unused: "unused"}[e.Result]
	}
	if e.Circuit != nil {
		if w.Circuit, err = breaker.Encode(e.Circuit); err != nil {
			return nil, nil, err
		}
	}
	s = s.OrDefaults()
	if event, err = json.Marshal(w); err != nil {
		return nil, nil, fmt.Errorf("breaker: encoding a %s of %s: %w", e.Kind, key, err)
	}
	settings, err = json.Marshal(wireSettings{s, s.Timeout.Milliseconds(), s.Window.Milliseconds(), s.ProbeLease.Milliseconds()})
	if err != nil {
		return nil, nil, fmt.Errorf("breaker: encoding the settings of %s: %w", key, err)
	}
	return event, settings, nil
}

func readAnswer(text string, e breaker.Event) (breaker.Reply, error) {
	var a wireReply
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return breaker.Reply{}, fmt.Errorf("breaker: reading the answer of Redis: %w", err)
	}
	circuit, err := breaker.Decode(a.Circuit)
	if err != nil {
		return breaker.Reply{}, fmt.Errorf("breaker: reading the answer of Redis: %w", err)
	}
	reply := breaker.Reply{
		Circuit: circuit, Lost: a.Lost, Now: fromMillis(a.Now),
		Effect: breaker.Effect{Granted: a.Granted, Next: fromMillis(a.Next), Written: a.Written, Changed: a.Changed, From: a.From},
	}
	if a.Granted && a.Written {
		reply.Probe = e.Probe
	}
	return reply, nil
}

func inMillis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// fromMillis converts a time of a script; 0 is no time.
func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// index lists the names of all circuits, so that [Store.Load] need not scan Redis. A name is
// written before its circuit, and again every hour.
func (r *Store) index(ctx context.Context, key string) error {
	now := time.Now()
	r.mu.Lock()
	last, ok := r.indexed[key]
	r.mu.Unlock()
	if ok && now.Sub(last) < time.Hour {
		return nil
	}
	_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.ZAdd(ctx, r.indexKey(), redis.Z{Score: float64(now.UnixMilli()), Member: key})
		p.ZRemRangeByScore(ctx, r.indexKey(), "-inf", "("+strconv.FormatInt(now.Add(-2*breaker.HeldTTL).UnixMilli(), 10))
		p.Expire(ctx, r.indexKey(), 2*breaker.HeldTTL)
		return nil
	})
	if err != nil {
		return fmt.Errorf("breaker: entering %s into the index in Redis: %w", key, err)
	}
	r.mu.Lock()
	r.indexed[key] = now
	r.mu.Unlock()
	return nil
}

// Load implements [breaker.Store].
func (r *Store) Load(ctx context.Context) ([]breaker.Circuit, error) {
	keys, err := r.client.ZRange(ctx, r.indexKey(), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("breaker: reading the index in Redis: %w", err)
	}
	circuits, err := r.Read(ctx, keys)
	if err != nil {
		return nil, err
	}
	return circuits, r.clean(ctx, keys, circuits)
}

// chunk is the number of keys per command.
const chunk = 500

// Read implements [breaker.Store].
func (r *Store) Read(ctx context.Context, keys []string) ([]breaker.Circuit, error) {
	circuits := make([]breaker.Circuit, 0, len(keys))
	for some := range slices.Chunk(keys, chunk) {
		var err error
		if circuits, err = r.read(ctx, some, circuits); err != nil {
			return nil, err
		}
	}
	return circuits, nil
}

// clean removes the names of expired circuits from the index. It spares names written less than
// two hours ago, whose circuit may be about to be written: names are rewritten every hour.
func (r *Store) clean(ctx context.Context, keys []string, found []breaker.Circuit) error {
	stored := make(map[string]bool, len(found))
	for i := range found {
		stored[found[i].ServiceKey] = true
	}
	expired := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return stored[key] })
	for some := range slices.Chunk(expired, chunk) {
		arguments := []any{time.Now().Add(-2 * time.Hour).UnixMilli()}
		for _, key := range some {
			arguments = append(arguments, key)
		}
		if err := cleanScript.Run(ctx, r.client, []string{r.indexKey()}, arguments...).Err(); err != nil {
			return fmt.Errorf("breaker: cleaning the index in Redis: %w", err)
		}
	}
	return nil
}

// Forget implements [breaker.Store].
func (r *Store) Forget(keys []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range keys {
		delete(r.indexed, key)
	}
	r.indexed = shrink.Map(r.indexed, len(keys))
}

func (r *Store) read(ctx context.Context, keys []string, circuits []breaker.Circuit) ([]breaker.Circuit, error) {
	answers := make([]*redis.StringCmd, len(keys))
	_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, key := range keys {
			answers[i] = p.Get(ctx, r.circuitKey(key))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("breaker: reading circuits in Redis: %w", err)
	}
	for _, a := range answers {
		data, err := a.Bytes()
		if errors.Is(err, redis.Nil) {
			continue // it has expired
		}
		if err != nil {
			return nil, fmt.Errorf("breaker: reading circuits in Redis: %w", err)
		}
		c, err := breaker.Decode(data)
		if err != nil {
			return nil, err
		}
		circuits = append(circuits, c)
	}
	return circuits, nil
}

// Watch implements [breaker.Store]. The client resubscribes by itself after an interruption.
func (r *Store) Watch(ctx context.Context, ready func(), changed func(breaker.Circuit)) error {
	sub := r.client.Subscribe(ctx, r.channel())
	defer sub.Close()
	messages := sub.ChannelWithSubscriptions(redis.WithChannelHealthCheckInterval(time.Second))
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m, ok := <-messages:
			if !ok {
				return errors.New("breaker: the subscription in Redis ended")
			}
			switch m := m.(type) {
			case *redis.Subscription:
				ready()
			case *redis.Message:
				c, err := breaker.Decode([]byte(m.Payload))
				if err != nil {
					return err
				}
				changed(c)
			}
		}
	}
}

// Ping implements [breaker.Store]. The epoch is a random name that vanishes when Redis is
// emptied.
func (r *Store) Ping(ctx context.Context) (breaker.Pulse, error) {
	answer, err := pingScript.Run(ctx, r.client, []string{r.epochKey()}, nuid.Next(), (2 * breaker.HeldTTL).Milliseconds()).Slice()
	if err != nil {
		return breaker.Pulse{}, fmt.Errorf("breaker: asking Redis: %w", err)
	}
	epoch, _ := answer[0].(string)
	seconds, _ := answer[1].(string)
	micros, _ := answer[2].(string)
	s, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return breaker.Pulse{}, fmt.Errorf("breaker: reading the clock of Redis: %w", err)
	}
	us, err := strconv.ParseInt(micros, 10, 64)
	if err != nil {
		return breaker.Pulse{}, fmt.Errorf("breaker: reading the clock of Redis: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch != epoch {
		r.epoch = epoch
		clear(r.indexed)
	}
	return breaker.Pulse{Epoch: epoch, Now: time.Unix(s, us*1000)}, nil
}
