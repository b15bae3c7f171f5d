package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/importer"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/internal/words"
	"bulkinvite/jobs"
)

// fileFlags say how to read a file; every command that takes one has them.
type fileFlags struct {
	Map       map[string]string `placeholder:"NAME=COLUMN" help:"Which column, by header or as #7, is what: email, redirect_url, expires_in_days, public_metadata.NAME. Repeatable. Default: by header."`
	Metadata  []string          `placeholder:"COLUMN" help:"Columns for public_metadata. Default: those named public_metadata.NAME."`
	Delimiter string            `placeholder:"CHARACTER" help:"Between cells: comma, semicolon, tab, pipe or such. Default: detected."`
	RevokeOn  string            `placeholder:"COLUMN" help:"Column of the day after which a sweep takes it back. Default: none."`
	Encoding  string            `placeholder:"NAME" help:"The file's encoding, such as windows-1252. Default: detected."`
	Max       map[string]int64  `env:"BULKINVITE_MAX" placeholder:"WHAT=N" help:"Refuse files with more: rows=N, columns=N, or with longer cells, lines or files: cell=BYTES, line=BYTES, file=BYTES. Default: rows=20000000, columns=1000, cell=1048576, line=4194304, file=8589934592."`
}

// peopleFlags name a file of people who are to be invited, and say when.
type peopleFlags struct {
	File string `arg:"" predictor:"file" help:"The file of people; - reads standard input."`
	whenFlags
	fileFlags
}

// read reads the file for its plan. domain is that of the person who sends it; empty: not known.
func (f *peopleFlags) read(ctx context.Context, p *program, domain string) (*plan, error) {
	when, err := f.openWhen(time.Now())
	if err != nil {
		return nil, err
	}
	options, err := f.options()
	if err != nil {
		return nil, err
	}
	options.Domain = domain
	in, err := p.openInput(ctx, f.File, options.Limits)
	if err != nil {
		return nil, err
	}
	pl, err := p.read(ctx, in, options)
	if err == nil {
		pl.when = when
	}
	return pl, err
}

func (f *fileFlags) options() (importer.Options, error) {
	o := importer.Options{Map: f.Map, Metadata: f.Metadata, RevokeOn: f.RevokeOn, Delimiter: f.Delimiter, Encoding: f.Encoding}
	var err error
	o.Limits, err = f.limits()
	return o, err
}

// limits reads --max. What it does not name has its default.
func (f *fileFlags) limits() (l importer.Limits, err error) {
	for what, n := range f.Max {
		if n < 1 || what != "file" && n > math.MaxInt32 {
			return l, usage(fmt.Errorf("--max %s=%d must be 1 or more, and only file= more than %d", what, n, math.MaxInt32))
		}
		switch what {
		case "rows":
			l.Rows = int(n)
		case "columns":
			l.Columns = int(n)
		case "cell":
			l.CellBytes = int(n)
		case "line":
			l.LineBytes = int(n)
		case "file":
			l.FileBytes = n
		default:
			return l, usage(fmt.Errorf("--max knows rows, columns, cell, line and file, but not %q", what))
		}
	}
	return l, nil
}

// keptWarnings is how many warnings the plan shows one by one.
const keptWarnings = 5

// warning is a row that is sent, but that a person may want to look at first.
type warning struct {
	line    int
	email   string // shown on a person's terminal and on standard output only
	message string
}

// plan is what a file holds and what sending it would take.
type plan struct {
	input    *input
	batch    int64 // the draft that it is of; 0: a file that is no batch yet
	options  importer.Options
	summary  *importer.Summary
	warnings []warning              // the first few
	kept     []invitation.Addressee // the first people who would be asked for: one more than Clerk is asked about, at most
	known    invitation.Known
	roster   *rosterPlan // nil: it is no new version of a roster
	when     when
	canary   int    // how many people go first; 0: all at once
	resend   bool   // who has a pending invitation is invited again
	clerk    string // whom check asked; empty: nobody
	budget   report.Budget
	invitation.Plan
}

