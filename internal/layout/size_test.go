package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
)

const (
	// mostFiles is how many files a package may have, besides its tests and doc.go.
	mostFiles = 16
	// mostFields is how many fields a struct may have that does more than hold data.
	mostFields = 20
)

// source is one file that is no test.
type source struct {
	folder, name string
	file         *ast.File
}

// sources parses the files of the module that are no tests.
func sources(t *testing.T) (all []source, positions *token.FileSet) {
	t.Helper()
	root, positions := os.DirFS("../.."), token.NewFileSet()
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (name != "." && strings.HasPrefix(entry.Name(), ".") || entry.Name() == "node_modules" || entry.Name() == "testdata"):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(positions, name, text, parser.SkipObjectResolution)
		all = append(all, source{folder: path.Dir(name), name: path.Base(name), file: file})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, positions
}

func TestPackages_AreSmallEnoughToBeOneIdea(t *testing.T) {
	all, _ := sources(t)
	files := make(map[string]int)
	for _, s := range all {
		if s.name != "doc.go" {
			files[s.folder]++
		}
	}
	for folder, n := range files {
		// A public package cannot be cut without its users noticing.
		if n > mostFiles && folder != "client" {
			t.Errorf("package %s has %d files, more than the %d that one idea needs", folder, n, mostFiles)
		}
	}
}

// data are structs that hold data although they have fields that others do not see.
var data = map[string]string{
	"internal/config.Config": "the settings, and where each was set",
}

// fieldsOf counts the fields of a struct, and those that other packages do not see.
func fieldsOf(s *ast.StructType) (n, unexported int) {
	for _, f := range s.Fields.List {
		n += max(len(f.Names), 1)
		for _, name := range f.Names {
			if !name.IsExported() {
				unexported++
			}
		}
	}
	return n, unexported
}

func TestStructs_ThatDoMoreThanHoldDataAreSmall(t *testing.T) {
	all, positions := sources(t)
	for _, s := range all {
		ast.Inspect(s.file, func(node ast.Node) bool {
			spec, ok := node.(*ast.TypeSpec)
			if !ok {
				return true
			}
			body, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			if n, unexported := fieldsOf(body); n > mostFields && unexported > 0 && data[s.folder+"."+spec.Name.Name] == "" {
				t.Errorf("%s: struct %s has %d fields, more than %d, and is not data alone: %d are unexported", positions.Position(spec.Pos()), spec.Name, n, mostFields, unexported)
			}
			return true
		})
	}
}
