package handlers

import (
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/policies"
	"github.com/rebound-mq/rebound/internal/streams"
)

// Permission is a subject that the service uses, possibly with wildcards, and its
// purpose.
type Permission struct{ Subject, Purpose string }

// Permissions are the subjects that the service's user must be allowed to publish
// and subscribe to, besides the targets of operations.
type Permissions struct{ Publish, Subscribe []Permission }

// Deployment holds what the permissions of a service depend on.
type Deployment struct {
	// JetStream only provides the prefix of its API.
	JetStream jetstream.JetStream
	Prefix    string
	// Inbox matches the subjects on which this user receives answers.
	Inbox string
	// Answers is whether the user needs permission to publish to the inbox in order
	// to answer requests.
	Answers bool
	// Redis is whether the instances share breakers and limits there.
	Redis bool
	// StreamsExist leaves out the permissions to make the streams.
	StreamsExist bool
	Adopted      []adoption.Adoption
}

// Permissions lists what the service needs. Whoever uses another subject in the
// service must add it here.
func (d Deployment) Permissions() Permissions {
	l := permissionList{
		Deployment: d, api: streams.APIPrefix(d.JetStream),
		subjects: events.Subjects{Prefix: d.Prefix}, streams: events.Streams{Prefix: d.Prefix},
	}
	l.operations()
	l.sharedState()
	l.adoptions()
	l.subscribe(d.Inbox, "answers")
	if d.Answers {
		l.publish(d.Inbox, "answering requests")
	}
	l.subscribe(l.subjects.Endpoint(">"), "requests")
	l.subscribe(l.subjects.HealthReports(), "the health that services report")
	l.subscribe(l.subjects.Instances(), "the other instances")
	l.subscribe(micro.APIPrefix+".>", "discovery")
	return l.Permissions
}

// permissionList gathers permissions.
type permissionList struct {
	Deployment
	Permissions
	api      string
	subjects events.Subjects
	streams  events.Streams
}

func (l *permissionList) publish(subject, purpose string) {
	l.Publish = append(l.Publish, Permission{subject, purpose})
}

func (l *permissionList) subscribe(subject, purpose string) {
	l.Subscribe = append(l.Subscribe, Permission{subject, purpose})
}

// call lists a call of the JetStream API.
func (l *permissionList) call(call, purpose string) { l.publish(l.api+call, purpose) }

// stream lists the permissions to read a stream, and to make it if it may be missing.
func (l *permissionList) stream(name, purpose string) {
	l.call("STREAM.INFO."+name, purpose)
	if !l.StreamsExist {
		l.call("STREAM.CREATE."+name, "making streams")
	}
}

// operations lists the permissions to take in, keep and redeliver operations.
func (l *permissionList) operations() {
	prefix := strings.TrimSuffix(l.subjects.Submissions(), "submit.>")
	l.publish(prefix+">", "operations, outcomes and dead letters")
	l.publish("$JS.ACK.>", "acknowledgements")
	l.publish(micro.APIPrefix+".INFO."+l.subjects.API(), "knowing the versions of the instances")
	l.call("INFO", "the JetStream account")
	intake, waiting, outcomes, dead := l.streams.Intake(), l.streams.Waiting(), l.streams.Outcomes(), l.streams.Dead()
	for _, name := range []string{intake, waiting, outcomes, dead} {
		l.stream(name, "reading streams")
	}
	for _, name := range []string{intake, waiting} {
		l.call("CONSUMER.INFO."+name+".*", "counting")
		l.call("CONSUMER.CREATE."+name+".>", "making consumers")
		l.call("CONSUMER.MSG.NEXT."+name+".*", "taking operations")
	}
	l.call("DIRECT.GET."+waiting, "reading lanes")
	l.call("STREAM.MSG.GET."+waiting, "finding operations")
	l.call("STREAM.MSG.DELETE."+waiting, "removing operations")
	l.call("STREAM.MSG.GET."+intake, "looking behind a flood of submissions")
	l.call("STREAM.MSG.DELETE."+intake, "taking submissions in ahead of a flood")
	l.call("STREAM.MSG.GET."+dead, "reading dead letters")
	l.call("STREAM.MSG.DELETE."+dead, "removing dead letters")
	l.call("DIRECT.GET."+dead, "listing dead letters")
	l.call("DIRECT.GET."+outcomes, "reading outcomes")
	l.call("STREAM.MSG.GET."+outcomes, "finding out whether an operation has ended")
	// The stream of workers is made when an operation is first published to one.
	l.call("STREAM.NAMES", "finding the streams of workers")
	l.call("STREAM.INFO."+l.streams.Work(), "making the stream of workers")
	l.call("STREAM.CREATE."+l.streams.Work(), "making the stream of workers")
}

