package submit

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/cli/terminal"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nuid"
	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// cliSource is the default CloudEvents source of submissions.
const cliSource = "/rebound/submit"

// submissionFlags describe an operation.
type submissionFlags struct {
	names      []string
	set        func(name string) bool
	data, file string
	id, source string
	headers    []string
	overrides  []string
	deadline   string
	retryAfter string
	priority   *flags.Word
	delivery   *flags.Word
	attempt    int
	// texts are the attributes that are passed on unchanged, by name.
	texts map[string]*string
}

func submissionVars(cmd *cobra.Command) *submissionFlags {
	f := &submissionFlags{texts: make(map[string]*string), set: cmd.Flags().Changed}
	fs := cmd.Flags()
	text := func(flag, attribute, usage string) { f.texts[attribute] = fs.String(flag, "", usage) }
	fs.StringVar(&f.data, "data", "", "payload")
	fs.StringVar(&f.file, "file", "", "file with the payload, - for standard input")
	fs.StringVar(&f.id, "id", "", "event id; submitting the same id again from the same source merges (default a new one)")
	fs.StringVar(&f.source, "source", cliSource, "CloudEvents source")
	text("target", "target", "subject to redeliver to (default the policy's)")
	f.delivery = flags.WordVar(cmd, "delivery", "", "how it reaches its target: request, or publish for workers that take from a stream and report (default request)",
		string(events.Request), string(events.Publish))
	f.priority = flags.PriorityVar(cmd, "priority (default the policy's)")
	fs.IntVar(&f.attempt, "attempt", 1, "attempts made so far")
	text("error-code", "errorcode", "code of the failure, such as 503 or RATE_LIMIT_EXCEEDED")
	text("error-message", "errormessage", "message of the failure")
	fs.StringVar(&f.deadline, "deadline", "", "when the operation is of no more use: from now on (10m, 2d), or an RFC 3339 time")
	fs.StringVar(&f.retryAfter, "retry-after", "", "not before then: a duration (30s), seconds, or a date")
	text("account", "accountid", "account that the operation belongs to")
	text("campaign", "campaignid", "campaign that the operation belongs to")
	fs.StringArrayVar(&f.headers, "header", nil, "header k=v that goes along with the payload (repeatable)")
	fs.StringArrayVar(&f.overrides, "set", nil, "override of the policy, such as maxAttempts=3 (repeatable)")
	f.names = []string{
		"data", "file", "id", "source", "target", "delivery", "priority", "attempt", "error-code", "error-message", "deadline",
		"retry-after", "account", "campaign", "header", "set",
	}
	return f
}

// mustBeUnset refuses the flags of a single operation.
func (f *submissionFlags) mustBeUnset() error {
	for _, name := range f.names {
		if f.set(name) {
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
	if f.priority.Value != "" {
		e.SetExtension("priority", f.priority.Value)
	}
	if f.delivery.Value != "" {
		e.SetExtension("delivery", f.delivery.Value)
	}
	if f.attempt < 1 {
		return nil, command.Usagef("--attempt %d is less than 1", f.attempt)
	}
	e.SetExtension("attempt", strconv.Itoa(f.attempt))
	if err := f.times(&e, time.Now()); err != nil {
		return nil, command.Usage(err)
	}
	if err := f.override(&e); err != nil {
		return nil, command.Usage(err)
	}
	if len(data) > 0 {
		if err := e.SetData(contentType(data), data); err != nil {
			return nil, fmt.Errorf("encoding the payload: %w", err)
		}
	}
	if err := e.Validate(); err != nil {
		return nil, command.Usage(err)
	}
	headers, err := f.header()
	if err != nil {
		return nil, command.Usage(err)
	}
	return &submission{service: service, operation: operation, event: &e, header: headers}, nil
}

// times sets the attributes that are times.
func (f *submissionFlags) times(e *event.Event, now time.Time) error {
	if f.deadline != "" {
		at, err := events.ParseTime(f.deadline)
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
			return fmt.Errorf("--retry-after %q is neither a duration, seconds nor a date within a year: %w", f.retryAfter, err)
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
		if err := policy.RefuseOverride(name); err != nil {
			return fmt.Errorf("--set %s: %w", o, err)
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
		if events.IsOwned(name) {
			return nil, fmt.Errorf("--header %s is not for submissions; Rebound or the NATS server sets it", name)
		}
		out[name] = value
	}
	return out, nil
}

// contentType guesses the content type of a payload.
func contentType(data []byte) string {
	if json.Valid(data) {
		return event.ApplicationJSON
	}
	if terminal.IsText(data) {
		return event.TextPlain
	}
	return http.DetectContentType(data)
}
