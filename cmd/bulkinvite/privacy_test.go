package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/clerk/sandbox"
)

// The marks of what must stay private: parts of addresses, of names, of the key.
const (
	markAddress = "zqmark"
	markName    = "zqname"
	markKey     = "zqkeyzq"
)

// marked is a file of people whose every cell is marked.
func marked(from, to int) string {
	var b strings.Builder
	b.WriteString("email,Name\n")
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "%s%d@%s.example,%s %d\n", markAddress, i, markAddress, markName, i)
	}
	return b.String()
}

func markedPerson(i int) string { return fmt.Sprintf("%s%d@%s.example", markAddress, i, markAddress) }

// private are the commands and what they print on standard error, at debug level.
type private struct {
	*bench
	ran map[string]bool
}

// run runs a command and looks through its standard error. What standard output
// says is for the person who asked.
func (p *private) run(args ...string) outcome {
	p.t.Helper()
	p.ran[args[0]] = true
	o := p.bench.run(args...)
	if !slices.Contains([]int{exitOK, exitRows, exitHeld}, o.exit) {
		p.t.Errorf("%v: exit status %d\n%s%s", args[:1], o.exit, o.out, o.err)
	}
	p.clean("the log of "+args[0], o.err)
	return o
}

// clean fails the test where a text says what must stay private.
func (p *private) clean(what, text string) {
	p.t.Helper()
	for _, mark := range []string{markAddress, markName, markKey, "accept?ticket="} {
		if at := strings.Index(strings.ToLower(text), mark); at >= 0 {
			p.t.Errorf("%s says %s: …%s…", what, mark, text[max(0, at-150):min(len(text), at+80)])
		}
	}
}

// TestNobodyIsNamed runs every command, and asks every page, over files of marked
// people while Clerk's answers are lost and garbled, and finds no mark in logs,
// metrics, jobs, events and error texts.
func TestNobodyIsNamed(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Config{})
	b := newBench(t, "CLERK_API_URL="+s.url, "CLERK_SECRET_KEY=sk_live_"+markKey, "BULKINVITE_SETTLE=1ms", "BULKINVITE_LOG_LEVEL=debug", "BULKINVITE_LOG_FORMAT=json")
	p := &private{b, map[string]bool{}}
	tellStand(t, s, "/sandbox/users", `["`+markedPerson(3)+`"]`)
	tellStand(t, s, "/sandbox/invitations", `["`+markedPerson(4)+`","`+markedPerson(90)+`"]`)
	tellStand(t, s, "/sandbox/faults", `[{"kind":"cut_after","call":"bulk","first":1},{"kind":"status","status":502,"html":true,"call":"create","first":1},
		{"kind":"status","status":422,"address":"`+markedPerson(5)+`"}]`)
	all := b.file("all.csv", marked(0, 30)+markAddress+" no address,"+markName+"\n"+markedPerson(1)+","+markName+"\n")

	p.run("check", all)
	p.run("check", "--preflight", "--json", all)
	p.run("send", "--yes", all)
	p.run("import", "--yes", "--draft", b.file("draft.csv", marked(20, 40)))
	p.run("start", "2")
	p.run("pause", "2")
	p.run("resume", "2")
	p.run("work", "--until-idle")
	p.run("retry", "2")
	p.run("import", "--yes", "--draft", b.file("given-up.csv", marked(40, 50)))
	p.run("cancel", "--yes", "3")
	p.run("reconcile")
	for _, args := range [][]string{{"drift"}, {"batches"}, {"status", "1"}, {"results", "1"}, {"results", "1", "--format", "csv"}, {"audit", "--email", markedPerson(2)}, {"why", markedPerson(2)},
		{"verify", "1"}, {"sweep", "--older-than", "1ms"}, {"sweep", "--list"}, {"rescind", "--email", markedPerson(6), "--apply"}, {"correct", "1", "8", "--email", markedPerson(80), "--yes"},
		{"resend", "1", "--pending-for", "1ms", "--yes"}, {"migrate"}, {"config"}, {"version"}, {"completion", "bash"}, {"user", "--help"}, {"sandbox", "--help"}} {
		p.run(args...)
	}
	p.serve()
	p.run("undo", "2", "--yes")
	p.run("erase", markedPerson(1), "--revoke")
	p.database(t, []string{"attempt_people", "drift", "results", "revocations", "sightings"})
	p.run("purge", "--older-than", "1ms", "--yes")

	var c cli
	parser, err := newParser(&c, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range parser.Model.Children {
		if !p.ran[command.Name] && !slices.Contains(unmarked, command.Name) {
			t.Errorf("%s is not tried", command.Name)
		}
	}
}

