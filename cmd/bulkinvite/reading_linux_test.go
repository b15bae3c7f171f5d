package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// An import that takes its time shows how far it is, also when all is read but
// not yet written.
func TestImportShowsItsProgress(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.run("migrate").want(t, 0)
	file := filepath.Join(t.TempDir(), "people.csv")
	must.OK(t, os.WriteFile(file, []byte(people(3)), 0o600))
	conn, err := pgx.Connect(t.Context(), b.url)
	must.OK(t, err)
	defer conn.Close(t.Context()) // the test is over
	tx, err := conn.Begin(t.Context())
	must.OK(t, err)
	must.Exec(t, tx, `lock table results in exclusive mode`)
	exit, text := b.sit(func(term *terminal) {
		term.await("Importing people.csv")
		term.await(fmt.Sprintf("%d B of %[1]d B  100 %%", len(people(3))))
		expect.OK(t, tx.Rollback(t.Context()))
	}, "import", "--sandbox", "--yes", file)
	if exit != 0 || !strings.Contains(text, "Batch 1") {
		t.Errorf("exit %d:\n%s", exit, text)
	}
}

// The bar goes with the bytes that were read, and away with the file; a program
// that writes no terminal shows none.
func TestPass(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hires.csv")
	must.OK(t, os.WriteFile(path, make([]byte, 2_000_000), 0o600))
	file, err := os.Open(path)
	must.OK(t, err)
	defer func() { _ = file.Close() }() // it was only read
	for _, atTerminal := range []bool{true, false} {
		term, slave := newTerminal(t)
		p := &program{errs: slave, errTTY: atTerminal, logTo: &divertible{w: slave}}
		r, done, err := p.pass(&input{name: "hires.csv", file: file}, "Reading")
		must.OK(t, err)
		if _, err := io.CopyN(io.Discard, r, 500_000); err != nil {
			t.Fatal(err)
		}
		if atTerminal {
			term.await("Reading hires.csv ")
			term.await("500 kB of 2.0 MB  25 %")
		}
		if n, err := io.Copy(io.Discard, r); n != 1_500_000 || err != nil {
			t.Errorf("%d bytes are left, %v", n, err)
		}
		done()
		p.note("the end")
		must.OK(t, slave.Close())
		<-term.over
		if text := term.text(); atTerminal && !strings.HasSuffix(text, "\x1b[Jthe end\r\n") || !atTerminal && text != "the end\r\n" {
			t.Errorf("a terminal (%v) shows %q", atTerminal, text)
		}
	}
}

func TestReadText(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		read int64
		took time.Duration
		want string
	}{
		{0, 5 * time.Second, "  0 B of 83 MB  0 %"},
		{41_500_000, time.Millisecond, "  42 MB of 83 MB  50 %"},
		{20_750_000, 10 * time.Second, "  21 MB of 83 MB  25 %   30 s left"},
		{90_000_000, 10 * time.Second, "  83 MB of 83 MB  100 %"}, // it has grown meanwhile
	} {
		if got := readText(test.read, 83_000_000, test.took); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