// sharedState lists the permissions for the state that instances share in buckets.
func (l *permissionList) sharedState() {
	l.sharedBucket(policies.BucketName(l.Prefix), "policies")
	l.sharedBucket(l.streams.LanesBucket(), "the keys that have lanes")
	l.sharedBucket(l.streams.PausesBucket(), "what is paused")
	l.call("STREAM.MSG.GET.KV_"+l.streams.PausesBucket(), "resuming")
	l.call("STREAM.PURGE.KV_"+l.streams.LanesBucket(), "forgetting the keys that have no lanes any more")
	if l.Redis {
		return
	}
	breakers, ledgers := l.streams.BreakersBucket(), l.streams.LedgersBucket()
	l.sharedBucket(breakers, "circuit breakers")
	l.sharedBucket(ledgers, "the limits that instances share")
	for _, name := range []string{breakers, ledgers} {
		l.call("STREAM.UPDATE.KV_"+name, "letting what is idle expire")
	}
	l.call("STREAM.MSG.GET.KV_"+ledgers, "reading the limits that instances share")
}

// sharedBucket lists the permissions to write, read and watch a bucket.
func (l *permissionList) sharedBucket(name, what string) {
	l.publish("$KV."+name+".>", "storing "+what)
	l.stream("KV_"+name, "reading "+what)
	l.call("DIRECT.GET.KV_"+name+".>", "reading "+what)
	l.call("CONSUMER.CREATE.KV_"+name+".>", "following "+what)
	l.call("CONSUMER.DELETE.KV_"+name+".*", "following "+what)
}

// adoptions lists the permissions to take over from adopted consumers.
func (l *permissionList) adoptions() {
	adoptions := adoption.BucketName(l.Prefix)
	l.adoptionBucket(adoptions, "adopting consumers")
	l.call("CONSUMER.CREATE.KV_"+adoptions+".>", "following adoptions")
	l.call("CONSUMER.DELETE.KV_"+adoptions+".*", "following adoptions")
	if len(l.Adopted) == 0 {
		return
	}
	// These streams are made when the first consumer is adopted.
	ledger, advisories := adoption.LedgerName(l.Prefix), l.streams.Advisories()
	l.adoptionBucket(ledger, "taking messages over")
	for _, call := range []string{
		"DIRECT.GET.KV_" + ledger + ".>",
		"STREAM.NAMES", "STREAM.INFO." + advisories, "STREAM.CREATE." + advisories, "STREAM.UPDATE." + advisories,
		"CONSUMER.CREATE." + advisories + ".>", "CONSUMER.MSG.NEXT." + advisories + ".*",
	} {
		l.call(call, "taking messages over")
	}
	for _, a := range l.Adopted {
		purpose := "taking over from consumer " + a.Consumer
		l.call("STREAM.INFO."+a.Stream, purpose)
		l.call("STREAM.MSG.GET."+a.Stream, purpose)
		l.call("CONSUMER.INFO."+a.Stream+"."+a.Consumer, purpose)
	}
	for _, subject := range adoption.Advisories(l.Adopted) {
		l.subscribe(subject, "hearing what adopted consumers give up")
	}
}

func (l *permissionList) adoptionBucket(name, purpose string) {
	l.publish("$KV."+name+".>", purpose)
	l.stream("KV_"+name, purpose)
	l.call("STREAM.MSG.GET.KV_"+name, purpose)
}
