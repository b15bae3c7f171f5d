// Package ledger holds what is known about requests to Clerk: attempts, reads, sightings, answers and
// drift. It opens attempts before they are sent, and settles rows as [invitation.Next] decides.
//
// It may import erased, invitation, lease, db and ratelimit. Start reading at [Picker.Pick] and [Open]
// here, then [Load] in evidence.go and [Settle] in settle.go.
package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
)

// ErrDeclaredDead says that the process is not registered any more: other processes have declared
// it dead and taken over its rows. It must not claim.
var ErrDeclaredDead = errors.New("this process was declared dead")

// standstill is how long a claim may do nothing between two statements.
const standstill = 10 * time.Second

// Alive checks that a worker is registered, and keeps it registered until the transaction ends. It
// must be the first statement of a claim. If the process stands still in the transaction, as on a
// paused machine, PostgreSQL ends the transaction after ten seconds, because it holds the buckets
// and no other process can claim. Alive fails with [ErrDeclaredDead] if the worker is not
// registered.
func Alive(ctx context.Context, tx pgx.Tx, worker string) error {
	var set string
	err := tx.QueryRow(ctx, `select set_config('idle_in_transaction_session_timeout', $2, true) from workers where id = $1 for key share`,
		worker, fmt.Sprint(standstill.Milliseconds())).Scan(&set)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrDeclaredDead
	}
	if err != nil {
		return fmt.Errorf("look up worker %s: %w", worker, err)
	}
	return nil
}

// Picker finds the rows that a process may send. It is safe for concurrent use.
type Picker struct {
	pool  *pgxpool.Pool
	links int64 // the one batch whose rows it picks; 0: all batches except those whose links go to a file
}

// NewPicker returns a Picker of the rows of one batch whose links go to a file, or, for links 0, of
// the rows of all other batches.
func NewPicker(pool *pgxpool.Pool, links int64) *Picker { return &Picker{pool: pool, links: links} }

// Pick locks up to n waiting rows of an instance: owed rows first, then by priority and age of
// their batches, then in file order. It skips rows that another transaction has locked. The caller
// must hold the buckets. Every transaction that changes a batch's state takes them first, so the
// batches that Pick sees as running do run.
//
// alone says whether to include owed rows and rows that must go in a call of their own.
func (p *Picker) Pick(ctx context.Context, tx pgx.Tx, instance int64, n int, alone bool) ([]invitation.RowID, error) {
	return p.pick(ctx, tx, instance, n, alone, `for update of r skip locked`)
}

// Peek is Pick without locks, for a caller that only reads ahead.
func (p *Picker) Peek(ctx context.Context, instance int64, n int, alone bool) (ids []invitation.RowID, err error) {
	err = pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		ids, err = p.pick(ctx, tx, instance, n, alone, ``)
		return err
	})
	return ids, err
}

// open says that the picker's process may send the waiting rows of batch b now.
func (p *Picker) open() string { return IsOpen + ` and ` + p.mine() }

// mine says that the rows of batch b are for the picker's process. Links go to one file, so only
// the process that has the file works on that batch, and it works on no other.
func (p *Picker) mine() string {
	if p.links == 0 {
		return `b.links_file is null`
	}
	return fmt.Sprintf(`b.id = %d`, p.links)
}

// IsOpen says that batch b may send now. It is false if PostgreSQL does not know the batch's time
// zone: see [batch.PauseZoneless].
const IsOpen = `b.state = 'running' and (b.start_at is null or b.start_at <= clock_timestamp())
	and (b.hours is null or b.hours @> extract(hour from wall_clock(b.tz))::int)`

// lastRow is the last row of batch b that may be sent now: the end of its trial, or above any row
// number. Compared with a row's number it bounds an index scan. An expression on the row itself
// would be evaluated for each row of the batch.
const lastRow = `coalesce(b.canary_row, 2147483647)`

