package main

import (
	"context"
	"fmt"

	"bulkinvite/internal/revocation"
	"bulkinvite/jobs"
)

// rosterPlan is how a new version of a roster differs from the batch of the one before, and what it takes back.
type rosterPlan struct {
	of         int64    // the batch of the version before
	added      int      // people who are in the file only
	unchanged  int      // people who are in both
	missing    int      // people who are in the batch only
	gone       []string // their keys: of who was corrected, all
	withdrawal *revocation.Withdrawal
}

// then says what becomes of those who are gone.
func (r *rosterPlan) then() string {
	text := fmt.Sprintf("%s revoked, %s cancelled", counted(len(r.withdrawal.Targets), "invitation is", "invitations are"), counted(len(r.withdrawal.Waiting), "waiting row is", "waiting rows are"))
	if n := len(r.withdrawal.Joined); n > 0 {
		text += fmt.Sprintf("; %s, and stay so", counted(n, "is a user", "are users"))
	}
	return text
}

// words end the question that has the plan confirmed.
func (r *rosterPlan) words() string {
	if r == nil || r.missing == 0 {
		return ""
	}
	return ", and take back " + counted(r.missing, "person who is gone", "people who are gone")
}

// planRoster works out who is gone, and refuses to take back too many.
func (u *upload) planRoster(ctx context.Context) error {
	if u.flags.Roster == 0 {
		return nil
	}
	t, err := u.takingBack()
	if err != nil {
		return err
	}
	people, err := readRoster(ctx, u.plan.input, u.plan.options)
	if err != nil {
		return err
	}
	r, err := t.compare(ctx, people, u.flags.Roster)
	if err != nil {
		return err
	}
	if err := t.refresh(ctx, u.actor); err != nil {
		return err
	}
	if r.withdrawal, err = t.withdrawal(ctx, r.gone); err != nil {
		return err
	}
	u.plan.roster = r
	u.log.Info("roster", "of", r.of, "new", r.added, "unchanged", r.unchanged, "gone", r.missing,
		"pending", len(r.withdrawal.Targets), "waiting", len(r.withdrawal.Waiting), "joined", len(r.withdrawal.Joined))
	if r.withdrawal.Over() && !u.flags.Allow {
		return u.tooMany()
	}
	return nil
}

func (u *upload) tooMany() error {
	r := u.plan.roster
	return fail(exitHeld, "threshold", "see that the file is whole; --allow lets it",
		"%s: %s of batch %d are not in it, and taking them back is more than %s at a time; nothing was done", plain(u.plan.input.name),
		counted(r.missing, "person", "people"), r.of, thousands(revocation.Threshold(r.withdrawal.Open)))
}

// takeBack begins to take back who is gone, before anybody is invited: should
// the program die in between, the same command does the rest.
func (u *upload) takeBack(ctx context.Context) error {
	r := u.plan.roster
	if r == nil {
		return nil
	}
	sw := &revocation.Sweep{InstanceID: u.instance.ID, Kind: revocation.KindRescind, Batch: r.of, StartedBy: u.actor, Apply: true, Allow: u.flags.Allow}
	if _, err := jobs.Rescind(ctx, u.pool, sw, r.gone); err != nil {
		return err
	}
	if sw.Held { // others have taken back some meanwhile
		return u.tooMany()
	}
	u.sweep = sw.ID
	u.log.Info("those who are gone are being taken back", "sweep", sw.ID)
	return nil
}

// goOnRoster finds the sweep that a run of this command has begun before.
func (u *upload) goOnRoster(ctx context.Context, batch int64) error {
	if u.flags.Roster == 0 {
		return nil
	}
	var err error
	if u.sweep, err = revocation.LastRescind(ctx, u.pool, u.instance.ID, u.flags.Roster); err != nil {
		return err
	}
	if u.sweep == 0 {
		return fail(exitHeld, "roster", fmt.Sprintf("the same command without --roster goes on with it; bulkinvite rescind --not-in %s --batch %d shows who is gone, and --apply takes them back",
			shellWord(u.plan.input.path), u.flags.Roster),
			"batch %d of this file was begun without --roster", batch)
	}
	return nil
}

// finishRoster works until those who are gone are taken back.
func (u *upload) finishRoster(ctx context.Context) error {
	if u.sweep == 0 || ctx.Err() != nil {
		return nil
	}
	t, err := u.takingBack()
	if err != nil {
		return err
	}
	sw, err := t.finish(ctx, u.sweep)
	if err != nil {
		return sweepFailure(err)
	}
	u.note("%s", sweepText(sw))
	return nil
}
