package proof

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/erased"
	"bulkinvite/internal/event"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/lease"
	"bulkinvite/internal/ledger"
)

// Erasure says what an erasure or a purge removed.
type Erasure struct {
	ID        int64   `json:"erasure"`
	Rows      int     `json:"rows"`
	Cancelled int     `json:"cancelled"` // rows of these that were undecided
	Batches   []int64 `json:"batches"`
}

// Erase removes what is known of a person: addresses, names and original rows. keys are the
// person's keys, with their replacements in rows that a purge emptied. Undecided rows end as
// cancelled. Outcomes, attempts and a keyed hash stay, and certificates still verify.
//
// The caller must call [erased.LockErasures] and then lock the create and bulk buckets of all instances.
// Erase fails with [batch.ErrUnderWay] while a request for the person is open or one of their invitations
// is being revoked.
func Erase(ctx context.Context, tx pgx.Tx, keys []string, actor string) (*Erasure, error) {
	fault := func(err error) (*Erasure, error) { return nil, fmt.Errorf("erase a person: %w", err) }
	if err := erased.LockErasures(ctx, tx); err != nil {
		return fault(err)
	}
	// This is a separate statement: what the next ones read cannot change meanwhile.
	if _, err := tx.Exec(ctx, `select from results where key = any($1) order by batch_id, row_number for update`, keys); err != nil {
		return fault(err)
	}
	var open bool
	err := tx.QueryRow(ctx, `
		select exists (select from attempt_people where key = any($1) and open)
		    or exists (select from results where key = any($1) and outcome is null and revoke_sent is not null)
		    or exists (select from attempt_people p join attempts a on a.id = p.attempt_id where p.key = any($1) and a.resolved_at is null)
		    or exists (select from revocations v join sweeps s on s.id = v.sweep_id where v.key = any($1) and v.outcome is null and s.finished_at is null and not s.held)`, keys).Scan(&open)
	if err != nil {
		return fault(err)
	}
	if open {
		return fault(batch.ErrUnderWay)
	}
	e := &Erasure{Batches: []int64{}}
	if err := tx.QueryRow(ctx, `insert into erasures (kind, actor) values ('erase', $1) returning id`, actor).Scan(&e.ID); err != nil {
		return fault(err)
	}
	listed, _ := tx.Query(ctx, `
		select batch_id, row_number from results where key = any($1) and outcome is null
		order by batch_id, row_number`, keys)
	waiting, err := pgx.CollectRows(listed, pgx.RowToStructByPos[invitation.RowID])
	if err != nil {
		return fault(err)
	}
	cancelled, err := ledger.CancelListed(ctx, tx, waiting, "erased")
	if err != nil {
		return fault(err)
	}
	e.Cancelled = int(cancelled)
	h, err := erased.NewHasher(ctx, tx)
	if err != nil {
		return fault(err)
	}
	rows, err := blot(ctx, tx, h, e.ID, `r.key = any($1)`, keys)
	if err != nil {
		return fault(err)
	}
	e.Rows = len(rows)
	if err := forget(ctx, tx, h, keys, true); err != nil {
		return fault(err)
	}
	people := make([]string, len(keys))
	for i, key := range keys {
		people[i] = h.Person(key)
	}
	slices.Sort(people)
	people = slices.Compact(people) // a purged person's key and its replacement are the same person
	var b pgx.Batch
	b.Queue(`insert into erased_people (hash, erasure_id) select unnest($1::text[]), $2 on conflict (hash) do update set erasure_id = excluded.erasure_id, lifted_by = null`, people, e.ID)
	b.Queue(`delete from draft_withdrawals where key = any($1)`, keys)
	// The preview of a draft counts the person.
	b.Queue(`delete from previews p using results r where r.batch_id = p.batch_id and r.erased_by = $1`, e.ID)
	// The uploaded file names the person. It is kept until the draft is started.
	b.Queue(`delete from upload_chunks c using uploads u, results r where u.id = c.upload_id and r.batch_id = u.batch_id and r.erased_by = $1`, e.ID)
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return fault(err)
	}
	e.Batches, err = recordErasure(ctx, tx, "erased", actor, e.ID, rows)
	if err != nil {
		return fault(err)
	}
	return e, nil
}

// blotted is a row whose private cells were removed.
type blotted struct {
	invitation.RowID
	instance int64
}

