package cli

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/schemas"
)

// asyncAPI is the name of the document that describes all subjects.
const asyncAPI = "asyncapi"

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "schema [NAME]",
		Short:             "Print the names of the schemas, or one of them",
		Args:              wrongUsage(cobra.MaximumNArgs(1)),
		ValidArgsFunction: cobra.FixedCompletions(schemaNames(), cobra.ShellCompDirectiveNoFileComp),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				for _, name := range schemaNames() {
					if _, err := fmt.Fprintln(a.stdout, name); err != nil {
						return err
					}
				}
				return nil
			}
			text, err := schemas.Get(args[0])
			if err != nil {
				return usageError{err}
			}
			_, err = a.stdout.Write(append(bytes.TrimRight(text, "\n"), '\n'))
			return err
		},
	}
}

func schemaNames() []string { return append(schemas.Names(), asyncAPI) }