// unmarked are commands that meet nobody: they read and write nothing of people.
var unmarked = []string{"doctor", "dump", "load", "token"}

// serve asks the server's pages, and looks through its log and its metrics.
func (p *private) serve() {
	p.t.Helper()
	p.ran["serve"] = true
	token := strings.TrimSpace(p.bench.run("token", "create", "marked", "--role", "operator").want(p.t, exitOK).out)
	c := p.command("serve", "--work", "--listen", "127.0.0.1:0")
	pipe, err := c.StderrPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	var log bytes.Buffer
	var reading sync.WaitGroup
	link := make(chan string, 1)
	reading.Go(func() {
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			log.WriteString(lines.Text() + "\n")
			if _, found, ok := strings.Cut(lines.Text(), "Sign in, once:  "); ok {
				link <- found
			}
		}
	})
	var base string
	select {
	case found := <-link:
		base, _, _ = strings.Cut(found, "/login")
	case <-time.After(time.Minute):
		p.t.Fatal("the server gives no link")
	}
	ask := func(method, path, kind string, body io.Reader) string {
		r, err := http.NewRequestWithContext(p.t.Context(), method, base+path, body)
		if err != nil {
			p.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", kind)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			p.t.Fatal(err)
		}
		defer answer.Body.Close() //nolint:errcheck // it was read
		text, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode >= 400 {
			p.t.Errorf("%s %s: %d, %v", method, strings.Split(path, "?")[0], answer.StatusCode, err)
		}
		return string(text)
	}
	for _, path := range []string{"/", "/batches/1", "/batches/1/rows", "/batches/1/rows/2", "/batches/1/rows?q=" + markAddress, "/batches/1/course", "/batches/1/results.csv", "/batches/1/problems", "/batches/1/problems.csv",
		"/people?q=" + markedPerson(2), "/sweeps", "/sweeps/1", "/drift", "/budget", "/events"} {
		ask("GET", path, "", nil)
	}
	p.clean("the page of events", ask("GET", "/events", "", nil))
	p.clean("/metrics", ask("GET", "/metrics", "", nil))
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	part, err := parts.CreateFormFile("file", "uploaded.csv")
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := io.WriteString(part, marked(60, 70)+markAddress+" no address,"+markName+"\n"); err != nil {
		p.t.Fatal(err)
	}
	if err := parts.Close(); err != nil {
		p.t.Fatal(err)
	}
	ask("POST", "/uploads", parts.FormDataContentType(), &form)
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	reading.Wait()
	if err := c.Wait(); err != nil {
		p.t.Errorf("after SIGTERM: %v", err)
	}
	p.clean("the log of serve", log.String())
}

// database looks through every table, River's too. Addresses may be in those that
// docs/audit.md names, and nowhere else; key and urls are nowhere.
func (p *private) database(t *testing.T, mayName []string) {
	t.Helper()
	pool := open(t, p.url)
	rows, _ := pool.Query(t.Context(), `select table_name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE' order by 1`)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		for _, mark := range []string{markAddress, markName, markKey, "accept?ticket=", markedPerson(1)} {
			var n int
			if err := pool.QueryRow(t.Context(), `select count(*) from `+pgx.Identifier{table}.Sanitize()+` t where position($1 in lower(t::text)) > 0`, mark).Scan(&n); err != nil {
				t.Fatal(err)
			}
			if known := slices.Contains(mayName, table) && (mark == markAddress || mark == markName); n > 0 && !known {
				t.Errorf("%s says %s in %d rows", table, mark, n)
			}
		}
	}
}
