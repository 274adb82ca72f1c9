package cli

import (
	"bytes"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/schemas"
)

func schemaCommand(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:               "schema [NAME]",
		Short:             "Print the names of the schemas, or one of them",
		Args:              command.WrongUsage(cobra.MaximumNArgs(1)),
		ValidArgsFunction: cobra.FixedCompletions(schemaNames(), cobra.ShellCompDirectiveNoFileComp),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return writeSchemaNames(a.Stdout)
			}
			return writeSchema(a.Stdout, args[0])
		},
	}
}

func writeSchemaNames(w io.Writer) error {
	for _, name := range schemaNames() {
		if _, err := fmt.Fprintln(w, name); err != nil {
			return err
		}
	}
	return nil
}

func writeSchema(w io.Writer, name string) error {
	text, err := schemas.Get(name)
	if err != nil {
		return command.Usage(err)
	}
	_, err = w.Write(append(bytes.TrimRight(text, "\n"), '\n'))
	return err
}

// asyncAPI is the name of the document that describes all subjects.
const asyncAPI = "asyncapi"

func schemaNames() []string { return append(schemas.Names(), asyncAPI) }
