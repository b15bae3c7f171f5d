package invitation

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkinvite/internal/lease"

	"github.com/jackc/pgx/v5"
)

// ErrErased says that a person was erased and must not be invited.
var ErrErased = errors.New("the person was erased")

// Removed reports whether a key is a replacement: an erasure or a purge has put it in place of a
// person's own key.
func Removed(key string) bool { return strings.HasPrefix(key, "erased:") }

// person returns the replacement of a key: "erased:" and the keyed hash of the key. The same person
// always has the same replacement, so what remains still tells people apart. The replacement of a
// replacement is itself.
func (h *hasher) person(key string) string {
	if Removed(key) {
		return key
	}
	mac := h.private(pointers([]string{"person", key}))
	return "erased:" + hex.EncodeToString(mac[:])
}

// Former maps the keys that a purge would have put in place of these keys to these keys. It returns
// an empty map if nobody was ever erased or purged.
func Former(ctx context.Context, q Queryer, keys []string) (map[string]string, error) {
	var any bool
	if err := q.QueryRow(ctx, `select exists (select from erasures)`).Scan(&any); err != nil {
		return nil, fmt.Errorf("look whether anybody was erased: %w", err)
	}
	if !any {
		return nil, nil
	}
	h, err := newHasher(ctx, q)
	if err != nil {
		return nil, err
	}
	of := make(map[string]string, len(keys))
	for _, key := range keys {
		of[h.person(key)] = key
	}
	return of, nil
}

// purgedAs returns the replacement of a key if a purge has emptied rows of the person. It returns
// "" if there are no such rows, or if the person was erased: then nothing is reported about them.
func purgedAs(ctx context.Context, q Queryer, key string) (string, error) {
	of, err := Former(ctx, q, []string{key})
	if err != nil {
		return "", err
	}
	for hash := range of {
		var told bool
		err := q.QueryRow(ctx, `select `+purged+` from (values ($1)) r (key)`, hash).Scan(&told)
		if err != nil {
			return "", fmt.Errorf("look whether a person was purged: %w", err)
		}
		if told {
			return hash, nil
		}
	}
	return "", nil
}

// purged says that r.key is the replacement of a person in rows that a purge emptied, and that the
// person was never erased.
const purged = `(exists (
		select from results p join erasures e on e.id = p.erased_by and e.kind = 'purge' where p.key = r.key)
	and not exists (select from erased_people p where p.hash = r.key))`

// LockErasures makes the transaction wait for imports and other erasures, and makes them wait for
// the transaction. An erasure calls it first, before it locks anything that claims need, because an
// import may take minutes.
//
// The lock is the row of hash_key. Nothing else locks it, and only a login that may write it can.
func LockErasures(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `select from hash_key for update`); err != nil {
		return fmt.Errorf("wait for imports and erasures: %w", err)
	}
	return nil
}

// ShareErasures waits for an erasure that is under way and lets no other begin until the
// transaction ends. Every transaction that imports people calls it first.
func ShareErasures(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `select from hash_key for share`); err != nil {
		return fmt.Errorf("wait for erasures: %w", err)
	}
	return nil
}

// Erased has the people who were erased, for imports. A nil Erased has none.
type Erased struct {
	hasher *hasher
	by     map[string]int64 // erasure by replacement key
}

// LoadErased returns the people who were erased and must not be invited, or nil if there are none.
// No erasure can begin until the transaction ends.
func LoadErased(ctx context.Context, tx pgx.Tx) (*Erased, error) {
	if err := ShareErasures(ctx, tx); err != nil {
		return nil, err
	}
	e := &Erased{by: map[string]int64{}}
	rows, _ := tx.Query(ctx, `select hash, erasure_id from erased_people where lifted_by is null`)
	var hash string
	var erasure int64
	_, err := pgx.ForEachRow(rows, []any{&hash, &erasure}, func() error { e.by[hash] = erasure; return nil })
	if err != nil {
		return nil, fmt.Errorf("list who was erased: %w", err)
	}
	if len(e.by) == 0 {
		return nil, nil
	}
	e.hasher, err = newHasher(ctx, tx)
	return e, err
}

// ErasedRow has what a row of an erased person gets instead of the file's values.
type ErasedRow struct {
	Key     string // the replacement of the person's key
	By      int64  // erasures.id
	Private Hash   // keyed hash of the file's values
}

// Row returns the values for a row of an erased person, or nil if the person was not erased. cells
// are the file's values, in any order.
func (e *Erased) Row(key string, cells []string) *ErasedRow {
	if e == nil || key == "" {
		return nil
	}
	hash := e.hasher.person(key)
	by, ok := e.by[hash]
	if !ok {
		return nil
	}
	return &ErasedRow{Key: hash, By: by, Private: e.hasher.private(pointers(append([]string{key}, cells...)))}
}

