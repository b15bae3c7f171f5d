package main

import (
	"encoding/csv"
	"path/filepath"
	"strings"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
)

const oddFile = "Name,email,Note,\n" +
	"\"Smith, \"\"Jo\"\"\",jo@example.com,=HYPERLINK(1),x\n" +
	"Ann,ann@example.com,\"two\nlines\",\n" +
	"Bob,JO@example.com,,\n" +
	"Eve,eve-at-example,-1,\n" +
	"Max,max@example.com,a,b,c\n"

func TestResults(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.run("send", "--sandbox", "--yes", b.file("odd.csv", oddFile)).want(t, exitRows)
	o := b.run("results", "1", "--format", "csv").want(t, exitOK)
	expect.Text(t, o.out, "\r\n")
	records, err := csv.NewReader(strings.NewReader(o.out)).ReadAll() // refuses records of different length
	must.OK(t, err)
	if len(records) != 6 || records[0][0] != "Name" || records[0][5] != "bulkinvite_outcome" || records[0][4] != "" {
		t.Fatalf("header %q of %d records", records[0], len(records))
	}
	if r := records[1]; r[0] != `Smith, "Jo"` || r[2] != "'=HYPERLINK(1)" || r[5] != "invited" {
		t.Errorf("row 1: %q", r)
	}
	if r := records[5]; r[4] != "c" || r[5] != "invalid" {
		t.Errorf("a row with more cells than the header: %q", r)
	}
	rows := decode[[]map[string]any](t, b.run("results", "1", "--json").want(t, exitOK))
	if len(rows) != 5 || rows[1]["Note"] != "two\nlines" || rows[2]["bulkinvite_outcome"] != "duplicate_row" || rows[2]["bulkinvite_duplicate_of"] != 1.0 || rows[4]["column 5"] != "c" {
		t.Errorf("%v", rows)
	}
	if rows := decode[[]map[string]any](t, b.run("results", "1", "--format", "json", "--outcome", "failed").want(t, exitOK)); rows == nil || len(rows) != 0 {
		t.Errorf("no failed rows, but %v", rows)
	}
	table := b.run("results", "1", "--outcome", "invited").want(t, exitOK)
	if lines := strings.Count(table.out, "\n"); lines != 3 {
		t.Errorf("a table of %d lines, want a head and 2 rows:\n%s", lines, table.out)
	}
}

// A sweep of too much is held and says so everywhere. It is stopped once.
func TestHeldSweep(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.run("send", "--sandbox", "--yes", b.file("many.csv", people(25))).want(t, exitOK)
	b.run("sweep", "--sandbox", "--older-than", "1ms", "--apply").want(t, exitHeld)
	for _, command := range [][]string{{"batches"}, {"status", "1"}} {
		text := b.run(append(command, "--sandbox")...).want(t, exitOK).out
		expect.Text(t, text, "Sweep 1 is held: it would revoke 25 of 25")
	}
	b.run("sweep", "--sandbox", "1", "--stop").want(t, exitOK)
	b.run("sweep", "--sandbox", "1", "--stop").want(t, exitHeld)
}

// A command that starts while others use the whole limit waits its turn.
func TestStartsDespiteThrottling(t *testing.T) {
	t.Parallel()
	b, _ := newPair(t, sandbox.Config{Faults: []sandbox.Fault{{Call: "instance", Kind: sandbox.FaultStatus, Status: 429, RetryAfter: "1", First: 2}}}, "CLERK_SECRET_KEY=sk_live_test")
	b.run("sweep", "--json").want(t, exitOK)
}

// TestProblemsGolden: the file of bad rows, as a person opens it.
func TestProblemsGolden(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	bad := filepath.Join(b.dir, "bad.csv")
	d := decode[checked](t, b.run("check", b.file("odd.csv", oddFile), "--json", "--problems", bad).want(t, exitRows))
	if d.Rows != 5 || d.Valid != 2 || d.Invalid != 2 || len(d.Problems) != 2 || d.Encoding != "UTF-8" {
		t.Errorf("%+v", d)
	}
	golden(t, "problems", readFile(t, bad))
}

// TestCheckWritesNothing gives check a database without a schema.
func TestCheckWritesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	empty := postgrestest.Empty(t)
	b.env = append(b.env, "DATABASE_URL="+empty.Config().ConnString())
	b.run("check", b.file("fine.csv", people(2))).want(t, exitOK)
	tables := must.Read[int](t, empty,
		"select count(*) from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace")
	expect.Equal(t, "tables that check made", tables, 0)
}
