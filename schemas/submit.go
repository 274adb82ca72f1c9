package schemas

// Submitted is the answer to rebound.submit.<service>.<operation>.
type Submitted struct {
	// ID is the operation's id.
	ID      string `json:"id"`
	EventID string `json:"eventId"`
	Source  string `json:"source"`
	// Stream and Sequence say where the submission is stored.
	Stream   string `json:"stream"`
	Sequence uint64 `json:"sequence"`
	// Duplicate is whether the same submission was stored before.
	Duplicate bool `json:"duplicate,omitempty"`
}

// Reported is the answer to rebound.report.<service>.<operation>.
type Reported struct {
	// Accepted is true: a report that is not accepted is answered with an error.
	Accepted bool `json:"accepted"`
}
