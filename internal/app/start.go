package app

import (
	"context"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/jobs"
)

// Start starts a draft if c is enough for what it sends at that moment. change changes the draft's
// options at the start, or refuses it; it may be nil, and is called twice. The consent is checked
// under the draft's lock, so changes that others make meanwhile to its options or its file count.
// Start fails with [invitation.ErrNoBatch], [batch.StateError], [OtherInstanceError],
// [invitation.ZoneError], [invitation.ConsentError], [invitation.UndeliveredError], or the error of
// change.
func (a *App) Start(ctx context.Context, id int64, change func(*invitation.Batch) error, c invitation.Consent,
	actor string) error {
	b, err := batch.Batch(ctx, a.Pool, id)
	if err == nil {
		err = batch.Allow(id, b.State, "start") // also where the batch was started elsewhere
	}
	if err == nil {
		err = a.checkBatch(b)
	}
	if err != nil {
		return err
	}
	if change == nil {
		change = func(*invitation.Batch) error { return nil }
	}
	then := *b
	if err := change(&then); err != nil {
		return err
	}
	if !then.Hours.IsZero() {
		known, err := batch.KnowsZone(ctx, a.Pool, then.Hours.TZ)
		if err != nil {
			return err
		}
		if !known {
			return &invitation.ZoneError{Batch: id, TZ: then.Hours.TZ}
		}
	}
	would, err := a.Sending(ctx, b.InstanceID)
	if err != nil {
		return err
	}
	return jobs.StartDraft(ctx, a.Pool, b, actor, func(b *invitation.Batch, p *invitation.Preview, waiting int) error {
		before := *b
		if err := change(b); err != nil {
			return err
		}
		if !b.SameOptions(&before) {
			b.Confirmed = false
		}
		return would.Of(b, p, waiting).Check(c)
	})
}

// Sending returns what inviting people of an instance does, without the fields that depend on the
// batch; see [invitation.Sending.Of]. Without a key, a production instance is one whose mail reaches
// people.
func (a *App) Sending(ctx context.Context, instance int64) (invitation.Sending, error) {
	in, _, err := report.Fleet(ctx, a.Pool, instance)
	s := invitation.Sending{Environment: in.Environment, Real: a.Real}
	if a.Instance.ID == 0 {
		s.Real = in.Environment == "production"
	}
	if err == nil && s.Environment == "development" {
		s.Mailed, err = report.MailedThisMonth(ctx, a.Pool, instance)
	}
	return s, err
}
