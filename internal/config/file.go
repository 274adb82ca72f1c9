package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// readYAML records the settings of a configuration file. Values are taken as
// written, so `http: off` and `replicas: 03` mean the same as in a flag.
func (l *loader) readYAML(path string, text []byte) {
	root, err := parseYAML(text)
	if err != nil {
		l.issues = append(l.issues, yamlIssue(path, err))
		return
	}
	if root == nil {
		return
	}
	if root.Kind != yaml.MappingNode {
		l.issue(at(path, root), "", "the file is not a list of settings, such as \"listen: 127.0.0.1:4222\"")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if line, twice := seen[key.Value]; twice {
			l.issue(at(path, key), key.Value, "it is set twice, first in line %d", line)
			continue
		}
		seen[key.Value] = key.Line
		l.readEntry(path, key, value)
	}
}

func (l *loader) readEntry(path string, key, value *yaml.Node) {
	s := settingByKey(key.Value)
	if s == nil {
		l.issue(at(path, key), key.Value, "no setting has this name%s",
			didYouMean(key.Value, settingNames(func(s *setting) string { return s.key })))
		return
	}
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	if value.Kind == yaml.ScalarNode && value.ShortTag() == "!!null" {
		return
	}
	text, ok := scalarText(s, value)
	if !ok {
		l.issue(at(path, value), s.key, "it takes a single value")
		return
	}
	l.add(s.key, given{text: text, layer: layerFile, source: at(path, value)})
}

// scalarText returns the text of a value. Only the list of servers may be
// written as a list.
func scalarText(s *setting, n *yaml.Node) (string, bool) {
	if n.Kind == yaml.ScalarNode {
		return strings.TrimRight(n.Value, "\r\n"), true
	}
	if n.Kind != yaml.SequenceNode || s.key != "nats" {
		return "", false
	}
	var parts []string
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode {
			return "", false
		}
		parts = append(parts, item.Value)
	}
	return strings.Join(parts, ","), true
}

// parseYAML returns the root of the only document, or nil when there is none.
func parseYAML(text []byte) (*yaml.Node, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	var doc, second yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := loader.Load(&second); err == nil {
		return nil, errors.New("it holds more than one document")
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	root := doc.Content[0]
	if root.ShortTag() == "!!null" {
		return nil, nil
	}
	return root, nil
}

// anchorName matches the part of the parser's messages that quotes the file. It
// may be a password that begins with an asterisk.
var anchorName = regexp.MustCompile(`anchor '[^']*'`)

func yamlIssue(path string, err error) Issue {
	issue := Issue{Source: path, Problem: "it is not YAML: " + err.Error()}
	var load *yaml.LoadError
	if errors.As(err, &load) {
		issue.Problem = "it is not YAML: " + load.Message
		if load.Mark.Line > 0 {
			issue.Source = fmt.Sprintf("%s:%d:%d", path, load.Mark.Line, load.Mark.Column)
		}
	}
	issue.Problem = anchorName.ReplaceAllString(issue.Problem, "anchor (quote a value that begins with *)")
	return issue
}

func at(path string, n *yaml.Node) string { return fmt.Sprintf("%s:%d:%d", path, n.Line, n.Column) }
