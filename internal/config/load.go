package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Load takes every setting from, by rising weight, its default, the file, the
// environment and the flags. Flags are the parsed flags that [AddServerFlags] or
// [AddClientFlags] registered; nil means none. Environ has the form of
// [os.Environ]. File is the path of the configuration file; when it is empty
// the path is that of --config, else of REBOUND_CONFIG, else
// rebound/rebound.yaml in $XDG_CONFIG_HOME or ~/.config if it exists there.
//
// The error is an [*Error] that lists every issue, including those of values
// that a heavier one displaces.
func Load(flags *pflag.FlagSet, environ []string, file string) (*Config, error) {
	l := loader{environ: parseEnviron(environ), found: map[string][]given{}}
	l.readFile(flags, file)
	l.readEnvironment()
	l.readFlags(flags)
	return l.config()
}

type loader struct {
	environ map[string]string
	// found are the values of each setting, the heaviest last.
	found    map[string][]given
	file     string
	issues   []Issue
	warnings []string
}

func (l *loader) issue(source, key, format string, args ...any) {
	l.issues = append(l.issues, Issue{Source: source, Key: key, Problem: fmt.Sprintf(format, args...)})
}

func (l *loader) add(key string, g given) { l.found[key] = append(l.found[key], g) }

func parseEnviron(environ []string) map[string]string {
	m := make(map[string]string, len(environ))
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok {
			m[name] = value
		}
	}
	return m
}

// filePath returns the path of the configuration file and who named it. Path is
// empty when there is none to read.
func (l *loader) filePath(flags *pflag.FlagSet, file string) (path, source string) {
	if file != "" {
		return file, "--" + fileFlag
	}
	if f := ourFlag(flags, fileFlag); f != nil && f.set {
		return f.text, "--" + fileFlag
	}
	if p := l.environ[fileVariable]; p != "" {
		return p, fileVariable
	}
	dir := l.userDir("XDG_CONFIG_HOME", ".config")
	if dir == "" {
		return "", ""
	}
	path = filepath.Join(dir, fileName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", ""
	}
	return path, ""
}

// userDir returns one of the user's directories: the variable if it is an
// absolute path, as the XDG specification demands, else the path below the home
// directory. It is empty when neither is known.
func (l *loader) userDir(variable, belowHome string) string {
	if d := l.environ[variable]; filepath.IsAbs(d) {
		return d
	}
	if home := l.home(); home != "" {
		return filepath.Join(home, belowHome)
	}
	return ""
}

func (l *loader) home() string {
	if h := l.environ["HOME"]; h != "" {
		return h
	}
	return l.environ["USERPROFILE"] // Windows
}

func (l *loader) readFile(flags *pflag.FlagSet, file string) {
	path, source := l.filePath(flags, file)
	if path == "" {
		return
	}
	path = l.resolve(path, "")
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		if source == "" {
			source = path
		}
		l.issue(source, "", "the configuration file cannot be read: %v", err)
		return
	}
	l.file = path
	l.readYAML(path, text)
}

func (l *loader) readEnvironment() {
	known := map[string]bool{fileVariable: true}
	for i := range settings {
		s := &settings[i]
		known[s.variable()] = true
		if text := l.environ[s.variable()]; text != "" {
			l.add(s.key, given{text: text, layer: layerEnvironment, source: s.variable()})
		}
	}
	for name := range l.environ {
		if strings.HasPrefix(name, variablePrefix) && !known[name] && !fromKubernetes(name) {
			l.warnings = append(l.warnings, fmt.Sprintf("%s: no setting has this variable%s", name,
				didYouMean(name, settingNames((*setting).variable, fileVariable))))
		}
	}
	slices.Sort(l.warnings)
}

// fromKubernetes reports whether the variable is one that Kubernetes sets in
// every container for a service named "rebound".
func fromKubernetes(name string) bool {
	name = strings.TrimPrefix(name, variablePrefix)
	return name == "PORT" || strings.HasPrefix(name, "PORT_") || strings.HasPrefix(name, "SERVICE_")
}

func (l *loader) readFlags(flags *pflag.FlagSet) {
	for i := range settings {
		s := &settings[i]
		if f := ourFlag(flags, s.flag()); f != nil && f.set {
			l.add(s.key, given{text: f.text, layer: layerFlag, source: "--" + s.flag()})
		}
	}
}

// ourFlag returns the flag if this package registered it; a command may use the
// name for something else.
func ourFlag(flags *pflag.FlagSet, name string) *flagText {
	if flags == nil {
		return nil
	}
	f := flags.Lookup(name)
	if f == nil {
		return nil
	}
	text, _ := f.Value.(*flagText)
	return text
}

// resolve returns a path with ~ replaced and, when base is not empty, relative
// to base.
func (l *loader) resolve(path, base string) string {
	if rest, ok := strings.CutPrefix(path, "~"); ok && (rest == "" || os.IsPathSeparator(rest[0])) {
		if home := l.home(); home != "" {
			return filepath.Join(home, rest)
		}
	}
	if base != "" && path != "" && !filepath.IsAbs(path) {
		return filepath.Join(base, path)
	}
	return path
}

// config checks all values and builds the configuration from the heaviest ones.
func (l *loader) config() (*Config, error) {
	c := &Config{File: l.file}
	winners := map[string]*given{}
	for i := range settings {
		winners[settings[i].key] = l.winner(&settings[i])
	}
	l.resolveConflicts(winners)
	for i := range settings {
		s := &settings[i]
		g := winners[s.key]
		// winner has parsed the text already, or another setting displaced it
		// and it is empty.
		_ = s.set(c, g.text)
		c.values = append(c.values, Value{Key: s.key, Value: s.shown(g.text), Source: g.source})
	}
	l.readDefaultURL(c)
	c.Warnings = l.warnings
	if err := issues(l.issues); err != nil {
		return nil, err
	}
	return c, nil
}

// winner returns the heaviest valid value of a setting and records the issues of
// the invalid ones.
func (l *loader) winner(s *setting) *given {
	best := &given{text: s.standard, source: "default"}
	for _, g := range l.found[s.key] {
		if s.path {
			g.text = l.resolvePath(g)
		}
		if err := s.set(new(Config), g.text); err != nil {
			l.issue(g.source, s.key, "%v", err)
			continue
		}
		best = &g
	}
	if s.key == "store-dir" && best.text == "" {
		best.text = l.stateDir()
	}
	return best
}

func (l *loader) resolvePath(g given) string {
	base := ""
	if g.layer == layerFile {
		base = filepath.Dir(l.file)
	}
	return l.resolve(g.text, base)
}

func (l *loader) stateDir() string {
	dir := l.userDir("XDG_STATE_HOME", filepath.Join(".local", "state"))
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "rebound")
}

func (l *loader) readDefaultURL(c *Config) {
	text := l.environ["NATS_URL"]
	if text == "" || !c.Embedded() {
		return
	}
	var urls []URL
	if err := setURLs(&urls, text); err != nil {
		l.issue("NATS_URL", "", "%v", err)
	}
	c.defaultURLs = urls
}
