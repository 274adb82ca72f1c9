package scheduler

import (
	"testing"
	"time"

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
