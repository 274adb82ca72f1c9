package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/policies"
	"github.com/rebound-mq/rebound/internal/streams"
)

// permissionTimeout bounds the question for the user's permissions.
const permissionTimeout = 5 * time.Second

// need is a subject that the service uses, and what for.
type need struct{ subject, purpose string }

// permissions checks what the server lets this user publish and subscribe to,
// as far as the server tells.
func (d *diagnosis) permissions(ctx context.Context, s *session, adopted []adoption.Adoption, made bool) {
	const check = "permissions"
	ctx, cancel := context.WithTimeout(ctx, permissionTimeout)
	defer cancel()
	answer, err := s.nc.RequestWithContext(ctx, "$SYS.REQ.USER.INFO", nil)
	var info struct {
		Data *natsd.UserInfo `json:"data"`
	}
	if err == nil {
		err = json.Unmarshal(answer.Data, &info)
	}
	if err != nil || info.Data == nil {
		d.add(checkWarn, check, "the server does not tell this user's permissions", "allow the user to publish to $SYS.REQ.USER.INFO, or compare them with the documentation by hand")
		return
	}
	var missing []string
	if p := info.Data.Permissions; p != nil {
		needs := append(s.publishes(made), s.adoptionPublishes(adopted, made)...)
		if p.Response == nil {
			needs = append(needs, need{s.inboxes(), "answering requests"})
		}
		missing = append(missing, refused("publish to", p.Publish, needs)...)
		missing = append(missing, refused("subscribe to", p.Subscribe, append(s.subscribes(), adoptionSubscribes(adopted)...))...)
	}
	if len(missing) > 0 {
		d.add(checkFail, check, "the user may not "+strings.Join(missing, ", nor "), "grant that to the service's user")
		return
	}
	d.add(checkOK, check, fmt.Sprintf("user %s may publish and subscribe to what the service needs", orNone(info.Data.UserID, info.Data.UserID, "without a name")), "")
}

// publishes lists what the service publishes to. The streams are made only when
// they are not there.
func (s *session) publishes(made bool) []need {
	api := streams.APIPrefix(s.js)
	prefix := strings.TrimSuffix(s.subjects.Submissions(), "submit.>")
	needs := []need{
		{prefix + ">", "operations, outcomes and dead letters"},
		{api + "INFO", "the JetStream account"},
		{"$JS.ACK.>", "acknowledgements"},
	}
	for _, stream := range []string{s.streams.Intake(), s.streams.Waiting(), s.streams.Outcomes(), s.streams.Dead()} {
		needs = append(needs, need{api + "STREAM.INFO." + stream, "reading streams"})
		if !made {
			needs = append(needs, need{api + "STREAM.CREATE." + stream, "making streams"})
		}
	}
	for _, stream := range []string{s.streams.Intake(), s.streams.Waiting()} {
		needs = append(needs,
			need{api + "CONSUMER.INFO." + stream + ".*", "counting"},
			need{api + "CONSUMER.CREATE." + stream + ".>", "making consumers"},
			need{api + "CONSUMER.MSG.NEXT." + stream + ".*", "taking operations"})
	}
	type bucket struct{ name, what string }
	buckets := []bucket{{policies.BucketName(s.config.Prefix), "policies"}, {s.streams.LanesBucket(), "the keys that have lanes"}}
	if s.config.Redis.Reveal() == "" {
		buckets = append(buckets, bucket{s.streams.BreakersBucket(), "circuit breakers"}, bucket{s.streams.LedgersBucket(), "the limits that instances share"})
	}
	if s.config.Redis.Reveal() == "" {
		for _, name := range []string{s.streams.BreakersBucket(), s.streams.LedgersBucket()} {
			needs = append(needs, need{api + "STREAM.UPDATE.KV_" + name, "letting what is idle expire"})
		}
		needs = append(needs, need{api + "STREAM.MSG.GET.KV_" + s.streams.LedgersBucket(), "reading the limits that instances share"})
	}
	for _, b := range buckets {
		needs = append(needs,
			need{"$KV." + b.name + ".>", "storing " + b.what},
			need{api + "STREAM.INFO.KV_" + b.name, "reading " + b.what},
			need{api + "DIRECT.GET.KV_" + b.name + ".>", "reading " + b.what},
			need{api + "CONSUMER.CREATE.KV_" + b.name + ".>", "following " + b.what},
			need{api + "CONSUMER.DELETE.KV_" + b.name + ".*", "following " + b.what})
		if !made {
			needs = append(needs, need{api + "STREAM.CREATE.KV_" + b.name, "making streams"})
		}
	}
	return append(needs,
		need{api + "STREAM.PURGE.KV_" + s.streams.LanesBucket(), "forgetting the keys that have no lanes any more"},
		need{api + "STREAM.INFO." + s.streams.Work(), "making the stream of workers"},
		need{api + "STREAM.CREATE." + s.streams.Work(), "making the stream of workers"},
		need{api + "DIRECT.GET." + s.streams.Waiting(), "reading lanes"},
		need{api + "STREAM.MSG.GET." + s.streams.Waiting(), "finding operations"},
		need{api + "STREAM.MSG.DELETE." + s.streams.Waiting(), "removing operations"},
		need{api + "STREAM.MSG.GET." + s.streams.Intake(), "looking behind a flood of submissions"},
		need{api + "STREAM.MSG.DELETE." + s.streams.Intake(), "taking submissions in ahead of a flood"},
		need{micro.APIPrefix + ".INFO." + handlers.ServiceName, "knowing the versions of the instances"},
		need{api + "STREAM.MSG.GET." + s.streams.Dead(), "reading dead letters"},
		need{api + "STREAM.MSG.DELETE." + s.streams.Dead(), "removing dead letters"},
		need{api + "DIRECT.GET." + s.streams.Dead(), "listing dead letters"},
		need{api + "DIRECT.GET." + s.streams.Outcomes(), "reading outcomes"})
}

// subscribes lists what the service subscribes to.
func (s *session) subscribes() []need {
	return []need{
		{s.inboxes(), "answers"},
		{handlers.ServiceName + ".>", "requests"},
		{s.subjects.HealthReports(), "the health that services report"},
		{s.subjects.Instances(), "the other instances"},
		{"$SRV.>", "discovery"},
	}
}

// inboxes matches the subjects on which answers come.
func (s *session) inboxes() string {
	inbox := s.nc.NewInbox()
	return inbox[:strings.LastIndex(inbox, ".")] + ".>"
}

// refused lists what a permission does not cover.
func refused(verb string, p *natsd.SubjectPermission, needs []need) []string {
	if p == nil {
		return nil
	}
	var out []string
	for _, n := range needs {
		if !permits(p, n.subject) {
			out = append(out, fmt.Sprintf("%s %s (%s)", verb, n.subject, n.purpose))
		}
	}
	return out
}

// permits reports whether all that subject matches is allowed and nothing of it
// denied.
func permits(p *natsd.SubjectPermission, subject string) bool {
	allowed := len(p.Allow) == 0
	for _, pattern := range p.Allow {
		allowed = allowed || natsd.SubjectMatchesFilter(subject, plainSubject(pattern))
	}
	for _, pattern := range p.Deny {
		if natsd.SubjectsCollide(subject, plainSubject(pattern)) {
			return false
		}
	}
	return allowed
}

// plainSubject drops the queue name of a permission.
func plainSubject(pattern string) string {
	subject, _, _ := strings.Cut(pattern, " ")
	return subject
}
