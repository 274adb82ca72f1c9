package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
)

// wordFlag is one of a few words.
type wordFlag struct {
	value string
	words []string
}

// Set implements [pflag.Value].
func (w *wordFlag) Set(s string) error {
	if !slices.Contains(w.words, s) {
		return fmt.Errorf("%q is none of %s", s, strings.Join(w.words, ", "))
	}
	w.value = s
	return nil
}

// String implements [pflag.Value].
func (w *wordFlag) String() string { return w.value }

// Type implements [pflag.Value].
func (w *wordFlag) Type() string { return strings.Join(w.words, "|") }

// wordVar gives cmd a flag that takes one of words, and completes them.
func wordVar(cmd *cobra.Command, name, value, usage string, words ...string) *wordFlag {
	w := &wordFlag{value: value, words: words}
	cmd.Flags().Var(w, name, usage)
	// The only error is a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	return w
}

// nameFlag is a service or an operation type.
type nameFlag string

// Set implements [pflag.Value].
func (n *nameFlag) Set(s string) error {
	if err := events.CheckName(s); err != nil {
		return fmt.Errorf("the name %w", err)
	}
	*n = nameFlag(s)
	return nil
}

// String implements [pflag.Value].
func (n *nameFlag) String() string { return string(*n) }

// Type implements [pflag.Value].
func (n *nameFlag) Type() string { return "name" }

// joinSome joins words, and counts those beyond the first few.
func joinSome(words []string, most int) string {
	if len(words) <= most {
		return strings.Join(words, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(words[:most], ", "), len(words)-most)
}
