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
	ends := done
	late := time.After(time.Minute)
	moved := 0
	for {
		select {
		case <-ends:
			if moved > 0 {
				return moved
			}
			ends = nil
		case <-late:
			if ends == nil {
				return moved
			}
		case <-tick.C:
			// Without a leader nobody answers.
			answer, err := js.Conn().Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, time.Second)
			if err == nil && strings.Contains(string(answer.Data), `"success":true`) {
				moved++
				ends = done
			}
		}
	}
}
