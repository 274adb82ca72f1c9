package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// maxDepth is how deep a policy file may be nested. The deepest valid value is the
// code of a rule.
const maxDepth = 32

// document returns the root of the file's one document, or nil when there is
// none or it has issues.
func (p *parser) document(src []byte) *yaml.Node {
	if !p.plainText(src) {
		return nil
	}
	loader, err := yaml.NewLoader(bytes.NewReader(src), yaml.WithV4Defaults(), yaml.WithUniqueKeys(false),
		yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		p.reportAt(0, 0, "", "cannot be read: "+err.Error(), "")
		return nil
	}
	var document yaml.Node
	switch err := loader.Load(&document); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		p.syntax(src, err)
		return nil
	}
	var next yaml.Node
	switch err := loader.Load(&next); {
	case err == nil:
		p.reportAt(next.Line, next.Column, "", "a second document begins", "a policy file is one document")
	case !errors.Is(err, io.EOF):
		p.syntax(src, err)
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil
	}
	p.plainNodes(root, "")
	return root
}

// plainText reports a file that is too large or not text.
func (p *parser) plainText(src []byte) bool {
	if len(src) > MaxSource {
		p.reportAt(0, 0, "", fmt.Sprintf("is larger than the %d bytes allowed", MaxSource), "")
		return false
	}
	line, column := 1, 1
	for rest := src; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && n == 1:
			p.reportAt(line, column, "", fmt.Sprintf("has the byte 0x%02x, which is not UTF-8", rest[0]), "")
			return false
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f:
			p.reportAt(line, column, "", fmt.Sprintf("has the control character %U", r), "")
			return false
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
		rest = rest[n:]
	}
	return true
}

// syntax reports what the YAML library says of the file.
func (p *parser) syntax(src []byte, err error) {
	var e *yaml.LoadError
	if !errors.As(err, &e) {
		p.reportAt(0, 0, "", "is not valid YAML: "+oneLine(err.Error()), "")
		return
	}
	line, column := e.Mark.Line, e.Mark.Column
	lines := bytes.Split(src, []byte("\n"))
	if line >= 1 && line <= len(lines) && bytes.HasPrefix(bytes.TrimLeft(lines[line-1], " "), []byte("\t")) {
		p.reportAt(line, column, "", "is not valid YAML: the line begins with a tab", "indent with spaces")
		return
	}
	said := oneLine(e.Message)
	if e.ContextMsg != "" {
		said += " " + oneLine(e.ContextMsg)
	}
	p.reportAt(line, column, "", "is not valid YAML: "+said, "")
}

// oneLine returns s without line breaks, clipped, because it may quote the file.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// plainNodes reports YAML that policy files may not use: anchors, aliases, merge
// keys, tags, and keys that are not text.
func (p *parser) plainNodes(node *yaml.Node, path string) {
	const layers = "what services share stands under default"
	switch {
	case node.Kind == yaml.AliasNode:
		p.report(node, path, "is an alias; policy files have none", layers)
		return
	case node.Anchor != "":
		p.report(node, path, "has an anchor; policy files have none", layers)
	case node.Style&yaml.TaggedStyle != 0:
		p.report(node, path, "has the tag "+oneLine(node.Tag)+"; policy files have none", "")
	}
	for i, child := range node.Content {
		switch {
		case node.Kind != yaml.MappingNode:
			p.plainNodes(child, fmt.Sprintf("%s[%d]", path, i))
		case i%2 == 1:
			p.plainNodes(child, entry{name: node.Content[i-1].Value}.path(path))
		case child.Kind == yaml.ScalarNode && child.ShortTag() == "!!merge":
			p.report(child, path, "has the merge key <<; policy files have none", layers)
		default:
			p.plainNodes(child, path)
		}
	}
}

// entry is a key of a mapping and its value.
type entry struct {
	name       string
	key, value *yaml.Node
}

// path returns the path of the entry under that of its mapping. Unusual names are
// quoted, so that a path is one line and its dots separate names only.
func (e entry) path(of string) string {
	name := e.name
	if name == "" || len(name) > 80 || strings.ContainsFunc(name, notPlain) {
		name = fmt.Sprintf("%q", short(name))
	}
	if of == "" {
		return name
	}
	return of + "." + name
}

func notPlain(r rune) bool { return r == ' ' || r == '.' || r == '"' || !unicode.IsPrint(r) }

// entries returns the entries of a mapping in order. It reports a node that is not a
// mapping, and duplicate names.
func (p *parser) entries(node *yaml.Node, path string) []entry {
	switch {
	case node.Kind == yaml.AliasNode:
		return nil // reported by plainNodes
	case node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null":
		p.report(node, path, "has nothing under it", "")
		return nil
	case node.Kind != yaml.MappingNode:
		p.report(node, path, "is not a mapping of keys to values", "")
		return nil
	}
	entries := make([]entry, 0, len(node.Content)/2)
	first := make(map[string]int, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content); i += 2 {
		e := entry{node.Content[i].Value, node.Content[i], node.Content[i+1]}
		if e.key.Kind != yaml.ScalarNode {
			p.report(e.key, path, "has a key that is no text", "")
			continue
		}
		if line, ok := first[e.name]; ok {
			p.report(e.key, e.path(path), fmt.Sprintf("stands on line %d already", line), "")
			continue
		}
		first[e.name] = e.key.Line
		entries = append(entries, e)
	}
	return entries
}

// find returns the value of a name in a mapping, or nil.
func find(node *yaml.Node, name string) *yaml.Node {
	if node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return node.Content[i+1]
		}
	}
	return nil
}

// report reports an issue at node.
func (p *parser) report(node *yaml.Node, key, problem, hint string) {
	p.reportAt(node.Line, node.Column, key, problem, hint)
}
