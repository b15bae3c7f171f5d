package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/rig"
)

// at returns a run of a scenario with the harm. The run has not begun.
func at(h harm) *run {
	s := scenario{h, single, answers[0]}
	r := &run{scenario: s, draw: s.prepare(1)}
	r.crowd = newCrowd(r.dice, false)
	return r
}

// good returns what the judge sees after a run without faults: what the sandbox did, the results,
// and the people whose invitation an attempt explains.
func good(r *run) (*truth, []result, map[string]bool) {
	t := &truth{made: map[string][]rig.Invitation{}, mails: map[string]int{}}
	explained := map[string]bool{}
	outcomes := map[string]string{fresh: "invited", user: "already_registered", pending: "already_invited", invalid: "invalid", again: "duplicate_row"}
	var results []result
	for i, kind := range r.crowd.kinds {
		key, outcome := r.crowd.keys[i], outcomes[kind]
		row := result{BatchID: 1, RowNumber: i + 1, Key: &key, Outcome: &outcome}
		if kind == fresh || kind == pending {
			id := fmt.Sprintf("inv_%d", i)
			t.made[key] = []rig.Invitation{{ID: id}}
			row.ClerkID = &id
		}
		if kind == fresh {
			t.mails[key], explained[key] = 1, true
		}
		results = append(results, row)
	}
	return t, results, explained
}

// A scene is what a test changes of a run without faults: the truth, and one person's row.
type scene struct {
	*truth
	row       *result
	key       string
	explained map[string]bool
}

func TestJudgeSeesWhatIsWrong(t *testing.T) {
	t.Parallel()
	set := func(row *result, outcome string) { row.Outcome = &outcome }
	unmail := func(s scene) {
		set(s.row, "cancelled")
		delete(s.made, s.key)
		delete(s.mails, s.key)
	}
	for _, c := range []struct {
		name string
		harm harm
		make func(s scene)
		want string // the kind of the only mistake; empty: none
	}{
		{"all well", harm{}, func(scene) {}, ""},
		{"undecided", harm{}, func(s scene) { s.row.Outcome = nil }, lostOnes},
		{"no mail, and said invited", harm{}, func(s scene) { delete(s.made, s.key) }, lostOnes},
		{"two mails", harm{}, func(s scene) { s.mails[s.key] = 2 }, doubled},
		{"another invitation", harm{}, func(s scene) { s.made[s.key][0].ID = "inv_other" }, untrue},
		{"no attempt", harm{}, func(s scene) { delete(s.explained, s.key) }, untrue},
		{"cancelled, and mailed", harm{name: "cancel"}, func(s scene) { set(s.row, "cancelled") }, untrue},
		{"cancelled, and not mailed", harm{name: "cancel"}, unmail, ""},
		{"cancelled by nobody", harm{}, unmail, lostOnes},
		{"forgotten, and taken for ours", harm{restored: true}, func(s scene) { delete(s.explained, s.key) }, untrue},
		{"forgotten, and found", harm{restored: true}, func(s scene) {
			set(s.row, "already_invited")
			delete(s.explained, s.key)
		}, ""},
		{"another's, and said to be ours", harm{rival: true}, func(s scene) {
			s.made[s.key][0].Metadata = map[string]string{"by": "another"}
		}, untrue},
		{"another's, and said so", harm{rival: true}, func(s scene) {
			set(s.row, "already_invited")
			s.made[s.key][0].Metadata = map[string]string{"by": "another"}
		}, ""},
		{"a mail to somebody else", harm{}, func(s scene) { s.mails["stranger@example.com"] = 1 }, doubled},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := at(c.harm)
			x, results, explained := good(r)
			i := slices.Index(r.crowd.kinds, fresh)
			c.make(scene{x, &results[i], r.crowd.keys[i], explained})
			v := &verdict{}
			r.judgeRows(v, x, results, explained)
			r.judgeMails(v, x, results)
			var got []string
			for _, w := range v.wrongs {
				got = append(got, w.kind)
				if strings.Contains(w.what, "@") {
					t.Errorf("an address in %q", w.what)
				}
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %v (%v), want %q", got, v.wrongs, c.want)
			}
		})
	}
}

// TestFilesHaveOneCrowd checks that each file has the same people in a different order, and that
// the judge finds the person of each row.
func TestFilesHaveOneCrowd(t *testing.T) {
	t.Parallel()
	c := at(harm{}).crowd
	for file := range 2 {
		lines := strings.Split(strings.TrimSpace(c.file(file)), "\n")[1:]
		seen := map[int]bool{}
		for i, line := range lines {
			who := c.at(file, i+1)
			seen[who] = true
			if email, _, _ := strings.Cut(line, ","); c.keys[who] != "" && email != c.keys[who] {
				t.Errorf("file %d, row %d: the judge takes it for another", file, i+1)
			}
		}
		if len(seen) != len(c.keys) {
			t.Errorf("file %d has %d of %d people", file, len(seen), len(c.keys))
		}
	}
	if c.at(0, 1) == c.at(1, 1) {
		t.Error("both files have the same order")
	}
}

