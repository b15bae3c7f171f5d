package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/erased"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/proof"
	"bulkinvite/internal/report"
	"bulkinvite/internal/revocation"
	"bulkinvite/jobs"
)

type eraseCmd struct {
	Email  string        `arg:"" help:"The person's address, in any spelling."`
	Revoke bool          `help:"Revoke their pending invitations first; needs the key. Default: on a terminal it asks, else they stay."`
	Wait   time.Duration `default:"2m" placeholder:"TIME" help:"How long a request for the person that is under way is waited for. Default: 2m."`
	Actor  actor         `placeholder:"NAME" help:"Who asks for it, for the record. Default: the login name."`
}

// Help is shown before the flags.
func (eraseCmd) Help() string {
	return `Examples:

    bulkinvite erase jane@example.com
    bulkinvite erase jane@example.com --revoke --yes --actor maria

Removes the person's address, name and original rows for good, in every batch, with those of corrections. Rows that still wait end as cancelled. Outcomes, times, Clerk's ids and a keyed hash stay, so that counts add up and certificates hold. A file that names the person later does not invite them, unless it is sent with --include-erased. What Clerk, your files, your backups and old logs hold is not touched. Asks before; off a terminal it needs --yes. Exit status 0; 2 if no file names the person; 4 not confirmed, or a request for them is still under way.`
}

// erasureDocument is what erase --json prints.
type erasureDocument struct {
	*proof.Erasure
	Pending int `json:"pending"` // invitations that are left pending at Clerk
	Revoked int `json:"revoked"`
}

