package layout

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// caseBlind are the places that may read a header by its exact name: the package that does so in
// any letter case, and one that reads HTTP headers, whose names have one spelling.
var caseBlind = []string{"events/wire/", "client/reply.go"}

// apart are no part of the product: measurements, users' programs and those that stand for them,
// test machinery.
var apart = []string{"bench/", "client/examples/", "internal/chaos/", "internal/crash/", "internal/demo/", "internal/testkit/"}

// headerName matches an expression that names a header.
var headerName = regexp.MustCompile(`(?i)^(\w+\.)?(\w*header\w*)$|^"(ce|content|kv|nats|retry)-[a-z-]+"$`)

// TestHeaders_AreReadInAnyLetterCaseEverywhere looks for code that reads a NATS header by the
// exact spelling of its name. NATS keeps the spelling of the sender, so wire.HeaderValue must
// read it.
func TestHeaders_AreReadInAnyLetterCaseEverywhere(t *testing.T) {
	files := 0
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, "../../"))
		if slices.ContainsFunc(slices.Concat(caseBlind, apart), func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			return nil
		}
		files++
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, pos := range exactReads(file) {
			t.Errorf("%s:%d reads a header by the exact spelling of its name, want wire.HeaderValue", name, set.Position(pos).Line)
		}
		return nil
	})
	if err != nil || files < 200 {
		t.Fatalf("looked at %d files, %v, want at least 200", files, err)
	}
}

// exactReads returns where a file reads headers by their exact names.
func exactReads(file *ast.File) (reads []token.Pos) {
	written := make(map[ast.Expr]bool)
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				written[left] = true
			}
		case *ast.IndexExpr:
			if !written[n] && isHeaderName(n.Index) {
				reads = append(reads, n.Pos())
			}
		case *ast.CallExpr:
			selector, ok := n.Fun.(*ast.SelectorExpr)
			if ok && (selector.Sel.Name == "Get" || selector.Sel.Name == "Values") && len(n.Args) == 1 && isHeaderName(n.Args[0]) {
				reads = append(reads, n.Pos())
			}
		}
		return true
	})
	return reads
}

func isHeaderName(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return headerName.MatchString(e.Name)
	case *ast.BasicLit:
		return headerName.MatchString(e.Value)
	case *ast.SelectorExpr:
		return headerName.MatchString(fmt.Sprint(e.X) + "." + e.Sel.Name)
	}
	return false
}

func TestExactReads_AreFoundInEachForm(t *testing.T) {
	const source = `package x
func f() {
	_ = m.Header.Get(events.HeaderID)
	_ = r.Headers().Get("Nats-Msg-Id")
	_ = h.Values(headerPending)
	_, ok := m.Header[jetstream.MsgIDHeader]
	m.Header[events.HeaderID] = []string{m.Header["ce-id"][0]}
	_, _, _ = wire.HeaderValue(h, events.HeaderID), settings.Get("nats"), all[i]
}`
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "x.go", source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var lines []int
	for _, pos := range exactReads(file) {
		lines = append(lines, set.Position(pos).Line)
	}
	if want := []int{3, 4, 5, 6, 7}; !slices.Equal(lines, want) {
		t.Errorf("found reads in lines %v, want %v", lines, want)
	}
}
