package testkit

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// MoveLeader makes the leader of a stream step down repeatedly, until done is closed, and returns
// how often one did.
func MoveLeader(t testing.TB, js jetstream.JetStream, stream string, every time.Duration, done <-chan struct{}) int {
	t.Helper()
	tick := time.NewTicker(every)
	defer tick.Stop()
	moved := 0
	for {
		select {
		case <-done:
			return moved
		case <-tick.C:
			// Without a leader nobody answers.
			answer, err := js.Conn().Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, time.Second)
			if err == nil && strings.Contains(string(answer.Data), `"success":true`) {
				moved++
			}
		}
	}
}
