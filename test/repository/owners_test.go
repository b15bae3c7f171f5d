package repository_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// A write is one kind of change of a table: "insert T", "delete T" or "update T.column".
type write = string

// writers has the packages that do each write.
type writers map[write][]string

func (w writers) add(what write, who string) {
	if !slices.Contains(w[what], who) {
		w[what] = append(w[what], who)
	}
}

// notThisProgram has the packages that write rows for tests and measurements.
var notThisProgram = regexp.MustCompile(`^(cmd/(bench|chaos)|internal/rig|test/|internal/clerk/sandbox)|test(/|$)`)

// printed is a statement that the program prints for a person.
const printed = "update instances set clerk_id = 'retired:'"

// TestTableOwners compares the statements in the program with the tables of docs/architecture.md,
// "Who writes each table".
func TestTableOwners(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	tables, columns := ownerTables(t, string(text))
	found, err := programWrites(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ownerProblems(tables, columns, found) {
		t.Error(p)
	}
	schema, err := schemaTables(os.DirFS("migrations"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range schema {
		if _, ok := tables[name]; !ok {
			t.Errorf("docs/architecture.md does not say who writes %s", name)
		}
	}
	if len(found) < 100 {
		t.Errorf("the test found only %d writes", len(found))
	}
}

// owned is a line of the first table of the document: the packages that insert, update and delete.
type owned struct{ insert, update, delete []string }

// ownerTables reads the two tables of the document: the owners of tables, and the columns that other
// packages update.
func ownerTables(t *testing.T, text string) (tables map[string]owned, columns map[string][]string) {
	t.Helper()
	_, section, found := strings.Cut(text, "\n## Who writes each table\n")
	if !found {
		t.Fatal("docs/architecture.md does not say who writes each table")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	tables, columns = map[string]owned{}, map[string][]string{}
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		for _, name := range list(cells[0]) {
			switch {
			case strings.Contains(name, ".") && len(cells) == 2:
				columns[name] = list(cells[1])
			case len(cells) == 4:
				tables[name] = owned{insert: list(cells[1]), update: list(cells[2]), delete: list(cells[3])}
			default:
				t.Errorf("docs/architecture.md: not a line about a table or a column: %s", line)
			}
		}
	}
	return tables, columns
}

// list splits a cell at its commas. What is in parentheses, or is not the name of a package, is left
// out.
func list(cell string) (names []string) {
	for name := range strings.SplitSeq(strings.ReplaceAll(cell, "`", ""), ",") {
		if name = strings.TrimSpace(name); name != "" && !strings.Contains(name, " ") {
			names = append(names, name)
		}
	}
	return names
}

// ownerProblems returns the writes that the document does not have, and those that only the document
// has.
func ownerProblems(tables map[string]owned, columns map[string][]string, found writers) (problems []string) {
	used := map[string]bool{} // the document's words that a statement needs
	for what, who := range found {
		kind, target, _ := strings.Cut(what, " ")
		table, _, _ := strings.Cut(target, ".")
		allowed, place := tables[table].insert, "insert "+table
		switch kind {
		case "update":
			if allowed, place = columns[target], "update "+target; allowed == nil {
				allowed, place = tables[table].update, "update "+table
			}
		case "delete":
			allowed, place = tables[table].delete, "delete "+table
		}
		for _, name := range who {
			used[place+" "+name] = true
			if !slices.Contains(allowed, name) {
				problems = append(problems, fmt.Sprintf("%s: %s does it, and docs/architecture.md has %v", what, name, allowed))
			}
		}
	}
	stale := func(place string, names []string) {
		for _, name := range names {
			if !used[place+" "+name] {
				problems = append(problems, fmt.Sprintf("docs/architecture.md: %s: %s has no such statement", place, name))
			}
		}
	}
	for name, o := range tables {
		stale("insert "+name, o.insert)
		stale("update "+name, o.update)
		stale("delete "+name, o.delete)
	}
	for name, who := range columns {
		stale("update "+name, who)
	}
	slices.Sort(problems)
	return problems
}

var createTable = regexp.MustCompile(`(?i)create table (?:if not exists )?([a-z_]+)`)

func schemaTables(tree fs.FS) (names []string, err error) {
	files, err := fs.Glob(tree, "*.sql")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := fs.ReadFile(tree, file)
		if err != nil {
			return nil, err
		}
		for _, m := range createTable.FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
	}
	return names, nil
}

// programWrites parses the program's Go files and returns the writes in their string literals, and
// the tables that they fill with CopyFrom.
func programWrites(tree fs.FS) (writers, error) {
	found := writers{}
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			if name != "." && (base == "testdata" || strings.HasPrefix(base, ".") || notThisProgram.MatchString(name)) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		who := strings.TrimPrefix(path.Dir(name), "internal/")
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BinaryExpr:
				if sql, ok := joined(n); ok {
					err = firstError(err, sqlWrites(found, who, sql))
					return false
				}
			case *ast.BasicLit:
				if sql, ok := joined(n); ok {
					err = firstError(err, sqlWrites(found, who, sql))
				}
			case *ast.CompositeLit:
				if s, ok := n.Type.(*ast.SelectorExpr); ok && s.Sel.Name == "Identifier" && len(n.Elts) == 1 {
					if table, ok := joined(n.Elts[0]); ok { // if not, it is a dump that is loaded
						found.add("insert "+table, who)
					}
				}
			}
			return true
		})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	return found, err
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// joined is the text of a string literal, or of several that are added. An expression that is not a
// literal becomes a question mark.
func joined(e ast.Expr) (text string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		left, one := joined(e.X)
		right, two := joined(e.Y)
		if !one {
			left = " ? "
		}
		if !two {
			right = " ? "
		}
		return left + right, one || two
	}
	return "", false
}