// waiting says that row r of an open batch may be claimed now. The check for an open attempt of the
// person uses the index (offset 0), even in a plan that was made when nobody was claimed.
const waiting = `r.outcome is null and r.withdrawn_by is null and (r.not_before is null or r.not_before <= clock_timestamp())
	and not exists (select from attempt_people p where p.instance_id = r.instance_id and p.key = r.key and p.open offset 0)`

// owed says that row r is undecided and an invitation was or is being revoked for it. With
// [waiting], no revoke is open and the row's own invitation does not exist yet. Such a row goes
// first, whatever its batch's state and hours are.
const owed = `r.revoke_sent is not null and r.outcome is null`

// OwnRevoke says that attempt a revokes an invitation for a row, which then makes another.
const OwnRevoke = `a.call = 'revoke' and a.sweep_id is null`

func (p *Picker) pick(ctx context.Context, tx pgx.Tx, instance int64, n int, alone bool, lock string) ([]invitation.RowID, error) {
	rows, _ := tx.Query(ctx, `
		select 0 as id, 0 as priority, 0 as last where $2 and exists (
			select from results r join batches b on b.id = r.batch_id and `+p.mine()+` where r.instance_id = $1 and r.revoke_sent is not null and r.outcome is null)
		union all
		select b.id, b.priority, `+lastRow+` from batches b where b.instance_id = $1 and `+p.open()+` order by priority, id`, instance, alone)
	type turn struct {
		Batch    int64 // 0: the owed rows of all batches
		Priority int
		Last     int
	}
	batches, err := pgx.CollectRows(rows, pgx.RowToStructByPos[turn])
	if err != nil {
		return nil, fmt.Errorf("list the running batches of instance %d: %w", instance, err)
	}
	var ids []invitation.RowID
	for _, batch := range batches {
		if len(ids) >= n {
			break
		}
		sql, args := `select r.batch_id, r.row_number from results r
			where r.batch_id = $1 and r.row_number <= $4 and ($3 or not r.alone) and r.revoke_sent is null and `+waiting+`
			order by r.row_number limit $2 `, []any{batch.Batch, n - len(ids), alone, batch.Last}
		if batch.Batch == 0 {
			sql, args = `select r.batch_id, r.row_number from results r join batches b on b.id = r.batch_id and `+p.mine()+`
				where r.instance_id = $1 and $3 and `+owed+` and `+waiting+` order by r.revoke_sent limit $2 `, []any{instance, n - len(ids), alone}
		}
		rows, _ := tx.Query(ctx, sql+lock, args...)
		more, err := pgx.CollectRows(rows, pgx.RowToStructByPos[invitation.RowID])
		if err != nil {
			return nil, fmt.Errorf("pick waiting rows of batch %d: %w", batch.Batch, err)
		}
		ids = append(ids, more...)
	}
	return ids, nil
}

// Waits reports whether a row waits: it may be claimed now by the picker's process. See the
// glossary for waiting and owed.
func (p *Picker) Waits(ctx context.Context, id invitation.RowID) (waits bool, err error) {
	err = p.pool.QueryRow(ctx, `select exists (
		select from (select * from results r where r.batch_id = $1 and r.row_number = $2 and `+waiting+` offset 0) r
		join batches b on b.id = r.batch_id
		where r.row_number <= `+lastRow+` and r.revoke_sent is null and `+p.open()+` or `+owed+` and `+p.mine()+`)`, id.Batch, id.Row).Scan(&waits)
	if err != nil {
		return false, fmt.Errorf("look whether row %d of batch %d waits: %w", id.Row, id.Batch, err)
	}
	return waits, nil
}

// Telling counts rows of an instance's running batches, looking at no more than limit. undecided
// counts the undecided rows. telling counts those that a worker may be able to decide without
// budget: rows that still need a preflight read, and rows whose person has a sighting.
func (p *Picker) Telling(ctx context.Context, instance int64, limit int) (undecided, telling int, err error) {
	err = p.pool.QueryRow(ctx, `
		select count(*), count(*) filter (where preflight and users_read_id is null or exists (
			select from sightings s where s.key = w.key and s.instance_id = $1)) from (
			select b.preflight, r.users_read_id, r.key from batches b join results r on r.batch_id = b.id
			where b.instance_id = $1 and b.state = 'running' and `+p.mine()+` and r.outcome is null limit $2) w`, instance, limit).Scan(&undecided, &telling)
	if err != nil {
		return 0, 0, fmt.Errorf("count the undecided rows of instance %d: %w", instance, err)
	}
	return undecided, telling, nil
}

