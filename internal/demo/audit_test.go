package demo

import (
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"github.com/rebound-mq/rebound/events"
)

func TestJudge_NamesTheFaultsOfAnOperation(t *testing.T) {
	sent, other := sha256.Sum256([]byte("sent")), sha256.Sum256([]byte("other"))
	success, failed := []string{events.RetrySuccess}, []string{events.RetryFailed}
	for name, c := range map[string]struct {
		evidence evidence
		want     []Kind
	}{
		"a success that the target accepted is right": {
			evidence{Submitted: true, Outcomes: success, Accepted: []hash{sent}}, nil,
		},
		"a success that the target accepted twice is right": {
			evidence{Submitted: true, Outcomes: success, Accepted: []hash{sent, sent}}, nil,
		},
		"a failure with a dead letter is right": {
			evidence{Submitted: true, Outcomes: failed, Dead: []hash{sent}}, nil,
		},
		"a failure that the target accepted, but too late, is right": {
			evidence{Submitted: true, Outcomes: failed, Dead: []hash{sent}, Accepted: []hash{sent}}, nil,
		},
		"an operation that still waits is right": {
			evidence{Submitted: true, Waiting: true}, nil,
		},
		"an operation that is about to end, its dead letter written, is right": {
			evidence{Submitted: true, Waiting: true, Dead: []hash{sent}}, nil,
		},
		"an operation without an outcome that waits nowhere is lost": {
			evidence{Submitted: true}, []Kind{Lost},
		},
		"an operation that was accepted but has no outcome is lost": {
			evidence{Submitted: true, Accepted: []hash{sent}}, []Kind{Lost},
		},
		"an operation that is buried but has no outcome is lost": {
			evidence{Submitted: true, Dead: []hash{sent}}, []Kind{Lost},
		},
		"two successes are doubled": {
			evidence{Submitted: true, Outcomes: []string{events.RetrySuccess, events.RetrySuccess}, Accepted: []hash{sent}}, []Kind{Doubled},
		},
		"a success and a failure are doubled": {
			evidence{Submitted: true, Outcomes: []string{events.RetrySuccess, events.RetryFailed}, Accepted: []hash{sent}, Dead: []hash{sent}}, []Kind{Doubled},
		},
		"two dead letters are doubled": {
			evidence{Submitted: true, Outcomes: failed, Dead: []hash{sent, sent}}, []Kind{Doubled},
		},
		"a success with a dead letter is doubled": {
			evidence{Submitted: true, Outcomes: success, Accepted: []hash{sent}, Dead: []hash{sent}}, []Kind{Doubled},
		},
		"a success that the target never accepted is undelivered": {
			evidence{Submitted: true, Outcomes: success}, []Kind{Undelivered},
		},
		"a failure without a dead letter is unburied": {
			evidence{Submitted: true, Outcomes: failed}, []Kind{Unburied},
		},
		"a success with other bytes is mismatched": {
			evidence{Submitted: true, Outcomes: success, Accepted: []hash{other}}, []Kind{Mismatched},
		},
		"one of two deliveries with other bytes is mismatched": {
			evidence{Submitted: true, Outcomes: success, Accepted: []hash{sent, other}}, []Kind{Mismatched},
		},
		"a dead letter with other bytes is mismatched": {
			evidence{Submitted: true, Outcomes: failed, Dead: []hash{other}}, []Kind{Mismatched},
		},
		"an outcome of what nobody submitted is foreign": {
			evidence{Outcomes: success}, []Kind{Foreign},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.evidence.Submitted {
				c.evidence.Payload = sent
			}
			found, _ := judge(map[string]*evidence{"1": &c.evidence})
			var got []Kind
			for _, f := range found {
				got = append(got, f.Kind)
				if f.ID != "1" || f.Detail == "" {
					t.Errorf("fault %+v lacks the operation or the detail", f)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("faults are %v, want %v", got, c.want)
			}
			err := Summary{Submitted: 1, Faults: found}.verdict(0, nil)
			if failed := errors.As(err, new(*FaultsError)); failed != (c.want != nil) {
				t.Errorf("the run ends with the error %v", err)
			}
		})
	}
}

func TestSummary_FailsUnlessEverythingHasEnded(t *testing.T) {
	lost := []Fault{{ID: "1", Kind: Lost}, {ID: "2", Kind: Doubled}, {ID: "3", Kind: Lost}}
	for name, c := range map[string]struct {
		summary Summary
		goal    int
		stopped error
		want    string
	}{
		"everything ended":                    {Summary{Submitted: 5}, 5, nil, ""},
		"an endless run was interrupted":      {Summary{Submitted: 5, Unfinished: 3}, 0, errInterrupted, ""},
		"an endless run lost something":       {Summary{Submitted: 5, Faults: lost[:1]}, 0, errInterrupted, "the run was stopped because it was interrupted: not every operation ended as it must: 1 lost"},
		"some still wait when the time is up": {Summary{Submitted: 5, Unfinished: 3}, 5, errTimeUp, "the run was stopped because its time was up: not every operation has ended: 5 of 5 were submitted, 3 still wait"},
		"not all were submitted":              {Summary{Submitted: 4}, 5, errTimeUp, "the run was stopped because its time was up: not every operation has ended: 4 of 5 were submitted, 0 still wait"},
		"three did not end as they must":      {Summary{Submitted: 5, Faults: lost}, 5, nil, "not every operation ended as it must: 2 lost, 1 doubled"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := c.summary.verdict(c.goal, c.stopped); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("the error is %q, want %q", got, c.want)
			}
		})
	}
}
