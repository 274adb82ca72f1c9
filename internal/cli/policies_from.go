package cli

import (
	"cmp"
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/internal/wording"
	"github.com/rebound-mq/rebound/scheduler/policy"
	"github.com/rebound-mq/rebound/schemas"
)

// policiesFrom says where a command takes policies from.
type policiesFrom struct {
	*command.App
	file     string
	revision uint64
}

func policiesVar(a *command.App, cmd *cobra.Command) *policiesFrom {
	f := &policiesFrom{App: a}
	cmd.Flags().StringVar(&f.file, "file", "", "take the policies of this file, - for standard input, rather than those in force")
	cmd.Flags().Uint64Var(&f.revision, "revision", 0, "take those of this revision rather than those in force")
	cmd.MarkFlagsMutuallyExclusive("file", "revision")
	return f
}

// set returns the policies: of a file, of a revision, or those in force at the
// instances.
func (f *policiesFrom) set(cmd *cobra.Command) (set *policy.Set, err error) {
	if f.file != "" {
		return readPolicies(f.App, f.file)
	}
	ask := f.inForce
	if f.revision > 0 {
		ask = f.applied
	}
	err = f.Connected(cmd, func(ctx context.Context, s *session.Session) error {
		set, err = ask(ctx, s)
		return err
	})
	return set, err
}

// applied returns the policies of a revision.
func (f *policiesFrom) applied(ctx context.Context, s *session.Session) (*policy.Set, error) {
	b, err := openPolicies(ctx, s)
	if err != nil {
		return nil, err
	}
	r, err := b.At(ctx, f.revision)
	if err != nil {
		return nil, err
	}
	return r.Parse()
}

// inForce returns the latest policies that an instance has in force, and warns
// when the instances differ.
func (f *policiesFrom) inForce(ctx context.Context, s *session.Session) (*policy.Set, error) {
	shown, err := policiesInForce(ctx, s)
	if err != nil {
		return nil, err
	}
	if len(shown) == 0 {
		return nil, s.NoService("name a policy file with --file or a revision with --revision")
	}
	slices.SortFunc(shown, func(x, y schemas.PolicyShow) int { return cmp.Compare(y.Revision, x.Revision) })
	latest := shown[0]
	for _, other := range shown {
		if other.Source != latest.Source {
			f.Warn("instances differ: %s has %s in force, %s has %s", latest.Instance, latest.Name, other.Instance, other.Name)
		}
		if other.Refused != nil {
			f.Warn("instance %s refused revision %d: %s", other.Instance, other.Refused.Revision, wording.OneLine(other.Refused.Problem))
		}
	}
	if latest.Name == policy.BuiltinFile {
		return policy.Builtin(), nil
	}
	return policy.Parse(latest.Name, []byte(latest.Source))
}
