package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/internal/policies"
	"github.com/rebound-mq/rebound/scheduler/policy"
	"github.com/rebound-mq/rebound/schemas"
)

func (a *app) policyCommand() *cobra.Command {
	cmd := group("policy", "Show, check, explain and apply policies",
		`A policy says how the operations of a service are retried. Once a policy file was applied
it is in force for all instances, kept in a NATS key-value bucket; until then each
instance uses the file that it was started with, or the built-in policies.`)
	cmd.AddCommand(a.policyShow(), a.policyCheck(), a.policyExplain(), a.policyApply(), a.policyHistory(), a.policyRollback())
	return cmd
}

func (a *app) policyShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show [SERVICE...]",
		Short: "Print the policies in force, and where each value was set",
		Example: `  rebound policy show
  rebound policy show session_manager
  rebound policy show --revision 7 --source`,
		Args: anyArgs,
	}
	from := policiesVar(cmd)
	source := cmd.Flags().Bool("source", false, "print the policy file as it was written")
	cmd.RunE = func(cmd *cobra.Command, services []string) error {
		set, err := from.set(a, cmd)
		if err != nil {
			return err
		}
		text := set.Source()
		if !*source {
			if text, err = set.YAML(services...); err != nil {
				return usageError{err}
			}
		}
		_, err = a.stdout.Write(text)
		return err
	}
	return cmd
}

func (a *app) policyCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Report every fault of a policy file",
		Long:  "Reports every fault of a policy file, each on a line with file, line, column, key and\nwhat is meant. FILE is - for standard input.",
		Args:  exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			_, _, err := a.readPolicies(args[0])
			if err != nil {
				return err
			}
			a.say("%s has no faults", args[0])
			return nil
		},
	}
}

func (a *app) policyApply() *cobra.Command {
	return &cobra.Command{
		Use:   "apply FILE",
		Short: "Put a policy file in force for all instances",
		Long: `Puts a policy file in force for all instances, without a restart. One that has a fault
is refused, and what was in force stays. Operations that wait keep their delay; the next
decisions use the new policies. A comment in the first line appears in the history. FILE is
- for standard input.`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, source, err := a.readPolicies(args[0])
			if err != nil {
				return err
			}
			return a.connected(cmd, func(s *session) error {
				b, err := policies.Ensure(cmd.Context(), s.js, s.config.Prefix, limits(s).Replicas)
				if err != nil {
					return err
				}
				current, err := b.Current(cmd.Context())
				if err != nil {
					return err
				}
				r, err := b.Apply(cmd.Context(), name, source, current.Number)
				if err != nil {
					return err
				}
				return a.applied(cmd, s, r)
			})
		},
	}
}

func (a *app) policyRollback() *cobra.Command {
	return &cobra.Command{
		Use:     "rollback REVISION",
		Short:   "Put an earlier policy file in force again",
		Example: "  rebound policy history\n  rebound policy rollback 6",
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			number, err := revisionOf(args[0])
			if err != nil {
				return err
			}
			return a.bucket(cmd, func(s *session, b *policies.Bucket) error {
				r, err := b.Rollback(cmd.Context(), number)
				if err != nil {
					return err
				}
				return a.applied(cmd, s, r)
			})
		},
	}
}

func (a *app) policyHistory() *cobra.Command {
	cmd := &cobra.Command{Use: "history", Short: "List the policy files that were applied, the latest first", Args: noArgs}
	output := outputVar(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.bucket(cmd, func(_ *session, b *policies.Bucket) error {
			history, err := b.History(cmd.Context())
			if err != nil {
				return err
			}
			if output.value == asJSON {
				for _, r := range history {
					if err := writeJSON(a.stdout, r.Summary()); err != nil {
						return err
					}
				}
				return nil
			}
			t := newTable(a.stdout, "REVISION", "APPLIED", "BYTES", "COMMENT")
			for _, r := range history {
				comment := r.Comment()
				if r.Removed() {
					comment = "(taken away)"
				}
				t.row(r.Number, r.At, len(r.Source), comment)
			}
			return t.flush()
		})
	}
	return cmd
}

