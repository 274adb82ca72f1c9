package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/policies"
	"github.com/rebound-mq/rebound/internal/policies/summary"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/internal/wording"
	"github.com/rebound-mq/rebound/scheduler/policy"
	"github.com/rebound-mq/rebound/schemas"
)

func policyCommand(a *command.App) *cobra.Command {
	cmd := command.Group("policy", "Show, check, explain and apply policies",
		`A policy says how the operations of a service are retried. Once a policy file was applied
it is in force for all instances, kept in a NATS key-value bucket; until then each
instance uses the file that it was started with, or the built-in policies.`)
	cmd.AddCommand(policyShowCommand(a), policyCheckCommand(a), policyExplainCommand(a), policyApplyCommand(a), policyHistoryCommand(a), policyRollbackCommand(a))
	return cmd
}

type policyShowOptions struct {
	*command.App
	from   *policiesFrom
	source bool
}

func policyShowCommand(a *command.App) *cobra.Command {
	o := policyShowOptions{App: a}
	cmd := &cobra.Command{
		Use:   "show [SERVICE...]",
		Short: "Print the policies in force, and where each value was set",
		Example: `  rebound policy show
  rebound policy show session_manager
  rebound policy show --revision 7 --source`,
		Args: command.AnyArgs,
		RunE: func(cmd *cobra.Command, services []string) error {
			set, err := o.from.set(cmd)
			if err != nil {
				return err
			}
			return o.run(set, services)
		},
	}
	o.from = policiesVar(a, cmd)
	cmd.Flags().BoolVar(&o.source, "source", false, "print the policy file as it was written")
	return cmd
}

func (o *policyShowOptions) run(set *policy.Set, services []string) error {
	text := set.Source()
	if !o.source {
		var err error
		if text, err = set.YAML(services...); err != nil {
			return command.Usage(err)
		}
	}
	_, err := o.Stdout.Write(text)
	return err
}

func policyCheckCommand(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Report every fault of a policy file",
		Long:  "Reports every fault of a policy file, each on a line with file, line, column, key and\nwhat is meant. FILE is - for standard input.",
		Args:  command.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			set, err := readPolicies(a, args[0])
			if err != nil {
				return err
			}
			for _, note := range set.Notes() {
				fmt.Fprintln(a.Stderr, terminal.Printable(note.Error()))
			}
			a.Say("%s has no faults", args[0])
			return nil
		},
	}
}

// policyApplyOptions hold a policy file without issues.
type policyApplyOptions struct {
	*command.App
	file string
	set  *policy.Set
	yes  bool
}

func policyApplyCommand(a *command.App) *cobra.Command {
	o := policyApplyOptions{App: a}
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Put a policy file in force for all instances",
		Long: `Puts a policy file in force for all instances, without a restart. One that has a fault
is refused, and what was in force stays. Operations that wait keep their delay; the next
decisions use the new policies. Services that are no longer in the file are named; a file
that has no policies at all is applied only after a question, or with --yes. A comment in
the first line appears in the history. FILE is - for standard input.`,
		Args: command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.file = args[0]
			if o.set, err = readPolicies(a, args[0]); err != nil {
				return err
			}
			return a.Connected(cmd, o.run)
		},
	}
	cmd.Flags().BoolVar(&o.yes, "yes", false, "agree to take all policies away")
	return cmd
}

func (o *policyApplyOptions) run(ctx context.Context, s *session.Session) error {
	b, err := policies.Ensure(ctx, s.JS, s.Config.Prefix, s.Limits().Replicas)
	if err != nil {
		return err
	}
	current, err := b.Current(ctx)
	if err != nil {
		return err
	}
	if err := o.takeAway(ctx, s, current); err != nil {
		return err
	}
	r, err := b.Apply(ctx, o.set.Name(), o.set.Source(), current.Number)
	if err != nil {
		return err
	}
	return sayApplied(ctx, o.App, s, r)
}

// takeAway says which policies the file takes away, and asks first if it takes all.
func (o *policyApplyOptions) takeAway(ctx context.Context, s *session.Session, current policies.Revision) error {
	source := current.Source
	if current.Number == 0 {
		shown, err := policiesInForce(ctx, s)
		if err != nil {
			return err
		}
		for _, p := range shown {
			if p.Name != policy.BuiltinFile { // which stay, whatever the file has
				source = []byte(p.Source)
			}
		}
	}
	var gone []string // nothing if no instance can have that revision in force
	if inForce, err := policy.Parse("in force", source); err == nil {
		gone = policies.Gone(inForce, o.set)
	}
	names := wording.First(maxGone, gone)
	switch {
	case len(gone) == 0:
		return nil
	case len(o.set.Sections()) > 0 || o.yes:
		o.Say("this takes away the policies of %s", names)
		return nil
	case o.file == "-" || !terminal.IsTerminal(o.Stdin):
		return command.Usagef("%s has no policies; applying it would take away those of %s; say --yes if that is meant", o.set.Name(), names)
	}
	return o.ask(fmt.Sprintf("%s has no policies; applying it takes away those of %s. Apply it? [y/N] ", o.set.Name(), names))
}

// maxGone is how many names of policies are shown.
const maxGone = 8

