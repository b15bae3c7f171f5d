package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/revocation"
	"bulkinvite/internal/words"
	"bulkinvite/jobs"
)

type sweepCmd struct {
	Sweep     int64  `arg:"" optional:"" help:"A sweep that there is, by its number; --list lists them. Default: a new one."`
	OlderThan age    `default:"14d" placeholder:"AGE" help:"How old a pending invitation must be, where its batch says nothing: 14d, or 36h. Default: 14d."`
	Scope     string `enum:"ours,all" default:"ours" placeholder:"ours|all" help:"What we invited, or everything that is pending at the instance. Default: ours."`
	Apply     bool   `help:"Revoke them. Default: only show how many."`
	Allow     bool   `help:"Let it revoke more than 30 % of the pending ones, and more than 20. Default: then it is held."`
	Stop      bool   `help:"End a sweep that is held or goes on; what is not revoked stays. Default: off."`
	List      bool   `help:"List the newest sweeps. Default: off."`
	Actor     actor  `placeholder:"NAME" help:"Who asks for it, for the record. Default: the login name."`
	zoneFlag
}

// Help is shown before the flags.
func (sweepCmd) Help() string {
	return `Examples:

    bulkinvite sweep                           how many of our invitations are stale
    bulkinvite sweep --older-than 30d --apply  revoke them
    bulkinvite sweep --list                    who took back how many, and what is held
    bulkinvite sweep 12                        what sweep 12 has done
    bulkinvite sweep 12 --allow                let a held one revoke what it found

On a terminal --apply asks before it revokes; of a production instance you type the number. work --sweep-at does it each night; an outside scheduler runs sweep --apply. Ctrl-C leaves it to workers, or to sweep 12 --apply. Exit status 0; 3 if a revocation failed; 4 if it is held or not confirmed; 1, 2 and 130 as always.`
}

// Validate refuses flags that do not go together.
func (c *sweepCmd) Validate() error {
	switch {
	case c.List && (c.Sweep != 0 || c.Apply || c.Allow || c.Stop):
		return errors.New("--list goes alone")
	case c.Stop && (c.Apply || c.Allow):
		return errors.New("--stop goes without --apply and --allow")
	case c.Stop && c.Sweep == 0:
		return errors.New("--stop needs the sweep's number: bulkinvite sweep --list lists them")
	}
	return nil
}

// age is a length of time that may be given in days: 14d.
type age time.Duration

// UnmarshalText reads 14d, or what [time.ParseDuration] reads; above zero.
func (a *age) UnmarshalText(text []byte) error {
	bad := fmt.Errorf("%q is no age: write days or hours, such as 14d or 36h", text)
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > 36500 {
			return bad
		}
		*a = age(n) * age(24*time.Hour)
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil || d <= 0 {
		return bad
	}
	*a = age(d)
	return nil
}

// Run sweeps, or shows, allows, stops or goes on with a sweep that there is.
func (c *sweepCmd) Run(ctx context.Context, p *program) error {
	if err := c.apply(); err != nil {
		return err
	}
	switch {
	case c.List:
		return p.listSweeps(ctx)
	case c.Sweep != 0:
		return c.existing(ctx, p)
	}
	t, err := p.openTakingBack(ctx)
	if err != nil {
		return err
	}
	sw, err := t.worker.BeginSweep(ctx, jobs.SweepOptions{OlderThan: time.Duration(c.OlderThan), Scope: c.Scope,
		Apply: c.Apply, Allow: c.Allow, Actor: c.Actor.name(),
		Confirm: func(ctx context.Context, revoke int) error { return t.confirm(ctx, revoke, 0) }})
	if err == nil && c.Apply && !sw.Held {
		sw, err = t.finish(ctx, sw.ID)
	}
	if err != nil {
		return sweepFailure(err)
	}
	return p.printSweep(sw)
}

// existing does what was asked with a sweep that there is.
func (c *sweepCmd) existing(ctx context.Context, p *program) error {
	pool, err := p.database(ctx)
	if err != nil {
		return err
	}
	sw, err := revocation.ReadSweep(ctx, pool, c.Sweep)
	if errors.Is(err, revocation.ErrNoSweep) {
		return fail(exitUsage, "no_sweep", "bulkinvite sweep --list lists them", "%w", err)
	}
	if err != nil {
		return err
	}
	state := sw.State()
	switch {
	case c.Stop && state != revocation.SweepHeld && state != revocation.SweepRunning, (c.Apply || c.Allow) && state == revocation.SweepDry:
		return fail(exitHeld, "sweep_ended", fmt.Sprintf("bulkinvite sweep %d shows it; bulkinvite sweep --apply begins another", sw.ID), "sweep %d is %s", sw.ID, words.SweepStates[state])
	case c.Stop:
		err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return revocation.StopSweep(ctx, tx, sw.ID, c.Actor.name()) })
	case c.Allow || c.Apply && state == revocation.SweepRunning:
		return c.goOn(ctx, p, sw)
	}
	if err == nil {
		sw, err = revocation.ReadSweep(ctx, pool, c.Sweep)
	}
	if err != nil {
		return err
	}
	return p.show(sw, sweepText(sw))
}

