package schemas

import "time"

// AdoptAdd is the request of rebound.adopt.add.
type AdoptAdd struct {
	Stream   string `json:"stream"`
	Consumer string `json:"consumer"`
	// Service and Operation are the key of the operations, the names of stream
	// and consumer when empty.
	Service   string `json:"service,omitempty"`
	Operation string `json:"operation,omitempty"`
	// Target is where they go, empty for the target of the policy.
	Target string `json:"target,omitempty"`
}

// AdoptedConsumer is a consumer whose messages are retried once it gave them up.
type AdoptedConsumer struct {
	Stream    string `json:"stream"`
	Consumer  string `json:"consumer"`
	Service   string `json:"service"`
	Operation string `json:"operation"`
	// Target is where its messages go, by the policies in force when the adoption
	// names none.
	Target    string    `json:"target"`
	AdoptedAt time.Time `json:"adoptedAt"`
	// Warnings say what its owner should know.
	Warnings []string `json:"warnings,omitempty"`
}

// AdoptAdded is the answer to rebound.adopt.add.
type AdoptAdded struct {
	AdoptedConsumer
	// Replaced is whether it was adopted before, perhaps in another way.
	Replaced bool `json:"replaced,omitempty"`
}

// AdoptList is the answer to rebound.adopt.list.
type AdoptList struct {
	Consumers []AdoptedConsumer `json:"consumers"`
	// Waiting counts the messages that were given up and are not taken over yet.
	Waiting uint64 `json:"waiting"`
}

// AdoptRemove is the request of rebound.adopt.remove, and its answer.
type AdoptRemove struct {
	Stream   string `json:"stream"`
	Consumer string `json:"consumer"`
}
