package demo

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
)

// event handles one message of the stream of outcomes.
func (r *run) event(m jetstream.Msg) {
	if meta, err := m.Metadata(); err == nil {
		defer r.observed.Store(meta.Sequence.Stream)
	}
	at := time.Since(r.begun)
	// An unreadable message is reported when the outcomes are judged.
	switch tokens := strings.Split(m.Subject(), "."); {
	case tokens[1] == "outcome":
		var e events.Outcome
		if json.Unmarshal(m.Data(), &e) == nil {
			r.tally.ended(e)
			r.view.tell(endedHappening(at, e))
		}
	case tokens[1] == "event" && tokens[2] == events.RetryScheduled:
		var e events.Scheduled
		if json.Unmarshal(m.Data(), &e) == nil {
			r.tally.scheduled(e)
			r.view.tell(scheduledHappening(at, e))
		}
	case tokens[1] == "event" && tokens[2] == events.BreakerChanged:
		var e events.BreakerChange
		if json.Unmarshal(m.Data(), &e) == nil {
			r.view.tell(breakerHappening(at, e))
		}
	}
}
