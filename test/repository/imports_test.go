// Package repository_test checks rules about the whole repository: the direction of imports, the
// documents, the compose file and the Kubernetes manifests.
package repository_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const (
	module = "bulkinvite"
	oneWay = "imports go down, as docs/architecture.md shows"
)

// mayImport has the packages of this module that each package may import. "cmd" is for all packages
// in cmd. A package that is missing here fails the test.
var mayImport = map[string][]string{
	"cmd": {"importer", "jobs", "ratelimit", "migrations", "internal/app", "internal/batch", "internal/clerk", "internal/clerk/sandbox",
		"internal/erased", "internal/invitation", "internal/ledger", "internal/loopback", "internal/metrics", "internal/postgres",
		"internal/proof", "internal/report", "internal/revocation", "internal/rig", "internal/web", "internal/words"},
	"internal/web": {"importer", "jobs", "ratelimit", "internal/app", "internal/batch", "internal/clerk", "internal/event",
		"internal/invitation", "internal/ledger", "internal/report", "internal/revocation", "internal/words"},
	"internal/words": {"importer", "ratelimit", "internal/invitation", "internal/ledger", "internal/report", "internal/revocation"},
	"internal/app": {"importer", "jobs", "ratelimit", "internal/batch", "internal/clerk", "internal/invitation", "internal/ledger",
		"internal/proof", "internal/report", "internal/revocation"},
	"internal/metrics": {"jobs", "ratelimit", "internal/clerk", "internal/invitation", "internal/report"},
	"importer":         {"internal/batch", "internal/erased", "internal/invitation"},
	"jobs": {"ratelimit", "internal/batch", "internal/clerk", "internal/db", "internal/erased", "internal/files", "internal/invitation",
		"internal/lease", "internal/ledger", "internal/loopback", "internal/proof", "internal/report", "internal/revocation"},

	"internal/report": {"ratelimit", "internal/batch", "internal/db", "internal/erased", "internal/event", "internal/invitation",
		"internal/ledger", "internal/proof", "internal/revocation"},
	"internal/proof": {"internal/batch", "internal/db", "internal/erased", "internal/event", "internal/invitation",
		"internal/lease", "internal/ledger"},
	"internal/revocation": {"internal/db", "internal/erased", "internal/event", "internal/invitation", "internal/lease", "internal/ledger"},
	"internal/batch":      {"internal/db", "internal/erased", "internal/event", "internal/invitation", "internal/lease", "internal/ledger"},
	"internal/ledger":     {"ratelimit", "internal/db", "internal/erased", "internal/invitation", "internal/lease"},
	"internal/erased":     {"internal/db", "internal/invitation"},
	"internal/event":      {},
	"internal/invitation": {"ratelimit"},
	"ratelimit":           {},

	"internal/clerk":         {"internal/loopback"},
	"internal/clerk/sandbox": {"internal/loopback"},
	"internal/db":            {},
	"internal/files":         {},
	"internal/lease":         {},
	"internal/loopback":      {},
	"internal/postgres":      {"internal/files"},
	"migrations":             {},

	// Packages for tests and measurements.
	"internal/clerk/sandbox/sandboxtest": {"internal/clerk/sandbox"},
	"internal/expect":                    {},
	"internal/ledger/ledgertest": {"internal/batch", "internal/clerk", "internal/invitation", "internal/ledger", "internal/must",
		"internal/postgres/postgrestest"},
	"internal/must":                  {},
	"internal/postgres/postgrestest": {"internal/postgres", "migrations"},
	"internal/rig":                   {"internal/postgres", "internal/web"},
	"internal/web/openidtest":        {},
	"test/contract":                  {},
	"test/e2e":                       {"internal/rig", "internal/invitation"},
	"test/repository":                {},
	"test/simulation":                {"importer", "jobs", "internal/invitation", "internal/proof", "internal/revocation"},
}

// testsMayImport has the packages that the tests of any package may import in addition: what tests
// are built on. None of them contains the program's own use cases.
var testsMayImport = []string{"ratelimit", "migrations", "internal/clerk", "internal/clerk/sandbox", "internal/clerk/sandbox/sandboxtest",
	"internal/batch", "internal/expect", "internal/ledger", "internal/ledger/ledgertest", "internal/must", "internal/postgres", "internal/postgres/postgrestest",
	"internal/report", "internal/web/openidtest"}