// goOn allows a sweep if it is held, and works until it has ended.
func (c *sweepCmd) goOn(ctx context.Context, p *program, sw *revocation.Sweep) error {
	t, err := p.openTakingBack(ctx)
	if err != nil {
		return err
	}
	if err := t.app().CheckSweep(sw); err != nil {
		return otherInstance(err, useOwnKey)
	}
	if err := t.confirm(ctx, sw.Undecided, 0); err != nil {
		return err
	}
	if c.Allow {
		allow := func(tx pgx.Tx) error { return jobs.AllowSweep(ctx, tx, sw, c.Actor.name()) }
		if err := pgx.BeginFunc(ctx, t.pool, allow); err != nil {
			return err
		}
	}
	if sw, err = t.finish(ctx, sw.ID); err != nil {
		return sweepFailure(err)
	}
	return p.printSweep(sw)
}

// takingBack is what a command needs that takes invitations back.
type takingBack struct {
	*connection
	worker *jobs.Worker // sends no invitation
}

// openTakingBack connects to Clerk and to the database.
func (p *program) openTakingBack(ctx context.Context) (*takingBack, error) {
	c, err := p.connection(ctx)
	if err != nil {
		return nil, err
	}
	return c.takingBack()
}

func (c *connection) takingBack() (*takingBack, error) {
	config := c.workerConfig(c.instance)
	config.OnlyRevokes = true
	worker, err := jobs.New(c.pool, c.target.api, config)
	return &takingBack{c, worker}, err
}

// confirm asks before so many invitations are revoked and so many rows are cancelled: on a
// terminal, unless --yes was given or there is nothing to do. Of a production instance the number
// has to be typed. Off a terminal --apply is the confirmation.
func (t *takingBack) confirm(ctx context.Context, revoke, cancel int) error {
	if !t.canAsk() || revoke+cancel == 0 {
		return nil
	}
	n, things, question := revoke, "invitations", "Revoke "+counted(revoke, "invitation", "invitations")
	if cancel > 0 {
		question += " and cancel " + counted(cancel, "waiting row", "waiting rows")
	}
	do := "revoke"
	if revoke == 0 {
		n, things, do = cancel, "waiting rows", "cancel"
		question = "Cancel " + counted(cancel, "waiting row", "waiting rows")
	}
	question, wanted := question+"? [y/N] ", yes
	if t.target.real() {
		question, wanted = fmt.Sprintf("Type the number of %s to %s them: ", things, do), number(n)
	}
	refused := fail(exitHeld, "not_confirmed", "Give the command again and confirm it, or use --yes.",
		"not confirmed: nothing was revoked and nothing was cancelled")
	return t.confirmed(ctx, refused, question, wanted...)
}

// finish works until a sweep has ended, whoever began it, and tells on a
// terminal how far it is.
func (t *takingBack) finish(ctx context.Context, sweep int64) (*revocation.Sweep, error) {
	var sw *revocation.Sweep
	told := false
	err := t.worker.Run(ctx, func(ctx context.Context) (_ bool, err error) {
		if sw, err = revocation.ReadSweep(ctx, t.pool, sweep); err != nil {
			return false, err
		}
		if t.tellsSteps() {
			told = true
			t.tellSweep(sw)
		}
		return sw.State() == revocation.SweepDone, nil
	})
	if told {
		t.note("")
	}
	if err != nil {
		return nil, err
	}
	return revocation.ReadSweep(context.WithoutCancel(ctx), t.pool, sweep)
}

// tellSweep writes how far a sweep is over the line before. A longer line than the terminal's
// would leave its first part standing each time.
func (p *program) tellSweep(sw *revocation.Sweep) {
	text := fmt.Sprintf("Sweep %d  %s of %s   Ctrl-C leaves it to go on later", sw.ID,
		thousands(sw.Stale-sw.Undecided), thousands(sw.Stale))
	if columns := p.errDisplay().columns; columns > 0 {
		text = cut(text, columns-1)
	}
	_, _ = fmt.Fprint(p.errs, "\r"+text) // nobody is left to tell
}

