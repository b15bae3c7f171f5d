package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/jackc/pgx/v5"

	"bulkinvite/importer"
	"bulkinvite/internal/erased"
	"bulkinvite/internal/revocation"
	"bulkinvite/jobs"
)

type rescindCmd struct {
	File  string `arg:"" optional:"" predictor:"file" help:"The file of people to take back; - reads standard input."`
	Email string `placeholder:"ADDRESS" help:"Take back this one person. Default: the people of FILE."`
	NotIn string `name:"not-in" placeholder:"FILE" help:"With --batch: take back those of the batch who are not in this file. Default: off."`
	Batch int64  `placeholder:"BATCH" help:"The batch of --not-in. Default: none."`
	Apply bool   `help:"Do it. Default: only show what would be done."`
	Allow bool   `help:"Let it take back more than its threshold: 30 % of what is open, and 20. Default: then it is refused."`
	Actor actor  `placeholder:"NAME" help:"Who asks for it, for the record. Default: the login name."`
	fileFlags
}

// Help is shown before the flags.
func (rescindCmd) Help() string {
	return `Examples:

    bulkinvite rescind --email jane@example.com --apply
    bulkinvite rescind withdrawn.csv                       what it would take back
    bulkinvite rescind withdrawn.csv --apply
    bulkinvite rescind --not-in roster-2.csv --batch 12    who of batch 12 is no longer in the roster

Revokes the pending invitations of these people, no matter who made them, and cancels their waiting rows in every batch. If a request for one of them is under way, its result is read first, and the invitation that it made is revoked. It reads Clerk first, so that it acts on what is there now. People who have accepted stay users. On a terminal --apply asks before it does anything; of a production instance you type the number. Exit status 0; 3 if a revocation failed; 4 if it is more than its threshold or not confirmed.`
}

// Validate refuses what does not say whom to take back.
func (c *rescindCmd) Validate() error {
	given := 0
	for _, text := range []string{c.File, c.Email, c.NotIn} {
		if text != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return errors.New("say whom to take back: a FILE, --email ADDRESS, or --not-in FILE --batch BATCH")
	case (c.NotIn != "") != (c.Batch != 0):
		return errors.New("--not-in and --batch go together: those of the batch who are not in the file are taken back")
	}
	return nil
}

// rescindDocument is what rescind --json prints.
type rescindDocument struct {
	Sweep   int64          `json:"sweep"` // 0: it was refused
	Apply   bool           `json:"apply"`
	People  int            `json:"people"`
	Pending int            `json:"pending"` // invitations to revoke
	Waiting int            `json:"waiting"` // rows to cancel
	Joined  []string       `json:"joined"`  // the people who have accepted or are users
	Unknown int            `json:"unknown"` // people of whom there is nothing to take back
	Revoked int            `json:"revoked"`
	Stopped int            `json:"cancelled"`
	Skipped map[string]int `json:"skipped"`
	Failed  int            `json:"failed"`
	Held    bool           `json:"held"`
}

// Run takes people back, or shows what that would be.
func (c *rescindCmd) Run(ctx context.Context, p *program) error {
	var listed *roster
	if name := c.File + c.NotIn; name != "" { // before anything is asked: the file may not be readable
		options, err := c.options()
		if err != nil {
			return err
		}
		in, err := p.openInput(ctx, name, options.Limits)
		if err != nil {
			return err
		}
		if listed, err = readRoster(ctx, in, options); err != nil {
			return err
		}
		if c.NotIn != "" && len(listed.people)+listed.unreadable == 0 {
			return noRows(listed.name, c.Batch)
		}
	}
	t, err := p.openTakingBack(ctx)
	if err != nil {
		return err
	}
	keys, err := c.people(ctx, t, listed)
	if err != nil {
		return err
	}
	if err := t.refresh(ctx, c.Actor.name()); err != nil {
		return err
	}
	sw := &revocation.Sweep{InstanceID: t.instance.ID, Kind: revocation.KindRescind, Batch: c.Batch,
		StartedBy: c.Actor.name(), Apply: c.Apply, Allow: c.Allow}
	if err := t.confirmRescind(ctx, sw, keys); err != nil {
		return err
	}
	w, err := jobs.Rescind(ctx, t.pool, sw, keys)
	if err != nil {
		return err
	}
	if c.Apply && !sw.Held {
		if sw, err = t.finish(ctx, sw.ID); err != nil {
			return sweepFailure(err)
		}
	}
	return p.printRescind(sw, w)
}

// confirmRescind shows what an applied rescind would do and asks for a confirmation, on a terminal.
func (t *takingBack) confirmRescind(ctx context.Context, sw *revocation.Sweep, keys []string) error {
	if !sw.Apply || t.settings.Yes || !t.canAsk() {
		return nil
	}
	w, err := t.withdrawal(ctx, keys)
	if err != nil || w.Takes() == 0 || w.Over() && !sw.Allow {
		return err // nothing would be done: the report says why
	}
	t.note("%s", withdrawalTable(w).String())
	return t.confirm(ctx, len(w.Targets), len(w.Waiting))
}

// withdrawal is what taking people back would come to.
func (t *takingBack) withdrawal(ctx context.Context, keys []string) (w *revocation.Withdrawal, err error) {
	err = pgx.BeginFunc(ctx, t.pool, func(tx pgx.Tx) error {
		w, err = revocation.Withdrawing(ctx, tx, t.instance.ID, keys, false)
		return err
	})
	return w, err
}

// people are the keys of those who are to be taken back.
func (c *rescindCmd) people(ctx context.Context, t *takingBack, listed *roster) ([]string, error) {
	switch {
	case c.Email != "":
		key, err := personKey(c.Email)
		return []string{key}, err
	case c.NotIn == "":
		if listed.unreadable > 0 {
			t.log.Warn("rows have no address that can be read: nobody is taken back for them", "rows", listed.unreadable)
		}
		return listed.keys(), nil
	}
	diff, err := t.compare(ctx, listed, c.Batch)
	if err != nil {
		return nil, err
	}
	return diff.gone, nil
}

