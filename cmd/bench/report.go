package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bulkinvite/internal/rig"
	"bulkinvite/internal/words"
)

// figure is a measured value, compared with a limit or a peer if it has one.
type figure struct {
	Work  string    `json:"work"`
	Unit  string    `json:"unit"`
	Runs  []float64 `json:"runs"`
	Peer  string    `json:"peer,omitempty"`
	Limit []float64 `json:"limit,omitempty"` // of the same runs, or one for all of them
	// The floor of the ratio, or of the figure if it has no peer.
	AtLeast *float64 `json:"at_least,omitempty"`
	AtMost  *float64 `json:"at_most,omitempty"`
	Value   float64  `json:"value"`            // the ratio, or the figure if it has no peer
	Kept    *bool    `json:"kept,omitempty"`   // whether the floor is kept; nil without a floor
	Before  *float64 `json:"before,omitempty"` // the value in the report that this one replaces
}

// floor returns a pointer to a floor's number.
func floor(n float64) *float64 { return &n }

// value returns the number that the floor applies to: the median of the ratios within a run, or the
// median of the figures. Both numbers of a ratio are from the same run, so other load on the
// machine affected both.
func (f figure) value() float64 {
	switch {
	case len(f.Limit) == 0:
		return median(f.Runs)
	case len(f.Limit) != len(f.Runs):
		return median(f.Runs) / median(f.Limit)
	}
	var ratios []float64
	for i := range f.Runs {
		ratios = append(ratios, f.Runs[i]/f.Limit[i])
	}
	return median(ratios)
}

// judged returns the figure with its value, and with whether the value keeps the floor.
func (f figure) judged() figure {
	f.Value = f.value()
	if f.AtLeast != nil || f.AtMost != nil {
		kept := (f.AtLeast == nil || f.Value >= *f.AtLeast) && (f.AtMost == nil || f.Value <= *f.AtMost)
		f.Kept = &kept
	}
	return f
}

// write formats a value of the figure. It rounds towards missing the floor, so that a value that
// misses it never looks as if it kept it.
func (f figure) write(v float64) string {
	if len(f.Limit) == 0 {
		return number(v) + " " + f.Unit
	}
	const tiny = 1e-9
	switch {
	case f.AtLeast != nil:
		v = math.Floor(100*v+tiny) / 100
	case f.AtMost != nil:
		v = math.Ceil(100*v-tiny) / 100
	}
	return fmt.Sprintf("%.2f", v)
}

// cells returns the figure's line in the table.
func (f figure) cells() []string {
	var peer, ratio, before, wanted, kept string
	if len(f.Limit) > 0 {
		peer, ratio = f.Peer+": "+spread(f.Limit, f.Unit), f.write(f.Value)
	}
	if f.Before != nil {
		before = f.write(*f.Before)
	}
	switch {
	case f.AtLeast != nil:
		wanted = "at least " + f.write(*f.AtLeast)
	case f.AtMost != nil:
		wanted = "at most " + f.write(*f.AtMost)
	}
	if f.Kept != nil {
		kept = map[bool]string{true: "yes", false: "**no**"}[*f.Kept]
	}
	return []string{f.Work, spread(f.Runs, f.Unit), peer, ratio, before, wanted, kept}
}

// report is what one command measured.
type report struct {
	Command string   `json:"command"`
	Machine string   `json:"machine"`
	Took    string   `json:"took"`
	Earlier string   `json:"earlier,omitempty"` // machine and day of the values in Before
	Figures []figure `json:"figures"`
}

// compare judges the figures and adds the values of an earlier report.
func (r *report) compare(earlier report) {
	r.Earlier = earlier.Machine
	for i, f := range r.Figures {
		f = f.judged()
		j := slices.IndexFunc(earlier.Figures, func(e figure) bool { return e.Work == f.Work })
		if j >= 0 {
			f.Before = &earlier.Figures[j].Value
		}
		r.Figures[i] = f
	}
}

func (r *report) table() string {
	rows := [][]string{
		{"work", "ours", "compared with", "ratio", "before", "floor", "kept"},
		{"---", "--:", "---", "--:", "--:", "--:", "---"},
	}
	for _, f := range r.Figures {
		rows = append(rows, f.judged().cells())
	}
	var out strings.Builder
	rig.WriteTable(&out, rows)
	return out.String()
}

