package breaker

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/internal/testkit"
)

// The script does what Step does, for any sequence of events. Its clock is
// replaced by one that the test sets.
func TestScriptAgreesWithStep(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: testkit.Redis(t).Addr()})
	defer client.Close()
	script := redis.NewScript("local now = tonumber(ARGV[7])\n" + stepLua)
	ctx := t.Context()

	rapid.Check(t, func(t *rapid.T) {
		s, now := drawSettings(t), start
		if err := client.FlushAll(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		c := NewCircuit("k")
		history := []Circuit{c}
		for i := range rapid.IntRange(1, 40).Draw(t, "events") {
			now = drawTime(t, &c, now)
			e := draw(t, &c, history, i, now, s)
			e.Seen = rapid.SampledFrom([]uint64{0, c.Version, c.Version + 1}).Draw(t, "seen")
			e.SeenGeneration = rapid.SampledFrom([]uint64{0, c.Generation, c.Generation + 1}).Draw(t, "seen generation")
			model := apply(c, e, now, s)

			event, settings, err := redisArguments("k", e, s)
			if err != nil {
				t.Fatal(err)
			}
			text, err := script.Run(ctx, client, []string{"{k}"}, event, settings, "changes", 60_000, 60_000, 60_000, now.UnixMilli()).Text()
			if err != nil {
				t.Fatalf("%+v on %+v: %v", e, c, err)
			}
			reply, err := redisAnswer(text, e)
			if err != nil {
				t.Fatal(err)
			}
			if !sameReply(reply, model) {
				t.Fatalf("%s %+v on\n%+v: Redis answers\n%+v, want\n%+v", e.Kind, e, c, reply, model)
			}
			c = model.Circuit
			history = append(history, c)
		}
	})
}

// sameReply compares replies as far as a record holds them: in milliseconds, and
// averages to 12 digits.
func sameReply(a, b Reply) bool {
	ra, rb := toRecord(&a.Circuit), toRecord(&b.Circuit)
	near := math.Abs(ra.Average-rb.Average) <= 1e-12*math.Abs(rb.Average)+1e-9
	ra.Average, rb.Average = 0, 0
	same := a.Lost == b.Lost && a.Granted == b.Granted && a.Probe == b.Probe && millis(a.Next) == millis(b.Next) &&
		a.Written == b.Written && a.Changed == b.Changed && (a.Lost || a.From == b.From)
	return near && same && reflect.DeepEqual(ra, rb)
}

// What Redis's JSON library does to numbers must not reach what is stored.
func TestRecordsSurviveLargeNumbers(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: testkit.Redis(t).Addr()})
	defer client.Close()
	store := NewRedis(client, "")
	c := NewCircuit("k")
	c.Version, c.TotalRequests, c.TotalFailures, c.Generation = 7, 9_999_999_999_999, 9_999_999_999_998, 1_234_567_890_123
	c.AverageResponseTime = 1234.56789
	if _, err := store.Apply(t.Context(), "k", Event{Kind: Rejoin, Circuit: &c}, start, settings()); err != nil {
		t.Fatal(err)
	}
	all, err := store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Version++
	if len(all) != 1 || !reflect.DeepEqual(all[0], c) {
		got, _ := json.Marshal(all)
		expected, _ := json.Marshal(c)
		t.Errorf("stored is %s, want %s", got, expected)
	}
}
