package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/db"
	"bulkinvite/internal/invitation"
)

// Rules are the parameters of decisions, in addition to the evidence.
type Rules struct {
	Settle time.Duration // --settle: how long after its deadline an attempt can still show up in Clerk's lists
	GiveUp time.Duration // how long transient answers are retried before a row is failed
	Fresh  time.Duration // how long a read guards claims after its end
	Slack  time.Duration // see [invitation.Evidence]
	Least  time.Duration // see [invitation.Evidence]

	// Heard is when the deciding process registered. Only reads by processes that were heard of
	// since then count. A database restored from a backup lists processes of its time as alive, and
	// their reads show nothing that was sent later.
	Heard time.Time

	// NamesNobody says what a refusal means that names none of its people, given Clerk's code and
	// the HTTP status. somebody: one of the people may be the reason. unexplained: the code has no
	// definite meaning.
	NamesNobody func(code string, status int) (somebody, unexplained bool)
}

// Case is a row with everything that is known of it.
type Case struct {
	invitation.Row
	invitation.Evidence
}

// Next calls [invitation.Next] for the case.
func (c *Case) Next() invitation.Action { return invitation.Next(c.Row, c.Evidence) }

// Load reads rows and everything that is known of their people, in the order of ids. settled is the
// pass over Clerk's lists that the caller has just made to resolve open attempts, if any.
func Load(ctx context.Context, tx pgx.Tx, instance int64, ids []invitation.RowID, rules Rules, settled invitation.Coverage) ([]*Case, error) {
	batches, numbers := invitation.Split(ids)
	var b pgx.Batch
	cases := make([]*Case, 0, len(ids))
	byRow := make(map[invitation.RowID]*Case, len(ids))
	byKey := make(map[string][]*Case, len(ids))

	b.Queue(loadRows, batches, numbers, rules.Heard).Query(func(rows pgx.Rows) error {
		return scanCases(rows, rules, settled, func(c *Case) {
			cases = append(cases, c)
			byRow[c.RowID] = c
			byKey[c.Key] = append(byKey[c.Key], c)
		})
	})
	b.Queue(loadAttempts, batches, numbers).Query(func(rows pgx.Rows) error { return scanAttempts(rows, rules, byRow) })
	b.Queue(loadOthers, instance, batches, numbers).Query(func(rows pgx.Rows) error { return scanOthers(rows, byKey) })
	b.Queue(loadSightings, instance, batches, numbers).Query(func(rows pgx.Rows) error { return scanSightings(rows, byKey) })
	b.Queue(loadRevoked, batches, numbers).Query(func(rows pgx.Rows) error { return scanRevoked(rows, byRow) })
	b.Queue(loadResent, instance, batches, numbers).Query(func(rows pgx.Rows) error { return scanResent(rows, byKey) })
	b.Queue(loadCoverage, instance, batches, rules.Slack, rules.Heard).Query(func(rows pgx.Rows) error { return scanCoverage(rows, cases) })
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("load the evidence of %d rows: %w", len(ids), err)
	}
	return cases, nil
}

const loadRows = `
	select r.batch_id, r.row_number, coalesce(r.key, ''), coalesce(r.outcome, ''), b.state, b.started_at, b.priority, b.preflight,
	       r.not_before, r.transient_since, r.tries, coalesce(r.last_error, ''), r.alone, r.withdrawn_by is not null, coalesce(r.email, ''),
	       b.options, r.redirect_url, r.expires_in_days, r.public_metadata, u.pass_begun_at, u.ended_at, clock_timestamp(),
	       b.on_duplicate = 'resend', b.resend_of is not null, b.cooldown, r.revoke_sent is not null, b.links_file is not null,
	       case when b.on_duplicate = 'resend' then coalesce((
	           select max(p.attempt_id) from attempt_people p where p.batch_id = r.batch_id and p.row_number = r.row_number and p.answer = 'accepted'), 0) else 0 end,
	       b.judged_from
	from unnest($1::bigint[], $2::int[]) with ordinality as w (batch_id, row_number, place)
	cross join lateral (select * from results r where r.batch_id = w.batch_id and r.row_number = w.row_number offset 0) r
	join batches b on b.id = r.batch_id
	left join (reads u join workers l on l.id = u.worker_id and l.heartbeat_at >= $3::timestamptz) on u.id = r.users_read_id
	order by w.place`

