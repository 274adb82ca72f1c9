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

	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/adoption"
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
