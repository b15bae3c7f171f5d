package jobs

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/invitation"
)

// StartTerms are what a draft is started on.
type StartTerms struct {
	invitation.Consent
	Real   bool                          // the mails reach people; see [invitation.Sending]
	Change func(*invitation.Batch) error // changes the draft's options with it, or refuses; nil: none change
}

// StartDraft starts a draft if terms are enough for what it sends at that moment:
// what others change meanwhile, its options or how its file is read, counts. It is
// the way to start a draft for commands, the page and the API. Errors:
// [invitation.ConsentError], [invitation.UndeliveredError], [invitation.ZoneError],
// [invitation.StateError], and what terms refuse.
func StartDraft(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, actor string, terms StartTerms) error {
	if b.State != invitation.Draft {
		return &invitation.StateError{Batch: b.ID, State: b.State, Action: "start"}
	}
	if terms.Change == nil {
		terms.Change = func(*invitation.Batch) error { return nil }
	}
	then := *b
	if err := terms.Change(&then); err != nil {
		return err
	}
	if !then.Hours.IsZero() {
		known, err := invitation.NewStore(pool).KnowsZone(ctx, then.Hours.TZ)
		if err != nil {
			return err
		}
		if !known {
			return &invitation.ZoneError{Batch: b.ID, TZ: then.Hours.TZ}
		}
	}
	environment, mailed, err := deliveryOf(ctx, pool, b.InstanceID)
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
		return sending(b, p, waiting, environment, mailed, terms.Real).Check(terms.Consent)
	}
	start := func(ctx context.Context, tx pgx.Tx, b *invitation.Batch, actor string) ([]int, error) {
		return invitation.NewStore(pool).StartDraft(ctx, tx, b, actor, agreed)
	}
	return release(ctx, pool, b, actor, start)
}

// DraftSending is what starting a draft does as it is now, given what is known of
// its people and how many wait.
func DraftSending(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, p *invitation.Preview, waiting int,
	isReal bool) (invitation.Sending, error) {
	environment, mailed, err := deliveryOf(ctx, pool, b.InstanceID)
	return sending(b, p, waiting, environment, mailed, isReal), err
}

func sending(b *invitation.Batch, p *invitation.Preview, waiting int, environment string, mailed int,
	isReal bool) invitation.Sending {
	return invitation.Sending{People: p.ToInvite(waiting, b.Duplicates), Environment: environment, Real: isReal,
		Mailed: mailed, Silent: b.LinksFile != "", Confirmed: b.Confirmed}
}

// deliveryOf returns an instance's environment and, of a development instance, how
// many mails it has sent this month.
func deliveryOf(ctx context.Context, pool *pgxpool.Pool, instance int64) (environment string, mailed int, err error) {
	reader := invitation.NewReader(pool)
	in, _, err := reader.Fleet(ctx, instance)
	if err == nil && in.Environment == "development" {
		mailed, err = reader.MailedThisMonth(ctx, instance)
	}
	return in.Environment, mailed, err
}