// Run erases a person.
func (c *eraseCmd) Run(ctx context.Context, p *program) error {
	key, err := personKey(c.Email)
	if err != nil {
		return err
	}
	pool, err := p.database(ctx)
	if err != nil {
		return err
	}
	story, err := report.Why(ctx, pool, key)
	if err != nil {
		return err
	}
	kept, err := erased.Withheld(ctx, pool, story.Keys)
	if err != nil {
		return err
	}
	if len(story.Rows)+len(story.Attempts)+len(story.Sightings) == 0 && !kept {
		return fail(exitUsage, "no_person", "see that the address is spelt as in the file, or that they were not erased before", "nobody by that address is in any file")
	}
	doc := erasureDocument{Pending: pendingOf(story)}
	if err := c.confirm(ctx, p, story, doc.Pending); err != nil {
		return err
	}
	if c.Revoke && doc.Pending > 0 {
		if doc.Revoked, err = c.takeBack(ctx, p, story.Keys); err != nil {
			return err
		}
		doc.Pending = max(0, doc.Pending-doc.Revoked)
	}
	until := time.Now().Add(c.Wait)
	for told := false; ; told = true {
		doc.Erasure, err = jobs.Erase(ctx, pool, story.Keys, c.Actor.name())
		if !errors.Is(err, batch.ErrUnderWay) {
			break
		}
		if time.Now().After(until) {
			return fail(exitHeld, "under_way", "let a worker settle it (bulkinvite work --until-idle), then give the same command again", "nothing was erased: %w", err)
		}
		if !told {
			p.note("A request for the person is under way; waiting until it is known what it did, %s at most", span(c.Wait))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
	if err != nil {
		return err
	}
	return p.show(doc, erasureText(&doc))
}

// pendingOf counts the invitations of a person that stand open, as far as is known.
func pendingOf(s *report.Story) int {
	open := map[string]bool{}
	for _, r := range s.Rows {
		if r.Status != nil && *r.Status == invitation.Pending && r.ClerkInvitationID != nil {
			open[*r.ClerkInvitationID] = true
		}
	}
	return len(open)
}

// confirm asks whether pending invitations are revoked first, unless --revoke says so, and then
// whether the person is erased. The last answer decides: without a yes nothing is done at all.
func (c *eraseCmd) confirm(ctx context.Context, p *program, story *report.Story, pending int) error {
	refused := fail(exitHeld, "not_confirmed", "Give the command on a terminal and answer y, or use --yes.",
		"not confirmed: nothing was erased and nothing was revoked")
	if pending > 0 && !c.Revoke && !p.settings.Yes && p.canAsk() {
		question := fmt.Sprintf("%s at Clerk. Revoke %s first? [y/N] ",
			counted(pending, "invitation is pending", "invitations are pending"), map[bool]string{true: "it", false: "them"}[pending == 1])
		var err error
		if c.Revoke, err = p.confirm(ctx, question, yes...); err != nil {
			return err
		}
	}
	batches := map[int64]bool{}
	for _, r := range story.Rows {
		batches[r.BatchID] = true
	}
	first := "Erase"
	if c.Revoke && pending > 0 {
		first = "Revoke " + counted(pending, "invitation", "invitations") + ", then erase"
	}
	question := fmt.Sprintf("%s the person from %s of %s for good? [y/N] ",
		first, counted(len(story.Rows), "row", "rows"), counted(len(batches), "batch", "batches"))
	return p.confirmed(ctx, refused, question, yes...)
}

// takeBack revokes the pending invitations, and returns how many were.
func (c *eraseCmd) takeBack(ctx context.Context, p *program, keys []string) (int, error) {
	t, err := p.openTakingBack(ctx)
	if err != nil {
		return 0, err
	}
	sw := &revocation.Sweep{InstanceID: t.instance.ID, Kind: revocation.KindRescind, StartedBy: c.Actor.name(),
		Apply: true, Allow: true}
	if _, err := jobs.Rescind(ctx, t.pool, sw, keys); err != nil {
		return 0, err
	}
	if sw, err = t.finish(ctx, sw.ID); err != nil {
		return 0, sweepFailure(err)
	}
	if sw.Failed > 0 || sw.State() != revocation.SweepDone {
		return 0, fail(exitHeld, "not_revoked", fmt.Sprintf("bulkinvite sweep %d says why; without --revoke the invitation stays", sw.ID), "nothing was erased: not every pending invitation could be revoked")
	}
	return sw.Revoked, nil
}

func erasureText(d *erasureDocument) string {
	var b strings.Builder
	if d.Rows == 0 {
		fmt.Fprintf(&b, "Erased (erasure %d): no row says anything of the person any more; "+
			"later files do not invite them\n", d.ID)
	} else {
		fmt.Fprintf(&b, "Erased: %s in %s (erasure %d)\n", counted(d.Rows, "row", "rows"),
			counted(len(d.Batches), "batch", "batches"), d.ID)
	}
	if d.Cancelled > 0 {
		fmt.Fprintf(&b, "  %s and ended as cancelled\n", counted(d.Cancelled, "of them still waited,", "of them still waited,"))
	}
	if d.Revoked > 0 {
		fmt.Fprintf(&b, "  %s revoked at Clerk\n", counted(d.Revoked, "invitation was", "invitations were"))
	}
	if d.Pending > 0 {
		fmt.Fprintf(&b, "  %s pending at Clerk: rescind --email, a sweep or Clerk's dashboard takes back what is left\n",
			counted(d.Pending, "invitation is still", "invitations are still"))
	}
	return b.String()
}

type purgeCmd struct {
	OlderThan age   `required:"" placeholder:"AGE" help:"How long ago a batch must have ended: 365d. Default: none."`
	Actor     actor `placeholder:"NAME" help:"Who asks for it, for the record. Default: the login name."`
}

// Help is shown before the flags.
func (purgeCmd) Help() string {
	return `Examples:

    bulkinvite purge --older-than 365d
    bulkinvite purge --older-than 365d --yes --actor maria

Removes addresses, names and original rows of every batch that ended longer ago, as erase does of one person; nobody is kept from being invited later by it. Asks before; off a terminal it needs --yes. bulkinvite work --purge-older-than AGE does so by itself. Exit status 0; 4 not confirmed.`
}

// purgeDocument is what purge --json prints.
type purgeDocument struct {
	Erasure int64   `json:"erasure"` // 0: there was nothing to remove
	Batches []int64 `json:"batches"`
	Rows    int     `json:"rows"`
}

// Run removes what is older than it has to be.
func (c *purgeCmd) Run(ctx context.Context, p *program) error {
	if c.OlderThan <= 0 {
		return usage(fmt.Errorf("--older-than must be an age such as 365d"))
	}
	pool, err := p.database(ctx)
	if err != nil {
		return err
	}
	batches, err := proof.Purgeable(ctx, pool, time.Duration(c.OlderThan))
	if err != nil {
		return err
	}
	if len(batches) > 0 {
		refused := fail(exitHeld, "not_confirmed", "--yes confirms it", "nobody confirmed that %s lose addresses and original rows for good", counted(len(batches), "batch", "batches"))
		question := fmt.Sprintf("Remove addresses and original rows of %s for good? [y/N] ",
			counted(len(batches), "batch", "batches"))
		if err := p.confirmed(ctx, refused, question, yes...); err != nil {
			return err
		}
	}
	e, err := proof.Purge(ctx, pool, time.Duration(c.OlderThan), c.Actor.name(), nil)
	if err != nil {
		return err
	}
	return p.show(purgeDocument{e.ID, e.Batches, e.Rows},
		fmt.Sprintf("Removed: %s of %s\n", counted(e.Rows, "row", "rows"), counted(len(e.Batches), "batch", "batches")))
}