func scanCases(rows pgx.Rows, rules Rules, settled invitation.Coverage, add func(*Case)) error {
	for rows.Next() {
		c := &Case{}
		var started, notBefore, since, users, usersEnded, resumed *time.Time
		var redirect *string
		var expires *int
		var metadata []byte
		err := rows.Scan(&c.Batch, &c.Row.RowID.Row, &c.Key, &c.Outcome, &c.BatchState, &started, &c.Priority, &c.Preflight,
			&notBefore, &since, &c.Tries, &c.LastError, &c.Alone, &c.Withdrawn, &c.Email,
			&c.Options, &redirect, &expires, &metadata, &users, &usersEnded, &c.Now,
			&c.Resend, &c.Repeat, &c.Cooldown, &c.Owed, &c.Links, &c.Accepted, &resumed)
		if err != nil {
			return err
		}
		c.BatchStarted, c.NotBefore, c.Since, c.Resumed = db.Time(started), db.Time(notBefore), db.Time(since), db.Time(resumed)
		if redirect != nil {
			c.Options.RedirectURL = *redirect
		}
		if expires != nil {
			c.Options.ExpiresInDays = *expires
		}
		c.PublicMetadata = json.RawMessage(metadata)
		c.Settle, c.GiveUp, c.Fresh, c.Slack, c.Least = rules.Settle, rules.GiveUp, rules.Fresh, rules.Slack, rules.Least
		c.Coverage = settled
		if u := db.Time(users); u.After(c.Coverage.Users) {
			c.Coverage.Users, c.Coverage.UsersEnded = u, db.Time(usersEnded)
		}
		add(c)
	}
	return rows.Err()
}

const loadAttempts = `
	select p.batch_id, p.row_number, a.id, a.started_at, a.deadline, a.answered_at, p.open, coalesce(p.answer, ''),
	       coalesce(p.error_code, a.error_code, ''), coalesce(p.clerk_invitation_id, ''), coalesce(p.resolution, ''),
	       a.http_status between 400 and 499 and not exists (
	           select from attempt_people o where o.attempt_id = a.id and (o.answer is not null or o.resolution in ('exists', 'user', 'ours')) offset 0),
	       coalesce(a.http_status, 0),
	       not exists (select from attempt_people o where o.attempt_id = a.id and o.key <> p.key offset 0)
	from unnest($1::bigint[], $2::int[]) as w (batch_id, row_number)
	cross join lateral (select * from attempt_people p where p.batch_id = w.batch_id and p.row_number = w.row_number offset 0) p
	cross join lateral (select * from attempts a where a.id = p.attempt_id and a.call in ('create', 'bulk') offset 0) a
	order by a.id`

func scanAttempts(rows pgx.Rows, rules Rules, byRow map[invitation.RowID]*Case) error {
	for rows.Next() {
		var id invitation.RowID
		var a invitation.Attempt
		var answered *time.Time
		var refused *bool
		var status int
		err := rows.Scan(&id.Batch, &id.Row, &a.ID, &a.Started, &a.Deadline, &answered, &a.Open, &a.Answer, &a.Code, &a.InvitationID, &a.Resolution,
			&refused, &status, &a.Alone)
		if err != nil {
			return err
		}
		a.Answered = db.Time(answered)
		somebody, unexplained := rules.NamesNobody(a.Code, status)
		a.Refused = refused != nil && *refused && somebody
		a.Unexplained = unexplained && (a.Answer == invitation.NoAnswer || a.Answer == invitation.AnswerRefused)
		if c := byRow[id]; c != nil {
			c.Attempts = append(c.Attempts, a)
		}
	}
	return rows.Err()
}

// keysOf lists the people of the rows. Tables that are joined to it laterally, with an offset as a
// fence, are looked up person by person through the index on the key. Right after an import the
// planner has no statistics and would otherwise read the whole table.
const keysOf = `select distinct r.key from unnest($2::bigint[], $3::int[]) as w (batch_id, row_number)
	cross join lateral (select r.key from results r where r.batch_id = w.batch_id and r.row_number = w.row_number offset 0) r`