// LastWaiting returns up to n waiting rows of an instance, the last in line first. Owed rows fill
// up the list.
func (p *Picker) LastWaiting(ctx context.Context, instance int64, n int) ([]invitation.RowID, error) {
	rows, _ := p.pool.Query(ctx, `
		select w.batch_id, w.row_number from batches b cross join lateral (
			select r.batch_id, r.row_number from results r
			where r.batch_id = b.id and r.row_number <= `+lastRow+` and `+waiting+` order by r.row_number desc limit $2) w
		where b.instance_id = $1 and `+p.open()+` order by b.priority desc, b.id desc, w.row_number desc limit $2`, instance, n)
	ids, err := pgx.CollectRows(rows, pgx.RowToStructByPos[invitation.RowID])
	if err == nil && len(ids) < n {
		rows, _ = p.pool.Query(ctx, `select r.batch_id, r.row_number from results r join batches b on b.id = r.batch_id and `+p.mine()+` where r.instance_id = $1 and `+owed+` and `+waiting+` limit $2`, instance, n-len(ids))
		var more []invitation.RowID
		more, err = pgx.CollectRows(rows, pgx.RowToStructByPos[invitation.RowID])
		ids = append(ids, more...)
	}
	if err != nil {
		return nil, fmt.Errorf("look for waiting rows of instance %d: %w", instance, err)
	}
	return ids, nil
}

// CallRevoke is the value of attempts.call for a revoke.
const CallRevoke = "revoke"

// Request is a create, bulk or revoke that is about to be sent.
type Request struct {
	Call   string // create, bulk or CallRevoke
	Bucket string
	People []Person
	Sweep  int64 // the sweep of a revoke; 0: a row's own revoke
}

// Person is one person in a request.
type Person struct {
	invitation.RowID // zero: no row explains the invitation
	Key              string
	InvitationID     string // for a revoke: the invitation to revoke
}

// Claimed is a request whose attempt is in the ledger, with the people who were claimed for it.
type Claimed struct {
	AttemptID int64
	StartedAt time.Time // by PostgreSQL's clock; identifies the attempt together with AttemptID, see [Noted]
	Request
}

// Open writes requests into the ledger and claims their people. Their deadline is timeout from now.
// Open drops people who have an open attempt of another request, and requests that have no people
// left. The caller must commit the transaction before it sends anything.
func Open(ctx context.Context, tx pgx.Tx, instance int64, worker string, timeout time.Duration, requests []Request) ([]Claimed, error) {
	var calls, buckets []string
	var sweeps []int64
	for _, r := range requests {
		calls, buckets, sweeps = append(calls, r.Call), append(buckets, r.Bucket), append(sweeps, r.Sweep)
	}
	rows, _ := tx.Query(ctx, `
		insert into attempts (instance_id, worker_id, call, bucket, sweep_id, deadline)
		select $1, $2, r.call, r.bucket, nullif(r.sweep, 0), clock_timestamp() + $3::interval
		from unnest($4::text[], $5::text[], $6::bigint[]) with ordinality as r (call, bucket, sweep, place) order by r.place
		returning id, started_at`, instance, worker, timeout, calls, buckets, sweeps)
	opened, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		ID        int64
		StartedAt time.Time
	}])
	if err != nil {
		return nil, fmt.Errorf("open %d attempts: %w", len(requests), err)
	}
	claimed := make([]Claimed, len(opened))
	for i, o := range opened {
		claimed[i] = Claimed{AttemptID: o.ID, StartedAt: o.StartedAt}
	}
	slices.SortFunc(claimed, func(a, b Claimed) int { return cmp.Compare(a.AttemptID, b.AttemptID) })
	for i := range claimed {
		claimed[i].Request = requests[i]
	}
	if err := claim(ctx, tx, instance, claimed); err != nil {
		return nil, err
	}
	return Withdraw(ctx, tx, claimed, func(Person) bool { return false })
}

