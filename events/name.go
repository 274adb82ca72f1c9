package events

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/rebound-mq/rebound/internal/clip"
)

// MaxName is the longest service or operation type, in bytes.
const MaxName = 64

// Invalid replaces a service or an operation type that is unknown or must not stand in a subject.
// It is never a valid name, because it starts with a dash.
const Invalid = "-invalid-"

// CheckName returns an error unless name is valid for a service or an operation type: one to
// [MaxName] ASCII letters, digits, dashes or underscores, not starting with a dash. Such a name
// is one token of a NATS subject.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("is empty")
	case len(name) > MaxName:
		return fmt.Errorf("has %d bytes, more than the %d allowed", len(name), MaxName)
	case name[0] == '-':
		return fmt.Errorf("%q starts with a dash", name)
	}
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return notInName(name, name[i:])
		}
	}
	return nil
}

// notInName says that a name has the character that rest begins with.
func notInName(name, rest string) error {
	const allowed = "only ASCII letters, digits, dashes and underscores are allowed"
	c, size := utf8.DecodeRuneInString(rest)
	if c == utf8.RuneError && size == 1 {
		return fmt.Errorf("%q is not valid UTF-8; %s", clip.Text(name, 80), allowed)
	}
	return fmt.Errorf("%q has the character %q; %s", clip.Text(name, 80), c, allowed)
}

// CheckPrefix returns an error unless prefix may be the first token of a deployment's subjects: a
// valid name that is not the first token of a deployment's endpoints, see [Subjects.API].
func CheckPrefix(prefix string) error {
	if err := CheckName(prefix); err != nil {
		return err
	}
	if isAPI(prefix) {
		return fmt.Errorf("%q is for endpoints; a prefix must not be %s or start with %s-", prefix, apiRoot, apiRoot)
	}
	return nil
}

// Key returns the key of a service and an operation type.
func Key(service, operation string) string { return service + ":" + operation }

// SplitKey returns the service and the operation type of a key, or an error that says what is
// wrong with it.
func SplitKey(key string) (service, operation string, err error) {
	service, operation, ok := strings.Cut(key, ":")
	if !ok {
		return "", "", fmt.Errorf("key %q is not of the form service:operation", clip.Text(key, 200))
	}
	if err := CheckName(service); err != nil {
		return "", "", fmt.Errorf("service in key %w", err)
	}
	if err := CheckName(operation); err != nil {
		return "", "", fmt.Errorf("operation type in key %w", err)
	}
	return service, operation, nil
}