// TestSessionPlaysAll checks that each round plays every scenario with the next seed, and that the
// session counts the scenarios for which no time was left.
func TestSessionPlaysAll(t *testing.T) {
	t.Parallel()
	two := matrix()[:2]
	s := newSession(options{seed: 5, runs: 3}, two)
	for i, want := range []uint64{5, 5, 6} {
		if got, seed, n := s.next(""); got.name() != two[i%2].name() || seed != want || n != i+1 {
			t.Errorf("run %d: %s with seed %d is number %d", i+1, got.name(), seed, n)
		}
	}
	if _, _, n := s.next(""); n != 0 || s.left != 0 {
		t.Errorf("a fourth of three runs, %d left", s.left)
	}
	s = newSession(options{duration: time.Nanosecond}, two)
	if _, _, n := s.next(""); n != 0 || s.left != 2 {
		t.Errorf("run %d with no time, %d left of 2", n, s.left)
	}
}

func TestSameSeedSameRun(t *testing.T) {
	t.Parallel()
	for _, s := range matrix() {
		a, b := s.prepare(7), s.prepare(7)
		if !reflect.DeepEqual(a, b) || !reflect.DeepEqual(newCrowd(a.dice, true), newCrowd(b.dice, true)) {
			t.Errorf("%s: the same seed gives another run", s.name())
		}
	}
}

// TestSpreadHasEverything checks that -short leaves out combinations, but no harm and no answer.
func TestSpreadHasEverything(t *testing.T) {
	t.Parallel()
	all, names := map[string]bool{}, map[string]bool{}
	for _, s := range matrix() {
		names[s.name()] = true
	}
	for _, s := range spread() {
		all[s.harm.name], all[s.mode+s.answer.name] = true, true
		if !names[s.name()] {
			t.Errorf("%s is not in the matrix", s.name())
		}
	}
	for _, s := range matrix() {
		alone := s.answer.name == "none" || s.answer.name == "cut_after"
		if _, ok := s.harm.short(); !all[s.harm.name] && ok || !alone && !all[s.mode+s.answer.name] {
			t.Errorf("the short form lacks %s", s.name())
		}
	}
}

func TestReportGoesBetweenItsLines(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "page.md")
	must.OK(t, os.WriteFile(page, []byte("above\n"+begin+"\nold\n"+end+"\nbelow\n"), 0o600))
	x := newTally()
	x.add(scenario{harms[0], bulk, answers[0]}, &verdict{rows: 316, deaths: 2, settled: time.Second, done: 3 * time.Second, struck: true, did: map[string]int{"times a thing was done": 2}})
	must.OK(t, x.write(page, "a machine", options{seed: 5, runs: 1}))
	got, err := os.ReadFile(page)
	must.OK(t, err)
	expect.Text(t, string(got), "above\n"+begin, end+"\nbelow\n",
		"1 runs by `go run ./cmd/chaos -seed 5 -runs 1`; a machine.", "1.0, at most 1.0 |", "3.0, at most 3.0 |",
		"- `kill`: times a thing was done: 2.\n")
	expect.NoText(t, string(got), "old")
}

// TestProxy checks that the proxy forwards bytes, holds them back, and breaks connections.
func TestProxy(t *testing.T) {
	t.Parallel()
	p, c := echoed(t)
	say := func(text string) { say(t, c, text) }
	hear := func(text string) { hear(t, c, text) }
	say("one")
	hear("one")
	p.set(silent)
	say("two")
	must.OK(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Fatal("something passed while nothing should")
	}
	must.OK(t, c.SetReadDeadline(time.Time{}))
	p.set(open)
	hear("two")
	p.set(lost)
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Fatal("the connection did not break")
	}
	must.OK(t, p.close())
}

// echoed returns a proxy to a server that echoes what it receives, and a connection through it.
func echoed(t *testing.T) (*proxy, net.Conn) {
	t.Helper()
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	t.Cleanup(func() { _ = echo.Close() }) // the test is over
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c) }() // ends with the connection
		}
	}()
	p, err := openProxy("tcp", echo.Addr().String())
	must.OK(t, err)
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.listener.Addr().String())
	must.OK(t, err)
	t.Cleanup(func() { _ = c.Close() }) // the test is over
	return p, c
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, []byte(text)) {
		t.Fatalf("got %q, %v, want %q", got, err, text)
	}
}
