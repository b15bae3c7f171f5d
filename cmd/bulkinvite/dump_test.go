package main

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
)

// on puts the bench on another database.
func (b *bench) on(pool *pgxpool.Pool) *bench {
	other := *b
	other.env = slices.DeleteFunc(slices.Clone(b.env), func(v string) bool { return strings.HasPrefix(v, "DATABASE_URL=") })
	other.env = append(other.env, "DATABASE_URL="+pool.Config().ConnString())
	return &other
}

// dumped reads a dump: the tables' rows, in an order of their own, since PostgreSQL
// puts them where there is room, and what it says of itself but the time and the
// server.
func dumped(t *testing.T, path string) map[string]string {
	t.Helper()
	file, err := zip.OpenReader(path)
	must.OK(t, err)
	defer func() { _ = file.Close() }() // only read
	all := map[string]string{}
	for _, entry := range file.File {
		r, err := entry.Open()
		must.OK(t, err)
		text, err := io.ReadAll(r)
		must.OK(t, err)
		all[entry.Name] = string(text)
		if strings.HasSuffix(entry.Name, ".copy") {
			all[entry.Name] = strings.Join(slices.Sorted(strings.Lines(string(text))), "")
		}
	}
	_, all["manifest.json"], _ = strings.Cut(all["manifest.json"], `"tables":`)
	return all
}

// shape is what keeps a database's rows as they are: constraints and triggers.
func shape(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `
		select conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) || ' ' || convalidated from pg_constraint
		where connamespace = current_schema()::regnamespace
		union all
		select tgrelid::regclass || ' ' || tgname || ' ' || tgenabled::text from pg_trigger where not tgisinternal order by 1`)
	must.OK(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must.OK(t, err)
	return list
}

// TestMove moves a private database to a real one in the middle of a batch, whose
// program was killed. It goes on there, and nobody is mailed twice.
func TestMove(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{Limits: sandbox.Limits{Create: sandbox.Limit{N: 1000, Window: time.Second}}},
		"CLERK_SECRET_KEY=sk_live_move")
	b.private()
	args := []string{"send", "--yes", "--json", "--limit-create", "1000/1s", "--limit-bulk", "off",
		"--settle", "2s", "--request-timeout", "5s", "--recover-after", "5s", b.file("moves.csv", people(300))}
	c := b.start(args...)
	awaitMails(t, s, 50)
	c.kill(t)
	file := filepath.Join(t.TempDir(), "moves.bulkinvite")
	o := decode[moved](t, b.run("dump", file, "--json").want(t, exitOK))
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || o.Rows < 300 {
		t.Errorf("%+v, %v, %v", o, info, err)
	}
	b.run("dump", file).want(t, exitUsage) // it is there already

	pool := postgrestest.Empty(t)
	real := b.on(pool)
	if got := decode[moved](t, real.run("load", file, "--json").want(t, exitOK)); got.Rows != o.Rows || !got.At.Equal(o.At) {
		t.Errorf("dumped %+v, loaded %+v", o, got)
	}
	if got, want := shape(t, pool), shape(t, postgrestest.New(t)); !slices.Equal(got, want) {
		t.Errorf("constraints and triggers:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	again := filepath.Join(t.TempDir(), "again")
	real.run("dump", again).want(t, exitOK)
	was, is := dumped(t, file), dumped(t, again)
	for name := range was {
		if was[name] != is[name] {
			t.Errorf("%s: what was loaded is not what was dumped", name)
		}
	}
	if len(was) != len(is) {
		t.Errorf("%d tables were dumped, %d loaded", len(was)-1, len(is)-1)
	}
	d := decode[document](t, real.run(args...).want(t, exitOK))
	d.once(t, s, 300)
	real.run("verify", "1").want(t, exitOK)
	var reads bool
	if err := pool.QueryRow(t.Context(), `select has_table_privilege('bulkinvite_auditor', 'results', 'select')`).Scan(&reads); err != nil || !reads {
		t.Errorf("the auditor's role can't read: %v", err)
	}
	// Numbers go on after those that were given before.
	next := decode[document](t, real.run("send", "--yes", "--json", real.file("next.csv", "email\nnext@example.com\n")).want(t, exitOK))
	expect.Equal(t, "the next batch", next.Batch, 2)
	if real.run("load", file).want(t, exitHeld); s.mailbox(t).Mails != 301 {
		t.Errorf("%d mails", s.mailbox(t).Mails)
	}
}

// TestLoadRefuses: whatever is wrong with the file or the database, nothing is
// loaded and nothing made.
func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.run("send", "--sandbox", "--yes", messy).want(t, exitRows)
	file := filepath.Join(t.TempDir(), "dump")
	b.run("dump", file).want(t, exitOK)
	good, err := os.ReadFile(file)
	must.OK(t, err)
	for _, test := range []struct {
		name string
		file []byte
		sql  string // run in the database before
		exit int
		says string
	}{
		{"cut off", good[:len(good)-100], "", exitUsage, "cut off"},
		{"another file", []byte("email\n"), "", exitUsage, "no dump"},
		{"another zip file", altered(t, good, func(name, text string) (string, bool) { return text, name != "manifest.json" }), "", exitUsage, "no dump"},
		{"a table is missing", altered(t, good, func(name, text string) (string, bool) { return text, name != "results.copy" }), "", exitFailed, "results"},
		{"a row is missing", altered(t, good, func(name, text string) (string, bool) {
			if name == "results.copy" {
				_, text, _ = strings.Cut(text, "\n")
			}
			return text, true
		}), "", exitFailed, "19 rows instead of 20"},
		{"rows that others point to are missing", altered(t, good, func(name, text string) (string, bool) {
			if name == "instances.copy" {
				text = strings.Replace(text, "1\t", "7\t", 1)
			}
			return text, true
		}), "", exitFailed, "foreign key"},
		{"of another version", altered(t, good, func(name, text string) (string, bool) {
			return strings.Replace(text, `"schema":`, `"schema":1`, 1), true
		}), "", exitHeld, "load it with the version of bulkinvite that wrote it"},
		{"somebody else's database", good, "create table letters (text text)", exitHeld, "name an empty database"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pool := postgrestest.Empty(t)
			if test.sql != "" {
				must.Exec(t, pool, test.sql)
			}
			to := b.on(pool)
			path := to.file("dump", string(test.file))
			expect.Text(t, to.run("load", path).want(t, test.exit).err, test.says)
			if test.sql != "" {
				var n int
				if err := pool.QueryRow(t.Context(), `select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'`).Scan(&n); err != nil || n != 1 {
					t.Errorf("%d tables, %v", n, err)
				}
				return
			}
			to.run("load", file).want(t, exitOK) // nothing is in the way of the good one
		})
	}
}

// altered changes the entries of a zip file, or leaves them out.
func altered(t *testing.T, file []byte, change func(name, text string) (string, bool)) []byte {
	t.Helper()
	in, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
	must.OK(t, err)
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, entry := range in.File {
		r, err := entry.Open()
		must.OK(t, err)
		text, err := io.ReadAll(r)
		must.OK(t, err)
		changed, keep := change(entry.Name, string(text))
		if !keep {
			continue
		}
		if to, err := w.Create(entry.Name); err != nil {
			t.Fatal(err)
		} else if _, err := io.WriteString(to, changed); err != nil {
			t.Fatal(err)
		}
	}
	must.OK(t, w.Close())
	return out.Bytes()
}
