package flags

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
)

// Word is one of a few words.
type Word struct {
	Value string
	words []string
}

// WordVar gives cmd a flag that takes one of words, and completes them.
func WordVar(cmd *cobra.Command, name, value, usage string, words ...string) *Word {
	w := &Word{Value: value, words: words}
	wordVar(cmd, w, name, usage)
	return w
}

func wordVar(cmd *cobra.Command, w *Word, name, usage string) {
	cmd.Flags().Var(w, name, usage)
	// The only error is a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(w.words, cobra.ShellCompDirectiveNoFileComp))
}

// Set implements [pflag.Value].
func (w *Word) Set(s string) error {
	if !slices.Contains(w.words, s) {
		return fmt.Errorf("%q is none of %s", s, strings.Join(w.words, ", "))
	}
	w.Value = s
	return nil
}

// String implements [pflag.Value].
func (w *Word) String() string { return w.Value }

// Type implements [pflag.Value].
func (w *Word) Type() string { return strings.Join(w.words, "|") }

// PriorityVar gives cmd a flag that takes a priority.
func PriorityVar(cmd *cobra.Command, usage string) *Word {
	words := make([]string, len(events.Priorities))
	for i, p := range events.Priorities {
		words[i] = p.String()
	}
	return WordVar(cmd, "priority", "", usage, words...)
}

// Output is how a command prints.
type Output struct{ Word }

const asJSON = "json"

// OutputVar gives cmd the flag --output.
func OutputVar(cmd *cobra.Command) *Output {
	const asTable = "table"
	o := &Output{Word{Value: asTable, words: []string{asTable, asJSON}}}
	wordVar(cmd, &o.Word, "output", "how to print")
	return o
}

// JSON reports whether to print JSON rather than a table.
func (o *Output) JSON() bool { return o.Value == asJSON }

// Name is a service or an operation type.
type Name string

// Set implements [pflag.Value].
func (n *Name) Set(s string) error {
	if err := events.CheckName(s); err != nil {
		return fmt.Errorf("the name %w", err)
	}
	*n = Name(s)
	return nil
}

// String implements [pflag.Value].
func (n *Name) String() string { return string(*n) }

// Type implements [pflag.Value].
func (n *Name) Type() string { return "name" }
