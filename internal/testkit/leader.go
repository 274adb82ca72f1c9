package testkit

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// MoveLeader makes the leader of a stream step down repeatedly until done is closed, at least once
// within a minute, and returns how often one did.
func MoveLeader(t testing.TB, js jetstream.JetStream, stream string, every time.Duration, done <-chan struct{}) int {
	t.Helper()
	tick := time.NewTicker(every)
	defer tick.Stop()
	began, moved := time.Now(), 0
	for {
		<-tick.C
		// Without a leader nobody answers.
		answer, err := js.Conn().Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, time.Second)
		if err == nil && strings.Contains(string(answer.Data), `"success":true`) {
			moved++
		}
		select {
		case <-done:
			if moved > 0 || time.Since(began) > time.Minute {
				return moved
			}
		default:
		}
	}
}
