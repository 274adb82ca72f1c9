package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/schemas"
)

// CheckSeen returns an error unless the service knows of a key or a service, so that a misspelt one
// is noticed. A pattern with wildcards passes. If the service cannot tell, CheckSeen warns.
func (a *App) CheckSeen(ctx context.Context, s *session.Session, name string) error {
	p, err := events.ParsePattern(name)
	if err != nil {
		return Usage(err)
	}
	if _, _, literal := p.Literal(); !literal {
		return nil
	}
	found, err := findKeys(ctx, s, schemas.KeyQuery{Name: p.String()})
	switch {
	case errors.Is(err, nats.ErrNoResponders): // the next request says so, or the service is older
		return nil
	case err != nil:
		a.Warn("whether %s was ever seen is not known: %v", p, err)
		return nil
	case found.Known:
		return nil
	}
	hint := ";"
	if len(found.Nearest) > 0 {
		hint = fmt.Sprintf("; did you mean %s?", strings.Join(found.Nearest, " or "))
	}
	return fmt.Errorf("nothing of %s was ever seen%s --yes does it all the same", p, hint)
}

// YesVar adds the flag by which CheckSeen is skipped.
func YesVar(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVar(yes, "yes", false, "do it even if nothing of it was ever seen")
}

// findKeys asks the service for keys and services.
func findKeys(ctx context.Context, s *session.Session, q schemas.KeyQuery) (found schemas.KeyFound, err error) {
	m := nats.NewMsg(s.Subjects.Endpoint("key.find"))
	if m.Data, err = json.Marshal(q); err == nil {
		err = s.Request(ctx, m, &found)
	}
	return found, err
}

// completions bounds how many names a shell is offered.
const completions = 100

// CompleteKeys completes an argument that is a key or, if services is set, a service too.
func (a *App) CompleteKeys(services bool) cobra.CompletionFunc {
	return a.Complete(func(ctx context.Context, s *session.Session, begun string) ([]string, error) {
		found, err := findKeys(ctx, s, schemas.KeyQuery{Prefix: begun, Limit: completions})
		return slices.DeleteFunc(found.Names, func(name string) bool {
			return !services && !strings.Contains(name, ":")
		}), err
	})
}

// Complete completes the only argument with the names that begin as it does.
func (a *App) Complete(find func(ctx context.Context, s *session.Session, begun string) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) (names []string, _ cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		err := a.Connected(cmd, func(ctx context.Context, s *session.Session) (err error) {
			names, err = find(ctx, s, begun)
			return err
		})
		if err != nil {
			cobra.CompErrorln(err.Error())
			return nil, cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