var (
	inserts = regexp.MustCompile(`(?i)\binsert\s+into\s+(\S+)`)
	deletes = regexp.MustCompile(`(?i)\bdelete\s+from\s+(?:only\s+)?(\S+)`)
	updates = regexp.MustCompile(`(?i)\bupdate\s+(?:only\s+)?([a-z_?]+)(?:\s+(?:as\s+)?[a-z_]+)?\s+set\s`)
	upserts = regexp.MustCompile(`(?i)\bdo\s+update\s+set\s`)
	others  = regexp.MustCompile(`(?i)\bmerge\s+into\b|\btruncate\s+(table\b|[a-z_]+\s*$)`)
	isName  = regexp.MustCompile(`^[a-z_][a-z0-9_]*`)
)

// sqlWrites adds the writes of SQL statements. It fails if it can't read which table or column one
// writes.
func sqlWrites(found writers, who, sql string) error {
	if strings.Contains(sql, printed) {
		return nil
	}
	if m := others.FindString(sql); m != "" {
		return fmt.Errorf("the test does not read %q", m)
	}
	for _, m := range inserts.FindAllStringSubmatchIndex(sql, -1) {
		table := isName.FindString(sql[m[2]:m[3]])
		if table == "" {
			return fmt.Errorf("no table in %q", sql[m[0]:m[1]])
		}
		found.add("insert "+table, who)
		rest := sql[m[1]:]
		if next := inserts.FindStringIndex(rest); next != nil {
			rest = rest[:next[0]]
		}
		if u := upserts.FindStringIndex(rest); u != nil {
			if err := updated(found, who, table, rest[u[1]:]); err != nil {
				return err
			}
		}
	}
	for _, m := range deletes.FindAllStringSubmatch(sql, -1) {
		table := isName.FindString(m[1])
		if table == "" {
			return fmt.Errorf("no table in %q", m[0])
		}
		found.add("delete "+table, who)
	}
	for _, m := range updates.FindAllStringSubmatchIndex(sql, -1) {
		if err := updated(found, who, sql[m[2]:m[3]], sql[m[1]:]); err != nil {
			return err
		}
	}
	return nil
}

// updated adds the columns that a list of assignments sets.
func updated(found writers, who, table, list string) error {
	for _, assignment := range assignments(list) {
		left, _, ok := strings.Cut(assignment, "=")
		for column := range strings.SplitSeq(strings.Trim(strings.TrimSpace(left), "()"), ",") {
			column = strings.TrimSpace(column)
			if !ok || column == "" || isName.FindString(column) != column || isName.FindString(table) != table {
				return fmt.Errorf("no column of %s in %q", table, assignment)
			}
			found.add("update "+table+"."+column, who)
		}
	}
	return nil
}

