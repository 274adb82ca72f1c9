package cli

import (
	"context"
	"time"

	"github.com/rebound-mq/rebound/schemas"
)

// takeUp is how long instances are given to take up new policies. They need some
// milliseconds.
const takeUp = 3 * time.Second

// policiesInForce asks every instance for the policies that it has in force.
func (s *session) policiesInForce(ctx context.Context) ([]schemas.PolicyShow, error) {
	return askAll[schemas.PolicyShow](ctx, s, "policy.show", "the policies in force")
}

// awaitRevision waits until every instance has a revision in force, or a later
// one, and returns how many there are and how many have not.
func (s *session) awaitRevision(ctx context.Context, number uint64) (instances, behind int, err error) {
	for deadline := time.Now().Add(takeUp); ; {
		shown, err := s.policiesInForce(ctx)
		if err != nil {
			return 0, 0, err
		}
		behind = 0
		for _, p := range shown {
			if p.Revision < number {
				behind++
			}
		}
		if behind == 0 || time.Now().After(deadline) {
			return len(shown), behind, nil
		}
	}
}
