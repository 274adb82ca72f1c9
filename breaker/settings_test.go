package breaker

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

func TestSettings_ValidateReportsEveryIssue(t *testing.T) {
	for _, test := range []struct {
		name     string
		settings Settings
		issues   []string // empty for none
	}{
		{"the zero value is sensible", Settings{}, nil},
		{"the largest values", Settings{Threshold: 1_000_000, Timeout: 720 * time.Hour, FailureRate: 1}, nil},
		{"a negative threshold", Settings{Threshold: -1}, []string{"the threshold is -1; it must be from 1 to 1,000,000, or 0 for the default"}},
		{"a rate over one", Settings{FailureRate: 1.5}, []string{"the failure rate is 1.5; it must be from 0 to 1"}},
		{"a rate that is no number", Settings{FailureRate: math.NaN()}, []string{"the failure rate is NaN"}},
		{"a window too short for its buckets", Settings{Window: time.Millisecond}, []string{"the window is 1ms; it must be from 10ms to 720h0m0s"}},
		{"all issues at once", Settings{Timeout: -1, HalfOpenMaxRequests: -2, ProbeLease: time.Microsecond}, []string{"timeout is -1ns", "half-open probes is -2", "probe lease is 1µs"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.settings.Validate()
			if len(test.issues) == 0 && err != nil {
				t.Errorf("the error is %v, want none", err)
			}
			for _, issue := range test.issues {
				if err == nil || !strings.Contains(err.Error(), issue) {
					t.Errorf("the error is %v, want one with %q", err, issue)
				}
			}
		})
	}
}

func TestCircuit_HasTheNamesOfTheOriginalDesign(t *testing.T) {
	c, _ := Step(NewCircuit("k:k"), Event{Kind: Report, Generation: 1, Tally: tallyOf([]Result{Failure}, time.Second)}, start, Settings{Threshold: 1})
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{
		`"serviceKey":"k:k"`, `"state":"OPEN"`, `"failureCount":1`, `"lastFailureTime":"2026-03-01T12:00:00Z"`,
		`"nextAttemptTime":"2026-03-01T12:01:00Z"`, `"halfOpenAttempts":0`, `"totalRequests":1`, `"totalFailures":1`, `"averageResponseTime":1000`,
	} {
		if !strings.Contains(string(data), field) {
			t.Errorf("the circuit is %s, want it to have %s", data, field)
		}
	}
	var back Circuit
	if err := json.Unmarshal(data, &back); err != nil || back.State != Open {
		t.Errorf("read back it is %v with error %v, want OPEN and none", back.State, err)
	}
	if err := json.Unmarshal([]byte(`{"state":"AJAR"}`), &back); err == nil {
		t.Error("the state AJAR is read without an error")
	}
}
