package invitation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// ErrNoCertificate says that a batch has not ended yet.
var ErrNoCertificate = errors.New("there is no certificate yet")

// What differs from a certificate.
const (
	DiffersHead      = "head"      // no certificate of the batch has the head that was given
	DiffersBatch     = "batch"     // the batch: its file's hash, size, rows, who sent it; or the certificate itself
	DiffersRows      = "rows"      // one or more of the rows From to To: changed, missing, added or swapped
	DiffersAttempts  = "attempts"  // one or more attempts: changed, missing or added
	DiffersReads     = "reads"     // one or more reads that prove outcomes: changed, missing or added
	DiffersSightings = "sightings" // what reads showed of people whose outcomes they prove: changed, missing or added
	DiffersAdded     = "added"     // there are attempts from From to To which were made after the batch had ended
)

// Difference is something that is not as a certificate has it.
type Difference struct {
	What string `json:"what"` // head, batch, rows, attempts, reads, sightings or added
	From int64  `json:"from,omitempty"`
	To   int64  `json:"to,omitempty"`
}

// Verification is what came of holding a batch against a certificate.
type Verification struct {
	Batch       int64        `json:"batch"`
	Holds       bool         `json:"holds"`
	Certificate *Certificate `json:"certificate"` // the one that it was held against
	Given       *Hash        `json:"given"`       // the head that it was to have; nil: none was given
	Differences []Difference `json:"differences"`
}

// Verify holds a batch, as it is now, against the certificate with a head, or,
// where none is given, against its last. A certificate from before a retry is
// held against the rows as they stood then. Without a head from outside the
// database nothing is proven against somebody who has changed rows and made the
// chain anew. It returns [ErrNoBatch] or [ErrNoCertificate].
func (r *Reader) Verify(ctx context.Context, batch int64, head *Hash) (*Verification, error) {
	v := &Verification{Batch: batch, Given: head, Differences: []Difference{}}
	err := r.snapshot(ctx, func(tx pgx.Tx) error { return v.run(ctx, tx) })
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
		return ErrNoBatch
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
	counts := func(o Outcome) bool { return now.Outcomes[o] != c.Outcomes[o] }
	if len(differences) == 0 && (now.Rows != c.Rows || now.Attempts != c.Attempts || now.Reads != c.Reads || now.Sightings != c.Sightings || slices.ContainsFunc(Outcomes, counts)) {
		v.Differences = append(v.Differences, Difference{What: DiffersBatch})
	}
	if err := v.sightings(ctx, tx); err != nil {
		return err
	}
	if !ended || c != all[0] {
		return nil // opened again since, so that attempts came after it
	}
	d := Difference{What: DiffersAdded}
	err = tx.QueryRow(ctx, `select coalesce(min(a.id), 0), coalesce(max(a.id), 0) from attempt_people p join attempts a on a.id = p.attempt_id
		where p.batch_id = $1 and a.id > $2 and `+own, v.Batch, c.lastAttempt).Scan(&d.From, &d.To)
	if err == nil && d.From != 0 {
		v.Differences = append(v.Differences, d)
	}
	return err
}

// sightings compares sightings as they are now with those that the certificate kept.
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

// choose takes the certificate with the head that was given.
func (v *Verification) choose(all []*Certificate) bool {
	for _, c := range all {
		if c.Head == *v.Given {
			v.Certificate = c
			return true
		}
	}
	return false
}
