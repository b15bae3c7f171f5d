package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/importer"
	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/proof"
	"bulkinvite/internal/report"
	"bulkinvite/jobs"
	"bulkinvite/ratelimit"
)

// uploadFlags are what send and import have in common.
type uploadFlags struct {
	RedirectURL      string `name:"redirect-url" placeholder:"URL" help:"Where the invitation leads: an address, an app's link or a path. A row's own wins. Default: Clerk's."`
	ExpiresInDays    *int   `placeholder:"DAYS" help:"1 to 365; a row's own wins. Default: Clerk's 30."`
	Template         string `placeholder:"SLUG" help:"invitation or waitlist_invitation, of Clerk's mails. Default: Clerk's."`
	RevokeAfter      age    `placeholder:"AGE" help:"How long it may be pending, such as 7d. Default: as the sweep says."`
	IncludeErased    bool   `help:"Invite also people who were erased. Default: their rows end as cancelled."`
	Canary           *int   `placeholder:"N" help:"Invite N people first, then pause and ask. Default: off."`
	Preflight        bool   `negatable:"" default:"true" help:"Read who is a user or invited before they are asked for. Default: on."`
	OnDuplicate      string `enum:"skip,resend" default:"skip" placeholder:"WHAT" help:"skip who was invited, or resend: revoke, and invite again. Default: skip."`
	Roster           int64  `placeholder:"BATCH" help:"The file replaces this batch's: take back whom it lacks. Default: none."`
	Allow            bool   `help:"Let --roster take back more than its threshold. Default: refused."`
	Again            bool   `help:"Send the same file once more; nobody is mailed twice. Default: off."`
	AllowUndelivered bool   `help:"Go past the 100 mails a month of a development instance. Default: off."`
	NoNotify         bool   `help:"Have Clerk mail nobody; only with --links. Default: off."`
	Links            string `placeholder:"FILE" help:"With --no-notify: where the links go, and nowhere else. Default: none."`
	Actor            actor  `placeholder:"NAME" help:"Who sends it, for the record. Default: the login name."`
	peopleFlags
}

// Validate refuses options that can't be.
func (f *uploadFlags) Validate() error {
	if f.NoNotify != (f.Links != "") {
		return errors.New("--no-notify and --links FILE go together: nobody is mailed, and the links go to that file")
	}
	for name, n := range map[string]*int{"expires-in-days": f.ExpiresInDays, "canary": f.Canary} {
		if n != nil && *n == 0 { // which in a batch is one that is not set
			return fmt.Errorf("--%s is 0: write 1 or more, or leave it out", name)
		}
	}
	b := f.batch()
	return optionFailure(b.Validate())
}

// optionFailure names an option of a batch as the command line does.
func optionFailure(err error) error {
	var option *invitation.OptionError
	if !errors.As(err, &option) {
		return err
	}
	flag := strings.ReplaceAll(option.Option, "_", "-")
	return fmt.Errorf("--%s %s. %s", flag, option.Problem, strings.TrimSuffix(option.Remedy, "."))
}

// batch is a batch as the flags want it, confirmed by the person who sends it.
func (f *uploadFlags) batch() invitation.Batch {
	b := invitation.Batch{Options: invitation.Options{RedirectURL: f.RedirectURL, Template: f.Template},
		Priority: f.Priority, Preflight: f.Preflight, Duplicates: invitation.OnDuplicate(f.OnDuplicate),
		RevokeAfter: time.Duration(f.RevokeAfter), LinksFile: f.Links, Confirmed: true}
	if f.ExpiresInDays != nil {
		b.Options.ExpiresInDays = *f.ExpiresInDays
	}
	if f.Canary != nil {
		b.Canary = *f.Canary
	}
	return b
}

// upload is a file on its way to being a batch.
type upload struct {
	*connection
	flags *uploadFlags
	plan  *plan
	actor string
	batch int64
	links *jobs.Links // the file of its links; nil: none, or not open yet
	draft bool        // it is not started
	sweep int64       // revokes the people who are missing from the new version of a roster; 0: none
}

