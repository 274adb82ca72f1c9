package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/internal/wording"

	natsd "github.com/nats-io/nats-server/v2/server"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/scheduler/policy"
	"github.com/rebound-mq/rebound/schemas"
)

// permissionTimeout bounds the request for the user's permissions.
const permissionTimeout = 5 * time.Second

// permissions checks what this user may publish and subscribe to, as far as the server
// says.
func (d *Diagnosis) permissions(ctx context.Context, s *session.Session, adopted []adoption.Adoption, streamsExist bool) {
	const check = "permissions"
	ctx, cancel := context.WithTimeout(ctx, permissionTimeout)
	defer cancel()
	answer, err := s.NC.RequestWithContext(ctx, "$SYS.REQ.USER.INFO", nil)
	var info struct {
		Data *natsd.UserInfo `json:"data"`
	}
	if err == nil {
		err = json.Unmarshal(answer.Data, &info)
	}
	if err != nil || info.Data == nil {
		d.add(Warn, check, "the server does not tell this user's permissions", "allow the user to publish to $SYS.REQ.USER.INFO, or compare them with the documentation by hand")
		return
	}
	var missing []string
	if p := info.Data.Permissions; p != nil {
		need := needed(s, adopted, streamsExist, p.Response == nil)
		missing = append(refused("publish to", p.Publish, need.Publish), refused("subscribe to", p.Subscribe, need.Subscribe)...)
		d.targets(p.Publish, targets(policiesInForce(ctx, s), adopted))
	}
	if len(missing) > 0 {
		d.add(Fail, check, "the user may not "+strings.Join(missing, ", nor "), "grant that to the service's user")
		return
	}
	d.add(OK, check, fmt.Sprintf("user %s may publish and subscribe to what the service needs", wording.Or(info.Data.UserID, "without a name")), "")
}

// needed lists what the service needs at the server of s.
func needed(s *session.Session, adopted []adoption.Adoption, streamsExist, answers bool) handlers.Permissions {
	inbox := s.NC.NewInbox()
	return handlers.Deployment{
		JetStream: s.JS, Prefix: s.Config.Prefix, Inbox: inbox[:strings.LastIndex(inbox, ".")] + ".>",
		Redis: s.Config.Redis.Reveal() != "", StreamsExist: streamsExist, Adopted: adopted, Answers: answers,
	}.Permissions()
}

// targets checks the targets that are known. An attempt at one that the user may not publish to
// fails as forbidden_target.
func (d *Diagnosis) targets(p *natsd.SubjectPermission, known []handlers.Permission) {
	const check = "targets"
	switch missing := refused("publish to", p, known); {
	case len(missing) > 0:
		d.add(Warn, check, "the user may not "+wording.First(5, missing), "grant that to the service's user, or its operations become dead letters; replay them then")
	case len(known) > 0:
		d.add(OK, check, fmt.Sprintf("the user may publish to the %s that policies and adoptions name", wording.Many(len(known), "target")), "")
	}
}

// targets lists the targets of the services with policies of their own, as far as they do not
// depend on the operation, and of adopted consumers.
func targets(set *policy.Set, adopted []adoption.Adoption) []handlers.Permission {
	var known []handlers.Permission
	for _, a := range adopted {
		if a.Target == "" {
			continue // that of the policy
		}
		known = append(known, handlers.Permission{Subject: a.Target, Purpose: "the target of consumer " + a.Consumer})
	}
	if set == nil {
		return known
	}
	for _, service := range set.Services() {
		p := set.Resolve(policy.Query{Service: service})
		if p.Delivery == events.Request {
			known = append(known, handlers.Permission{Subject: p.TargetOf("", service, "*"), Purpose: "the targets of service " + service})
		}
	}
	return known
}

// policiesInForce returns the policies of an instance, nil if none answers.
func policiesInForce(ctx context.Context, s *session.Session) *policy.Set {
	shown, err := session.AskAll[schemas.PolicyShow](ctx, s, "policy.show", "the policies in force")
	if err != nil || len(shown) == 0 {
		return nil
	}
	set, err := policy.Parse("in force", []byte(shown[0].Source))
	if err != nil {
		return nil // the service tells of that
	}
	return set
}

// refused lists the needs that a permission does not cover.
func refused(verb string, p *natsd.SubjectPermission, needs []handlers.Permission) []string {
	if p == nil {
		return nil
	}
	var out []string
	for _, n := range needs {
		if !permits(p, n.Subject) {
			out = append(out, fmt.Sprintf("%s %s (%s)", verb, n.Subject, n.Purpose))
		}
	}
	return out
}

// permits reports whether everything that subject matches is allowed and nothing of it
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
