package policies

import "github.com/rebound-mq/rebound/scheduler/policy"

// OfFile returns the policies to start an instance with: those of the file, or the
// built-in ones when path is empty.
func OfFile(path string) (*policy.Set, error) {
	if path == "" {
		return policy.Builtin(), nil
	}
	return policy.LoadFile(path)
}
