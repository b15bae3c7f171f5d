package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"bulkinvite/internal/rig"
)

// sum adds up the verdicts of some runs.
type sum struct {
	runs, rows, deaths          int
	lost, doubled, wrong, above int
	late, stalled               int
	skipped                     int // runs that the machine does not permit
	struck                      int // runs in which the harm struck
	did                         map[string]int
	idle                        time.Duration
	settled, done               []time.Duration
}

func (s *sum) add(v *verdict) {
	s.runs++
	s.rows += v.rows
	s.deaths += v.deaths
	s.lost += v.count(lostOnes)
	s.doubled += v.count(doubled)
	s.wrong += v.count(untrue)
	s.above += v.count(over)
	s.late += v.count(late)
	s.stalled += v.count(stalled)
	s.idle = max(s.idle, v.idle)
	for what, n := range v.did {
		if s.did == nil {
			s.did = map[string]int{}
		}
		s.did[what] += n
	}
	if v.struck {
		s.struck++
		s.settled = append(s.settled, v.settled)
	}
	s.done = append(s.done, v.done)
}

// tally counts runs by what happened to the programs, and again by what Clerk answered.
type tally struct {
	total            sum
	harms, answers   map[string]*sum
	harmed, answered []string // their names, in the order of the matrix
}

func newTally() *tally {
	t := &tally{harms: map[string]*sum{}, answers: map[string]*sum{}}
	for _, h := range append(points(), harms...) {
		t.harmed = append(t.harmed, h.name)
	}
	for _, a := range answers {
		t.answered = append(t.answered, a.name)
	}
	return t
}

func (t *tally) add(s scenario, v *verdict) {
	for _, sum := range t.of(s) {
		sum.add(v)
	}
}

// skip counts a run that the machine does not permit.
func (t *tally) skip(s scenario) {
	for _, sum := range t.of(s) {
		sum.skipped++
	}
}

// of returns the sums in which a run counts.
func (t *tally) of(s scenario) []*sum {
	all := []*sum{&t.total}
	for sums, name := range map[*map[string]*sum]string{&t.harms: s.harm.name, &t.answers: s.answer.name} {
		if (*sums)[name] == nil {
			(*sums)[name] = &sum{}
		}
		all = append(all, (*sums)[name])
	}
	return all
}

// text returns both tables.
func (t *tally) text() string {
	var b strings.Builder
	table(&b, "what happened to the programs", t.harmed, t.harms, &t.total)
	b.WriteString("\n")
	table(&b, "what Clerk answered", t.answered, t.answers, nil)
	return b.String()
}

func table(b *strings.Builder, title string, names []string, sums map[string]*sum, total *sum) {
	cells := [][]string{
		{title, "runs", "struck", "rows", "deaths", "lost", "doubled", "wrong outcome", "over the limit",
			"after a deadline", "stalled", "longest idle s", "s to settle what was open", "s to the last row"},
		{"---", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:"},
	}
	line := func(name string, s *sum) {
		cells = append(cells, []string{name, fmt.Sprint(s.runs), fmt.Sprint(s.struck), fmt.Sprint(s.rows), fmt.Sprint(s.deaths), fmt.Sprint(s.lost), fmt.Sprint(s.doubled),
			fmt.Sprint(s.wrong), fmt.Sprint(s.above), fmt.Sprint(s.late), fmt.Sprint(s.stalled), fmt.Sprintf("%.1f", s.idle.Seconds()),
			seconds(s.settled), seconds(s.done)})
	}
	for _, name := range names {
		if s := sums[name]; s != nil {
			line(name, s)
		}
	}
	if total != nil {
		line("all", total)
	}
	rig.WriteTable(b, cells)
}

// seconds returns the median and the maximum.
func seconds(times []time.Duration) string {
	if len(times) == 0 {
		return "–"
	}
	slices.Sort(times)
	return fmt.Sprintf("%.1f, at most %.1f", times[(len(times)-1)/2].Seconds(), times[len(times)-1].Seconds())
}

// The lines of a page between which the tables are written.
const (
	begin = "<!-- chaos: written by make chaos -->"
	end   = "<!-- chaos: end -->"
)

// notMade returns a line about the runs that the machine did not permit, or an empty string.
func (t *tally) notMade() string {
	var all []string
	for _, name := range t.harmed {
		if s := t.harms[name]; s != nil && s.skipped > 0 {
			all = append(all, fmt.Sprintf("%d of `%s`", s.skipped, name))
		}
	}
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf("\nNot made, since the machine does not permit them: %s.\n", strings.Join(all, ", "))
}

// details returns a line about what each harm did, for harms that do more than strike.
func (t *tally) details() string {
	var b strings.Builder
	for _, name := range t.harmed {
		s := t.harms[name]
		if s == nil || len(s.did) == 0 {
			continue
		}
		var all []string
		for _, what := range slices.Sorted(maps.Keys(s.did)) {
			all = append(all, fmt.Sprintf("%s: %d", what, s.did[what]))
		}
		fmt.Fprintf(&b, "- `%s`: %s.\n", name, strings.Join(all, "; "))
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n" + b.String()
}

// write replaces the tables in a page.
func (t *tally) write(page, machine string, o options) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return fmt.Errorf("%s has no lines %s and %s", page, begin, end)
	}
	command := "go run ./cmd/chaos"
	if o.short {
		command += " -short"
	}
	command += fmt.Sprintf(" -seed %d", o.seed)
	if o.runs > 0 {
		command += fmt.Sprintf(" -runs %d", o.runs)
	}
	if o.only != "" {
		command += fmt.Sprintf(" -run '%s'", o.only)
	}
	more := t.details() + t.notMade()
	text = fmt.Appendf(nil, "%s%s\n\n%s\n%d runs by `%s`; %s.\n%s\n%s%s", before, begin, t.text(), t.total.runs, command, machine, more, end, after)
	return os.WriteFile(page, text, 0o644)
}