// claim inserts the people of the attempts and drops those who are claimed already. It inserts them
// in key order, so that two claims cannot deadlock.
func claim(ctx context.Context, tx pgx.Tx, instance int64, claimed []Claimed) error {
	type member struct {
		attempt int64
		Person
	}
	var members []member
	for _, c := range claimed {
		for _, p := range c.People {
			members = append(members, member{c.AttemptID, p})
		}
	}
	slices.SortFunc(members, func(a, b member) int {
		if a.Key < b.Key {
			return -1
		} else if a.Key > b.Key {
			return 1
		}
		return int(a.attempt - b.attempt)
	})
	var attempts, batches []int64
	var numbers []int32
	var keys, invitations []string
	for _, m := range members {
		attempts, keys, invitations = append(attempts, m.attempt), append(keys, m.Key), append(invitations, m.InvitationID)
		batches, numbers = append(batches, m.Batch), append(numbers, int32(m.Row))
	}
	rows, _ := tx.Query(ctx, `
		insert into attempt_people (attempt_id, instance_id, key, batch_id, row_number, clerk_invitation_id)
		select m.attempt, $1, m.key, nullif(m.batch, 0), nullif(m.number, 0), nullif(m.invitation, '')
		from unnest($2::bigint[], $3::text[], $4::bigint[], $5::int[], $6::text[]) with ordinality as m (attempt, key, batch, number, invitation, place)
		order by m.place
		on conflict do nothing
		returning attempt_id, key, coalesce(batch_id, 0), coalesce(row_number, 0)`, instance, attempts, keys, batches, numbers, invitations)
	// A claim includes its row: two rows of one person can be in one request, and only one of them
	// is claimed.
	type claim struct {
		Attempt int64
		Key     string
		Batch   int64
		Row     int
	}
	claims, err := pgx.CollectRows(rows, pgx.RowToStructByPos[claim])
	if err != nil {
		return fmt.Errorf("claim %d people: %w", len(members), err)
	}
	got := make(map[claim]bool, len(claims))
	for _, c := range claims {
		got[c] = true
	}
	for i := range claimed {
		c := &claimed[i]
		c.People = slices.DeleteFunc(slices.Clone(c.People), func(p Person) bool { return !got[claim{c.AttemptID, p.Key, p.Batch, p.Row}] })
	}
	return nil
}

// Withdraw removes people from the ledger, and requests that have no people left. drop selects the
// people. Call it in the transaction that opened the requests, before anything is sent.
func Withdraw(ctx context.Context, tx pgx.Tx, claimed []Claimed, drop func(Person) bool) ([]Claimed, error) {
	var empty, attempts []int64
	var keys []string
	kept := claimed[:0]
	for _, c := range claimed {
		c.People = slices.DeleteFunc(c.People, func(p Person) bool {
			gone := drop(p)
			if gone {
				attempts, keys = append(attempts, c.AttemptID), append(keys, p.Key)
			}
			return gone
		})
		if len(c.People) == 0 {
			empty = append(empty, c.AttemptID)
			continue
		}
		kept = append(kept, c)
	}
	if len(attempts) > 0 {
		_, err := tx.Exec(ctx, `delete from attempt_people p using unnest($1::bigint[], $2::text[]) as d (attempt, key)
			where p.attempt_id = d.attempt and p.key = d.key`, attempts, keys)
		if err != nil {
			return nil, fmt.Errorf("withdraw people: %w", err)
		}
	}
	if len(empty) > 0 {
		if _, err := tx.Exec(ctx, `delete from attempts where id = any($1)`, empty); err != nil {
			return nil, fmt.Errorf("withdraw attempts: %w", err)
		}
	}
	return kept, nil
}