// Lift allows the given erased people to be invited again, because the sender of the batch asked
// for it. people are replacements of keys.
func (e *Erased) Lift(ctx context.Context, tx pgx.Tx, batch int64, people []string) error {
	_, err := tx.Exec(ctx, `update erased_people set lifted_by = $1 where hash = any($2) and lifted_by is null`, batch, people)
	if err != nil {
		return fmt.Errorf("include %d people who were erased: %w", len(people), err)
	}
	return nil
}

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
// The caller must call [LockErasures] and then lock the create and bulk buckets of all instances.
// Erase fails with [ErrUnderWay] while a request for the person is open or one of their invitations
// is being revoked.
func (s *Store) Erase(ctx context.Context, tx pgx.Tx, keys []string, actor string) (*Erasure, error) {
	fault := func(err error) (*Erasure, error) { return nil, fmt.Errorf("erase a person: %w", err) }
	if err := LockErasures(ctx, tx); err != nil {
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
		return fault(ErrUnderWay)
	}
	e := &Erasure{Batches: []int64{}}
	if err := tx.QueryRow(ctx, `insert into erasures (kind, actor) values ('erase', $1) returning id`, actor).Scan(&e.ID); err != nil {
		return fault(err)
	}
	tag, err := tx.Exec(ctx, `update results set outcome = 'cancelled', reason = 'erased', decided_at = clock_timestamp(), not_before = null where key = any($1) and outcome is null`, keys)
	if err != nil {
		return fault(err)
	}
	e.Cancelled = int(tag.RowsAffected())
	h, err := newHasher(ctx, tx)
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
		people[i] = h.person(key)
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
	RowID
	instance int64
}

// blot removes the private cells of the rows that a condition selects. Their keyed hash stays.
func blot(ctx context.Context, tx pgx.Tx, h *hasher, erasure int64, where string, args ...any) ([]blotted, error) {
	rows, _ := tx.Query(ctx, `select r.batch_id, r.row_number, r.instance_id, r.key, `+privateCells+` from results r where r.erased_by is null and `+where, args...)
	var gone []blotted
	var batches []int64
	var numbers []int
	var keys []*string
	var hashes [][]byte
	var b blotted
	var key *string
	var cells []*string
	_, err := pgx.ForEachRow(rows, []any{&b.Batch, &b.Row, &b.instance, &key, &cells}, func() error {
		hash := h.private(cells)
		if key != nil {
			person := h.person(*key)
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
func forget(ctx context.Context, tx pgx.Tx, h *hasher, keys []string, all bool) error {
	people := make([]string, len(keys))
	for i, key := range keys {
		people[i] = h.person(key)
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
		if err := event(ctx, tx, instances[b], b, actor, action, map[string]any{"erasure": erasure, "rows": counts[b]}); err != nil {
			return nil, err
		}
	}
	return batches, nil
}

// Purge removes the private cells of all batches that ended longer than olderThan ago and have a
// certificate, in transactions of up to 2,000 rows. If it is interrupted, the next purge completes
// it. Purged people can be invited later. Purge leaves out a batch with an open request or an
// undecided revocation. guard is nil for a purge that a person asked for.
func (s *Store) Purge(ctx context.Context, olderThan time.Duration, actor string, guard lease.Guard) (*Erasure, error) {
	e := &Erasure{Batches: []int64{}}
	ids, err := NewReader(s.pool).Purgeable(ctx, olderThan)
	if err != nil || len(ids) == 0 {
		return e, err
	}
	err = guard.Begin(ctx, s.pool, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `insert into erasures (kind, actor, older_than) values ('purge', $1, $2) returning id`,
			actor, olderThan).Scan(&e.ID)
	})
	if err != nil {
		return nil, fmt.Errorf("purge: %w", err)
	}
	for _, id := range ids {
		n, err := s.purgeBatch(ctx, id, e.ID, actor, guard)
		if err != nil {
			return e, fmt.Errorf("purge batch %d: %w", id, err)
		}
		e.Rows += n
		e.Batches = append(e.Batches, id)
	}
	return e, nil
}

// Purgeable lists the batches that a purge would empty, by id.
func (r *Reader) Purgeable(ctx context.Context, olderThan time.Duration) ([]int64, error) {
	rows, _ := r.pool.Query(ctx, `
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

func (s *Store) purgeBatch(ctx context.Context, batch, erasure int64, actor string, guard lease.Guard) (n int, err error) {
	for done := false; !done; {
		err := guard.Begin(ctx, s.pool, func(tx pgx.Tx) error {
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
			h, err := newHasher(ctx, tx)
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
			return event(ctx, tx, instance, batch, actor, "purged", map[string]any{"erasure": erasure, "rows": n})
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Veil replaces the keys of erased and purged people in what a read showed, so that their addresses
// do not return to the database. A person whose own key is in a row again keeps it.
func (s *Store) Veil(ctx context.Context, instance int64, seen []Seen) error {
	var some bool
	if err := s.pool.QueryRow(ctx, `select exists (select from erasures)`).Scan(&some); err != nil {
		return fmt.Errorf("look whether anybody was erased: %w", err)
	}
	if !some || len(seen) == 0 {
		return nil
	}
	h, err := newHasher(ctx, s.pool)
	if err != nil {
		return err
	}
	keys, people := make([]string, len(seen)), make([]string, len(seen))
	for i := range seen {
		keys[i], people[i] = seen[i].Key, h.person(seen[i].Key)
	}
	rows, _ := s.pool.Query(ctx, `
		select d.n from unnest($2::text[], $3::text[]) with ordinality as d (key, person, n)
		where exists (select from results r where r.key = d.person and r.instance_id = $1 offset 0)
		  and not exists (select from results r where r.key = d.key and r.instance_id = $1 offset 0)`, instance, keys, people)
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&n}, func() error { seen[n-1].Key = people[n-1]; return nil }); err != nil {
		return fmt.Errorf("look who of what Clerk shows was erased: %w", err)
	}
	return nil
}