var ends = regexp.MustCompile(`(?i)^(from|where|returning)\b`)

// assignments splits the list after "set" at its commas, up to the end of the list: from, where,
// returning, a closing parenthesis or the end of the text.
func assignments(sql string) (list []string) {
	depth, quoted, begin := 0, false, 0
	end := len(sql)
scan:
	for i := range len(sql) {
		switch c := sql[i]; {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(' || c == '[':
			depth++
		case c == ')' || c == ']':
			if depth--; depth < 0 {
				end = i
				break scan
			}
		case c == ',' && depth == 0:
			list = append(list, sql[begin:i])
			begin = i + 1
		case depth == 0 && i > 0 && strings.ContainsRune(" \t\n", rune(sql[i-1])) && ends.MatchString(sql[i:]):
			if !strings.HasSuffix(strings.TrimSpace(sql[:i]), "distinct") {
				end = i
				break scan
			}
		}
	}
	return append(list, sql[begin:end])
}

// TestOwnersRuleFindsPlantedWrites proves that the rule can fail, and that it reads statements as
// the program writes them.
func TestOwnersRuleFindsPlantedWrites(t *testing.T) {
	t.Parallel()
	tables, columns := ownerTables(t, "\n## Who writes each table\n"+
		"| `results` | batch, importer | ledger | batch |\n| `hash_key` | a migration | | |\n| `results.key` | proof |\n")
	want := map[string]string{
		"batch/a.go":    "insert into results (a) select 1; delete from results where id = $1",
		"importer/a.go": "", // CopyFrom, below
		"ledger/a.go":   "with x as (update results r set outcome = d.b is distinct from d.c, read_id = f(1, 2) from d) select",
		"proof/a.go":    "update results set key = $1",
	}
	for _, tt := range []struct{ file, text, problem string }{
		{"", "", ""},
		{"jobs/a.go", "update results set outcome = 'failed'", "update results.outcome: jobs"},
		{"jobs/a.go", "with d as (update results set a = 1, (outcome, reason) = (1, 2)) select", "update results.reason: jobs"},
		{"jobs/a.go", "update results set a = b is distinct from c, reason = 1 where true", "update results.reason: jobs"},
		{"jobs/a.go", "insert into results as r (a) values (1)", "insert results: jobs"},
		{"jobs/a.go", "insert into stray (a) values (1)", "insert stray: jobs"},
		{"batch/a.go", "insert into results (a) values (1) on conflict (a) do update set reason = 1; delete from results",
			"update results.reason: batch"},
		{"proof/a.go", "DELETE FROM results where a = 1; update results set key = $1", "delete results: proof"},
		{"ledger/a.go", "update results set key = $1, outcome = 1", "update results.key: ledger"},
		{"proof/a.go", "select 1", "docs/architecture.md: update results.key: proof has no such statement"},
		{"jobs/b_test.go", "update results set outcome = 'failed'", ""},
		{"rig/a.go", "update results set outcome = 'failed'", ""},
	} {
		tree := fstest.MapFS{}
		files := maps.Clone(want)
		if tt.file != "" {
			files[tt.file] = tt.text
		}
		for name, sql := range files {
			code := "package a\nvar a = " + strconv.Quote(sql) + " + b\n"
			if name == "importer/a.go" {
				code = "package a\nvar a = pgx.Identifier{\"results\"}\n"
			}
			tree["internal/"+name] = &fstest.MapFile{Data: []byte(code)}
		}
		found, err := programWrites(tree)
		if err != nil {
			t.Fatal(err)
		}
		problems := strings.Join(ownerProblems(tables, columns, found), "\n")
		if tt.problem == "" && problems != "" || !strings.Contains(problems, tt.problem) {
			t.Errorf("%s: %s: got %q, want %q", tt.file, tt.text, problems, tt.problem)
		}
	}
	for _, sql := range []string{"update ? set a = 1", "update results set ? = 1", "insert into ? (a)", "merge into results"} {
		if err := sqlWrites(writers{}, "jobs", sql); err == nil {
			t.Errorf("%s is read as if it wrote nothing", sql)
		}
	}
}
