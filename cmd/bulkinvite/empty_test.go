package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/report"
)

// A file with a header and no rows is an empty export: it ends well each night, makes no
// batch, and never takes a whole roster back.
func TestFileWithoutRows(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_test_empty", "BULKINVITE_SETTLE=1ms")
	b.run("send", "--yes", b.file("all.csv", listOf(0, 3))).want(t, exitOK)
	empty := b.file("empty.csv", "email,Name\n")
	for _, args := range [][]string{{"check"}, {"send"}, {"send", "--yes"}, {"import"}, {"import", "--draft", "--yes"}} {
		if o := b.run(append(args, empty)...).want(t, exitOK); !strings.Contains(o.out, "no rows") {
			t.Errorf("%v does not say that there are no rows: %s", args, o.out)
		}
	}
	d := decode[document](t, b.run("send", "--yes", "--json", empty).want(t, exitOK))
	if d.addsUp(t); d.Batch != 0 || d.Rows != 0 || d.State != "done" {
		t.Errorf("%+v", d)
	}
	if all := decode[[]map[string]any](t, b.run("batches", "--json").want(t, exitOK)); len(all) != 1 {
		t.Errorf("%d batches after empty files", len(all))
	}
	for _, args := range [][]string{
		{"send", "--yes", "--allow", "--roster", "1", empty}, {"import", "--yes", "--allow", "--roster", "1", empty},
		{"rescind", "--apply", "--allow", "--batch", "1", "--not-in", empty}, {"rescind", "--batch", "1", "--not-in", empty},
	} {
		o := b.run(append(args, "--json")...).want(t, exitUsage)
		refuses(t, o, "no_rows", "empty.csv")
	}
	expect.Equal(t, "invitations open", len(s.openTo(t)), 3)
}

// A file of links that can't be written is refused before anything is imported, and a
// look at it leaves nothing behind.
func TestLinksAreOpenedBeforeTheImport(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	file := b.file("all.csv", listOf(0, 2))
	shared := b.file("shared.csv", "")
	must.OK(t, os.Chmod(shared, 0o644))
	fresh := filepath.Join(t.TempDir(), "fresh.csv")
	for _, command := range []string{"send", "import"} {
		for _, links := range []string{filepath.Join(b.dir, "none", "links.csv"), shared, b.dir} {
			o := b.run(command, "--sandbox", "--yes", "--json", "--no-notify", "--links", links, file).want(t, exitUsage)
			refuses(t, o, "links", links)
		}
		b.run(command, "--sandbox", "--no-notify", "--links", fresh, file).want(t, exitHeld) // nobody confirmed it
		if _, err := os.Stat(fresh); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s left a file of links of a batch that does not exist (%v)", command, err)
		}
	}
	if all := decode[[]map[string]any](t, b.run("batches", "--json").want(t, exitOK)); len(all) != 0 {
		t.Errorf("%d batches were imported", len(all))
	}
}

// Errors of the disk and of a role without rights say what to do about these.
func TestDatabaseAdvice(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want []string
	}{
		"disk of the server": {&pgconn.PgError{Severity: "ERROR", Code: "53100", Message: `could not extend file "base/1/2": wrote only 4096 of 8192 bytes`},
			[]string{"No space left on device", "Free"}},
		"own disk": {&fs.PathError{Op: "write", Path: "/tmp/bulkinvite-1", Err: syscall.ENOSPC}, []string{"no space left on device", "Free"}},
		"no right": {&pgconn.PgError{Severity: "ERROR", Code: "42501", Message: "permission denied for table batches"}, []string{"permission denied for table batches", "role", "Grant"}},
	} {
		f := classify(t.Context(), fmt.Errorf("import: %w", c.err))
		for _, want := range c.want {
			if text := f.Error() + "\n" + f.remedy; !strings.Contains(text, want) || strings.Contains(text, "see that the database runs") {
				t.Errorf("%s: %q does not say %q", name, text, want)
			}
		}
	}
	b := newBench(t)
	b.run("batches").want(t, exitOK)
	pool := open(t, b.url)
	role := fmt.Sprintf("poor_%d", os.Getpid())
	for _, sql := range []string{"create role " + role + " login", "grant connect on database " + pool.Config().ConnConfig.Database + " to " + role} {
		must.Exec(t, pool, sql)
	}
	u, err := url.Parse(b.url)
	must.OK(t, err)
	u.User = url.User(role)
	for _, args := range [][]string{{"batches"}, {"send", "--sandbox", "--yes", b.file("one.csv", listOf(0, 1))}} {
		o := b.run(append(args, "--database-url", u.String(), "--json")...).want(t, exitFailed)
		if e := decode[errorDocument](t, o).Error; !strings.Contains(e.Remedy, "Grant") || !strings.Contains(e.Message, "permission denied") {
			t.Errorf("%v as a role without rights: %+v", args, e)
		}
	}
}

// A data directory that is a file is called one.
func TestDataDirectoryIsAFile(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.private()
	file := b.file("data", "x")
	list := b.file("one.csv", listOf(0, 1))
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		for _, args := range [][]string{{"batches"}, {"send", "--sandbox", "--yes", list}, {"check", list}} {
			o := b.run(append(args, "--data-dir", dir, "--json")...).want(t, exitFailed)
			refuses(t, o, "data_dir", file+" is a file", "--data-dir")
		}
	}
}

// Nobody is asked whether to invite 0 people.
func TestNobodyToInvite(t *testing.T) {
	t.Parallel()
	if q := askedToInvite(invitation.Sending{}, "bad.csv", "", "").question; strings.Contains(q, "0 people") || !strings.Contains(q, "bad.csv") {
		t.Error(q)
	}
	b := newBench(t)
	o := b.run("send", "--sandbox", "--json", b.file("bad.csv", "email\nbad\n")).want(t, exitHeld)
	expect.NoText(t, decode[errorDocument](t, o).Error.Message, "0 people")
	d := decode[report.Report](t, b.run("send", "--sandbox", "--yes", "--json", b.file("bad.csv", "email\nbad\n")).want(t, exitRows))
	if d.Outcomes[invitation.Invalid] != 1 {
		t.Errorf("%+v", d)
	}
}