func TestImportsGoOneWay(t *testing.T) {
	t.Parallel()
	problems, seen, err := importProblems(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
	// If no file was read, the test would pass too.
	for _, name := range []string{"cmd/bulkinvite", "importer", "jobs", "internal/invitation", "internal/ledger", "ratelimit"} {
		if !slices.Contains(seen, name) {
			t.Errorf("the rule found no Go file in %s", name)
		}
	}
}

// TestImportRuleFindsPlantedImports proves that the rule can fail.
func TestImportRuleFindsPlantedImports(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file, text string
		want       string // part of the only problem; empty if there must be none
	}{
		{"cmd/bulkinvite/a.go", `import ("bulkinvite/jobs"; "bulkinvite/internal/clerk/sandbox")`, ""},
		{"internal/web/a.go", `import "bulkinvite/importer"`, ""},
		{"jobs/a_test.go", `import ("bulkinvite/internal/postgres/postgrestest"; "bulkinvite/internal/clerk/sandbox")`, ""},
		{"internal/clerk/a_test.go", `import "bulkinvite/internal/clerk"`, ""},
		{"jobs/a.go", `import "github.com/riverqueue/river"`, ""},
		{"jobs/testdata/a.go", `import "bulkinvite/internal/web"`, ""},
		{"jobs/a.go", `import "bulkinvite/importer"`, "jobs must not import importer: " + oneWay},
		{"jobs/a.go", `import "bulkinvite/internal/app"`, "jobs must not import internal/app: " + oneWay},
		{"internal/invitation/a.go", `import j "bulkinvite/internal/ledger"`, "internal/invitation must not import internal/ledger: " + oneWay},
		{"ratelimit/a.go", `import "bulkinvite/internal/invitation"`, "ratelimit must not import internal/invitation"},
		{"internal/clerk/a.go", `import "bulkinvite/internal/invitation"`, "internal/clerk must not import internal/invitation"},
		{"importer/a.go", `import "bulkinvite/internal/web"`, "importer must not import internal/web"},
		{"importer/a_test.go", `import "bulkinvite/internal/web"`, "importer must not import internal/web"},
		{"jobs/a.go", `import "bulkinvite/internal/postgres"`, "jobs must not import internal/postgres: "},
		{"jobs/a.go", `import "bulkinvite/internal/clerk/sandbox"`, "jobs must not import internal/clerk/sandbox"},
		{"cmd/bulkinvite/a.go", `import "bulkinvite/internal/must"`, "cmd/bulkinvite must not import internal/must"},
		{"internal/web/a_test.go", `import "bulkinvite/cmd/bulkinvite"`, "internal/web must not import cmd/bulkinvite"},
		{"jobs/a_windows.go", `import "bulkinvite/internal/web"`, "jobs must not import internal/web"},
		{"helper/a.go", `import "fmt"`, "helper has no place"},
	} {
		t.Run(c.file+" "+c.text, func(t *testing.T) {
			t.Parallel()
			tree := fstest.MapFS{c.file: {Data: []byte("package a\n" + c.text + "\n")}}
			problems, _, err := importProblems(tree)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.want == "" && len(problems) > 0:
				t.Errorf("got %q, want no problem", problems)
			case c.want != "" && (len(problems) != 1 || !strings.Contains(problems[0], c.want)):
				t.Errorf("got %q, want one with %q", problems, c.want)
			}
		})
	}
}

// importProblems parses every Go file below tree, for every operating system. It returns the
// forbidden imports and the packages that it found.
func importProblems(tree fs.FS) (problems, seen []string, err error) {
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			if name != "." && (base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		found, err := fileProblems(tree, name)
		problems = append(problems, found...)
		seen = append(seen, path.Dir(name))
		return err
	})
	slices.Sort(problems)
	slices.Sort(seen)
	return slices.Compact(problems), slices.Compact(seen), err
}

func fileProblems(tree fs.FS, name string) ([]string, error) {
	from := path.Dir(name)
	place := from
	if strings.HasPrefix(from, "cmd/") {
		place = "cmd"
	}
	allowed, ok := mayImport[place]
	if !ok {
		return []string{from + " has no place: say in mayImport what it may import; " + oneWay}, nil
	}
	if strings.HasSuffix(name, "_test.go") {
		allowed = append(slices.Clone(testsMayImport), allowed...)
		allowed = append(allowed, from)
	}
	text, err := fs.ReadFile(tree, name)
	if err != nil {
		return nil, fmt.Errorf("read imports: %w", err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
	if err != nil {
		return nil, fmt.Errorf("read imports: %w", err)
	}
	var problems []string
	for _, spec := range file.Imports {
		full, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("read imports of %s: %w", name, err)
		}
		to, ours := strings.CutPrefix(full, module+"/")
		if ours && !slices.Contains(allowed, to) {
			problems = append(problems, fmt.Sprintf("%s must not import %s: %s (%s)", from, to, oneWay, name))
		}
	}
	return problems, nil
}

// TestNoGoroutines checks that the packages that the Makefile tests without the race detector start
// no goroutine.
func TestNoGoroutines(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	_, list, found := strings.Cut(string(makefile), "\nSEQUENTIAL = ")
	if !found {
		t.Fatal("the Makefile has no SEQUENTIAL")
	}
	list, _, _ = strings.Cut(list, "\n")
	for _, name := range strings.Fields(list) {
		files, err := fs.Glob(os.DirFS(strings.TrimPrefix(name, module+"/")), "*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no Go file: %v", name, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			at := path.Join(strings.TrimPrefix(name, module+"/"), file)
			set := token.NewFileSet()
			tree, err := parser.ParseFile(set, at, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(tree, func(n ast.Node) bool {
				if begun, ok := n.(*ast.GoStmt); ok {
					t.Errorf("%s starts a goroutine: take %s off SEQUENTIAL in the Makefile", set.Position(begun.Pos()), name)
				}
				if method, ok := n.(*ast.SelectorExpr); ok && method.Sel.Name == "Go" {
					t.Errorf("%s may start a goroutine: take %s off SEQUENTIAL in the Makefile", set.Position(method.Pos()), name)
				}
				return true
			})
		}
	}
}