// read reads a whole file for its plan.
func (p *program) read(ctx context.Context, in *input, options importer.Options) (*plan, error) {
	r, done, err := p.pass(in, "Reading")
	if err != nil {
		return nil, err
	}
	defer done()
	pl := &plan{input: in, options: options}
	pl.summary, err = importer.Read(ctx, r, options, func(row *importer.Row) error {
		for _, w := range row.Warnings {
			if len(pl.warnings) < keptWarnings {
				pl.warnings = append(pl.warnings, warning{row.Line, row.Email, w.Message})
			}
		}
		if row.Problem == nil && row.DuplicateOf == 0 && len(pl.kept) <= jobs.PreflightAtMost {
			// Copies: a row's texts may be parts of a long line.
			person := invitation.Addressee{Row: row.Number, Email: strings.Clone(row.Email), Key: strings.Clone(row.Key)}
			pl.kept = append(pl.kept, person)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", plain(in.name), err)
	}
	for _, w := range slices.Backward(pl.summary.Warnings) {
		if w.Row == 0 { // of the whole file, and so of the most rows
			pl.warnings = slices.Insert(pl.warnings, 0, warning{line: w.Line, message: w.Message})
		}
	}
	return pl, nil
}

// everybody hands the people who would be asked for to take. Those of a short file are kept since it was read;
// a long one is read once more, so that memory does not grow with it.
func (pl *plan) everybody(ctx context.Context, p *program) jobs.People {
	return func(take func([]invitation.Addressee) error) error {
		if len(pl.kept) <= jobs.PreflightAtMost {
			for some := range slices.Chunk(pl.kept, jobs.LookupChunk) {
				if err := take(some); err != nil {
					return err
				}
			}
			return nil
		}
		r, done, err := p.pass(pl.input, "Looking up")
		if err != nil {
			return err
		}
		defer done()
		some := make([]invitation.Addressee, 0, jobs.LookupChunk)
		_, err = importer.Read(ctx, r, pl.options, func(row *importer.Row) error {
			if row.Problem != nil || row.DuplicateOf != 0 {
				return nil
			}
			some = append(some, invitation.Addressee{Row: row.Number, Email: row.Email, Key: row.Key})
			if len(some) < cap(some) {
				return nil
			}
			err := take(some)
			some = some[:0]
			return err
		})
		if err == nil {
			err = take(some)
		}
		return err
	}
}

// forecast works out the requests and the time, given what the database says of an instance; with a nil reader it
// says nothing.
func (pl *plan) forecast(ctx context.Context, pool *pgxpool.Pool, instance int64, limits invitation.Limits,
	priority int) error {
	budget := report.Budget{Limits: limits}
	var others []invitation.Load
	if pool != nil {
		var err error
		if budget, others, err = waiting(ctx, pool, instance, limits); err != nil {
			return err
		}
	}
	pl.work(time.Now(), priority, others, budget)
	return nil
}

// waiting is what an instance's limits have left, and what waits for them.
func waiting(ctx context.Context, pool *pgxpool.Pool, instance int64,
	limits invitation.Limits) (report.Budget, []invitation.Load, error) {
	budget, err := report.ReadBudget(ctx, pool, instance, limits)
	if err != nil {
		return budget, nil, err
	}
	loads, err := report.Loads(ctx, pool, instance)
	return budget, loads, err
}

// work works out the requests and the time, given the limits, what the budget
// has spent, and which batches wait already.
func (pl *plan) work(now time.Time, priority int, others []invitation.Load, budget report.Budget) {
	skip := invitation.Skip
	if pl.resend {
		skip = invitation.Resend
	}
	own := invitation.Load{
		Priority: priority, People: pl.summary.Valid - pl.known.Skipped(skip),
		StartAt: pl.when.startAt, Hours: pl.when.hours, Zone: pl.when.zone,
	}
	pl.budget = budget
	pl.Plan = invitation.MakePlan(now, own, others, budget.Limits.Create, budget.Limits.Bulk, budget.Spent)
}

// emailColumn names the column of the addresses by its header, else by its number.
func emailColumn(c importer.Columns) string {
	if name := plain(c.Mapped["email"]); name != "" || c.Numbers["email"] == 0 {
		return strconv.Quote(name)
	}
	return fmt.Sprintf("#%d", c.Numbers["email"])
}

// text is the plan as a person reads it. clerk names the instance that it would be sent to, or is empty.
func (pl *plan) text(clerk string, now time.Time, on display) string {
	var b strings.Builder
	s := pl.summary
	name := plain(pl.input.name)
	width := max(len("Warnings"), len([]rune(name))) + 3
	fmt.Fprintf(&b, "%-*s%s\n", width, name, dotted(counted(s.Rows, "row", "rows"), s.Encoding, within(s),
		"e-mail column "+emailColumn(s.Columns)))
	if clerk != "" {
		fmt.Fprintf(&b, "%-*s%s\n", width, "Clerk", clerk)
	}
	b.WriteString("\n" + pl.people() + "\n")
	b.WriteString(titled("Plan", width, pl.lines(now)))
	b.WriteString(titled(on.paint(yellow, "Warnings"), width, pl.warningTable().lines()))
	b.WriteString(titled("Names", width, pl.encodingTable().lines()))
	return b.String()
}

// titled writes lines, the first one after a title. Beside the title they stand so many columns in.
func titled(title string, columns int, lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(title + strings.Repeat(" ", columns-width(title)) + line + "\n")
		title = ""
	}
	return b.String()
}

// people says how many rows would be sent, and why the others would not.
func (pl *plan) people() string {
	s := pl.summary
	t := table{right: []bool{true}}
	t.add("  "+thousands(pl.ToSend), "to invite", "")
	add := t.count
	add(pl.known.Lapsed, "of them again", "their invitations were revoked or have expired")
	add(pl.known.Registered, "already users", "skipped")
	if pl.resend {
		add(pl.known.Invited+pl.known.Pending, "of them again", "their invitations are revoked, if three days have passed since the last time; singly")
	} else {
		add(pl.known.Invited, "invited by an earlier batch", "skipped")
		add(pl.known.Pending, "already invited", "skipped")
	}
	add(s.DuplicateRow, "the same address again", "skipped, the first row counts")
	if pl.batch != 0 {
		add(s.Invalid, "invalid", fmt.Sprintf("bulkinvite results %d --outcome invalid", pl.batch))
	} else {
		add(s.Invalid, "invalid", "bulkinvite check --problems bad.csv "+shellWord(cmp.Or(pl.input.path, pl.input.name)))
	}
	add(s.Blank, "blank", "no rows")
	if r := pl.roster; r != nil {
		add(r.unchanged, fmt.Sprintf("also in batch %d", r.of), "kept")
		add(len(r.gone), fmt.Sprintf("of batch %d are gone", r.of), r.then())
	}
	return t.String()
}

// lines say how many requests it takes, when the last one leaves, and what that depends on.
func (pl *plan) lines(now time.Time) []string {
	if pl.summary.Rows == 0 {
		return []string{"no rows, so there is nothing to send"}
	}
	if pl.ToSend == 0 {
		return []string{"nothing to send"}
	}
	return append(scheduleLines(pl.Plan, now), pl.conditions()...)
}

// scheduleLines says of a plan, for people, how many requests it takes and when
// the last one leaves.
func scheduleLines(pl invitation.Plan, now time.Time) []string {
	requests := words.Requests(pl.Bulk, pl.Create)
	last := pl.Lasts()
	first := "now"
	if pl.First >= time.Second {
		first = "at " + moment(now.Add(pl.First))
	}
	switch {
	case pl.Windows <= 1 && last-pl.First < time.Second:
		return []string{requests + ", all of them " + map[bool]string{true: "at once", false: first}[first == "now"]}
	case pl.Window == 0:
		return []string{requests}
	}
	rate := fmt.Sprintf("%s people at once, then %s each %s", thousands(pl.AtOnce), thousands(pl.Each), span(pl.Window))
	if pl.Window == time.Hour {
		rate = fmt.Sprintf("%s people at once, then %s an hour", thousands(pl.AtOnce), thousands(pl.Each))
	}
	return []string{
		fmt.Sprintf("%s in %s; %s", requests, counted(pl.Windows, "window", "windows"), rate),
		fmt.Sprintf("first %s %s, last at %s (%s)", thousands(pl.AtOnce), first, moment(now.Add(last)), span(last)),
	}
}

// conditions says what the schedule depends on.
func (pl *plan) conditions() []string {
	var lines []string
	if pl.canary > 0 && pl.canary < pl.ToSend {
		lines = append(lines, fmt.Sprintf("the first %s alone, then it asks before the others", thousands(pl.canary)))
	}
	if words := pl.when.words(); words != "" {
		lines = append(lines, words)
	}
	if pl.Ahead > 0 {
		lines = append(lines, fmt.Sprintf("after %s of other batches", counted(pl.Ahead, "person", "people")))
	}
	return append(lines, budgetLines(pl.budget)...)
}

func (pl *plan) warningTable() *table {
	t := &table{}
	for _, w := range pl.warnings {
		place := "the file"
		if w.line > 0 {
			place = fmt.Sprintf("line %d", w.line)
		}
		t.add(place, w.email, w.message)
	}
	if more := len(pl.summary.Warnings) + pl.summary.MoreWarnings - len(pl.warnings); more > 0 {
		t.add("and " + counted(more, "more", "more"))
	}
	return t
}

// encodingTable shows how names would read in each encoding that the file may be in.
func (pl *plan) encodingTable() *table {
	t := &table{}
	for _, g := range pl.summary.EncodingGuesses {
		t.add("--encoding "+g.Encoding, plain(strings.Join(g.Sample, ", ")))
	}
	return t
}

// within says where in a file the cells are.
func within(s *importer.Summary) string {
	if s.Encoding == importer.EncodingWorkbook {
		return fmt.Sprintf("sheet %q", plain(s.Sheet))
	}
	return delimiterWord(s.Delimiter)
}

// delimiterWord names what stands between cells.
func delimiterWord(d string) string {
	switch d {
	case ",":
		return "commas"
	case ";":
		return "semicolons"
	case "\t":
		return "tabs"
	case "|":
		return "pipes"
	}
	return fmt.Sprintf("%q between cells", d)
}
