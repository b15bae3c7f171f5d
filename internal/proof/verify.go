package proof

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/invitation"
)

// ErrNoCertificate says that a batch has no certificate yet.
var ErrNoCertificate = errors.New("there is no certificate yet")

// What can differ from a certificate.
const (
	DiffersHead      = "head"      // no certificate of the batch has the given head
	DiffersBatch     = "batch"     // the batch: its file's hash, size, rows, sender; or the certificate itself
	DiffersRows      = "rows"      // rows From to To: changed, missing, added or swapped
	DiffersAttempts  = "attempts"  // attempts: changed, missing or added
	DiffersReads     = "reads"     // reads that prove outcomes: changed, missing or added
	DiffersSightings = "sightings" // what these reads showed of their people: changed, missing or added
	DiffersAdded     = "added"     // attempts From to To were made after the batch had ended
)

// Difference is something that differs from a certificate.
type Difference struct {
	What string `json:"what"` // head, batch, rows, attempts, reads, sightings or added
	From int64  `json:"from,omitempty"`
	To   int64  `json:"to,omitempty"`
}

// Verification is the result of comparing a batch with a certificate.
type Verification struct {
	Batch       int64            `json:"batch"`
	Holds       bool             `json:"holds"`
	Certificate *Certificate     `json:"certificate"` // the certificate that the batch was compared with
	Given       *invitation.Hash `json:"given"`       // the head that the caller expects; nil: none
	Differences []Difference     `json:"differences"`
}

// Verify compares the current state of a batch with the certificate that has the given head, or
// with its last certificate if head is nil. It compares a certificate from before a retry with the
// rows as they were then. Without a head from outside the database, Verify proves nothing against
// somebody who changed rows and computed the chain again. It fails with [invitation.ErrNoBatch] or
// [ErrNoCertificate].
func Verify(ctx context.Context, pool *pgxpool.Pool, batch int64, head *invitation.Hash) (*Verification, error) {
	v := &Verification{Batch: batch, Given: head, Differences: []Difference{}}
	err := db.Snapshot(ctx, pool, func(tx pgx.Tx) error { return v.run(ctx, tx) })
	if err != nil {
		return nil, fmt.Errorf("verify batch %d: %w", batch, err)
	}
	v.Holds = len(v.Differences) == 0
	return v, nil
}

func (v *Verification) run(ctx context.Context, tx pgx.Tx) error {
	var ended bool
	err := tx.QueryRow(ctx, `select certificate is not null from batches where id = $1`, v.Batch).Scan(&ended)
	if errors.Is(err, pgx.ErrNoRows) {
		return invitation.ErrNoBatch
	}
	if err != nil {
		return err
	}
	all, err := certificates(ctx, tx, `c.batch_id = $1`, v.Batch)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return ErrNoCertificate
	}
	v.Certificate = all[0]
	if v.Given != nil && !v.choose(all) {
		v.Differences = append(v.Differences, Difference{What: DiffersHead})
	}
	c := v.Certificate
	now := Certificate{Batch: c.Batch, Number: c.Number, MadeAt: c.MadeAt, Format: c.Format, lastAttempt: c.lastAttempt, lastRetry: c.lastRetry}
	differences, err := now.follow(ctx, tx, c)
	if err != nil {
		return err
	}
	v.Differences = append(v.Differences, differences...)
	counts := func(o invitation.Outcome) bool { return now.Outcomes[o] != c.Outcomes[o] }
	if len(differences) == 0 && (now.Rows != c.Rows || now.Attempts != c.Attempts || now.Reads != c.Reads || now.Sightings != c.Sightings || slices.ContainsFunc(invitation.Outcomes, counts)) {
		v.Differences = append(v.Differences, Difference{What: DiffersBatch})
	}
	if err := v.sightings(ctx, tx); err != nil {
		return err
	}
	if !ended || c != all[0] {
		return nil // a retry opened the batch again, so later attempts are expected
	}
	d := Difference{What: DiffersAdded}
	err = tx.QueryRow(ctx, `select coalesce(min(a.id), 0), coalesce(max(a.id), 0) from attempt_people p join attempts a on a.id = p.attempt_id
		where p.batch_id = $1 and a.id > $2 and `+own, v.Batch, c.lastAttempt).Scan(&d.From, &d.To)
	if err == nil && d.From != 0 {
		v.Differences = append(v.Differences, d)
	}
	return err
}

// sightings compares the current sightings with those that the certificate kept.
func (v *Verification) sightings(ctx context.Context, tx pgx.Tx) error {
	c := v.Certificate
	d := Difference{What: DiffersSightings}
	if c.Format < formatReads || slices.Contains(v.Differences, d) {
		return nil
	}
	var changed bool
	if err := tx.QueryRow(ctx, changedSightings, c.Batch, c.lastRetry, c.Number).Scan(&changed); err != nil {
		return fmt.Errorf("compare what the reads showed: %w", err)
	}
	if changed {
		v.Differences = append(v.Differences, d)
	}
	return nil
}

// choose selects the certificate with the given head. It reports whether there is one.
func (v *Verification) choose(all []*Certificate) bool {
	for _, c := range all {
		if c.Head == *v.Given {
			v.Certificate = c
			return true
		}
	}
	return false
}
