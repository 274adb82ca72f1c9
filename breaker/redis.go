package breaker

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

	"github.com/rebound-mq/rebound/internal/shrink"
)

// Redis is a [Store] in Redis 5 or newer, or what speaks its protocol. One script
// does one [Step], by Redis's own clock, so instances need no common time. Every
// key has a TTL. A circuit's key has the circuit's own hash tag, so that a Redis
// Cluster spreads them; changes are told by pub/sub.
//
// A failover may lose the last writes, because Redis replicates without waiting.
// The instances notice, and send what they know.
type Redis struct {
	client redis.UniversalClient
	prefix string
	step   *redis.Script

	mu      sync.Mutex           // guards what follows
	indexed map[string]time.Time // when a key was last put into the index
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
	pingScript  = redis.NewScript(pingLua)
	cleanScript = redis.NewScript(cleanLua)
)

// DefaultPrefix is how the names of Rebound's keys and channels in Redis begin.
const DefaultPrefix = "rebound:breaker:"

// NewRedis returns the store behind client, which may be of a single node,
// Sentinel or a Cluster; make it from options that went through
// [RedisOptions]. All names in Redis begin with prefix, [DefaultPrefix] when it
// is empty. The client stays the caller's to close.
func NewRedis(client redis.UniversalClient, prefix string) *Redis {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	return &Redis{client: client, prefix: prefix, step: redis.NewScript(clockLua + stepLua), indexed: map[string]time.Time{}}
}

// RedisOptions changes o so that a call ends when its context does, even if Redis
// is halted, and is not made twice: an instance that cannot reach Redis goes on
// alone rather than wait.
func RedisOptions(o *redis.UniversalOptions) *redis.UniversalOptions {
	o.ContextTimeoutEnabled = true
	o.MaxRetries = -1
	o.DialerRetries = 1
	return o
}

func (r *Redis) circuitKey(key string) string { return r.prefix + "{" + key + "}" }
func (r *Redis) indexKey() string             { return r.prefix + "index" }
func (r *Redis) epochKey() string             { return r.prefix + "epoch" }
func (r *Redis) channel() string              { return r.prefix + "changes" }

// redisEvent is an [Event] as step.lua reads it.
type redisEvent struct {
	Kind       Kind       `json:"kind"`
	Key        string     `json:"key"`
	By         string     `json:"by,omitempty"`
	Generation uint64     `json:"gen,omitempty"`
	Seen       uint64     `json:"seen,omitempty"`
	SeenGen    uint64     `json:"seengen,omitempty"`
	Tally      redisTally `json:"tally"`
	Probe      string     `json:"probe,omitempty"`
	Result     string     `json:"result,omitempty"`
	For        int64      `json:"for,omitempty"`
	Note       string     `json:"note,omitempty"`
	Circuit    *record    `json:"circuit,omitempty"`
	Diverged   bool       `json:"diverged,omitempty"`
	Returned   []string   `json:"returned,omitempty"`
}

type redisTally struct {
	Tally
	Millis float64 `json:"ms,omitempty"`
}

type redisSettings struct {
	Settings
	Timeout int64 `json:"timeout"`
	Window  int64 `json:"window"`
	Lease   int64 `json:"lease"`
}

type redisReply struct {
	Now     int64  `json:"now"`
	Lost    bool   `json:"lost"`
	Granted bool   `json:"granted"`
	Next    int64  `json:"next"`
	Written bool   `json:"written"`
	Changed bool   `json:"changed"`
	From    State  `json:"from"`
	Circuit record `json:"circuit"`
}

// Apply implements [Store].
func (r *Redis) Apply(ctx context.Context, key string, e Event, _ time.Time, s Settings) (Reply, error) {
	event, settings, err := redisArguments(key, e, s)
	if err != nil {
		return Reply{}, err
	}
	if err := r.index(ctx, key); err != nil {
		return Reply{}, err
	}
	idle := circuitTTL
	if e.Idle > 0 {
		idle = max(e.Idle, s.OrDefaults().Window)
	}
	text, err := r.step.Run(ctx, r.client, []string{r.circuitKey(key)},
		event, settings, r.channel(), circuitTTL.Milliseconds(), holdTTL.Milliseconds(), idle.Milliseconds()).Text()
	if err != nil {
		return Reply{}, fmt.Errorf("breaker: %s of %s in Redis: %w", e.Kind, key, err)
	}
	return redisAnswer(text, e)
}

