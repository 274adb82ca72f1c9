package gate

import (
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
)

func BenchmarkGate(b *testing.B) {
	limits := Settings{MaxConcurrent: 1000, PerMinute: 1_000_000_000, PerHour: 1_000_000_000}
	for _, c := range []struct {
		name     string
		settings Settings
		governed bool
	}{
		{"without limits", Settings{}, false},
		{"with every limit", limits, false},
		{"with every limit, governed", limits, true},
	} {
		b.Run(c.name+", decision", func(b *testing.B) {
			g, now := governed(c.settings, c.governed), begin
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Microsecond)
				g.Ready(Conditions{}, now)
			}
		})
		b.Run(c.name+", enter and done", func(b *testing.B) {
			g, now := governed(c.settings, c.governed), begin
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Microsecond)
				p, _, _ := g.Enter(Conditions{}, now)
				p.Done(Success, time.Millisecond, now)
			}
		})
	}
	b.Run("shut by its breaker, decision", func(b *testing.B) {
		g := New(limits)
		c := Conditions{Breaker: Bounded(0, begin.Add(time.Hour))}
		b.ReportAllocs()
		for b.Loop() {
			if a := g.Ready(c, begin); a.N != 0 {
				b.Fatal("the gate is open")
			}
		}
	})
}

func governed(s Settings, on bool) *Gate {
	g := New(s)
	if on {
		g.Ready(Conditions{Breaker: Bounded(0, time.Time{})}, begin)
		g.Ready(Conditions{Breaker: Bounded(breaker.Unlimited, time.Time{})}, begin)
	}
	return g
}

func BenchmarkTurns(b *testing.B) {
	all := Waiting(0).With(events.Critical).With(events.High).With(events.Normal).With(events.Low)
	var t RoundRobin
	for b.Loop() {
		_, t, _ = t.Next(all)
	}
}

func BenchmarkLedger(b *testing.B) {
	s := Settings{MaxConcurrent: 20, PerMinute: 200, PerHour: 5000}
	ledger, now := NewLedger(), begin
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now = now.Add(100 * time.Millisecond)
		ledger, _ = ledger.Renew(Claim{Instance: string(rune('a' + i%3)), Waiting: 10}, s, now)
	}
}
