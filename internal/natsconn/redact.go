package natsconn

import (
	"errors"
	"net/url"
	"strings"

	"github.com/rebound-mq/rebound/internal/config"
)

// redactor replaces the secrets of a connection in text that others wrote.
type redactor struct{ replacer *strings.Replacer }

func newRedactor(cfg *config.Config, nctx natsContext) redactor {
	secrets := []string{
		cfg.Password.Reveal(), cfg.Token.Reveal(),
		nctx.Password, nctx.Token, nctx.UserJWT, nctx.UserSeed,
	}
	for _, u := range cfg.Servers() {
		secrets = append(secrets, userinfo(u.Reveal())...)
	}
	for part := range strings.SplitSeq(nctx.URL, ",") {
		secrets = append(secrets, userinfo(part)...)
	}
	var pairs []string
	for _, s := range secrets {
		if s != "" {
			pairs = append(pairs, s, "[redacted]")
		}
	}
	return redactor{strings.NewReplacer(pairs...)}
}

// userinfo returns the secrets in a URL, escaped and unescaped: the password, or a user
// name without one, which is a token.
func userinfo(text string) []string {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.User == nil {
		return nil
	}
	secrets := []string{u.User.String()}
	if p, ok := u.User.Password(); ok {
		return append(secrets, p)
	}
	return append(secrets, u.User.Username())
}

func (r redactor) text(s string) string { return r.replacer.Replace(s) }

// error returns err, or, if its text holds a secret, an error with the secret redacted
// that [errors.Is] still matches with err.
func (r redactor) error(err error) error {
	if err == nil {
		return nil
	}
	if text := r.text(err.Error()); text != err.Error() {
		return &redactedError{text: text, err: err}
	}
	return err
}

type redactedError struct {
	text string
	err  error
}

func (e *redactedError) Error() string { return e.text }

// Is matches the cause without exposing it.
func (e *redactedError) Is(target error) bool { return errors.Is(e.err, target) }
