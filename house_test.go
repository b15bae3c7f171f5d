// Package house_test checks rules about the whole repository: the direction of imports, the
// documents, the compose file and the Kubernetes manifests.
package house_test

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
	oneWay = "imports go cmd -> web -> importer -> jobs -> {invitation, clerk, ratelimit}"
)

// mayImport has the packages of this module that each package may import. "cmd" is for all packages
// in cmd. A package that is missing here fails the test.
var mayImport = map[string][]string{
	"cmd":                       {"web", "words", "metrics", "importer", "jobs", "invitation", "clerk", "clerk/sandbox", "ratelimit", "postgres", "migrations", "internal/rig", "internal/loopback"},
	"web":                       {"words", "importer", "jobs", "invitation", "clerk", "ratelimit"},
	"web/openidtest":            {},
	"words":                     {"importer", "invitation", "ratelimit"},
	"metrics":                   {"jobs", "invitation", "clerk", "ratelimit"},
	"importer":                  {"jobs", "invitation", "clerk", "ratelimit"},
	"jobs":                      {"invitation", "clerk", "ratelimit", "internal/lease", "internal/files", "internal/loopback"},
	"invitation":                {"ratelimit", "internal/lease", "internal/null"},
	"internal/expect":           {},
	"internal/files":            {},
	"internal/lease":            {},
	"internal/loopback":         {},
	"internal/must":             {},
	"internal/null":             {},
	"internal/rig":              {"postgres", "web"},
	"ratelimit":                 {},
	"clerk":                     {"internal/loopback"},
	"clerk/sandbox":             {"internal/loopback"},
	"clerk/sandbox/sandboxtest": {"clerk/sandbox"},
	"postgres":                  {"internal/files"},
	"postgres/postgrestest":     {"postgres", "migrations"},
	"migrations":                {},
	"test/contract":             {},
	"test/e2e":                  {"internal/rig", "invitation"},
	"test/simulation":           {"importer", "jobs", "invitation"},
	".":                         {},
}

// testsMayImport has the packages that the tests of any package may import in addition: what tests
// are built on. None of them contains the program's own use cases.
var testsMayImport = []string{"internal/expect", "internal/must", "postgres/postgrestest", "web/openidtest", "postgres", "migrations", "clerk", "clerk/sandbox", "clerk/sandbox/sandboxtest", "ratelimit"}

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
	for _, name := range []string{"cmd/bulkinvite", "importer", "jobs", "invitation", "clerk", "ratelimit", "postgres"} {
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
		{"cmd/bulkinvite/a.go", `import ("bulkinvite/jobs"; "bulkinvite/clerk/sandbox")`, ""},
		{"web/a.go", `import "bulkinvite/importer"`, ""},
		{"jobs/a_test.go", `import ("bulkinvite/postgres/postgrestest"; "bulkinvite/clerk/sandbox")`, ""},
		{"clerk/a_test.go", `import "bulkinvite/clerk"`, ""},
		{"jobs/a.go", `import "github.com/riverqueue/river"`, ""},
		{"jobs/testdata/a.go", `import "bulkinvite/web"`, ""},
		{"jobs/a.go", `import "bulkinvite/importer"`, "jobs must not import importer: " + oneWay},
		{"invitation/a.go", `import j "bulkinvite/jobs"`, "invitation must not import jobs: " + oneWay},
		{"ratelimit/a.go", `import "bulkinvite/invitation"`, "ratelimit must not import invitation"},
		{"clerk/a.go", `import "bulkinvite/invitation"`, "clerk must not import invitation"},
		{"importer/a.go", `import "bulkinvite/web"`, "importer must not import web"},
		{"importer/a_test.go", `import "bulkinvite/web"`, "importer must not import web"},
		{"jobs/a.go", `import "bulkinvite/postgres"`, "jobs must not import postgres: "},
		{"jobs/a.go", `import "bulkinvite/clerk/sandbox"`, "jobs must not import clerk/sandbox"},
		{"cmd/bulkinvite/a.go", `import "bulkinvite/postgres/postgrestest"`, "cmd/bulkinvite must not import postgres/postgrestest"},
		{"web/a_test.go", `import "bulkinvite/cmd/bulkinvite"`, "web must not import cmd/bulkinvite"},
		{"jobs/a_windows.go", `import "bulkinvite/web"`, "jobs must not import web"},
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