// blot removes the private cells of the rows that a condition selects. Their keyed hash stays.
func blot(ctx context.Context, tx pgx.Tx, h *erased.Hasher, erasure int64, where string, args ...any) ([]blotted, error) {
	rows, _ := tx.Query(ctx, `select r.batch_id, r.row_number, r.instance_id, r.key, `+erased.PrivateCells+` from results r where r.erased_by is null and `+where, args...)
	var gone []blotted
	var batches []int64
	var numbers []int
	var keys []*string
	var hashes [][]byte
	var b blotted
	var key *string
	var cells []*string
	_, err := pgx.ForEachRow(rows, []any{&b.Batch, &b.Row, &b.instance, &key, &cells}, func() error {
		hash := h.Private(cells)
		if key != nil {
			person := h.Person(*key)
			key = &person
		}
		gone, batches, numbers, keys, hashes = append(gone, b), append(batches, b.Batch), append(numbers, b.Row), append(keys, key), append(hashes, hash[:])
		key, cells = nil, nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	_, err = tx.Exec(ctx, `
		update results r set original = '{}', email = null, key = d.key, redirect_url = null, public_metadata = null, notes = null, erased_by = $1, private_hash = d.hash
		from unnest($2::bigint[], $3::int[], $4::text[], $5::bytea[]) as d (batch, number, key, hash)
		where r.batch_id = d.batch and r.row_number = d.number`, erasure, batches, numbers, keys, hashes)
	return gone, err
}

// forget replaces the keys of people in all tables except results, and deletes their sightings. If
// all is false, it leaves out people who still have rows under their own key.
func forget(ctx context.Context, tx pgx.Tx, h *erased.Hasher, keys []string, all bool) error {
	people := make([]string, len(keys))
	for i, key := range keys {
		people[i] = h.Person(key)
	}
	for _, sql := range []string{
		`update attempt_people p set key = d.person`,
		`update revocations p set key = d.person`,
		`update drift p set key = d.person`,
	} {
		_, err := tx.Exec(ctx, sql+` from unnest($1::text[], $2::text[]) as d (key, person)
			where p.key = d.key and d.key <> d.person
			and ($3 or not exists (select from results r where r.key = d.key))`, keys, people, all)
		if err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `delete from sightings s where s.key = any($1) and ($2 or not exists (select from results r where r.key = s.key))`, keys, all)
	return err
}

// recordErasure records an erasure as an event of each batch that it changed. It returns these
// batches.
func recordErasure(ctx context.Context, tx pgx.Tx, action, actor string, erasure int64, rows []blotted) ([]int64, error) {
	instances, counts := map[int64]int64{}, map[int64]int{}
	batches := []int64{}
	for _, r := range rows {
		if counts[r.Batch]++; counts[r.Batch] == 1 {
			batches, instances[r.Batch] = append(batches, r.Batch), r.instance
		}
	}
	for _, b := range batches {
		if err := event.Record(ctx, tx, instances[b], b, actor, action, map[string]any{"erasure": erasure, "rows": counts[b]}); err != nil {
			return nil, err
		}
	}
	return batches, nil
}

// Purge removes the private cells of all batches that ended longer than olderThan ago and have a
// certificate, in transactions of up to 2,000 rows. If it is interrupted, the next purge completes
// it. Purged people can be invited later. Purge leaves out a batch with an open request or an
// undecided revocation. guard is nil for a purge that a person asked for.
func Purge(ctx context.Context, pool *pgxpool.Pool, olderThan time.Duration, actor string, guard lease.Guard) (*Erasure, error) {
	e := &Erasure{Batches: []int64{}}
	ids, err := Purgeable(ctx, pool, olderThan)
	if err != nil || len(ids) == 0 {
		return e, err
	}
	err = guard.Begin(ctx, pool, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `insert into erasures (kind, actor, older_than) values ('purge', $1, $2) returning id`,
			actor, olderThan).Scan(&e.ID)
	})
	if err != nil {
		return nil, fmt.Errorf("purge: %w", err)
	}
	for _, id := range ids {
		n, err := purgeBatch(ctx, pool, id, e.ID, actor, guard)
		if err != nil {
			return e, fmt.Errorf("purge batch %d: %w", id, err)
		}
		e.Rows += n
		e.Batches = append(e.Batches, id)
	}
	return e, nil
}

// Purgeable lists the batches that a purge would empty, by id.
func Purgeable(ctx context.Context, pool *pgxpool.Pool, olderThan time.Duration) ([]int64, error) {
	rows, _ := pool.Query(ctx, `
		select id from batches b where finished_at < clock_timestamp() - $1::interval and certificate is not null and purged_by is null
		  and not exists (select from attempt_people p where p.batch_id = b.id and p.open)
		  and not exists (select from revocations v join sweeps s on s.id = v.sweep_id where v.batch_id = b.id and v.outcome is null and s.finished_at is null)
		order by id`, olderThan)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("list the batches to be purged: %w", err)
	}
	return ids, nil
}

// purgeRows is the number of rows that a purge empties in one transaction.
const purgeRows = 2000

func purgeBatch(ctx context.Context, pool *pgxpool.Pool, batch, erasure int64, actor string, guard lease.Guard) (n int, err error) {
	for done := false; !done; {
		err := guard.Begin(ctx, pool, func(tx pgx.Tx) error {
			rows, _ := tx.Query(ctx, `select row_number, coalesce(key, '') from results where batch_id = $1 and erased_by is null order by row_number limit $2 for update`, batch, purgeRows)
			var numbers []int
			var keys []string
			var number int
			var key string
			if _, err := pgx.ForEachRow(rows, []any{&number, &key}, func() error {
				numbers, keys = append(numbers, number), append(keys, key)
				return nil
			}); err != nil {
				return err
			}
			done = len(numbers) < purgeRows
			h, err := erased.NewHasher(ctx, tx)
			if err != nil {
				return err
			}
			gone, err := blot(ctx, tx, h, erasure, `r.batch_id = $1 and r.row_number = any($2)`, batch, numbers)
			if err != nil {
				return err
			}
			n += len(gone)
			// All attempts of this batch, even if other rows name the person.
			_, err = tx.Exec(ctx, `update attempt_people p set key = r.key from results r
				where p.batch_id = $1 and p.row_number = any($2) and (r.batch_id, r.row_number) = (p.batch_id, p.row_number) and p.key <> r.key`, batch, numbers)
			if err != nil {
				return err
			}
			if err := forget(ctx, tx, h, keys, false); err != nil || !done {
				return err
			}
			if _, err := tx.Exec(ctx, `delete from draft_withdrawals where batch_id = $1`, batch); err != nil {
				return err
			}
			var instance int64
			if err := tx.QueryRow(ctx, `update batches set purged_by = $2 where id = $1 returning instance_id`, batch, erasure).Scan(&instance); err != nil {
				return err
			}
			return event.Record(ctx, tx, instance, batch, actor, "purged", map[string]any{"erasure": erasure, "rows": n})
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
