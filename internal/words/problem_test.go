package words

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bulkinvite/importer"
)

// TestEveryProblemHasWords reads the codes where they are written, so that none is
// forgotten: each has words of its own, that are no code.
func TestEveryProblemHasWords(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "../../importer/problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/files.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 || !spec.Names[0].IsExported() {
			return true
		}
		code, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		said := Problems[code]
		if said == "" || strings.Contains(said, "_") || seen[said] != "" {
			t.Errorf("%s is said as %q, as is %q", code, said, seen[said])
		}
		seen[said] = code
		if !slices.ContainsFunc(strings.Split(string(page), "\n"), func(line string) bool {
			return strings.Contains(line, "`"+code+"`") && strings.Contains(line, said)
		}) {
			t.Errorf("docs/files.md does not say of %s: %s", code, said)
		}
		return true
	})
	if len(seen) != len(Problems) {
		t.Errorf("%d codes, words for %d", len(seen), len(Problems))
	}
	if Reason(importer.NoAt) != Problems[importer.NoAt] || Reason("other") != "other" {
		t.Errorf("%q, %q", Reason(importer.NoAt), Reason("other"))
	}
}