const loadOthers = `
	select o.key, o.batch_id, o.row_number, coalesce(o.outcome, ''), coalesce(o.status, ''), coalesce(o.clerk_invitation_id, ''), o.decided_at, o.expires_at,
	       exists (select from attempt_people p where p.instance_id = $1 and p.key = o.key and p.open
	               and (p.batch_id, p.row_number) = (o.batch_id, o.row_number)),
	       o.revoke_sent is not null and o.outcome is null
	from (` + keysOf + `) k cross join lateral (
		select * from results o where o.key = k.key and o.instance_id = $1 and (o.outcome is null or o.outcome = 'invited') offset 0) o`

func scanOthers(rows pgx.Rows, byKey map[string][]*Case) error {
	for rows.Next() {
		var key string
		var o invitation.Other
		var decided, expires *time.Time
		err := rows.Scan(&key, &o.Batch, &o.Row, &o.Outcome, &o.Status, &o.InvitationID, &decided, &expires, &o.Open, &o.Owed)
		if err != nil {
			return err
		}
		o.DecidedAt, o.ExpiresAt = db.Time(decided), db.Time(expires)
		for _, c := range byKey[key] {
			if c.RowID != o.RowID {
				c.Others = append(c.Others, o)
			}
		}
	}
	return rows.Err()
}

const loadSightings = `
	select s.key, s.clerk_id, s.kind = 'user', coalesce(s.status, ''), s.created_at, s.expires_at, s.first_seen, s.last_seen, s.last_read,
	       t.carriers, coalesce(t.guessed, false)
	from (` + keysOf + `) k cross join lateral (select * from sightings s where s.key = k.key and s.instance_id = $1 offset 0) s
	cross join lateral (
		select array_agg(t.batch_id || ':' || t.row_number) as carriers, bool_and(t.reason = 'found_by_reading') as guessed
		from results t where t.instance_id = $1 and t.clerk_invitation_id = s.clerk_id and t.outcome = 'invited') t
	order by s.created_at, s.clerk_id`

func scanSightings(rows pgx.Rows, byKey map[string][]*Case) error {
	for rows.Next() {
		var key string
		var s invitation.Sighting
		var created, expires *time.Time
		var carriers []string
		var guessed bool
		err := rows.Scan(&key, &s.ID, &s.User, &s.Status, &created, &expires, &s.FirstSeen, &s.LastSeen, &s.ReadID, &carriers, &guessed)
		if err != nil {
			return err
		}
		s.CreatedAt, s.ExpiresAt = db.Time(created), db.Time(expires)
		for _, c := range byKey[key] {
			s.Taken = slices.ContainsFunc(carriers, func(id string) bool { return id != fmt.Sprintf("%d:%d", c.Batch, c.Row.RowID.Row) })
			s.Guessed = s.Taken && guessed
			c.Sightings = append(c.Sightings, s)
		}
	}
	return rows.Err()
}

// loadCoverage finds, for each batch, when the passes over the invitations began that guard its
// claims, and when they had ended. These are one pass over all pending invitations, and passes over
// every status back to the batch's start, by processes that live. Passes from before the batch's
// rows could be seen guard nothing, and there may be years of them. If one of the three passes is
// missing, the batch has no row in the result.
//
// The passes run one after another, so together they ended when the first one began plus what all
// of them took. Passes that were not made together ended no earlier than that.
const loadCoverage = `
	select b.id, min(p.begun), min(p.begun) + sum(p.took)
	from batches b
	cross join (values ('invitations_pending', false), ('invitations', true), ('invitations_revoked', true)) as c (call, back)
	cross join lateral (
		select r.pass_begun_at as begun, r.ended_at - r.pass_begun_at as took from reads r join workers w on w.id = r.worker_id
		  and w.heartbeat_at >= $4::timestamptz
		where r.instance_id = $1 and r.call = c.call and r.complete and r.pass_begun_at >= b.reads_from and (r.reached is null or c.back and r.reached <= b.started_at - $3::interval)
		order by r.pass_begun_at desc limit 1) p
	where b.id = any($2)
	group by b.id having count(*) = 3`

func scanCoverage(rows pgx.Rows, cases []*Case) error {
	type pass struct{ begun, ended time.Time }
	passes := map[int64]pass{}
	for rows.Next() {
		var batch int64
		var p pass
		if err := rows.Scan(&batch, &p.begun, &p.ended); err != nil {
			return err
		}
		passes[batch] = p
	}
	for _, c := range cases {
		c.Coverage.Invitations, c.Coverage.InvitationsEnded = passes[c.Batch].begun, passes[c.Batch].ended
	}
	return rows.Err()
}
