package house_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// TestAuditPageHasEveryColumn holds docs/audit.md, which people write queries
// by, to the schema: a section for each table, which names each column, and no
// other.
func TestAuditPageHasEveryColumn(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := auditColumns(string(page))
	rows, err := postgrestest.New(t).Query(t.Context(), `
		select table_name || '.' || column_name from information_schema.columns
		where table_schema = 'public' and table_name not like 'river%' and table_name not like 'goose%'`)
	if err != nil {
		t.Fatal(err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, column := range columns {
		if !slices.Contains(documented, column) {
			t.Errorf("the page lacks %s", column)
		}
	}
	for _, column := range documented {
		if !slices.Contains(columns, column) {
			t.Errorf("the page has %s, which is no column", column)
		}
	}
}

// auditColumns lists table.column for each name in the first cell of a table's
// line.
func auditColumns(page string) []string {
	name := regexp.MustCompile("`([a-z_0-9]+)`")
	var table string
	var columns []string
	for line := range strings.Lines(page) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			table = strings.TrimSpace(heading)
		}
		cell, ok := strings.CutPrefix(line, "| `")
		if !ok {
			continue
		}
		cell, _, _ = strings.Cut("`"+cell, " | ")
		for _, m := range name.FindAllStringSubmatch(cell, -1) {
			columns = append(columns, table+"."+m[1])
		}
	}
	return columns
}

// TestLinksLeadSomewhere follows the links between the pages.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	files := []string{"README.md", "CHANGELOG.md"}
	err := filepath.WalkDir("docs", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
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

// TestEveryColumnHasAComment: who queries the database has no other page at hand.
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
