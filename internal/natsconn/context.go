package natsconn

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/internal/config"
)

// natsContext holds the fields of a context's file that this package needs; the natscontext
// library reads the rest. The secrets are here so that they can be redacted.
type natsContext struct {
	path string

	URL       string `json:"url"`
	Token     string `json:"token"`
	Password  string `json:"password"`
	Creds     string `json:"creds"`
	NKey      string `json:"nkey"`
	NSC       string `json:"nsc"`
	UserJWT   string `json:"user_jwt"`
	UserSeed  string `json:"user_seed"`
	Domain    string `json:"jetstream_domain"`
	APIPrefix string `json:"jetstream_api_prefix"`
}

// readContext reads the file of a context from the directory of the nats command line.
func readContext(name string) (natsContext, error) {
	fail := func(format string, args ...any) (natsContext, error) {
		return natsContext{}, &ContextError{Name: name, Problem: fmt.Sprintf(format, args...)}
	}
	dir, err := contextDir()
	if err != nil {
		return fail("its directory is not known: %v", err)
	}
	if name == config.SelectedContext {
		if name = selectedContext(dir); name == "" {
			return fail("none is selected; choose one with `nats context select`")
		}
	}
	c := natsContext{path: filepath.Join(dir, "context", name+".json")}
	text, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fail("there is no file %s; `nats context ls` shows the contexts that exist", c.path)
	}
	if err != nil {
		return fail("it cannot be read: %v", err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return fail("its file %s is not what the nats command line writes: %v", c.path, err)
	}
	if what := c.unsupported(); what != "" {
		return fail("its file %s uses %s, which Rebound does not read; name a file there, or connect with --nats and --creds", c.path, what)
	}
	return c, nil
}

// contextDir returns the directory in which the nats command line keeps its
// files.
func contextDir() (string, error) {
	if d := os.Getenv("XDG_CONFIG_HOME"); d != "" {
		return filepath.Join(d, "nats"), nil
	}
	u, err := user.Current()
	if err != nil {
		return "", err
	}
	return filepath.Join(u.HomeDir, ".config", "nats"), nil
}

func selectedContext(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, "context.txt")) //nolint:gosec // the operator's own directory
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// unsupported names the settings of the file that the natscontext library ignores: it would
// connect without these credentials.
func (c natsContext) unsupported() string {
	if c.NSC != "" {
		return "a lookup by nsc"
	}
	if c.UserJWT != "" && c.UserSeed == "" {
		return "a bearer JWT"
	}
	for field, ref := range map[string]string{
		"creds": c.Creds, "nkey": c.NKey, "token": c.Token, "password": c.Password,
		"user_jwt": c.UserJWT, "user_seed": c.UserSeed,
	} {
		for _, scheme := range []string{"env:", "op:", "nsc:", "data:", "file:"} {
			if strings.HasPrefix(ref, scheme) {
				return fmt.Sprintf("%q for its %s", scheme, field)
			}
		}
	}
	return ""
}

// options returns the credentials that the natscontext library ignores and this package
// adds.
func (c natsContext) options() []nats.Option {
	if c.UserJWT != "" {
		return []nats.Option{nats.UserJWTAndSeed(c.UserJWT, c.UserSeed)}
	}
	return nil
}