// sweepFailure says what the key has to do with a sweep that failed.
func sweepFailure(err error) error {
	return keyRefused(err, "set a good key in "+keyVariable+" and sweep again", "sweep: ")
}

// printSweep prints a sweep that this run began or went on with, and gives the
// exit status that it ends with.
func (p *program) printSweep(sw *revocation.Sweep) error {
	if err := p.show(sw, sweepText(sw)); err != nil {
		return err
	}
	return sweepStatus(sw)
}

// sweepStatus is the exit status that a sweep ends with.
func sweepStatus(sw *revocation.Sweep) error {
	switch {
	case sw.State() == revocation.SweepHeld:
		return status(exitHeld)
	case sw.State() == revocation.SweepRunning:
		return status(exitInterrupted)
	case sw.Failed > 0:
		return status(exitRows)
	}
	return nil
}

// leftAlone counts, by reason, the invitations that were not revoked.
func (t *table) leftAlone(skipped map[string]int) {
	for _, reason := range words.SweepReasons {
		t.count(skipped[reason[0]], "left alone: "+reason[1])
	}
}

func sweepText(sw *revocation.Sweep) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Sweep %d is %s\n\n", sw.ID, words.SweepStates[sw.State()])
	t := table{right: []bool{true}}
	t.add("  "+thousands(sw.Scanned), "pending invitations")
	stale := "of them are to go"
	if sw.OlderThan != 0 {
		stale = "stale: older than " + span(sw.OlderThan) + ", or as their batch says"
	}
	t.add("  "+thousands(sw.Stale), stale)
	if sw.State() == revocation.SweepRunning || sw.State() == revocation.SweepDone {
		t.add("  "+thousands(sw.Revoked), "revoked")
	}
	t.leftAlone(sw.Skipped)
	t.count(sw.Failed, "failed; the next sweep sees to them")
	t.count(sw.Undecided, "not decided yet")
	b.WriteString(t.String())
	switch sw.State() {
	case revocation.SweepHeld:
		fmt.Fprintf(&b, "\nMore than %s revocations at a time ask for a person: bulkinvite sweep %d --allow lets it go on\n", thousands(sw.Threshold), sw.ID)
	case revocation.SweepRunning:
		fmt.Fprintf(&b, "\nWorkers go on with it, or bulkinvite sweep %d --apply does\n", sw.ID)
	case revocation.SweepDry:
		b.WriteString("\n--apply revokes them\n")
	}
	return b.String()
}

// listed is how many sweeps --list shows.
const listed = 50

func (p *program) listSweeps(ctx context.Context) error {
	pool, err := p.database(ctx)
	if err != nil {
		return err
	}
	sweeps, err := revocation.Sweeps(ctx, pool, revocation.SweepFilter{Limit: listed})
	if err != nil {
		return err
	}
	if len(sweeps) == 0 {
		return p.show(sweeps, "No sweeps yet. bulkinvite sweep shows what one would take back.\n")
	}
	t := table{head: []string{"Sweep", "Kind", "By", "Clerk", "Begun", "Pending", "Stale", "Revoked", "State"}, right: []bool{true, false, false, false, false, true, true, true}}
	for _, sw := range sweeps {
		state, _, _ := strings.Cut(words.SweepStates[sw.State()], ":")
		t.add(strconv.FormatInt(sw.ID, 10), string(sw.Kind), sw.StartedBy, sw.Environment, moment(sw.StartedAt), thousands(sw.Scanned), thousands(sw.Stale), thousands(sw.Revoked), state)
	}
	return p.show(sweeps, t.on(p.outDisplay()))
}

// heldSweeps says in a line each which sweeps wait for a person; of one
// instance, or of all (0).
func heldSweeps(ctx context.Context, pool *pgxpool.Pool, instance int64) (string, error) {
	sweeps, err := revocation.Sweeps(ctx, pool, revocation.SweepFilter{Instance: instance, Held: true})
	if err != nil {
		return "", err
	}
	text := ""
	for _, sw := range sweeps {
		sandbox := ""
		if sw.Environment == sandboxInstance {
			sandbox = " --sandbox"
		}
		text += fmt.Sprintf("\nSweep %d is held: it would revoke %s of %s pending invitations. bulkinvite sweep %d shows it, "+
			"and bulkinvite sweep %d --allow%s lets it go on\n",
			sw.ID, thousands(sw.Undecided), thousands(sw.Scanned), sw.ID, sw.ID, sandbox)
	}
	return text, nil
}
