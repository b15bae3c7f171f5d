package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres"
)

// noLimits is a Clerk that takes any number of requests.
var noLimits = sandbox.Limits{Create: sandbox.Limit{N: -1}, Bulk: sandbox.Limit{N: -1}, General: sandbox.Limit{N: -1}}

// newPair is a bench, and a stand-in for Clerk that its program works on.
func newPair(t *testing.T, config sandbox.Config, env ...string) (*bench, *stand) {
	t.Helper()
	s := newStand(t, config)
	return newBench(t, append([]string{"CLERK_API_URL=" + s.url}, env...)...), s
}

// with is the bench with more variables.
func (b *bench) with(env ...string) *bench {
	other := *b
	other.env = slices.Concat(b.env, env)
	return &other
}

// swift are settings under which an unknown answer is settled within seconds.
var swift = []string{"--settle", "300ms", "--request-timeout", "1s", "--recover-after", "2s", "--limit-create", "1000/1s", "--limit-bulk", "1000/1s"}

// newSwift is a bench whose program works on a stand-in without limits.
func newSwift(t *testing.T) (*bench, *stand) {
	t.Helper()
	return newPair(t, sandbox.Config{Limits: noLimits}, "CLERK_SECRET_KEY=sk_live_swift")
}

func (b *bench) swift(args ...string) outcome {
	b.t.Helper()
	return b.run(append(args, swift...)...)
}

// doors are the invitations of the stand-in by address and status.
func (s *stand) doors(t *testing.T) map[string]map[string]int {
	t.Helper()
	var all []struct{ Email, Status string }
	s.Ask("invitations", &all)
	doors := map[string]map[string]int{}
	for _, one := range all {
		if doors[one.Email] == nil {
			doors[one.Email] = map[string]int{}
		}
		doors[one.Email][one.Status]++
	}
	return doors
}

// pending is the id of the pending invitation of each address.
func (s *stand) pending(t *testing.T) map[string]string {
	t.Helper()
	var all []struct{ ID, Email, Status string }
	s.Ask("invitations", &all)
	ids := map[string]string{}
	for _, one := range all {
		if one.Status == "pending" {
			ids[one.Email] = one.ID
		}
	}
	return ids
}

// dump writes everything that the tables hold.
func (b *bench) dump(to io.Writer) {
	b.t.Helper()
	conn, err := pgx.Connect(b.t.Context(), b.url)
	must.OK(b.t, err)
	defer conn.Close(b.t.Context()) // it was only read
	rows, _ := conn.Query(b.t.Context(), `select table_name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE'`)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must.OK(b.t, err)
	for _, table := range tables {
		if _, err := conn.PgConn().CopyTo(b.t.Context(), to, "copy "+pgx.Identifier{table}.Sanitize()+" to stdout"); err != nil {
			b.t.Fatal(err)
		}
	}
}

// document is what send, import and status print with --json.
type document struct {
	Batch     int64          `json:"batch"`
	State     string         `json:"state"`
	Rows      int            `json:"rows"`
	Outcomes  map[string]int `json:"outcomes"`
	Undecided int            `json:"undecided"`
	Requests  map[string]int `json:"requests"`
	Limited   *int           `json:"rate_limited"`
	ETA       *time.Time     `json:"eta"`
	Reason    *string        `json:"state_reason"`
	PausedBy  string         `json:"paused_by"`
}

// addsUp checks that every row is accounted for, under all eight outcomes.
func (d document) addsUp(t *testing.T) {
	t.Helper()
	sum := d.Undecided
	for _, n := range d.Outcomes {
		sum += n
	}
	if sum != d.Rows || len(d.Outcomes) != 8 || len(d.Requests) != 4 || d.Limited == nil {
		t.Errorf("%d rows, but the outcomes sum to %d: %+v", d.Rows, sum, d)
	}
}

// once fails the test unless the batch is the first, and invited so many people, each by one mail.
func (d document) once(t *testing.T, s *stand, invited int) {
	t.Helper()
	if d.Batch != 1 || d.Outcomes["invited"] != invited {
		t.Errorf("%+v, want batch 1 with %d invited", d, invited)
	}
	s.mailed(t, invited)
}

