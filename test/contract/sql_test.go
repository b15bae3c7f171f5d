package contract_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// hidden has the tables of docs/tables.md that auditors can't read.
var hidden = []string{"web_sessions", "api_tokens", "uploads", "upload_chunks", "hash_key"}

// A column is a column that docs/tables.md promises. Its table may be a view.
type column struct{ table, name string }

// auditColumns returns the columns of docs/tables.md: each name in the first cell of a table's
// line, below the heading of its table.
func auditColumns(page string) (columns []column) {
	name := regexp.MustCompile("`([a-z_0-9]+)`")
	var table string
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
			columns = append(columns, column{table, m[1]})
		}
	}
	return columns
}

var _ = promised("the tables that may be read with SQL",
	[]string{"The tables that may be read with SQL are in [audit.md](audit.md)."},
	func(c *check) {
		page, err := os.ReadFile("../../docs/tables.md")
		if err != nil {
			c.Fatal(err)
		}
		typed, err := os.ReadFile("testdata/columns.tsv")
		if err != nil {
			c.Fatal(err)
		}
		types := map[column]string{}
		for line := range strings.Lines(string(typed)) {
			cells := strings.Split(strings.TrimSpace(line), "\t")
			if len(cells) != 3 {
				c.Fatalf("testdata/columns.tsv: %q is no table, column and type", line)
			}
			types[column{cells[0], cells[1]}] = cells[2]
		}
		promised := auditColumns(string(page))
		for _, one := range promised {
			if types[one] == "" {
				c.Errorf("testdata/columns.tsv has no type of %s.%s", one.table, one.name)
			}
		}

		k, b := c.hired()
		b.run("send", "--yes", "--actor", "maria", b.file("hires.csv", hires)).want(exitRows)
		k.ask("POST", "/sandbox/accept", `{"addresses":["ann@example.com"]}`)
		b.run("reconcile").want(exitOK)
		conn, err := b.sql().Acquire(b.Context())
		if err != nil {
			c.Fatal(err)
		}
		defer conn.Release()
		rows, _ := conn.Query(c.Context(), `
			select c.relname, a.attname, format_type(a.atttypid, a.atttypmod) from pg_class c
			join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
			where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'p', 'm')`)
		there := map[column]string{}
		var table, name, kind string
		if _, err := pgx.ForEachRow(rows, []any{&table, &name, &kind}, func() error {
			there[column{table, name}] = kind
			return nil
		}); err != nil {
			c.Fatal(err)
		}
		for one := range there {
			if !strings.HasPrefix(one.table, "river_") && !strings.HasPrefix(one.table, "goose_") && !slices.Contains(promised, one) {
				c.Errorf("docs/tables.md lacks %s.%s", one.table, one.name)
			}
		}
		for one, want := range types {
			if !slices.Contains(promised, one) {
				c.Errorf("docs/tables.md has no %s.%s any more", one.table, one.name)
			}
			if got := there[one]; got != want {
				c.Errorf("%s.%s is %q, want %s", one.table, one.name, got, want)
			}
		}

		// The auditors' role reads every column except those of hidden tables, and changes nothing.
		if _, err := conn.Exec(c.Context(), `set role bulkinvite_auditor`); err != nil {
			c.Fatal(err)
		}
		tables := map[string]bool{}
		for _, one := range promised {
			tables[one.table] = true
			_, err := conn.Exec(c.Context(), fmt.Sprintf(`select %s from %s limit 1`,
				pgx.Identifier{one.name}.Sanitize(), pgx.Identifier{one.table}.Sanitize()))
			if secret := slices.Contains(hidden, one.table); secret != (err != nil) {
				c.Errorf("an auditor reads %s.%s: %v", one.table, one.name, err)
			}
		}
		for table := range tables {
			if _, err := conn.Exec(c.Context(), `delete from `+table); err == nil ||
				!strings.Contains(err.Error(), "permission denied") && !strings.Contains(err.Error(),
					"cannot delete from view") {
				c.Errorf("an auditor deletes from %s: %v", table, err)
			}
		}
		if len(tables) < 30 {
			c.Errorf("docs/tables.md has %d tables", len(tables))
		}

		// The view audit_rows has the same values as the command audit.
		const shared = "row_number, email, outcome, reason, duplicate_of, status, clerk_invitation_id, " +
			"attempt_id, read_id, actor, file_name, environment"
		var said []string
		for _, row := range b.run("audit", "--json").want(exitOK).objects() {
			var cells []string
			for _, name := range strings.Split(shared, ", ") {
				cells = append(cells, fmt.Sprint(row[name]))
			}
			said = append(said, strings.Join(cells, "|"))
		}
		rows, _ = conn.Query(c.Context(), `select `+shared+` from audit_rows order by row_number`)
		read, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
			values, err := row.Values()
			var cells []string
			for _, value := range values {
				cells = append(cells, fmt.Sprint(value))
			}
			return strings.Join(cells, "|"), err
		})
		if err != nil || !slices.Equal(read, said) {
			c.Errorf("%v: audit_rows has\n%s\nand the command\n%s", err, strings.Join(read, "\n"),
				strings.Join(said, "\n"))
		}
		for sql, want := range map[string]string{
			`select cells->>'Department' from audit_rows where key = 'ann@example.com' and outcome = ` +
				`'invited'`: "Sales",
			`select call || ' ' || answer || ' ' || http_status || ' ' || environment from audit_requests where ` +
				`row_number = 1`: "create created 200 production",
			`select answer || ' ' || error_code from audit_requests where row_number = ` +
				`8`: "rejected not_allowed_access",
			`select actor || ' ' || action from events order by id limit ` +
				`1`: "maria imported",
			`select environment from ` +
				`instances`: "production",
		} {
			var got string
			if err := conn.QueryRow(c.Context(), sql).Scan(&got); err != nil || got != want {
				c.Errorf("%s: %q, %v; want %q", sql, got, err, want)
			}
		}
	})
