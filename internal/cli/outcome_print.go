package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/events"
)

// outcomePrinter returns what prints one outcome or event.
func (a *app) outcomePrinter(output string) func(told) error {
	if output == asJSON {
		return a.printJSON
	}
	headed := false
	return func(t told) error {
		if !headed {
			headed = true
			if _, err := fmt.Fprintf(a.stdout, outcomeLayout+"\n", "AT", "EVENT", "SERVICE:OPERATION", "ID", "ATTEMPT", "DETAIL"); err != nil {
				return err
			}
		}
		return a.printRow(t)
	}
}

// outcomeLayout has fixed columns, because a row is to appear at once.
const outcomeLayout = "%-12s  %-14s  %-34s  %-32s  %-7v  %s"

// anyEvent has what is shown of outcomes and of decisions.
type anyEvent struct {
	events.Outcome
	Attempt int        `json:"attempt"`
	DelayMs float64    `json:"delayMs"`
	Due     *time.Time `json:"due"`
}

func (a *app) printRow(t told) error {
	name := eventName(t.subject)
	var e anyEvent
	if err := json.Unmarshal(t.data, &e); err != nil {
		a.say("the message on %s is no event: %v", t.subject, err)
		return nil
	}
	_, err := fmt.Fprintf(a.stdout, outcomeLayout+"\n", t.at.Local().Format("15:04:05.000"), name,
		printable(e.Service+":"+e.Operation), printable(e.ID), cmp.Or(e.Attempts, e.Attempt), printable(detail(name, e)))
	return err
}

// detail says in a few words what matters about an event.
func detail(name string, e anyEvent) string {
	failure := ""
	if e.Error != nil && *e.Error != (events.Failure{}) {
		failure = " (" + strings.TrimSpace(e.Error.Code+" "+e.Error.Message) + ")"
	}
	switch name {
	case events.RetrySuccess:
		return "after " + short(e.ElapsedMs)
	case events.RetryFailed:
		return string(e.Reason) + ": " + e.Detail + failure
	case events.RetryScheduled:
		return "again in " + short(e.DelayMs) + ", " + e.Strategy + failure
	}
	return ""
}

// printJSON prints the event's data in one line, with the event's name in
// front.
func (a *app) printJSON(t told) error {
	var line bytes.Buffer
	if err := json.Compact(&line, t.data); err != nil {
		a.say("the message on %s is no event: %v", t.subject, err)
		return nil
	}
	if !bytes.HasPrefix(line.Bytes(), []byte("{")) {
		a.say("the message on %s is no event", t.subject)
		return nil
	}
	rest := line.Bytes()[1:]
	comma := ","
	if rest[0] == '}' {
		comma = ""
	}
	_, err := fmt.Fprintf(a.stdout, "{\"event\":%q%s%s\n", eventName(t.subject), comma, rest)
	return err
}

// eventName returns the event's name, which is the third token from the end of
// its subject.
func eventName(subject string) string {
	tokens := strings.Split(subject, ".")
	if len(tokens) < 3 {
		return subject
	}
	return tokens[len(tokens)-3]
}