func (r *report) verdict() string {
	var missed []string
	floors := 0
	for _, f := range r.Figures {
		if f = f.judged(); f.Kept == nil {
			continue
		}
		floors++
		if !*f.Kept {
			missed = append(missed, f.Work)
		}
	}
	if len(missed) == 0 {
		return fmt.Sprintf("All %d floors are kept.", floors)
	}
	return fmt.Sprintf("%d of %d floors are kept. Missed: %s.", floors-len(missed), floors, strings.Join(missed, "; "))
}

// page returns the text of docs/bench/README.md.
func (r *report) page() string {
	earlier := ""
	if r.Earlier != "" {
		earlier = "\n*Before* is the value of the report that this one replaced: " + r.Earlier + "."
	}
	const importing, serving = "`bulkinvite import`", "`serve`"
	return fmt.Sprintf(`# How fast bulkinvite is, compared with its limits

    %s

%s; it took %s. [bench.json](bench.json) has every run.

The command measures every floor on a PostgreSQL with its defaults, except that it takes more connections.
Programs, sandbox and PostgreSQL share the machine. Other machines have other numbers: compare the ratios.

%s
%s Figures are medians, with the least and the most; a ratio is the median of the ratios within a run.%s

## Import

- The bare loop parses the file with encoding/csv, copies its rows by COPY into the table of results,
  which has its indexes, and inserts a job for each row by River's InsertManyFastTx, %s rows at a time,
  in one transaction. It checks nothing. A row has %d bytes.
- %[9]s is timed from the start of the process to its end, with new tables each time. Memory is
  the most that the process had resident (VmHWM), PostgreSQL apart.
- encoding/csv parses the same file and drops what it gets.

## Invite

- There are no limits, and the sandbox answers at once: the program itself is what is slow. Each attempt is
  committed before its request, and its outcome after it. Time is from the first attempt to the last
  outcome. Everybody must then have one e-mail.
- River's worker that does nothing works a job for each person, with as many workers, on the same PostgreSQL.
- Log is PostgreSQL's write-ahead log, and disk is all tables with their indexes after a vacuum, jobs included:
  both from the empty tables until everybody is invited.
- The old connections are those of a worker that starts when there is no row and no attempt. PostgreSQL
  plans its statements then, and autovacuum, which would have it plan anew, is off for the ledger's tables.
- A pool that has too few connections for its workers must be slow at worst, never hang: a run that does not end
  within a minute counts as 0 people a second.

## Budget

- An hour is a window of 6 s here. Clerk allows %[10]d single and %[11]d bulk creates of %[12]d people in each.
  A loop sends one request after another and, told to slow down, waits for Retry-After. All ways run at
  one time, each with a sandbox and a database of its own.
- A sweep is counted from its first revocation on, over whole windows of 10 s: revocations and reads, since both
  use the general limit.
- A worker waits for Clerk's own hour, with rows queued and the budget spent. Processor time is the process's own,
  statements are all that its connections run.

## Scale

- One file is imported into one batch, and a worker invites as many people as the limits allow.
- Questions go to the API of %[13]s, each time for another row; of a hundred answers 99 come within the
  time. The server keeps the count of a large batch for a while, so the first answer takes longer.
`, r.Command, r.Machine, r.Took, r.table(), r.verdict(), earlier, number(bareChunk), rowBytes, importing,
		rig.Singles, rig.Bulks, rig.BulkSize, serving)
}

// write replaces the report in a directory.
func (r *report) write(dir string) error {
	earlier, err := readReport(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.compare(earlier)
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "bench.json"), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "README.md"), []byte(r.page()), 0o644),
	)
}

func readReport(dir string) (r report, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if err != nil {
		return r, err
	}
	err = json.Unmarshal(text, &r)
	return r, err
}

// spread formats the median of the runs, with the minimum and the maximum if they differ.
func spread(runs []float64, unit string) string {
	text := number(median(runs)) + " " + unit
	if low, high := number(slices.Min(runs)), number(slices.Max(runs)); low != high {
		text += " (" + low + " to " + high + ")"
	}
	return text
}

// number formats three significant digits, or a larger number as an integer with commas: 3,500.
func number(v float64) string {
	if v < 1000 {
		return fmt.Sprintf("%.3g", v)
	}
	return grouped(int(math.Round(v)))
}

var grouped = words.Thousands

// median returns the middle value, or the lower of the two in the middle.
func median[T cmp.Ordered](values []T) T {
	return percentile(values, 50)
}

// percentile returns the smallest value that at least of percent of the values do not exceed.
func percentile[T cmp.Ordered](values []T, of int) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, (len(sorted)*of+99)/100-1)]
}
