package wire

import (
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/plainjson"
)

// The functions below list the fields of what is written and read for every operation, as the
// struct tags of package events name them.

func operationFields(f *plainjson.Fields, o *events.Operation) {
	f.Text("id", &o.ID)
	f.Text("eventId", &o.EventID)
	f.Text("source", &o.Source)
	f.OptionalText("type", &o.Type)
	f.OptionalText("subject", &o.Subject)
	f.Text("service", &o.Service)
	f.Text("operation", &o.Operation)
	f.OptionalText("accountId", &o.Account)
	f.OptionalText("campaignId", &o.Campaign)
	f.OptionalText("traceparent", &o.TraceParent)
	plainjson.OptionalObject(f, "origin", &o.Origin, originFields)
	f.OptionalText("target", &o.Target)
	f.OptionalText("delivery", (*string)(&o.Delivery))
	priorityField(f, "priority", &o.Priority)
	f.OptionalBool("priorityGiven", &o.PriorityGiven)
	f.Other("overrides", len(o.Overrides) > 0, o.Overrides)
	f.Int("attempt", &o.Attempt)
	f.OptionalTime("retryAfter", &o.RetryAfter)
	f.OptionalTime("deadline", &o.Deadline)
	f.Time("firstFailure", &o.FirstFailure)
	f.Time("submitted", &o.Submitted)
	f.OptionalUint("ahead", &o.Ahead)
	plainjson.OptionalObject(f, "dead", &o.Dead, deadFields)
	f.OptionalTime("due", &o.Due)
	f.OptionalInt("replay", &o.Replay)
	f.OptionalInt("repeats", &o.Repeats)
	f.OptionalTime("contested", &o.Contested)
	f.OptionalBool("paused", &o.Paused)
	f.OptionalTime("elapsesFrom", &o.ElapsesFrom)
	f.Other("ruleUses", len(o.RuleUses) > 0, o.RuleUses)
	plainjson.OptionalObjects(f, "history", &o.History, attemptFields)
	f.OptionalInt("omitted", &o.Omitted)
}

func priorityField(f *plainjson.Fields, name string, p *events.Priority) {
	text := p.String()
	f.Text(name, &text)
	if !f.Reading() {
		return
	}
	var err error
	if *p, err = events.ParsePriority(text); err != nil {
		f.Refuse()
	}
}

func originFields(f *plainjson.Fields, o *events.Origin) {
	f.Text("stream", &o.Stream)
	f.Text("consumer", &o.Consumer)
	f.Uint("sequence", &o.Sequence)
	f.OptionalText("subject", &o.Subject)
}

func deadFields(f *plainjson.Fields, d *events.DeadLetterRef) {
	f.Uint("sequence", &d.Sequence)
	f.Time("diedAt", &d.DiedAt)
}

func attemptFields(f *plainjson.Fields, a *events.Attempt) {
	f.Int("attempt", &a.Number)
	f.Time("at", &a.At)
	f.Float("durationMs", &a.DurationMs)
	f.OptionalText("code", &a.Code)
	f.OptionalText("error", &a.Error)
	f.OptionalText("class", &a.Class)
	f.OptionalText("rule", &a.Rule)
	f.OptionalFloat("delayMs", &a.DelayMs)
	f.OptionalText("strategy", &a.Strategy)
	f.OptionalBool("repeated", &a.Repeated)
	f.OptionalInt("replay", &a.Replay)
}

func workFields(f *plainjson.Fields, w *events.Work) {
	f.Text("token", &w.Token)
	f.Int("attempt", &w.Attempt)
	f.Text("target", &w.Target)
	f.Time("started", &w.Started)
	f.OptionalUint("generation", &w.Generation)
	f.OptionalText("probe", &w.Probe)
	plainjson.OptionalObject(f, "result", &w.Result, resultFields)
}

func resultFields(f *plainjson.Fields, r *events.WorkResult) {
	f.Time("at", &r.At)
	f.OptionalBool("failed", &r.Failed)
	f.OptionalText("code", &r.Code)
	f.OptionalText("error", &r.Error)
	f.OptionalTime("retryAfter", &r.RetryAfter)
	f.OptionalBool("counted", &r.Counted)
}

func aboutFields(f *plainjson.Fields, a *events.About) {
	f.Text("id", &a.ID)
	f.Text("eventId", &a.EventID)
	f.Text("source", &a.Source)
	f.Text("service", &a.Service)
	f.Text("operation", &a.Operation)
	f.Text("priority", &a.Priority)
	f.OptionalText("accountId", &a.Account)
	f.OptionalText("campaignId", &a.Campaign)
	f.OptionalInt("replay", &a.Replay)
}

func outcomeFields(f *plainjson.Fields, o *events.Outcome) {
	aboutFields(f, &o.About)
	f.Text("outcome", &o.Outcome)
	f.Int("attempts", &o.Attempts)
	f.OptionalText("target", &o.Target)
	f.Float("durationMs", &o.DurationMs)
	f.Time("firstFailure", &o.FirstFailure)
	f.Time("endedAt", &o.EndedAt)
	f.Float("elapsedMs", &o.ElapsedMs)
	f.OptionalText("strategy", &o.Strategy)
	f.OptionalText("reason", (*string)(&o.Reason))
	f.OptionalText("detail", &o.Detail)
	plainjson.OptionalObject(f, "error", &o.Error, failureFields)
	f.OptionalText("class", &o.Class)
	f.OptionalText("rule", &o.Rule)
	f.OptionalText("deadLetter", &o.DeadLetter)
}

func scheduledFields(f *plainjson.Fields, s *events.Scheduled) {
	aboutFields(f, &s.About)
	f.Int("attempt", &s.Attempt)
	plainjson.Object(f, "error", &s.Error, failureFields)
	f.Float("durationMs", &s.DurationMs)
	f.Text("class", &s.Class)
	f.OptionalText("rule", &s.Rule)
	f.Float("delayMs", &s.DelayMs)
	f.Time("due", &s.Due)
	f.OptionalFloat("gateMs", &s.GateMs)
	f.Text("strategy", &s.Strategy)
	f.Float("confidence", &s.Confidence)
	f.OptionalFloats("factors", s.Factors)
}

func failureFields(f *plainjson.Fields, e *events.Failure) {
	f.OptionalText("code", &e.Code)
	f.OptionalText("message", &e.Message)
}
