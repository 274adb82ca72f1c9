package scheduler

import (
	"context"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

func TestReply_HealthIsWhatTheAttemptTells(t *testing.T) {
	const timeout = time.Second
	for name, c := range map[string]struct {
		reply    Reply
		result   health.Result
		response time.Duration
	}{
		"a success has its response time":              {Reply{Duration: 20 * time.Millisecond}, health.Succeeded, 20 * time.Millisecond},
		"a refusal has none":                           {Reply{Failed: true, Failure: policy.Failure{Code: "503"}, Duration: time.Millisecond}, health.Failed, health.NoResponse},
		"silence took the whole timeout at least":      {Reply{Failed: true, Failure: policy.Failure{Code: "timeout"}, Duration: 1001 * time.Millisecond}, health.Failed, 1001 * time.Millisecond},
		"a timeout cut short by a deadline is no time": {Reply{Failed: true, Failure: policy.Failure{Code: "timeout"}, Duration: 100 * time.Millisecond}, health.Failed, health.NoResponse},
		"a validation error says nothing":              {Reply{Failed: true, Failure: policy.Failure{Code: "422"}, Duration: time.Millisecond}, health.Unknown, health.NoResponse},
	} {
		if result, response := c.reply.Health(timeout); result != c.result || response != c.response {
			t.Errorf("%s: got result %d and response time %v, want %d and %v", name, result, response, c.result, c.response)
		}
	}
}

func TestPipeline_AsksForNoHealthWhenThePolicyHasNoFactors(t *testing.T) {
	p := Pipeline{Health: health.NewRegistry()}
	p.Health.End("s", health.Failed, time.Millisecond, now)
	fixed := policy.Policy{BackoffStrategy: policy.Fixed}
	if got := p.signals(&fixed, "s", now); got != (policy.Signals{}) {
		t.Errorf("the signals of a policy without factors are %+v", got)
	}
	adaptive := policy.Policy{BackoffStrategy: policy.Adaptive, LearningWindow: 10}
	if got := p.signals(&adaptive, "s", now); got.Samples != 1 || !got.HealthKnown {
		t.Errorf("the signals of an adaptive policy are %+v", got)
	}
	if got := (&Pipeline{}).signals(&adaptive, "s", now); got != (policy.Signals{}) {
		t.Errorf("without health the signals are %+v", got)
	}
}

// taking is a target that takes that long to answer.
type taking time.Duration

func (d taking) Deliver(context.Context, *events.Operation, Message, Attempt) (Reply, error) {
	return Reply{Duration: time.Duration(d)}, nil
}

func TestPipeline_OwnDelayIsTakenOffForHealthAsForTheGovernor(t *testing.T) {
	own := time.Duration(0)
	p := Pipeline{
		Health: health.NewRegistry(), Now: func() time.Time { return now },
		Gates: NewGates(breaker.NewGroup(breaker.Config{}), GatesConfig{OwnDelay: func() time.Duration { return own }}),
	}
	pol := usual()
	deliver := func(took time.Duration) Reply {
		p.Target = taking(took)
		reply, err := p.deliver(t.Context(), &pol, &events.Operation{Service: "s"}, Message{}, Attempt{})
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	for range 20 {
		deliver(10 * time.Millisecond)
	}
	own = 90 * time.Millisecond
	for range 20 {
		if reply := deliver(100 * time.Millisecond); reply.Own != own || reply.Duration != 100*time.Millisecond {
			t.Fatalf("an attempt took %s, of which %s is own, want 100ms and 90ms", reply.Duration, reply.Own)
		}
	}
	if f := p.Health.Figures("s", 10, now); f.Trend > 0.01 || f.Variation > 0.01 {
		t.Errorf("the health has the trend %.2f and variation %.2f, want 0: the delay is the instance's own", f.Trend, f.Variation)
	}
}
