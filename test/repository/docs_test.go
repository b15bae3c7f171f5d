package repository_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/postgres/postgrestest"
)

// TestMain runs the tests in the root of the repository.
func TestMain(m *testing.M) {
	if err := os.Chdir("../.."); err != nil {
		fmt.Fprintln(os.Stderr, "before the tests:", err)
		os.Exit(1)
	}
	postgrestest.Main(m)
}

// TestNamedTestsExist checks that each test that a document names exists, in the package that the
// line names before it, if any. A name that ends in … stands for all tests whose names begin with
// it.
func TestNamedTestsExist(t *testing.T) {
	t.Parallel()
	tests := testNames(t)
	pages := pages(t)
	code := regexp.MustCompile("`([^`]+)`")
	test := regexp.MustCompile(`^(?:Test|Fuzz)[A-Z]\w*…?$`)
	named := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			in := ""
			for _, match := range code.FindAllStringSubmatch(line, -1) {
				name := strings.TrimPrefix(match[1], "internal/")
				if name == "cmd" {
					name = "cmd/bulkinvite"
				}
				if tests[name] != "" {
					in = name
				}
				if !test.MatchString(name) {
					continue
				}
				named++
				start, many := strings.CutSuffix(name, "…")
				if !many {
					start += "\n"
				}
				exists := strings.Contains(tests[in], "\n"+start)
				for _, names := range tests {
					exists = exists || in == "" && strings.Contains(names, "\n"+start)
				}
				if !exists {
					t.Errorf("%s names %s %s, which does not exist", page, in, name)
				}
			}
		}
	}
	if named < 100 {
		t.Errorf("the documents name %d tests", named)
	}
}

// pages returns the paths of the documents.
func pages(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir("docs", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// testNames returns the names of all tests by directory, one name per line.
func testNames(t *testing.T) map[string]string {
	t.Helper()
	names := map[string]string{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w*)\(`)
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, match := range function.FindAllStringSubmatch(string(text), -1) {
			dir := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "internal/")
			names[dir] = cmp.Or(names[dir], "\n") + match[1] + "\n"
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestLinksLeadSomewhere checks that the relative links of the documents lead to existing files.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	for _, file := range pages(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

// TestEveryColumnHasAComment checks that each column has a comment in the database, for users who
// query it without docs/tables.md at hand.
func TestEveryColumnHasAComment(t *testing.T) {
	t.Parallel()
	rows, err := postgrestest.New(t).Query(t.Context(), `
		select c.relname || '.' || a.attname from pg_class c
		join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
		where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname !~ '^(river|goose)'
		  and a.attname <> 'instance_id' and col_description(c.oid, a.attnum) is null`)
	if err != nil {
		t.Fatal(err)
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if len(missing) > 0 {
		t.Errorf("these columns have no comment: %v", missing)
	}
}

// TestGlossaryNames checks that each identifier and each column that the glossary names exists.
func TestGlossaryNames(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/glossary.md")
	if err != nil {
		t.Fatal(err)
	}
	pool := postgrestest.New(t)
	rows, _ := pool.Query(t.Context(), `
		select table_name || '.' || column_name from information_schema.columns where table_schema = 'public'`)
	columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string][]string{} // by package
	identifier := regexp.MustCompile(`^([a-z]+)\.([A-Z]\w*)`)
	column := regexp.MustCompile(`^[a-z_]+\.[a-z_]+`)
	named := 0
	for _, match := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(string(text), -1) {
		if name := identifier.FindStringSubmatch(match[1]); name != nil {
			if declared[name[1]] == nil {
				declared[name[1]] = declarations(t, name[1])
			}
			if !slices.Contains(declared[name[1]], name[2]) {
				t.Errorf("docs/glossary.md names %s, which does not exist", match[1])
			}
			named++
		} else if name := column.FindString(match[1]); name != "" && !strings.HasSuffix(name, ".go") {
			if !slices.Contains(columns, name) {
				t.Errorf("docs/glossary.md names the column %s, which does not exist", name)
			}
			named++
		}
	}
	if named < 50 {
		t.Errorf("the glossary names %d identifiers and columns, which can't be all", named)
	}
}

// declarations returns the names that a package declares at its top level, without its tests.
func declarations(t *testing.T, dir string) (names []string) {
	t.Helper()
	if _, err := os.Stat(dir); err != nil {
		dir = filepath.Join("internal", dir)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range tree.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				names = append(names, d.Name.Name)
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						names = append(names, s.Name.Name)
					case *ast.ValueSpec:
						for _, n := range s.Names {
							names = append(names, n.Name)
						}
					}
				}
			}
		}
	}
	return names
}