// openUpload reads the file, finds out which instance it is for, and opens the database,
// in that order: nothing is written before file and key are known to be good.
//
// earlier is the newest batch of the same file, or nil.
func openUpload(ctx context.Context, p *program, flags *uploadFlags) (u *upload, earlier *invitation.Batch, err error) {
	p.quietOnTerminal()
	actor := flags.Actor.name()
	domain := ""
	if at := strings.LastIndexByte(actor, '@'); at > 0 {
		domain = actor[at+1:]
	}
	pl, err := flags.read(ctx, p, domain)
	if err != nil {
		return nil, nil, err
	}
	if pl.summary.Rows == 0 && flags.Roster != 0 {
		return nil, nil, noRows(pl.input.name, flags.Roster)
	}
	pl.resend = flags.OnDuplicate == string(invitation.Resend)
	if flags.Links != "" {
		if flags.Links, err = filepath.Abs(flags.Links); err != nil {
			return nil, nil, fmt.Errorf("--links: %w", err)
		}
		if err := jobs.CheckLinks(flags.Links); err != nil {
			return nil, nil, linksFailure(flags.Links, err)
		}
	}
	pl.canary = flags.batch().Canary
	c, err := p.connection(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := knowsZone(ctx, c.pool, pl.when.hours); err != nil {
		return nil, nil, err
	}
	earlier, err = batch.BatchByFile(ctx, c.pool, c.instance.ID, pl.summary.SHA256, 0, flags.Again)
	return &upload{connection: c, flags: flags, plan: pl, actor: actor}, earlier, err
}

// actor is who asks for something, for the record.
type actor string

// name is the login name where nobody was named.
func (a actor) name() string { return cmp.Or(string(a), loginName()) }

// loginName is who runs the program, as far as the system tells.
func loginName() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "unknown"
}

// sentAlready refuses a file that an earlier batch holds.
func (u *upload) sentAlready(b *invitation.Batch) error {
	is := fmt.Sprintf("is batch %d already (%s, %s)", b.ID, b.State, moment(b.CreatedAt))
	remedy := fmt.Sprintf("bulkinvite status %d shows it; bulkinvite work, or bulkinvite send %s, goes on with it",
		b.ID, shellWord(u.plan.input.path))
	switch b.State {
	case invitation.Done, invitation.StateCancelled:
		remedy = fmt.Sprintf("bulkinvite status %d shows it; --again sends the file once more, and still mails nobody twice",
			b.ID)
	case invitation.Draft:
		is = fmt.Sprintf("waits as the draft of batch %d", b.ID)
		remedy = fmt.Sprintf("bulkinvite start %d lets it run; bulkinvite status %d shows it", b.ID, b.ID)
	}
	return fail(exitHeld, "same_file", remedy, "%s: this file %s", plain(u.plan.input.name), is)
}

// makePlan works out what it takes, given what is known and spent. Should Clerk
// not tell whom it knows, all are taken to be invited: the workers ask again.
func (u *upload) makePlan(ctx context.Context) error {
	if err := u.planRoster(ctx); err != nil {
		return err
	}
	from := jobs.Lookup{Pool: u.pool, Instance: u.instance.ID}
	if u.flags.Preflight {
		budget := ratelimit.NewGeneral(u.pool, u.instance.ID, fmt.Sprintf("plan_%d", os.Getpid()), u.limits.General, u.settings.RequestTimeout, u.log)
		from.Clerk = jobs.NewPreflight(u.target.api, budget, u.settings.RequestTimeout)
	}
	known, silent, err := from.Preview(ctx, u.plan.summary.Valid, u.plan.everybody(ctx, u.program))
	if err != nil {
		return fmt.Errorf("%s: look for people who need no invitation: %w", plain(u.plan.input.name), err)
	}
	if silent != nil {
		u.log.Warn("who needs no invitation is found out later", "error", silent)
	}
	u.plan.known = known
	return u.plan.forecast(ctx, u.pool, u.instance.ID, u.limits, u.flags.Priority)
}

// consent shows the plan and has a person confirm it.
func (u *upload) consent(ctx context.Context) error {
	s, err := u.app().Sending(ctx, u.instance.ID)
	if err != nil {
		return err
	}
	s.People, s.Silent = u.plan.ToSend, u.flags.NoNotify
	a := askedToInvite(s, plain(u.plan.input.name), u.plan.roster.words(),
		"bulkinvite check "+shellWord(u.plan.input.path)+" shows the plan; --yes confirms it")
	a.show = func() {
		pl, now := u.plan, time.Now()
		u.tell(pl.text(u.target.String(), now, u.errDisplay()),
			"plan", "rows", pl.summary.Rows, "to_send", pl.ToSend, "already_invited", pl.known.Invited+pl.known.Pending,
			"already_registered", pl.known.Registered, "duplicate_row", pl.summary.DuplicateRow,
			"invalid", pl.summary.Invalid, "bulk", pl.Bulk, "create", pl.Create,
			"windows", pl.Windows, "seconds", pl.Seconds, "done_at", now.Add(pl.Lasts()).Truncate(time.Second),
			"instance", u.target.clerkID, "environment", u.target.environment)
	}
	_, err = u.agree(ctx, s, u.flags.AllowUndelivered, a)
	return err
}