func redisArguments(key string, e Event, s Settings) (event, settings []byte, err error) {
	t := e.Tally
	if e.Kind == Return {
		t = Tally{}
		t.Add(e.Result, e.Took, true)
	}
	w := redisEvent{
		Kind: e.Kind, Key: key, By: e.By, Generation: e.Generation, Seen: e.Seen, SeenGen: e.SeenGeneration,
		Tally: redisTally{t, inMillis(t.ResponseTime)}, Probe: e.Probe,
		For: min(e.For, holdTTL).Milliseconds(), Note: e.Note, Diverged: e.Diverged, Returned: e.Returned,
	}
	if e.Kind == Return {
		w.Result = [...]string{Success: "success", Failure: "failure", Ignored: "ignored", Unused: "unused"}[e.Result]
	}
	if e.Circuit != nil {
		w.Circuit = new(toRecord(e.Circuit))
	}
	s = s.OrDefaults()
	if event, err = json.Marshal(w); err != nil {
		return nil, nil, fmt.Errorf("breaker: encoding a %s of %s: %w", e.Kind, key, err)
	}
	settings, err = json.Marshal(redisSettings{s, s.Timeout.Milliseconds(), s.Window.Milliseconds(), s.ProbeLease.Milliseconds()})
	if err != nil {
		return nil, nil, fmt.Errorf("breaker: encoding the settings of %s: %w", key, err)
	}
	return event, settings, nil
}

func redisAnswer(text string, e Event) (Reply, error) {
	var a redisReply
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return Reply{}, fmt.Errorf("breaker: reading the answer of Redis: %w", err)
	}
	reply := Reply{
		Circuit: a.Circuit.circuit(), Lost: a.Lost, Now: fromMillis(a.Now),
		Effect: Effect{Granted: a.Granted, Next: fromMillis(a.Next), Written: a.Written, Changed: a.Changed, From: a.From},
	}
	if a.Granted && a.Written {
		reply.Probe = e.Probe
	}
	return reply, nil
}

// index keeps the names of all circuits, so that [Redis.Load] need not search the
// whole of Redis. It is written before the circuit, and again every hour.
func (r *Redis) index(ctx context.Context, key string) error {
	now := time.Now()
	r.mu.Lock()
	last, ok := r.indexed[key]
	r.mu.Unlock()
	if ok && now.Sub(last) < time.Hour {
		return nil
	}
	_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.ZAdd(ctx, r.indexKey(), redis.Z{Score: float64(now.UnixMilli()), Member: key})
		p.ZRemRangeByScore(ctx, r.indexKey(), "-inf", "("+strconv.FormatInt(now.Add(-2*holdTTL).UnixMilli(), 10))
		p.Expire(ctx, r.indexKey(), 2*holdTTL)
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

// Load implements [Store].
func (r *Redis) Load(ctx context.Context) ([]Circuit, error) {
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

// chunk is with how many keys one command deals.
const chunk = 500

// Read implements [Store].
func (r *Redis) Read(ctx context.Context, keys []string) ([]Circuit, error) {
	circuits := make([]Circuit, 0, len(keys))
	for some := range slices.Chunk(keys, chunk) {
		var err error
		if circuits, err = r.read(ctx, some, circuits); err != nil {
			return nil, err
		}
	}
	return circuits, nil
}

// clean takes the names of circuits out of the index that have expired. One that was
// entered less than two hours ago may be about to be written: names are entered anew
// every hour.
func (r *Redis) clean(ctx context.Context, keys []string, found []Circuit) error {
	held := make(map[string]bool, len(found))
	for i := range found {
		held[found[i].ServiceKey] = true
	}
	expired := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return held[key] })
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

// Forget implements [Store].
func (r *Redis) Forget(keys []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range keys {
		delete(r.indexed, key)
	}
	r.indexed = shrink.Map(r.indexed, len(keys))
}

func (r *Redis) read(ctx context.Context, keys []string, circuits []Circuit) ([]Circuit, error) {
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
			continue // its time was over
		}
		if err != nil {
			return nil, fmt.Errorf("breaker: reading circuits in Redis: %w", err)
		}
		c, err := decode(data)
		if err != nil {
			return nil, err
		}
		circuits = append(circuits, c)
	}
	return circuits, nil
}

// Watch implements [Store]. The client subscribes again by itself after an
// interruption.
func (r *Redis) Watch(ctx context.Context, ready func(), changed func(Circuit)) error {
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
				c, err := decode([]byte(m.Payload))
				if err != nil {
					return err
				}
				changed(c)
			}
		}
	}
}

// Ping implements [Store]. The epoch is a random name that is gone when Redis was
// emptied.
func (r *Redis) Ping(ctx context.Context) (Pulse, error) {
	answer, err := pingScript.Run(ctx, r.client, []string{r.epochKey()}, nuid.Next(), (2 * holdTTL).Milliseconds()).Slice()
	if err != nil {
		return Pulse{}, fmt.Errorf("breaker: asking Redis: %w", err)
	}
	epoch, _ := answer[0].(string)
	seconds, _ := answer[1].(string)
	micros, _ := answer[2].(string)
	s, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return Pulse{}, fmt.Errorf("breaker: reading the clock of Redis: %w", err)
	}
	us, err := strconv.ParseInt(micros, 10, 64)
	if err != nil {
		return Pulse{}, fmt.Errorf("breaker: reading the clock of Redis: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch != epoch {
		r.epoch = epoch
		clear(r.indexed)
	}
	return Pulse{Epoch: epoch, Now: time.Unix(s, us*1000)}, nil
}