// roster is the people of a file.
type roster struct {
	name       string
	path       string          // as a suggested command names it
	people     map[string]bool // by key
	unreadable int             // rows without an address that could be read
	line       int             // the line of the first of those
}

// readRoster reads who is in a file.
func readRoster(ctx context.Context, in *input, options importer.Options) (*roster, error) {
	r, err := in.rewind()
	if err != nil {
		return nil, err
	}
	l := &roster{name: plain(in.name), path: in.path, people: map[string]bool{}}
	_, err = importer.Read(ctx, r, options, func(row *importer.Row) error {
		if row.Key != "" {
			l.people[row.Key] = true
			return nil
		}
		if l.unreadable++; l.unreadable == 1 {
			l.line = row.Line
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	return l, nil
}

func (l *roster) keys() []string { return slices.Sorted(maps.Keys(l.people)) }

// compare holds a new version of a roster against the batch of the old one. A
// row that can't be read may be anybody: nobody is taken for gone then. Who was
// corrected is in the file under either address.
func (t *takingBack) compare(ctx context.Context, l *roster, id int64) (*rosterPlan, error) {
	if l.unreadable > 0 {
		return nil, fail(exitHeld, "unreadable_rows", "fix the file: bulkinvite check --problems bad.csv "+shellWord(l.path)+" writes its bad rows to bad.csv",
			"%s, line %d: no address that can be read (%s like that); whoever it is would be taken for gone", l.name, l.line, counted(l.unreadable, "row is", "rows are"))
	}
	if _, err := t.app().Batch(ctx, id); err != nil {
		return nil, otherInstance(noBatch(err), useOwnKey)
	}
	before, err := revocation.Roster(ctx, t.pool, id)
	if err != nil {
		return nil, err
	}
	former, err := erased.Former(ctx, t.pool, l.keys())
	if err != nil {
		return nil, err
	}
	d := &rosterPlan{of: id}
	for _, keys := range before {
		if slices.ContainsFunc(keys, func(key string) bool { return l.people[key] || former[key] != "" }) {
			d.unchanged++
		} else {
			d.missing++
			d.gone = append(d.gone, keys...)
		}
	}
	d.added = len(l.people) - d.unchanged
	return d, nil
}

// refresh reads Clerk, so that what is taken back is what stands there. Where
// that fails, what is known has to do: those who wait are stopped all the same.
func (t *takingBack) refresh(ctx context.Context, actor string) error {
	_, err := t.worker.Reconcile(ctx, actor)
	switch {
	case errors.Is(err, jobs.ErrUnauthorized), ctx.Err() != nil:
		return sweepFailure(err)
	case err != nil:
		t.log.Warn("what stands at Clerk can't be read; what was known before has to do", "error", err)
	}
	return nil
}

func (p *program) printRescind(sw *revocation.Sweep, w *revocation.Withdrawal) error {
	doc := rescindDocument{Sweep: sw.ID, Apply: sw.Apply, People: w.People, Pending: len(w.Targets), Waiting: len(w.Waiting), Joined: w.Joined, Unknown: w.Unknown,
		Revoked: sw.Revoked, Stopped: sw.Cancelled, Skipped: sw.Skipped, Failed: sw.Failed, Held: sw.Held}
	if doc.Joined == nil {
		doc.Joined = []string{}
	}
	if doc.Skipped == nil {
		doc.Skipped = map[string]int{}
	}
	if err := p.show(doc, rescindText(&doc, w)); err != nil {
		return err
	}
	return sweepStatus(sw)
}

// shownJoined is how many people who have joined are named one by one.
const shownJoined = 20

// withdrawalTable counts what taking people back comes to.
func withdrawalTable(w *revocation.Withdrawal) *table {
	t := &table{right: []bool{true}}
	add := func(n int, one, many string) { t.count(n, english.PluralWord(n, one, many)) }
	t.add("  "+thousands(w.People), english.PluralWord(w.People, "person", "people"))
	add(len(w.Targets), "pending invitation", "pending invitations")
	add(len(w.Waiting), "row that still waits", "rows that still wait")
	add(w.Unknown, "person with nothing to take back", "people with nothing to take back")
	return t
}

func rescindText(d *rescindDocument, w *revocation.Withdrawal) string {
	t := withdrawalTable(w)
	done := d.Apply && !d.Held
	if done {
		t.count(d.Revoked, "revoked")
		t.count(d.Stopped, "cancelled")
		t.leftAlone(d.Skipped)
		t.count(d.Failed, "failed; give the same command again")
	}
	var b strings.Builder
	b.WriteString("\n" + t.String())
	if n := len(d.Joined); n > 0 {
		fmt.Fprintf(&b, "\nA user by now, which only Clerk's dashboard takes back (%s):\n\n", thousands(n))
		for _, key := range d.Joined[:min(n, shownJoined)] {
			b.WriteString("  " + plain(key) + "\n")
		}
		if n > shownJoined {
			b.WriteString("  " + signs.ellipsis + " --json has all\n")
		}
	}
	switch {
	case d.Held:
		fmt.Fprintf(&b, "\nNothing was done: more than %s at a time ask for a person. --allow lets it\n", thousands(revocation.Threshold(w.Open)))
	case !done:
		b.WriteString("\nNothing was done. --apply does it\n")
	case d.Sweep != 0:
		fmt.Fprintf(&b, "\nSweep %d; bulkinvite sweep %d shows it again\n", d.Sweep, d.Sweep)
	}
	return b.String()
}
