package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nuid"
	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/config"
)

// cliSource is the CloudEvents source of what is submitted without one.
const cliSource = "/rebound/submit"

// overrides are the attributes that override the policy, see package events.
var overrides = []string{
	"maxattempts", "basedelay", "maxdelay", "multiplier", "backoffstrategy", "jittertype", "attempttimeout", "maxelapsedtime",
}

// submissionFlags describe an operation.
type submissionFlags struct {
	names      []string
	data, file string
	id, source string
	headers    []string
	overrides  []string
	deadline   string
	retryAfter string
	priority   *wordFlag
	delivery   *wordFlag
	attempt    int
	// texts are the attributes that are taken as they are, by name.
	texts map[string]*string
}

func submissionVars(cmd *cobra.Command) *submissionFlags {
	f := &submissionFlags{texts: make(map[string]*string)}
	flags := cmd.Flags()
	text := func(flag, attribute, usage string) { f.texts[attribute] = flags.String(flag, "", usage) }
	flags.StringVar(&f.data, "data", "", "payload")
	flags.StringVar(&f.file, "file", "", "file with the payload, - for standard input")
	flags.StringVar(&f.id, "id", "", "event id; submitting the same id again from the same source merges (default a new one)")
	flags.StringVar(&f.source, "source", cliSource, "CloudEvents source")
	text("target", "target", "subject to redeliver to (default the policy's)")
	f.delivery = wordVar(cmd, "delivery", "", "how it reaches its target: request, or publish for workers that take from a stream and report (default request)",
		string(events.Request), string(events.Publish))
	f.priority = wordVar(cmd, "priority", "", "priority (default the policy's)", priorities()...)
	flags.IntVar(&f.attempt, "attempt", 1, "attempts made so far")
	text("error-code", "errorcode", "code of the failure, such as 503 or RATE_LIMIT_EXCEEDED")
	text("error-message", "errormessage", "message of the failure")
	flags.StringVar(&f.deadline, "deadline", "", "when the operation is of no more use: from now on (10m, 2d), or an RFC 3339 time")
	flags.StringVar(&f.retryAfter, "retry-after", "", "not before then: a duration (30s), seconds, or a date")
	text("account", "accountid", "account that the operation belongs to")
	text("campaign", "campaignid", "campaign that the operation belongs to")
	flags.StringArrayVar(&f.headers, "header", nil, "header k=v that goes along with the payload (repeatable)")
	flags.StringArrayVar(&f.overrides, "set", nil, "override of the policy, such as maxAttempts=3 (repeatable)")
	f.names = []string{
		"data", "file", "id", "source", "target", "delivery", "priority", "attempt", "error-code", "error-message", "deadline",
		"retry-after", "account", "campaign", "header", "set",
	}
	return f
}

func priorities() []string {
	words := make([]string, len(events.Priorities))
	for i, p := range events.Priorities {
		words[i] = p.String()
	}
	return words
}

// mustBeUnset refuses the flags of a single operation.
func (f *submissionFlags) mustBeUnset(cmd *cobra.Command) error {
	for _, name := range f.names {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("--%s is for a single operation; a JSON line holds its own attributes", name)
		}
	}
	return nil
}

// submission builds what the flags describe.
func (f *submissionFlags) submission(service, operation string, data []byte) (*submission, error) {
	e := event.New()
	e.SetType(events.TypeFailed)
	e.SetSource(f.source)
	if e.SetID(f.id); f.id == "" {
		e.SetID(nuid.Next())
	}
	e.SetExtension("service", service)
	e.SetExtension("operation", operation)
	for attribute, value := range f.texts {
		if *value != "" {
			e.SetExtension(attribute, *value)
		}
	}
	if f.priority.value != "" {
		e.SetExtension("priority", f.priority.value)
	}
	if f.delivery.value != "" {
		e.SetExtension("delivery", f.delivery.value)
	}
	if f.attempt < 1 {
		return nil, usagef("--attempt %d is less than 1", f.attempt)
	}
	e.SetExtension("attempt", strconv.Itoa(f.attempt))
	if err := f.times(&e, time.Now()); err != nil {
		return nil, usageError{err}
	}
	if err := f.override(&e); err != nil {
		return nil, usageError{err}
	}
	if len(data) > 0 {
		if err := e.SetData(contentType(data), data); err != nil {
			return nil, fmt.Errorf("encoding the payload: %w", err)
		}
	}
	if err := e.Validate(); err != nil {
		return nil, usageError{err}
	}
	headers, err := f.header()
	if err != nil {
		return nil, usageError{err}
	}
	return &submission{service: service, operation: operation, event: &e, header: headers}, nil
}

// times sets the attributes that are moments.
func (f *submissionFlags) times(e *event.Event, now time.Time) error {
	if f.deadline != "" {
		at, err := time.Parse(time.RFC3339, f.deadline)
		if err != nil {
			left, err := config.ParseDuration(f.deadline)
			if err != nil {
				return fmt.Errorf("--deadline %q is neither from now on, such as 10m, nor an RFC 3339 time", f.deadline)
			}
			at = now.Add(left)
		}
		e.SetExtension("deadline", at.UTC().Format(time.RFC3339Nano))
	}
	if f.retryAfter != "" {
		value := f.retryAfter
		if wait, err := config.ParseDuration(value); err == nil {
			value = now.Add(wait).UTC().Format(time.RFC3339Nano)
		}
		if _, err := events.ParseRetryAfter(value, now); err != nil {
			return fmt.Errorf("--retry-after %q is neither a duration, seconds nor a date within a year", f.retryAfter)
		}
		e.SetExtension("retryafter", value)
	}
	return nil
}

func (f *submissionFlags) override(e *event.Event) error {
	for _, o := range f.overrides {
		name, value, ok := strings.Cut(o, "=")
		if name = strings.ToLower(name); !ok || value == "" {
			return fmt.Errorf("--set %q is not NAME=VALUE", o)
		}
		if !slices.Contains(overrides, name) {
			return fmt.Errorf("--set %q overrides nothing; one can override %s", o, strings.Join(overrides, ", "))
		}
		e.SetExtension(name, value)
	}
	return nil
}

// header reads the extra headers.
func (f *submissionFlags) header() (map[string]string, error) {
	out := make(map[string]string, len(f.headers))
	for _, h := range f.headers {
		name, value, ok := strings.Cut(h, "=")
		if !ok || name == "" || strings.ContainsAny(name, " :\r\n\t") || strings.ContainsAny(value, "\r\n") {
			return nil, fmt.Errorf("--header %q is not NAME=VALUE", h)
		}
		if len(wire.CarriedHeader(map[string][]string{name: {value}})) == 0 {
			return nil, fmt.Errorf("--header %s is not for submissions; what begins with Nats- or Retry- does not go along", name)
		}
		out[name] = value
	}
	return out, nil
}

// contentType guesses what a payload is.
func contentType(data []byte) string {
	if json.Valid(data) {
		return event.ApplicationJSON
	}
	if isText(data) {
		return event.TextPlain
	}
	return http.DetectContentType(data)
}
