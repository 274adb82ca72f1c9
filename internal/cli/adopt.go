package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/schemas"
)

func (a *app) adoptCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "adopt",
		Short: "Retry what existing JetStream consumers give up",
		Long: `Adopts a JetStream consumer: what it gives up is retried and, in the end, dead-lettered,
with no change to its code. It gives a message up when it was delivered as often as the
consumer's max deliver allows, or when its worker terminates it. The message is read and
stays in its stream.

Attempts are NATS requests to the target, which a worker must answer. Without --target that
is the target of the policy, <service>.<operation> unless the policy says otherwise. It is
never a subject of the stream itself: that would hand the message to the consumer again.
The deliveries that were made count as attempts, so the policy must allow more of them.`,
		Example: `  rebound adopt --stream ORDERS --consumer worker --target orders-worker.process
  rebound adopt --stream ORDERS --consumer worker --service orders --operation process
  rebound adopt list
  rebound adopt remove --stream ORDERS --consumer worker`,
		Args: noArgs,
	}
	var request schemas.AdoptAdd
	consumerVars(cmd, &request.Stream, &request.Consumer)
	flags := cmd.Flags()
	flags.StringVar(&request.Target, "target", "", "the subject that attempts go to; the policy's when not given")
	flags.Var((*nameFlag)(&request.Service), "service", "the service of the operations; the stream's name when not given")
	flags.Var((*nameFlag)(&request.Operation), "operation", "their operation type; the consumer's name when not given")
	output := outputVar(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := consumerGiven(request.Stream, request.Consumer); err != nil {
			return err
		}
		return a.connected(cmd, func(s *session) error {
			var added schemas.AdoptAdded
			if err := s.adoption(cmd.Context(), "add", request, &added); err != nil {
				return err
			}
			if output.value == asJSON {
				return writeJSON(a.stdout, added)
			}
			for _, w := range added.Warnings {
				a.say("rebound: warning: %s", printable(w))
			}
			again := ""
			if added.Replaced {
				again = " anew"
			}
			a.say("consumer %s of stream %s is adopted%s; what it gives up becomes operations of %s:%s, which go to %s",
				printable(added.Consumer), printable(added.Stream), again, added.Service, added.Operation, added.Target)
			return nil
		})
	}
	cmd.AddCommand(a.adoptList(), a.adoptRemove())
	return cmd
}

func (a *app) adoptList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the adopted consumers, and what is wrong with them",
		Args:  noArgs,
	}
	output := outputVar(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.connected(cmd, func(s *session) error {
			var list schemas.AdoptList
			if err := s.adoption(cmd.Context(), "list", nil, &list); err != nil {
				return err
			}
			if output.value == asJSON {
				for _, c := range list.Consumers {
					if err := writeJSON(a.stdout, c); err != nil {
						return err
					}
				}
				return nil
			}
			t := newTable(a.stdout, "STREAM", "CONSUMER", "SERVICE", "OPERATION", "TARGET", "ADOPTED")
			for _, c := range list.Consumers {
				t.row(c.Stream, c.Consumer, c.Service, c.Operation, c.Target, c.AdoptedAt)
			}
			if err := t.flush(); err != nil {
				return err
			}
			for _, c := range list.Consumers {
				for _, w := range c.Warnings {
					a.say("rebound: warning: %s of %s: %s", printable(c.Consumer), printable(c.Stream), printable(w))
				}
			}
			if list.Waiting > 0 {
				a.say("%s given up and not taken over yet", many(int(list.Waiting), "message"))
			}
			return nil
		})
	}
	return cmd
}

func (a *app) adoptRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Leave an adopted consumer alone",
		Long: `Ends the adoption of a consumer. What it gives up from now on stays in its stream, and so
does what was not taken over yet. Operations that its messages became go on.`,
		Args: noArgs,
	}
	var request schemas.AdoptRemove
	consumerVars(cmd, &request.Stream, &request.Consumer)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := consumerGiven(request.Stream, request.Consumer); err != nil {
			return err
		}
		return a.connected(cmd, func(s *session) error {
			if err := s.adoption(cmd.Context(), "remove", request, new(schemas.AdoptRemove)); err != nil {
				return err
			}
			a.say("consumer %s of stream %s is adopted no more", printable(request.Consumer), printable(request.Stream))
			return nil
		})
	}
	return cmd
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
		return usagef("%s must be given", strings.Join(missing, " and "))
	}
	return nil
}

// adoption asks an instance about adopted consumers: it knows the policies in force.
func (s *session) adoption(ctx context.Context, action string, request, into any) error {
	m := nats.NewMsg(handlers.ServiceName + ".adopt." + action)
	if request != nil {
		var err error
		if m.Data, err = json.Marshal(request); err != nil {
			return fmt.Errorf("encoding the request: %w", err)
		}
	}
	err := s.request(ctx, m, into)
	if errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("no instance answers at %s; start one with `rebound serve`", s.url())
	}
	return err
}
