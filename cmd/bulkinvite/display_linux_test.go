package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mattn/go-runewidth"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/report"
)

// colours are the sequences that change a terminal's colours.
var colours = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// moves are the sequences with which bars are drawn anew.
var moves = regexp.MustCompile(`\x1b\[[0-9]*[AJ]`)

// crowd is a file with long names and every kind of row.
func crowd() string {
	var b strings.Builder
	b.WriteString("email,department\n")
	for i := range 9 {
		fmt.Fprintf(&b, "firstname.lastname.%03d@subsidiary.example.com,Research and Development\n", i)
	}
	b.WriteString("firstname.lastname.000@subsidiary.example.com,twice\n")
	b.WriteString("no address at all,bad\nblocked@example.com,blocked\n")
	return b.String()
}

// tables are all commands that print tables or long lines, of a database that has something for each.
func tables(t *testing.T) (b *bench, commands [][]string) {
	t.Helper()
	s := newStand(t, sandbox.Config{Blocked: []string{"blocked@example.com"}})
	b = newBench(t, "CLERK_API_URL="+s.url, "CLERK_SECRET_KEY=sk_live_tables", "BULKINVITE_SETTLE=1ms")
	file := b.file("everybody-of-the-new-subsidiary-in-november.csv", crowd())
	b.run("send", "--yes", "--actor", "maria.of.human.resources", file).want(t, exitRows)
	o := b.run("import", "--json", "--yes", "--start-at", "2036-11-24T08:00:00+01:00", b.file("later.csv", listOf(20, 32)))
	later := fmt.Sprint(decode[report.Report](t, o.want(t, exitOK)).Batch)
	b.run("pause", later).want(t, exitOK)
	s.Tell("invitations", `[{"email":"someone.else.entirely@subsidiary.example.com"}]`)
	b.run("reconcile").want(t, exitOK)
	b.run("sweep", "--older-than", "1ms").want(t, exitOK)
	b.run("token", "create", "nightly-export-of-human-resources", "--actor", "maria.of.human.resources").want(t, exitOK)
	_, err := open(t, b.url).Exec(context.Background(), `insert into web_sessions (hash, user_name, role, via)
		values ('\x00', 'maria.of.human.resources@subsidiary.example.com', 'operator', 'openid')`)
	must.OK(t, err)
	return b, [][]string{
		{"batches"}, {"results", "1"}, {"audit"}, {"drift"}, {"limits"}, {"token", "list"}, {"sessions", "list"},
		{"sweep", "--list"}, {"sweep", "1"}, {"status", "1"}, {"status", later}, {"check", file}, {"config"},
		{"doctor"}, {"verify", "1"}, {"migrate", "--status"},
		{"why", "firstname.lastname.000@subsidiary.example.com"}, {"rescind", file}, {"reconcile"},
		{"resend", "1", "--pending-for", "1ms"}, {"status", "99"}, {"erase", "nobody@example.com"}, {"sessions", "end"},
		{"status", "--help"}, {"token", "--help"}, {"--help"},
	}
}

// Nothing that a command prints is wider than the terminal: it would go on in the next line, in
// the middle of a word. Off a terminal every value is whole and every row is one line.
func TestTablesFitTheTerminal(t *testing.T) {
	t.Parallel()
	b, commands := tables(t)
	for _, columns := range []int{40, 80, 120} {
		for _, args := range commands {
			_, text := b.sitAt(columns, func(term *terminal) {
				if args[0] == "resend" {
					term.answer(":", "no")
				}
			}, args...)
			if strings.TrimSpace(text) == "" {
				t.Errorf("%v says nothing", args)
			}
			for line := range strings.Lines(text) {
				line = moves.ReplaceAllString(strings.TrimRight(line, "\r\n"), "")
				whole := strings.TrimSpace(line)
				if strings.HasPrefix(whole, "time=") {
					continue // logs are for other programs too: each is one line
				}
				copied := !strings.Contains(whole, " ") || strings.HasPrefix(whole, "bulkinvite ") // whole, to be copied
				if w := runewidth.StringWidth(line); w > columns && !copied {
					t.Errorf("%v: a line of %d at %d columns: %s", args, w, columns, line)
				}
			}
			if testing.Verbose() {
				t.Logf("%d columns: %v\n%s", columns, args, text)
			}
		}
	}
	for _, want := range []struct {
		lines int
		args  []string
		texts []string
	}{
		{13, []string{"results", "1"}, []string{"firstname.lastname.008@subsidiary.example.com", "inv_"}},
		{3, []string{"batches"}, []string{"everybody-of-the-new-subsidiary-in-november.csv", "maria.of.human.resources"}},
		{2, []string{"drift"}, []string{"someone.else.entirely@subsidiary.example.com"}},
	} {
		out := b.run(want.args...).want(t, exitOK).out
		if n := strings.Count(out, "\n"); n != want.lines {
			t.Errorf("%v off a terminal: %d lines, not %d:\n%s", want.args, n, want.lines, out)
		}
		for _, text := range want.texts {
			if !strings.Contains(out, text) {
				t.Errorf("%v off a terminal lacks %s:\n%s", want.args, text, out)
			}
		}
	}
}

