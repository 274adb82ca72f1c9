package events

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// The headers that only a dead letter has.
const (
	// HeaderDiedAt is when the operation ended, in RFC 3339.
	HeaderDiedAt = "Retry-Died-At"
	// HeaderSubmittedTo is the subject of the submission.
	HeaderSubmittedTo = "Retry-Submitted-To"
	// HeaderTruncated is the length of the original payload in bytes, if it could not be kept
	// whole.
	HeaderTruncated = "Retry-Truncated"
)

// DeadLetter is an operation that ended in [RetryFailed], kept for inspection and replay.
type DeadLetter struct {
	// ID is the operation's id, the last token of the subject.
	ID        string `json:"id"`
	Service   string `json:"service"`
	Operation string `json:"operation"`
	Reason    Reason `json:"reason"`
	// Detail explains the reason in a sentence.
	Detail string    `json:"detail"`
	DiedAt time.Time `json:"diedAt"`
	// SubmittedTo is the subject of the submission.
	SubmittedTo string `json:"submittedTo,omitempty"`
	// Truncated is the length of the original payload in bytes if it was too large to be kept
	// whole, else zero.
	Truncated int `json:"truncated,omitempty"`
	// State is the operation with its history; nil if the submission could not be read.
	State *Operation `json:"state,omitempty"`

	// Sequence is the dead letter's sequence in its stream.
	Sequence uint64 `json:"sequence"`
	// Header and Data are the submission's, untouched.
	Header map[string][]string `json:"header,omitempty"`
	Data   []byte              `json:"data,omitempty"`
}

// Ref returns the reference to the dead letter.
func (d *DeadLetter) Ref() *DeadLetterRef {
	return &DeadLetterRef{Sequence: d.Sequence, DiedAt: d.DiedAt}
}

// ErrorCode returns the code of the last failure, empty if there is none.
func (d *DeadLetter) ErrorCode() string {
	if d.State == nil {
		return ""
	}
	last, _ := d.State.Last()
	return last.Code
}

// DeadLetterFilter selects dead letters. The zero value selects all of them.
type DeadLetterFilter struct {
	// IDs selects by operation id; empty selects any. The other criteria apply as well.
	IDs       []string `json:"ids,omitempty"`
	Service   string   `json:"service,omitempty"`
	Operation string   `json:"operation,omitempty"`
	Reason    Reason   `json:"reason,omitempty"`
	// ErrorCode selects by the code of the last failure.
	ErrorCode string `json:"errorCode,omitempty"`
	// Since and Until select by the time when the operation ended: from Since on, and before
	// Until. Zero is no bound.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// After skips dead letters up to and including this sequence, to continue a listing.
	After uint64 `json:"after,omitempty"`
	// Limit bounds the number of dead letters, 0 for no limit.
	Limit int `json:"limit,omitempty"`
}

// Everything reports whether f selects every dead letter, apart from After and Limit.
func (f DeadLetterFilter) Everything() bool {
	return len(f.IDs) == 0 && f.Service == "" && f.Operation == "" && f.Reason == "" && f.ErrorCode == "" &&
		f.Since.IsZero() && f.Until.IsZero()
}

// Check reports every problem of a filter.
func (f DeadLetterFilter) Check() error {
	errs := []error{checkSelected("service", f.Service), checkSelected("operation", f.Operation)}
	for _, id := range f.IDs {
		if !IsOperationID(id) {
			errs = append(errs, fmt.Errorf("id %q is not an operation id of 32 hexadecimal digits", id))
		}
	}
	if f.Reason != "" && !slices.Contains(Reasons[:], f.Reason) {
		errs = append(errs, fmt.Errorf("reason %q is none of %v", f.Reason, Reasons))
	}
	if f.Limit < 0 {
		errs = append(errs, fmt.Errorf("limit %d is negative", f.Limit))
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		errs = append(errs, fmt.Errorf("since %s is not before until %s", f.Since.Format(time.RFC3339), f.Until.Format(time.RFC3339)))
	}
	return errors.Join(errs...)
}

// checkSelected checks a name to select by; empty is valid.
func checkSelected(what, name string) error {
	if name == "" || name == Invalid {
		return nil
	}
	if err := CheckName(name); err != nil {
		return fmt.Errorf("%s %w", what, err)
	}
	return nil
}
