package redisstore

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/internal/storetest"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// The script agrees with Step on any sequence of events. The test replaces its clock.
func TestScript_AgreesWithStep(t *testing.T) {
	t.Parallel()
	client := universal(t, redis.UniversalOptions{Addrs: []string{testkit.Redis(t).Addr()}, ReadTimeout: time.Minute})
	script := redis.NewScript("local now = tonumber(ARGV[7])\n" + stepLua)
	ctx := t.Context()

	rapid.Check(t, func(t *rapid.T) {
		s, now := storetest.DrawSettings(t), storetest.Start
		if err := client.FlushAll(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		c := breaker.NewCircuit("k")
		history := []breaker.Circuit{c}
		for i := range rapid.IntRange(1, 40).Draw(t, "events") {
			now = storetest.DrawTime(t, &c, now)
			e := storetest.DrawEvent(t, &c, history, i, now, s)
			e.Seen = rapid.SampledFrom([]uint64{0, c.Version, c.Version + 1}).Draw(t, "seen")
			e.SeenGeneration = rapid.SampledFrom([]uint64{0, c.Generation, c.Generation + 1}).Draw(t, "seen generation")
			model := breaker.Apply(c, e, now, s)

			event, settings, err := arguments("k", e, s)
			if err != nil {
				t.Fatal(err)
			}
			text, err := script.Run(ctx, client, []string{"{k}"}, event, settings, "changes", 60_000, 60_000, 60_000, now.UnixMilli()).Text()
			if err != nil {
				t.Fatalf("%+v on %+v: %v", e, c, err)
			}
			reply, err := readAnswer(text, e)
			if err != nil {
				t.Fatal(err)
			}
			if !storetest.SameReply(reply, model) {
				t.Fatalf("%s %+v on\n%+v: Redis answers\n%+v, want\n%+v", e.Kind, e, c, reply, model)
			}
			c = model.Circuit
			history = append(history, c)
		}
	})
}

// The number formatting of Redis's JSON library must not change what is stored.
func TestStore_RecordsSurviveLargeNumbers(t *testing.T) {
	t.Parallel()
	client := universal(t, redis.UniversalOptions{Addrs: []string{testkit.Redis(t).Addr()}, ReadTimeout: time.Minute})
	store := New(client, "")
	c := breaker.NewCircuit("k")
	c.Version, c.TotalRequests, c.TotalFailures, c.Generation = 7, 9_999_999_999_999, 9_999_999_999_998, 1_234_567_890_123
	c.AverageResponseTime = 1234.56789
	if _, err := store.Apply(t.Context(), "k", breaker.Event{Kind: breaker.Rejoin, Circuit: &c}, storetest.Start, storetest.Settings()); err != nil {
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
