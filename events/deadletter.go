package events

import (
	"time"
)

// headers that only a dead letter has.
const (
	// HeaderDiedAt is when the operation ended, in RFC 3339.
	HeaderDiedAt = "Retry-Died-At"
	// HeaderSubmittedTo is the subject of the submission.
	HeaderSubmittedTo = "Retry-Submitted-To"
	// HeaderTruncated is the length of the original payload in bytes, on a dead
	// letter that had no room for all of it.
	HeaderTruncated = "Retry-Truncated"
)

// DeadLetter is an operation that ended in [RetryFailed], kept whole.
type DeadLetter struct {
	// ID is the operation's id, the last token of the subject.
	ID        string `json:"id"`
	Service   string `json:"service"`
	Operation string `json:"operation"`
	Reason    Reason `json:"reason"`
	// Detail says the reason in a sentence.
	Detail string    `json:"detail"`
	DiedAt time.Time `json:"diedAt"`
	// SubmittedTo is the subject of the submission.
	SubmittedTo string `json:"submittedTo,omitempty"`
	// Truncated is the length of the original payload in bytes when there was
	// no room for all of it, else zero.
	Truncated int `json:"truncated,omitempty"`
	// State is the operation with its history; nil when the submission could
	// not be read.
	State *Operation `json:"state,omitempty"`

	// Sequence is the dead letter's sequence in its stream.
	Sequence uint64 `json:"sequence"`
	// Header and Data are the submission's, untouched.
	Header map[string][]string `json:"header,omitempty"`
	Data   []byte              `json:"data,omitempty"`
}

// Grave returns what names the dead letter.
func (d *DeadLetter) Grave() *Grave { return &Grave{Sequence: d.Sequence, DiedAt: d.DiedAt} }

// ErrorCode returns the code of the last failure, empty when there is none.
func (d *DeadLetter) ErrorCode() string {
	if d.State == nil {
		return ""
	}
	last, _ := d.State.Last()
	return last.Code
}