// noRows refuses a new version of a roster that has no rows.
func noRows(file string, batch int64) error {
	return fail(exitUsage, "no_rows", fmt.Sprintf("Use the complete file. To take the whole batch back, run bulkinvite undo %d.", batch),
		"%s has no rows, so everybody of batch %d would be taken back", plain(file), batch)
}

// printEmpty reports on a file without rows, such as the export of a night without new people. It
// makes no batch, so that the same file tomorrow is no file sent twice.
func (u *upload) printEmpty() error {
	return u.show(&report.Document{
		Report: &report.Report{State: invitation.Done, Outcomes: invitation.Counts{}, FileName: u.plan.input.name,
			Environment: u.target.environment},
		Frozen: []report.Freeze{}, Ceilings: []report.Ceiling{}, Differing: []report.WorkerLimits{},
	}, fmt.Sprintf("%s has no rows. Nobody was invited, and no batch was made.\n", plain(u.plan.input.name)))
}

// importFile makes the batch, its rows and their jobs, all or nothing.
func (u *upload) importFile(ctx context.Context) error {
	if err := u.takeBack(ctx); err != nil {
		return err
	}
	r, done, err := u.pass(u.plan.input, "Importing")
	if err != nil {
		return err
	}
	defer done()
	d := &importer.Draft{Batch: u.flags.batch(), Read: u.plan.options,
		Again: u.flags.Again, IncludeErased: u.flags.IncludeErased}
	d.InstanceID, d.Actor = u.instance.ID, u.actor
	d.FileName, d.FileSHA256 = u.plan.input.name, u.plan.summary.SHA256
	d.StartAt, d.Hours = u.plan.when.startAt, u.plan.when.hours
	err = pgx.BeginFunc(ctx, u.pool, func(tx pgx.Tx) error {
		if _, err := importer.CreateDraft(ctx, tx, r, d); err != nil || u.draft {
			return err
		}
		return jobs.Start(ctx, tx, &d.Batch, u.actor)
	})
	var same *batch.SameFileError
	if errors.As(err, &same) { // somebody else sent it meanwhile
		err = u.sentAlready(same.Batch)
	}
	if err != nil {
		return fmt.Errorf("import %s (nothing was written): %w", plain(u.plan.input.name), err)
	}
	u.batch = d.ID
	u.log.Info("imported", "batch", u.batch, "rows", d.Rows)
	_, err = proof.CertifyBatch(ctx, u.pool, u.batch) // where there was nothing to send it has ended
	return err
}

// sameLinks refuses to go on with a batch with another file of links than it was
// begun with: whoever lost a link would be in neither.
func (u *upload) sameLinks(b *invitation.Batch) error {
	switch {
	case b.LinksFile == u.flags.Links:
		return nil
	case b.LinksFile == "":
		return fail(exitUsage, "links", "give the command without --no-notify and --links", "batch %d was begun with invitations that Clerk mails", b.ID)
	}
	return fail(exitUsage, "links", "give it with --no-notify and the file that it was begun with: --links "+shellWord(b.LinksFile), "batch %d was begun with a file of links", b.ID)
}

// openLinks opens the file of the batch's links, if it has one, for a worker of
// this program, and keeps other processes from the batch until the program ends.
func (u *upload) openLinks(ctx context.Context) (*jobs.Links, error) {
	if u.flags == nil || u.flags.Links == "" || u.links != nil {
		return u.links, nil
	}
	held, err := jobs.HoldLinks(ctx, u.pool, u.instance.ID, u.batch)
	if errors.Is(err, jobs.ErrLinksHeld) {
		return nil, u.linksHeld()
	}
	if err != nil {
		return nil, err
	}
	u.onClose(func() error { held.Release(); return nil })
	u.links, err = jobs.OpenLinks(u.flags.Links, u.batch, held)
	if err != nil {
		return nil, linksFailure(u.flags.Links, err)
	}
	u.onClose(u.links.Close)
	return u.links, nil
}

// linksFailure says what to do about a file of links that can't be used.
func linksFailure(path string, err error) error {
	if errors.Is(err, jobs.ErrLinksShared) {
		return fail(exitUsage, "links", "Close it with chmod 600, or name another file.", "--links %s: %w", plain(path), err)
	}
	return fail(exitUsage, "links", "Name a file in a directory that exists and that you may write to.", "--links %s: %w", plain(path), err)
}

// linksHeld says that the batch is another process' to work on.
func (u *upload) linksHeld() error {
	return fail(exitHeld, "links_held", "wait for it, or end it", "batch %d: %w", u.batch, jobs.ErrLinksHeld)
}