func people(n int) string {
	var b strings.Builder
	b.WriteString("email\n")
	for i := range n {
		fmt.Fprintf(&b, "person%d@example.com\n", i)
	}
	return b.String()
}

// status is what the program says of a batch.
func (b *bench) status(batch string) document {
	b.t.Helper()
	return decode[document](b.t, b.run("status", batch, "--json").want(b.t, exitOK))
}

// errorDocument is the one document on standard output where --json fails.
type errorDocument struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Remedy  string `json:"remedy"`
	} `json:"error"`
}

// refuses fails the test unless a run with --json ended with this code, and a message and remedy that have all parts.
func refuses(t *testing.T, o outcome, code string, parts ...string) {
	t.Helper()
	e := decode[errorDocument](t, o).Error
	expect.Equal(t, "code", e.Code, code)
	expect.Text(t, e.Message+"\n"+e.Remedy, parts...)
}

// mailed fails the test unless so many mails went out, at most one to each person.
func (s *stand) mailed(t *testing.T, n int) {
	t.Helper()
	if m := s.mailbox(t); m.Mails != n || len(m.Doubled) > 0 {
		t.Errorf("%d mails, want %d; two went to %v", m.Mails, n, m.Doubled)
	}
}

// openTo lists the addresses that have a pending invitation at the stand-in.
func (s *stand) openTo(t *testing.T) []string {
	t.Helper()
	var all []struct{ Email, Status string }
	s.Ask("invitations", &all)
	open := []string{}
	for _, one := range all {
		if one.Status == "pending" {
			open = append(open, one.Email)
		}
	}
	slices.Sort(open)
	return open
}

// wantOpen fails the test unless these and no others have a pending invitation.
func (s *stand) wantOpen(t *testing.T, people ...string) {
	t.Helper()
	if open := s.openTo(t); !slices.Equal(open, people) {
		t.Errorf("open at Clerk: %v, want %v", open, people)
	}
}

// started is a run of the program that goes on.
type started struct {
	*exec.Cmd
	out, errs bytes.Buffer
}

func (b *bench) start(args ...string) *started {
	b.t.Helper()
	s := &started{Cmd: b.command(args...)}
	s.Stdout, s.Stderr = &s.out, &s.errs
	must.OK(b.t, s.Start())
	return s
}

// signal sends a signal to a run of the program.
func (s *started) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	must.OK(t, s.Process.Signal(signal))
}

// kill ends a run of the program as kill -9 does.
func (s *started) kill(t *testing.T) {
	t.Helper()
	must.OK(t, s.Process.Kill())
	s.ends()
}

// ends waits for its end and returns its exit status.
func (s *started) ends() int {
	_ = s.Wait() // the exit status is looked at
	return s.ProcessState.ExitCode()
}

// endsWith waits for its end, and fails the test unless it has this exit status.
func (s *started) endsWith(t *testing.T, exit int) {
	t.Helper()
	if got := s.ends(); got != exit {
		t.Errorf("exit status %d, want %d\nstdout: %s\nstderr: %s", got, exit, &s.out, &s.errs)
	}
}

// eventually waits until something holds. Other tests may have the processors, so it is patient.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for began := time.Now(); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("not after two minutes: %s", what)
		}
	}
}

// awaitMails waits until the stand-in has sent so many mails.
func awaitMails(t *testing.T, s *stand, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d mails", n), func() bool { return s.mailbox(t).Mails >= n })
}

// awaitCount waits until a query of one number says at least n.
func awaitCount(t *testing.T, pool *pgxpool.Pool, n int, sql string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s: %d", sql, n), func() bool {
		var got int
		return pool.QueryRow(t.Context(), sql).Scan(&got) == nil && got >= n
	})
}

// awaitWorker waits until a worker has looked at the jobs that there were.
func awaitWorker(t *testing.T, b *bench) {
	t.Helper()
	awaitCount(t, open(t, b.url), 1,
		`select count(*) from workers where not exists (select from river_job where kind = 'invite')
		or exists (select from river_job where kind = 'invite' and state = 'completed')`)
}

func open(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), url)
	must.OK(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// signalServer sends a signal to the PostgreSQL of this directory.
func signalServer(t *testing.T, dir string, signal syscall.Signal) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	must.OK(t, err)
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	must.OK(t, err)
	must.OK(t, syscall.Kill(pid, signal))
}