// errNotApplied is the answer no.
var errNotApplied = errors.New("nothing was applied")

// ask asks a question that is answered by yes or no.
func (o *policyApplyOptions) ask(question string) error {
	fmt.Fprint(o.Stderr, question)
	answer, err := bufio.NewReader(o.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errNotApplied
	}
	return nil
}

type policyRollbackOptions struct {
	*command.App
	revision uint64
}

func policyRollbackCommand(a *command.App) *cobra.Command {
	o := policyRollbackOptions{App: a}
	return &cobra.Command{
		Use:     "rollback REVISION",
		Short:   "Put an earlier policy file in force again",
		Example: "  rebound policy history\n  rebound policy rollback 6",
		Args:    command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.revision, err = revisionOf(args[0]); err != nil {
				return err
			}
			return a.Connected(cmd, o.run)
		},
	}
}

func (o *policyRollbackOptions) run(ctx context.Context, s *session.Session) error {
	b, err := openPolicies(ctx, s)
	if err != nil {
		return err
	}
	r, err := b.Rollback(ctx, o.revision)
	if err != nil {
		return err
	}
	return sayApplied(ctx, o.App, s, r)
}

type policyHistoryOptions struct {
	*command.App
	output *flags.Output
}

func policyHistoryCommand(a *command.App) *cobra.Command {
	o := policyHistoryOptions{App: a}
	cmd := &cobra.Command{
		Use: "history", Short: "List the policy files that were applied, the latest first", Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.Connected(cmd, o.run) },
	}
	o.output = flags.OutputVar(cmd)
	return cmd
}

func (o *policyHistoryOptions) run(ctx context.Context, s *session.Session) error {
	b, err := openPolicies(ctx, s)
	if err != nil {
		return err
	}
	history, err := b.History(ctx)
	if err != nil {
		return err
	}
	if o.output.JSON() {
		for _, r := range history {
			if err := terminal.WriteJSON(o.Stdout, summary.Of(r)); err != nil {
				return err
			}
		}
		return nil
	}
	t := terminal.NewTable(o.Stdout, "REVISION", "APPLIED", "BYTES", "COMMENT")
	for _, r := range history {
		comment := r.Comment()
		if r.Removed() {
			comment = "(taken away)"
		}
		t.Row(r.Number, r.At, len(r.Source), comment)
	}
	return t.Flush()
}

// readPolicies reads a policy file, which must have no issues; the path - is standard
// input.
func readPolicies(a *command.App, path string) (*policy.Set, error) {
	name := path
	var source []byte
	var err error
	if path == "-" {
		name = "stdin"
		source, err = io.ReadAll(io.LimitReader(a.Stdin, policy.MaxSource+1))
	} else {
		source, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the policy file: %w", err)
	}
	set, err := policy.Parse(name, source)
	return set, listed(a, err)
}

// listed prints the issues of a policy file, one a line, and returns an error with
// their number. It returns any other error unchanged.
func listed(a *command.App, err error) error {
	issues := policy.Issues(err)
	if len(issues) == 0 {
		return err
	}
	for _, issue := range issues {
		fmt.Fprintln(a.Stderr, terminal.Printable(issue.Error()))
	}
	return fmt.Errorf("the policy file has %s", wording.Many(len(issues), "fault"))
}

// openPolicies opens the bucket of policies.
func openPolicies(ctx context.Context, s *session.Session) (*policies.Bucket, error) {
	b, err := policies.Open(ctx, s.JS, s.Config.Prefix)
	if errors.Is(err, policies.ErrNoBucket) {
		return nil, fmt.Errorf("no policies were applied at %s, and no service has run there", s.URL())
	}
	return b, err
}

// sayApplied says whether the instances have taken up a new revision.
func sayApplied(ctx context.Context, a *command.App, s *session.Session, r policies.Revision) error {
	instances, behind, err := awaitRevision(ctx, s, r.Number)
	if err != nil {
		return err
	}
	switch {
	case instances == 0:
		a.Say("revision %d is applied; no instance is running", r.Number)
	case behind > 0:
		return fmt.Errorf("revision %d is applied, but %d of %s did not take it up; see `rebound policy show`", r.Number, behind, wording.Many(instances, "instance"))
	default:
		a.Say("revision %d is in force on %s", r.Number, wording.Many(instances, "instance"))
	}
	return nil
}

func revisionOf(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, command.Usagef("%q is no revision, a whole number from 1", text)
	}
	return n, nil
}

// takeUp is how long to wait for instances to take up new policies, which takes a few
// milliseconds.
const takeUp = 3 * time.Second

// awaitRevision waits until every instance has a revision, or a later one, in force. It
// returns the number of instances and how many are behind.
func awaitRevision(ctx context.Context, s *session.Session, number uint64) (instances, behind int, err error) {
	for deadline := time.Now().Add(takeUp); ; {
		shown, err := policiesInForce(ctx, s)
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

// policiesInForce asks every instance for its policies in force.
func policiesInForce(ctx context.Context, s *session.Session) ([]schemas.PolicyShow, error) {
	return session.AskAll[schemas.PolicyShow](ctx, s, "policy.show", "the policies in force")
}
