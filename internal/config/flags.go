package config

import "github.com/spf13/pflag"

// AddServerFlags registers the flags of the service: all settings and --config.
func AddServerFlags(flags *pflag.FlagSet) { addFlags(flags, false) }

// AddClientFlags registers the flags of a command that only connects: the
// settings of the connection and the log, and --config.
func AddClientFlags(flags *pflag.FlagSet) { addFlags(flags, true) }

func addFlags(flags *pflag.FlagSet, clientOnly bool) {
	flags.Var(&flagText{kind: "file"}, fileFlag,
		"configuration file (default $"+fileVariable+", or "+fileName+" in $XDG_CONFIG_HOME or ~/.config)")
	for i := range settings {
		s := &settings[i]
		if clientOnly && !s.client {
			continue
		}
		flags.Var(&flagText{text: s.standard, kind: s.kind, list: s.key == "nats"}, s.flag(),
			s.help+" [$"+s.variable()+"]")
	}
}

// flagText keeps a flag's text unparsed: [Load] parses it and so reports a bad
// flag together with all other issues.
type flagText struct {
	text, kind string
	// list flags may be repeated.
	list, set bool
}

// String implements [pflag.Value].
func (f *flagText) String() string { return f.text }

// Type implements [pflag.Value].
func (f *flagText) Type() string { return f.kind }

// Set implements [pflag.Value].
func (f *flagText) Set(text string) error {
	if f.list && f.set {
		text = f.text + "," + text
	}
	f.text, f.set = text, true
	return nil
}
