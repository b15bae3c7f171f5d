package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// The command that the plan suggests works as it is printed, from where it was printed. It
// says what it wrote, and overwrites nothing.
func TestSuggestedProblemsCommand(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	dir := filepath.Join(t.TempDir(), "my files")
	must.OK(t, os.Mkdir(dir, 0o700))
	must.OK(t, os.WriteFile(filepath.Join(dir, "it's.csv"), []byte("email\nbad\nalso bad\ngood@example.com\n"), 0o600))
	shown := b.run("check", filepath.Join(dir, "it's.csv")).want(t, exitRows).out
	_, suggested, found := strings.Cut(shown, "bulkinvite check --problems bad.csv ")
	suggested, _, _ = strings.Cut(suggested, "\n")
	if !found {
		t.Fatalf("nothing is suggested: %s", shown)
	}
	here := t.TempDir()
	script := "cd " + here + ` && bulkinvite() { "` + b.program + `" "$@"; }; bulkinvite check --problems bad.csv ` + suggested
	if out, _ := b.shell(script); !strings.Contains(out, "2 rows") || !strings.Contains(out, "bad.csv") {
		t.Errorf("it does not say what it wrote: %s", out)
	}
	wrote, err := os.ReadFile(filepath.Join(here, "bad.csv"))
	must.OK(t, err)
	must.OK(t, os.WriteFile(filepath.Join(here, "bad.csv"), append(wrote, "mended"...), 0o600))
	if out, _ := b.shell(script); !strings.Contains(out, "exists") {
		t.Errorf("it does not say that the file exists: %s", out)
	}
	if now, err := os.ReadFile(filepath.Join(here, "bad.csv")); err != nil || string(now) != string(wrote)+"mended" {
		t.Errorf("what was mended is gone (%v): %s", err, now)
	}
}

// A time of another year has its year.
func TestMomentsOfAnotherYear(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, f := range []func(time.Time) string{moment, momentSeconds} {
		expect.Text(t, f(now.AddDate(-2, 0, 0)), now.AddDate(-2, 0, 0).Format("2006"))
	}
}

// Durations in JSON logs are texts such as 15s, and a send that waits for budget off a
// terminal says once a minute that it waits.
func TestLogsForPeople(t *testing.T) {
	t.Parallel()
	out, err := os.CreateTemp(t.TempDir(), "log")
	must.OK(t, err)
	p := &program{errs: out, out: out}
	must.OK(t, p.configure(&settings{}))
	p.log.Info("x", "wait", 15*time.Second)
	text, err := os.ReadFile(out.Name())
	must.OK(t, err)
	var line map[string]any
	if err := json.Unmarshal(text, &line); err != nil || line["wait"] != "15s" {
		t.Errorf("%s (%v)", text, err)
	}
}

// Others must not read who may sign in, and how.
func TestUsersFileOfOthers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.runWith("short", "user", "maria").want(t, exitUsage)
	users := b.file("users", b.runWith("a long enough password\n", "user", "maria", "--role", "operator").want(t, exitOK).out)
	must.OK(t, os.Chmod(users, 0o644))
	o := b.run("serve", "--sandbox", "--listen", "127.0.0.1:none", "--users-file", users).want(t, exitFailed)
	expect.Text(t, o.err, "others on this machine may read")
}

// A send off a terminal that waits for budget says so once a minute.
func TestWaitingIsLogged(t *testing.T) {
	t.Parallel()
	began := time.Now()
	pr := &progress{began: began}
	for after, want := range map[time.Duration]bool{0: false, 59 * time.Second: false, time.Minute: true} {
		expect.Equal(t, fmt.Sprintf("nothing changed, %s after the start", after), pr.due(0, began.Add(after)), want)
	}
	pr.logged = began.Add(30 * time.Second)
	for after, want := range map[time.Duration]bool{time.Minute: false, 90 * time.Second: true} {
		if got := pr.due(0, began.Add(after)); got != want {
			t.Errorf("nothing changed, %s after the start and the line before at 30 s: %t", after, got)
		}
	}
	if pr.due(1, began.Add(31*time.Second)) || !pr.due(1, began.Add(36*time.Second)) {
		t.Error("changes are logged every five seconds")
	}
}
