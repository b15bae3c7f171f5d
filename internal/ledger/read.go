package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/invitation"
)

// The values of reads.call. A pass over one of the lists may take many requests.
const (
	ReadUsers   = "users"
	ReadAll     = "invitations"         // the default list: every status except revoked
	ReadPending = "invitations_pending" // status=pending
	ReadRevoked = "invitations_revoked" // status=revoked
)

// GET is one read of Clerk in the ledger.
type GET struct {
	ID    int64
	Pass  int64 // the first GET of its pass
	Begun time.Time
}

// BeginRead writes a GET into the ledger before it is sent. first is the first GET of its pass, or
// nil if this GET is the first.
func BeginRead(ctx context.Context, pool *pgxpool.Pool, instance int64, worker, call string, first *GET) (GET, error) {
	var pass *int64
	var begun *time.Time
	if first != nil {
		pass, begun = &first.ID, &first.Begun
	}
	var g GET
	err := pool.QueryRow(ctx, `
		insert into reads (instance_id, worker_id, call, pass_id, pass_begun_at) values ($1, $2, $3, $4, coalesce($5, clock_timestamp()))
		returning id, coalesce(pass_id, id), pass_begun_at`, instance, worker, call, pass, begun).Scan(&g.ID, &g.Pass, &g.Begun)
	if err != nil {
		return g, fmt.Errorf("begin a read of %s: %w", call, err)
	}
	return g, nil
}

// Seen is an invitation or a user that a GET showed.
type Seen struct {
	ID        string
	Key       string
	User      bool
	Status    invitation.Status
	CreatedAt time.Time
	ExpiresAt time.Time
}

// ReadEnd is the result of a GET.
type ReadEnd struct {
	Status   int // HTTP status; 0: no answer
	Code     string
	TraceID  string
	Items    int
	Complete bool               // the pass ends here and reached as far back as it had to
	Reached  time.Time          // how far back a complete pass reached; zero: to the end of the list
	Seen     []Seen             // what it showed; kept only for people in rows and for invitations that a sweep revokes
	Covers   []invitation.RowID // the rows of the people that a read of users asked for
}