// readPolicies reads a policy file that has no faults; the path - is standard
// input.
func (a *app) readPolicies(path string) (name string, source []byte, err error) {
	name = path
	if path == "-" {
		name = "stdin"
		source, err = io.ReadAll(io.LimitReader(a.stdin, policy.MaxSource+1))
	} else {
		source, err = os.ReadFile(path)
	}
	if err != nil {
		return name, nil, fmt.Errorf("reading the policy file: %w", err)
	}
	_, err = policy.Parse(name, source)
	return name, source, a.listed(err)
}

// listed prints the faults of a policy file, one a line, and returns an error
// that counts them. Any other error is returned as it is.
func (a *app) listed(err error) error {
	faults := policy.Faults(err)
	if len(faults) == 0 {
		return err
	}
	for _, f := range faults {
		fmt.Fprintln(a.stderr, printable(f.Error()))
	}
	return fmt.Errorf("the policy file has %s", many(len(faults), "fault"))
}

// bucket runs do with the bucket of policies.
func (a *app) bucket(cmd *cobra.Command, do func(*session, *policies.Bucket) error) error {
	return a.connected(cmd, func(s *session) error {
		b, err := policies.Open(cmd.Context(), s.js, s.config.Prefix)
		if errors.Is(err, policies.ErrNoBucket) {
			return fmt.Errorf("no policies were applied at %s, and no service has run there", s.url())
		}
		if err != nil {
			return err
		}
		return do(s, b)
	})
}

// applied says how far a new revision has come.
func (a *app) applied(cmd *cobra.Command, s *session, r policies.Revision) error {
	instances, behind, err := s.awaitRevision(cmd.Context(), r.Number)
	if err != nil {
		return err
	}
	switch {
	case instances == 0:
		a.say("revision %d is applied; no instance is running", r.Number)
	case behind > 0:
		return fmt.Errorf("revision %d is applied, but %d of %s did not take it up; see `rebound policy show`", r.Number, behind, many(instances, "instance"))
	default:
		a.say("revision %d is in force on %s", r.Number, many(instances, "instance"))
	}
	return nil
}

func revisionOf(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, usagef("%q is no revision, a whole number from 1", text)
	}
	return n, nil
}

// policiesFrom says where a command takes policies from.
type policiesFrom struct {
	file     string
	revision uint64
}

func policiesVar(cmd *cobra.Command) *policiesFrom {
	f := new(policiesFrom)
	cmd.Flags().StringVar(&f.file, "file", "", "take the policies of this file, - for standard input, rather than those in force")
	cmd.Flags().Uint64Var(&f.revision, "revision", 0, "take those of this revision rather than those in force")
	cmd.MarkFlagsMutuallyExclusive("file", "revision")
	return f
}

// set returns the policies: of a file, of a revision, or those in force at the
// instances.
func (f *policiesFrom) set(a *app, cmd *cobra.Command) (set *policy.Set, err error) {
	if f.file != "" {
		name, source, err := a.readPolicies(f.file)
		if err != nil {
			return nil, err
		}
		return policy.Parse(name, source)
	}
	if f.revision > 0 {
		return set, a.bucket(cmd, func(_ *session, b *policies.Bucket) error {
			r, err := b.At(cmd.Context(), f.revision)
			if err == nil {
				set, err = r.Parse()
			}
			return err
		})
	}
	return set, a.connected(cmd, func(s *session) error {
		shown, err := s.policiesInForce(cmd.Context())
		if err != nil {
			return err
		}
		if len(shown) == 0 {
			return fmt.Errorf("no instance answers at %s; name a policy file with --file or a revision with --revision", s.url())
		}
		slices.SortFunc(shown, func(x, y schemas.PolicyShow) int { return int(y.Revision) - int(x.Revision) })
		for _, other := range shown {
			if other.Source != shown[0].Source {
				a.say("rebound: warning: instances differ: %s has %s in force, %s has %s", shown[0].Instance, shown[0].Name, other.Instance, other.Name)
			}
			if other.Refused != nil {
				a.say("rebound: warning: instance %s refused revision %d: %s", other.Instance, other.Refused.Revision, oneSentence(errors.New(other.Refused.Problem)))
			}
		}
		set, err = parsePolicies(shown[0])
		return err
	})
}

func parsePolicies(shown schemas.PolicyShow) (*policy.Set, error) {
	if shown.Name == policy.BuiltinFile {
		return policy.Builtin(), nil
	}
	return policy.Parse(shown.Name, []byte(shown.Source))
}
