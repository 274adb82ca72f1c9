package adoption

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rebound-mq/rebound/events"
)

// maxName is the length of the longest name of a stream or a consumer, in bytes.
const maxName = 255

// Adoption is one consumer of a stream. Rebound retries the messages that the consumer
// gives up.
type Adoption struct {
	Stream   string `json:"stream"`
	Consumer string `json:"consumer"`
	// Service and Operation are the key of the operations that its messages
	// become.
	Service   string `json:"service"`
	Operation string `json:"operation"`
	// Target is where the operations go, empty for the target of the policy.
	Target    string    `json:"target,omitempty"`
	AdoptedAt time.Time `json:"adoptedAt"`
	// StreamCreated and ConsumerCreated are when the two were made, as of the
	// adoption.
	StreamCreated   time.Time `json:"streamCreated"`
	ConsumerCreated time.Time `json:"consumerCreated"`
}

// Check reports every issue of the names and of the target.
func (a Adoption) Check(subjects events.Subjects) error {
	issues := []error{CheckNames(a.Stream, a.Consumer)}
	if err := events.CheckName(a.Service); err != nil {
		issues = append(issues, fmt.Errorf("service %w", err))
	}
	if err := events.CheckName(a.Operation); err != nil {
		issues = append(issues, fmt.Errorf("operation type %w", err))
	}
	if a.Target != "" {
		issues = append(issues, subjects.CheckTarget(a.Target))
	}
	if n := len(a.Source()); n > events.MaxAttribute {
		issues = append(issues, fmt.Errorf("the names of stream and consumer take %d bytes when encoded, more than the %d allowed", n, events.MaxAttribute))
	}
	return errors.Join(issues...)
}

// CheckNames reports every issue of the names of a stream and its consumer.
func CheckNames(stream, consumer string) error {
	return errors.Join(checkName("stream", stream), checkName("consumer", consumer))
}

// checkName returns an error if the server would refuse the name for a stream or a
// consumer. Such a name is one token of a subject.
func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%s is empty", what)
	case len(name) > maxName:
		return fmt.Errorf("%s has %d bytes, more than the %d allowed", what, len(name), maxName)
	case !utf8.ValidString(name), strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`.*>/\`, r) }):
		return fmt.Errorf("%s %q is no name that a server gives: it has a space, a control character or one of .*>/\\", what, name)
	}
	return nil
}

// Source is the CloudEvents source of the operations that the consumer's messages
// become.
func (a Adoption) Source() string {
	return "/jetstream/" + url.PathEscape(a.Stream) + "/" + url.PathEscape(a.Consumer)
}

// EventID is the CloudEvents id of the operation that a message becomes. It includes
// when stream and consumer were made, because a stream that is made anew restarts its
// sequence.
func EventID(streamCreated, consumerCreated time.Time, sequence uint64) string {
	moment := func(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 36) }
	return moment(streamCreated) + "-" + moment(consumerCreated) + "-" + strconv.FormatUint(sequence, 10)
}

// advisories lists the subjects on which the server announces messages that the
// consumer gives up.
func (a Adoption) advisories() []string {
	const prefix = "$JS.EVENT.ADVISORY.CONSUMER."
	name := "." + a.Stream + "." + a.Consumer
	return []string{prefix + "MAX_DELIVERIES" + name, prefix + "MSG_TERMINATED" + name}
}

// Advisories lists the subjects on which the server announces messages that the
// consumers give up.
func Advisories(adopted []Adoption) []string {
	var subjects []string
	for _, a := range adopted {
		subjects = append(subjects, a.advisories()...)
	}
	return subjects
}
