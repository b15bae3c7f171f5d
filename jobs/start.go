package jobs

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/ratelimit"
)

// StartTerms say under which terms a draft is started.
type StartTerms struct {
	invitation.Consent
	Real   bool                          // mails reach people; see [invitation.Sending]
	Change func(*invitation.Batch) error // changes the draft's options at the start, or refuses; nil: no change
}

// StartDraft starts a draft if terms allow what it sends at that moment. It checks the draft under
// its lock, so changes that others make meanwhile to its options or its file count. Commands, the
// page and the API all use it. It fails with [invitation.ConsentError],
// [invitation.UndeliveredError], [invitation.ZoneError], [batch.StateError], or the error of
// terms.Change.
func StartDraft(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, actor string, terms StartTerms) error {
	if err := batch.Allow(b.ID, b.State, "start"); err != nil {
		return err
	}
	if terms.Change == nil {
		terms.Change = func(*invitation.Batch) error { return nil }
	}
	then := *b
	if err := terms.Change(&then); err != nil {
		return err
	}
	if !then.Hours.IsZero() {
		known, err := batch.KnowsZone(ctx, pool, then.Hours.TZ)
		if err != nil {
			return err
		}
		if !known {
			return &invitation.ZoneError{Batch: b.ID, TZ: then.Hours.TZ}
		}
	}
	would, err := SendingOf(ctx, pool, b.InstanceID, terms.Real)
	if err != nil {
		return err
	}
	agreed := func(b *invitation.Batch, p *invitation.Preview, waiting int) error {
		before := *b
		if err := terms.Change(b); err != nil {
			return err
		}
		if !b.SameOptions(&before) {
			b.Confirmed = false
		}
		return would.Of(b, p, waiting).Check(terms.Consent)
	}
	return retryDeadlock(ctx, pool, func(tx pgx.Tx) error {
		if err := batch.HoldDraft(ctx, tx, b, actor, agreed); err != nil {
			return err
		}
		return Start(ctx, tx, b, actor)
	})
}

// Start sets a draft to running that the transaction has made or locked. It inserts the jobs of its
// rows first and locks the create and bulk buckets last: a million jobs take a minute, and claims
// wait for the buckets.
func Start(ctx context.Context, tx pgx.Tx, b *invitation.Batch, actor string) error {
	rows, err := batch.UndecidedRows(ctx, tx, b.ID)
	if err != nil {
		return err
	}
	if err := InsertInvites(ctx, tx, b.InstanceID, b.Priority, b.ID, rows); err != nil {
		return err
	}
	if err := ratelimit.Lock(ctx, tx, b.InstanceID, ratelimit.Create, ratelimit.Bulk); err != nil {
		return err
	}
	return batch.StartBatch(ctx, tx, b.ID, actor, b.Rows, b.Blank)
}

// SendingOf returns what inviting people of an instance does, without the fields that depend on the
// batch; see [invitation.Sending.Of]. isReal says that mails reach people.
func SendingOf(ctx context.Context, pool *pgxpool.Pool, instance int64, isReal bool) (invitation.Sending, error) {
	in, _, err := report.Fleet(ctx, pool, instance)
	s := invitation.Sending{Environment: in.Environment, Real: isReal}
	if err == nil && s.Environment == "development" {
		s.Mailed, err = report.MailedThisMonth(ctx, pool, instance)
	}
	return s, err
}