// EndRead records the result of a GET and what it showed. It returns when that was, by PostgreSQL's
// clock.
func EndRead(ctx context.Context, pool *pgxpool.Pool, instance int64, g GET, end ReadEnd) (ended time.Time, err error) {
	if err := Veil(ctx, pool, instance, end.Seen); err != nil {
		return ended, fmt.Errorf("end read %d: %w", g.ID, err)
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			update reads set ended_at = clock_timestamp(), http_status = nullif($2, 0), error_code = nullif($3, ''), trace_id = nullif($4, ''),
			       items = $5, complete = $6, reached = $7
			where id = $1 returning ended_at`,
			g.ID, end.Status, end.Code, end.TraceID, end.Items, end.Complete, db.NullTime(end.Reached)).Scan(&ended)
		if err != nil {
			return err
		}
		if err := see(ctx, tx, instance, g, ended, end.Seen); err != nil {
			return err
		}
		if len(end.Covers) == 0 || !end.Complete {
			return nil
		}
		batches, numbers := invitation.Split(end.Covers)
		// Lock rows in their order, as other statements that lock several rows do.
		_, err = tx.Exec(ctx, `
			with covered as (
				select r.batch_id, r.row_number from results r join unnest($1::bigint[], $2::int[]) as c (batch, number)
					on r.batch_id = c.batch and r.row_number = c.number
				where r.outcome is null order by r.batch_id, r.row_number for no key update of r)
			update results r set users_read_id = $3 from covered c
			where r.batch_id = c.batch_id and r.row_number = c.row_number`, batches, numbers, g.ID)
		return err
	})
	if err != nil {
		return ended, fmt.Errorf("end read %d: %w", g.ID, err)
	}
	return ended, nil
}

func see(ctx context.Context, tx pgx.Tx, instance int64, g GET, ended time.Time, seen []Seen) error {
	if len(seen) == 0 {
		return nil
	}
	var ids, keys, kinds, statuses []string
	var created, expires []*time.Time
	for _, s := range seen {
		kind := "invitation"
		if s.User {
			kind = "user"
		}
		ids, keys, kinds, statuses = append(ids, s.ID), append(keys, s.Key), append(kinds, kind), append(statuses, string(s.Status))
		created, expires = append(created, db.NullTime(s.CreatedAt)), append(expires, db.NullTime(s.ExpiresAt))
	}
	// last_seen is when the pass began: what it shows was so then or later. Accepted and revoked
	// are final, so a page that shows an earlier status does not replace them, whichever of two
	// concurrent passes began first.
	_, err := tx.Exec(ctx, `
		insert into sightings as s (instance_id, clerk_id, key, kind, status, created_at, expires_at, first_read, first_seen, last_read, last_seen)
		select distinct on (d.id, d.key) $1, d.id, d.key, d.kind, nullif(d.status, ''), d.created, d.expires, $2::bigint, $3::timestamptz, $2::bigint, $4::timestamptz
		from unnest($5::text[], $6::text[], $7::text[], $8::text[], $9::timestamptz[], $10::timestamptz[]) as d (id, key, kind, status, created, expires)
		where exists (select from results r where r.key = d.key and r.instance_id = $1)
		   or exists (select from revocations v where v.clerk_invitation_id = d.id and v.instance_id = $1 and v.outcome is null)
		order by d.id, d.key
		on conflict (instance_id, clerk_id, key) do update set status = excluded.status, expires_at = excluded.expires_at,
		       last_read = excluded.last_read, last_seen = excluded.last_seen
		where (coalesce(s.status in ('accepted', 'revoked'), false), s.last_seen) <= (coalesce(excluded.status in ('accepted', 'revoked'), false), excluded.last_seen)`,
		instance, g.ID, ended, g.Begun, ids, keys, kinds, statuses, created, expires)
	if err != nil {
		return fmt.Errorf("keep what was seen: %w", err)
	}
	return nil
}

// OpenAttempt is an attempt that only a read of Clerk can resolve.
type OpenAttempt struct {
	ID      int64
	Call    string
	Sweep   int64 // for a revoke: its sweep; 0: a row's own revoke
	Started time.Time
	Exists  bool      // the answer says that a pending invitation exists, which may be of any age
	Unnamed bool      // the answer is a refusal that named nobody
	Status  int       // HTTP status of the answer; 0: no answer
	Code    string    // error code of the answer
	Invited time.Time // for a revoke: when the oldest invitation in it was made
	Due     time.Time // when a read that resolves it may begin
}

// Due returns the open attempts of an instance that a read that begins now can resolve. next is
// when the next of the others can be resolved; zero if there are no others.
func Due(ctx context.Context, pool *pgxpool.Pool, instance int64, settle time.Duration) (due []OpenAttempt, next time.Time, err error) {
	rows, _ := pool.Query(ctx, `
		select a.id, a.call, coalesce(a.sweep_id, 0), a.started_at,
		       exists (select from attempt_people p where p.attempt_id = a.id and p.open and p.answer = 'exists'),
		       a.http_status between 400 and 499 and not exists (select from attempt_people p where p.attempt_id = a.id and p.answer is not null),
		       coalesce(a.http_status, 0), coalesce(a.error_code, ''),
		       case when a.call <> 'revoke' then null
		       when a.sweep_id is not null then
		           (select min(coalesce(v.invited_at, r.invited_at)) from attempt_people p
		            left join revocations v on v.sweep_id = a.sweep_id and v.clerk_invitation_id = p.clerk_invitation_id
		            left join results r on (r.batch_id, r.row_number) = (p.batch_id, p.row_number)
		            where p.attempt_id = a.id)
		       else coalesce(
		           (select min(r.invited_at) from attempt_people p join results r on r.instance_id = a.instance_id and r.clerk_invitation_id = p.clerk_invitation_id and r.outcome = 'invited' where p.attempt_id = a.id),
		           (select min(s.created_at) from attempt_people p join sightings s on s.instance_id = a.instance_id and s.clerk_id = p.clerk_invitation_id where p.attempt_id = a.id),
		           'epoch') end,
		       coalesce(a.read_after, a.deadline + $2::interval), clock_timestamp()
		from attempts a where a.instance_id = $1 and a.resolved_at is null
		order by a.id`, instance, settle)
	var now time.Time
	for rows.Next() {
		var a OpenAttempt
		var unnamed *bool
		var invited *time.Time
		if err := rows.Scan(&a.ID, &a.Call, &a.Sweep, &a.Started, &a.Exists, &unnamed, &a.Status, &a.Code, &invited, &a.Due, &now); err != nil {
			return nil, next, fmt.Errorf("list open attempts of instance %d: %w", instance, err)
		}
		a.Unnamed, a.Invited = unnamed != nil && *unnamed, db.Time(invited)
		if !a.Due.After(now) {
			due = append(due, a)
		} else if next.IsZero() || a.Due.Before(next) {
			next = a.Due
		}
	}
	if err := rows.Err(); err != nil {
		return nil, next, fmt.Errorf("list open attempts of instance %d: %w", instance, err)
	}
	return due, next, nil
}

// LockAttempt locks an attempt until the transaction ends, so that its answer cannot be recorded.
// It returns the people whose part in the attempt is not closed yet. If it returns none, the
// attempt is resolved. (A revoke that an earlier version sent under a create is not a claim, but it
// is not closed either until its end is known.)
func LockAttempt(ctx context.Context, tx pgx.Tx, attempt int64) ([]Person, error) {
	if _, err := tx.Exec(ctx, `select from attempts where id = $1 for update`, attempt); err != nil {
		return nil, fmt.Errorf("lock attempt %d: %w", attempt, err)
	}
	rows, _ := tx.Query(ctx, `select coalesce(batch_id, 0), coalesce(row_number, 0), key, coalesce(clerk_invitation_id, '')
		from attempt_people where attempt_id = $1 and closed_at is null order by key`, attempt)
	people, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p Person, err error) {
		err = row.Scan(&p.Batch, &p.Row, &p.Key, &p.InvitationID)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the people of attempt %d: %w", attempt, err)
	}
	return people, nil
}

// ReadAgain postpones the resolution of an attempt to a read that begins at a time or later.
func ReadAgain(ctx context.Context, tx pgx.Tx, attempt int64, at time.Time) error {
	if _, err := tx.Exec(ctx, `update attempts set read_after = $2 where id = $1`, attempt, at); err != nil {
		return fmt.Errorf("put off attempt %d: %w", attempt, err)
	}
	return nil
}

// SeeBatches records that the rows of an instance's running batches can be seen from now on. A read
// that begins after this keeps what it shows of their people. An import sets the batch's start
// before it commits, and a read in between sees none of its rows.
func SeeBatches(ctx context.Context, pool *pgxpool.Pool, instance int64) error {
	_, err := pool.Exec(ctx, `update batches set reads_from = clock_timestamp()
		where instance_id = $1 and state in ('running', 'paused') and reads_from is null`, instance)
	if err != nil {
		return fmt.Errorf("note which batches of instance %d can be seen: %w", instance, err)
	}
	return nil
}

// Starts returns the earliest start of an instance's batches that need preflight: running ones, and
// ones with an owed row. It returns the zero time if there are none.
func Starts(ctx context.Context, pool *pgxpool.Pool, instance int64) (time.Time, error) {
	var t *time.Time
	err := pool.QueryRow(ctx, `select min(started_at) from batches b where instance_id = $1 and preflight
		and (state = 'running' or exists (select from results r where r.instance_id = $1 and r.batch_id = b.id and r.revoke_sent is not null and r.outcome is null))`, instance).Scan(&t)
	if err != nil {
		return time.Time{}, fmt.Errorf("find when the batches of instance %d began: %w", instance, err)
	}
	return db.Time(t), nil
}
