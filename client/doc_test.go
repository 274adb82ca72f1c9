package client_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/client"
)

func Example() {
	ctx := context.Background()
	c, err := client.New(ctx, client.Config{}) // Config{Conn: nc} follows the service's policies
	if err != nil {
		log.Fatal(err)
	}
	charge := &client.Call{Service: "billing", Operation: "charge"}
	conn, err := client.Execute(ctx, c, charge, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", "cards.example.com:443")
	})
	fmt.Println(conn, err)
}

func TestDoc_BeginsWithTheLinesOfTheExample(t *testing.T) {
	fset := token.NewFileSet()
	doc, err := parser.ParseFile(fset, "doc.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var printed []string
	for line := range strings.Lines(doc.Doc.Text()) {
		code, ok := strings.CutPrefix(line, "\t")
		if ok {
			printed = append(printed, code)
		} else if len(printed) > 0 {
			break
		}
	}
	if len(printed) != 10 {
		t.Errorf("the package comment begins with %d lines of code, want 10", len(printed))
	}
	if got, want := strings.Join(printed, ""), exampleBody(t, fset); got != want {
		t.Errorf("the package comment begins with\n%s\nwant what Example compiles:\n%s", got, want)
	}
}

// exampleBody returns the lines of the function Example in this file.
func exampleBody(t *testing.T, fset *token.FileSet) string {
	t.Helper()
	source, err := os.ReadFile("doc_test.go")
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(fset, "doc_test.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Name.Name == "Example" {
			body := string(source[fset.Position(f.Body.Lbrace).Offset+2 : fset.Position(f.Body.Rbrace).Offset])
			return strings.ReplaceAll("\n"+body, "\n\t", "\n")[1:]
		}
	}
	t.Fatal("there is no function Example")
	return ""
}