// With a locale that is not UTF-8 the program's own text is ASCII, on standard output and on
// standard error. Other people's names stay as they are.
func TestASCIILocale(t *testing.T) {
	t.Parallel()
	const name, column = "Größe… · →.csv", "Straße"
	for _, c := range []struct {
		env   []string
		ascii bool
	}{
		{[]string{"LC_ALL=C"}, true},
		{[]string{"LC_ALL=POSIX", "LANG=en_US.UTF-8"}, true},
		{[]string{"LC_CTYPE=de_DE.ISO-8859-1", "LANG=de_DE.UTF-8"}, true},
		{[]string{"LANG=en_US"}, true},
		{[]string{"LC_ALL=", "LC_CTYPE=UTF-8", "LANG=C"}, false},
		{[]string{"LC_ALL=C.UTF-8"}, false},
		{[]string{"LC_ALL=de_DE.utf8@euro", "LANG=C"}, false},
		{nil, false},
	} {
		t.Run(fmt.Sprint(c.env), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, c.env...)
			file := b.file(name, "email,"+column+"\np@example.com,x\nq@example.com,y\nbad,z\n")
			seen := ""
			for i, args := range [][]string{{"--help"}, {"token", "--help"}, {"check", file},
				{"send", "--sandbox", "--yes", "--limit-create", "1/1s", "--limit-bulk", "off", file}, {"batches"}, {"status", "1"},
				{"why", "p@example.com"}, {"limits"}, {"doctor", "--sandbox"}, {"why", "no…body@"},
				{"rescind", "--sandbox", file}} {
				if i%2 == 0 {
					o := b.run(args...)
					seen += o.out + o.err
				}
				_, shown := b.sitAt(60, func(*terminal) {}, args...)
				seen += shown
			}
			others := strings.Map(func(r rune) rune {
				if r < 0x80 {
					return -1
				}
				return r
			}, strings.NewReplacer(name, "", "no…body@", "").Replace(seen))
			if c.ascii && others != "" {
				t.Errorf("text outside ASCII: %s", others)
			}
			if !c.ascii && !strings.Contains(others, "·") {
				t.Errorf("the text is ASCII alone")
			}
			expect.Text(t, seen, name)
		})
	}
}

// A waiting send draws its bar in ASCII too.
func TestASCIIProgress(t *testing.T) {
	t.Parallel()
	b := newBench(t, "LC_ALL=C")
	b.detectRaces()
	_, text := b.sitAt(50, func(term *terminal) {
		term.await("next window in")
		term.frames(2)
		expect.OK(t, term.process.Signal(os.Interrupt))
	}, "send", "--sandbox", "--yes", "--limit-create", "2/1h", "--limit-bulk", "off", b.file("five.csv", people(5)))
	if i := strings.IndexFunc(text, func(r rune) bool { return r >= 0x80 }); i >= 0 {
		t.Errorf("outside ASCII at %d: %q", i, text[max(0, i-40):i+20])
	}
}

// Colours are for terminals that take them, unless NO_COLOR is set.
func TestColours(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env  []string
		want bool
	}{
		{[]string{"TERM=xterm-256color"}, true},
		{[]string{"TERM=xterm-256color", "NO_COLOR="}, true},
		{[]string{"TERM=xterm-256color", "NO_COLOR=1"}, false},
		{[]string{"TERM=xterm-256color", "NO_COLOR=0"}, false},
		{[]string{"TERM=dumb"}, false},
		{nil, false},
	} {
		b := newBench(t, c.env...)
		file := b.file("people.csv", "email\np@example.com\nbad\n")
		for _, args := range [][]string{{"send", "--sandbox", "--yes", file}, {"status", "9"}, {"doctor", "--sandbox"}} {
			_, text := b.sit(func(*terminal) {}, args...)
			if got := colours.MatchString(text); got != c.want {
				t.Errorf("%q, %v: colours %t:\n%q", c.env, args, got, text)
			}
			if on, off := len(colours.FindAllString(text, -1)), strings.Count(text, "\x1b[0m"); on != 2*off {
				t.Errorf("%q, %v: %d sequences, %d ends", c.env, args, on, off)
			}
			if o := b.run(args...); slices.ContainsFunc([]string{o.out, o.err}, colours.MatchString) {
				t.Errorf("%q, %v: colours off a terminal: %q %q", c.env, args, o.out, o.err)
			}
		}
	}
}
