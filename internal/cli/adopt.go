package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/internal/wording"
	"github.com/rebound-mq/rebound/schemas"
)

const adoptLong = `Adopts a JetStream consumer: what it gives up is retried and, in the end, dead-lettered,
with no change to its code. It gives a message up when it was delivered as often as the
consumer's max deliver allows, or when its worker terminates it. The message is read and
stays in its stream.

Attempts are NATS requests to the target, which a worker must answer. Without --target that
is the target of the policy, <service>.<operation> unless the policy says otherwise. It is
never a subject of the stream itself: that would hand the message to the consumer again.
The deliveries that were made count as attempts, so the policy must allow more of them.`

// adoptOptions say which consumer to adopt, and how.
type adoptOptions struct {
	*command.App
	request schemas.AdoptAdd
	output  *flags.Output
}

func adoptCommand(a *command.App) *cobra.Command {
	o := adoptOptions{App: a}
	cmd := &cobra.Command{
		Use:   "adopt",
		Short: "Retry what existing JetStream consumers give up",
		Long:  adoptLong,
		Example: `  rebound adopt --stream ORDERS --consumer worker --target orders-worker.process
  rebound adopt --stream ORDERS --consumer worker --service orders --operation process
  rebound adopt list
  rebound adopt remove --stream ORDERS --consumer worker`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := consumerGiven(o.request.Stream, o.request.Consumer); err != nil {
				return err
			}
			return a.Connected(cmd, o.run)
		},
	}
	consumerVars(cmd, &o.request.Stream, &o.request.Consumer)
	f := cmd.Flags()
	f.StringVar(&o.request.Target, "target", "", "the subject that attempts go to; the policy's when not given")
	f.Var((*flags.Name)(&o.request.Service), "service", "the service of the operations; the stream's name when not given")
	f.Var((*flags.Name)(&o.request.Operation), "operation", "their operation type; the consumer's name when not given")
	o.output = flags.OutputVar(cmd)
	cmd.AddCommand(adoptListCommand(a), adoptRemoveCommand(a))
	return cmd
}

func (o *adoptOptions) run(ctx context.Context, s *session.Session) error {
	var added schemas.AdoptAdded
	if err := s.Ask(ctx, "adopt.add", o.request, &added); err != nil {
		return err
	}
	if o.output.JSON() {
		return terminal.WriteJSON(o.Stdout, added)
	}
	for _, w := range added.Warnings {
		o.Warn("%s", terminal.Printable(w))
	}
	again := ""
	if added.Replaced {
		again = " anew"
	}
	o.Say("consumer %s of stream %s is adopted%s; what it gives up becomes operations of %s:%s, which go to %s",
		terminal.Printable(added.Consumer), terminal.Printable(added.Stream), again, added.Service, added.Operation, added.Target)
	return nil
}

type adoptListOptions struct {
	*command.App
	output *flags.Output
}

func adoptListCommand(a *command.App) *cobra.Command {
	o := adoptListOptions{App: a}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the adopted consumers, and what is wrong with them",
		Args:  command.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.Connected(cmd, o.run) },
	}
	o.output = flags.OutputVar(cmd)
	return cmd
}

func (o *adoptListOptions) run(ctx context.Context, s *session.Session) error {
	var list schemas.AdoptList
	if err := s.Ask(ctx, "adopt.list", nil, &list); err != nil {
		return err
	}
	if o.output.JSON() {
		return terminal.WriteJSONLines(o.Stdout, list.Consumers)
	}
	t := terminal.NewTable(o.Stdout, "STREAM", "CONSUMER", "SERVICE", "OPERATION", "TARGET", "ADOPTED")
	for _, c := range list.Consumers {
		t.Row(c.Stream, c.Consumer, c.Service, c.Operation, c.Target, c.AdoptedAt)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range list.Consumers {
		for _, w := range c.Warnings {
			o.Warn("%s of %s: %s", terminal.Printable(c.Consumer), terminal.Printable(c.Stream), terminal.Printable(w))
		}
	}
	if list.Waiting > 0 {
		o.Say("%s given up and not taken over yet", wording.Many(int(list.Waiting), "message"))
	}
	return nil
}

type adoptRemoveOptions struct {
	*command.App
	request schemas.AdoptRemove
}

func adoptRemoveCommand(a *command.App) *cobra.Command {
	o := adoptRemoveOptions{App: a}
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Leave an adopted consumer alone",
		Long: `Ends the adoption of a consumer. What it gives up from now on stays in its stream, and so
does what was not taken over yet. Operations that its messages became go on.`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := consumerGiven(o.request.Stream, o.request.Consumer); err != nil {
				return err
			}
			return a.Connected(cmd, o.run)
		},
	}
	consumerVars(cmd, &o.request.Stream, &o.request.Consumer)
	return cmd
}

func (o *adoptRemoveOptions) run(ctx context.Context, s *session.Session) error {
	if err := s.Ask(ctx, "adopt.remove", o.request, new(schemas.AdoptRemove)); err != nil {
		return err
	}
	o.Say("consumer %s of stream %s is adopted no more", terminal.Printable(o.request.Consumer), terminal.Printable(o.request.Stream))
	return nil
}

func consumerVars(cmd *cobra.Command, stream, consumer *string) {
	cmd.Flags().StringVar(stream, "stream", "", "the stream")
	cmd.Flags().StringVar(consumer, "consumer", "", "the consumer of the stream")
}

// consumerGiven insists on both flags of [consumerVars].
func consumerGiven(stream, consumer string) error {
	var missing []string
	for _, f := range []struct{ name, value string }{{"--stream", stream}, {"--consumer", consumer}} {
		if f.value == "" {
			missing = append(missing, f.name)
		}
	}
	if len(missing) > 0 {
		return command.Usagef("%s must be given", strings.Join(missing, " and "))
	}
	return nil
}
