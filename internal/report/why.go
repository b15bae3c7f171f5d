package report

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/erased"
)

// Story is everything that is known of one person, at every instance: the requests for them,
// Clerk's answers, and what reads showed. It is read in one snapshot.
type Story struct {
	Key         string            `json:"key"`  // the person, as [invitation.Key] returns it
	Keys        []string          `json:"keys"` // also keys of corrections, and replacements after a purge
	Rows        []StoryRow        `json:"rows"`
	Attempts    []StoryAttempt    `json:"attempts"`
	LateAnswers []StoryLateAnswer `json:"late_answers"`
	Reads       []StoryRead       `json:"reads"`
	Sightings   []StorySighting   `json:"sightings"`
	Events      []StoryEvent      `json:"events"`
	Summary     []StorySum        `json:"summary"`
}

// StoryRow is a row that names the person.
type StoryRow struct {
	AuditRow
	ImportedAt   time.Time  `json:"imported_at"`
	ResendOf     *int64     `json:"resend_of"` // the batch whose people the row's batch invites again
	CorrectsID   *int64     `json:"corrects"`  // the batch of the row that this row corrects
	CorrectsRow  *int       `json:"corrects_row"`
	RevokeSentAt *time.Time `json:"revoke_sent"`
}

// StoryAttempt is a request to Clerk that included the person.
type StoryAttempt struct {
	AttemptID         int64      `json:"attempt_id"`
	InstanceID        int64      `json:"instance_id"`
	Environment       string     `json:"environment"`
	BatchID           *int64     `json:"batch_id"`
	RowNumber         *int       `json:"row_number"`
	Call              string     `json:"call"`   // create, bulk or revoke
	Others            int        `json:"others"` // number of other people in it
	WorkerID          string     `json:"worker_id"`
	SweepID           *int64     `json:"sweep_id"`
	AskedBy           *string    `json:"asked_by"` // who started the sweep
	Under             *int64     `json:"under"`    // for a revoke of an earlier version: the create that held its claim
	StartedAt         time.Time  `json:"started_at"`
	Deadline          time.Time  `json:"deadline"`
	AnsweredAt        *time.Time `json:"answered_at"`
	HTTPStatus        *int       `json:"http_status"`
	ErrorCode         *string    `json:"error_code"`
	TraceID           *string    `json:"trace_id"`
	Open              bool       `json:"open"`   // its effect for the person is not known yet
	Answer            *string    `json:"answer"` // what the answer said about the person
	ClerkInvitationID *string    `json:"clerk_invitation_id"`
	ClosedAt          *time.Time `json:"closed_at"`
	Resolution        *string    `json:"resolution"`
	SettledBy         *int64     `json:"settled_by"` // the read that showed that it made nothing
}

// StoryLateAnswer is an answer that came after its attempt was resolved.
type StoryLateAnswer struct {
	AttemptID          int64     `json:"attempt_id"`
	ReceivedAt         time.Time `json:"received_at"`
	HTTPStatus         *int      `json:"http_status"`
	ErrorCode          *string   `json:"error_code"`
	TraceID            *string   `json:"trace_id"`
	ClerkInvitationIDs []string  `json:"clerk_invitation_ids"` // of all people in the request
}

// StoryRead is a GET that proves or guards something in the story.
type StoryRead struct {
	ReadID     int64     `json:"read_id"`
	Call       string    `json:"call"`
	BegunAt    time.Time `json:"begun_at"`
	EndedAt    time.Time `json:"ended_at"`
	HTTPStatus *int      `json:"http_status"`
	ErrorCode  *string   `json:"error_code"`
	TraceID    *string   `json:"trace_id"`
	Items      int       `json:"items"`
	Complete   bool      `json:"complete"`
}

// StorySighting is an invitation or a user that reads showed at Clerk.
type StorySighting struct {
	InstanceID  int64      `json:"instance_id"`
	Environment string     `json:"environment"`
	ClerkID     string     `json:"clerk_id"`
	Kind        string     `json:"kind"` // invitation or user
	Status      *string    `json:"status"`
	CreatedAt   *time.Time `json:"created_at"` // by Clerk's clock
	ExpiresAt   *time.Time `json:"expires_at"`
	FirstSeen   time.Time  `json:"first_seen"`
	FirstRead   int64      `json:"first_read"`
	LastSeen    time.Time  `json:"last_seen"`
	LastRead    int64      `json:"last_read"`
}

// StoryEvent is an event of a batch that has a row of the person. Events about other rows are left
// out.
type StoryEvent struct {
	At      time.Time       `json:"at"`
	BatchID int64           `json:"batch_id"`
	Actor   string          `json:"actor"`
	Action  string          `json:"action"`
	Details json.RawMessage `json:"details"`
}

// StorySum says what the evidence proves for one instance.
type StorySum struct {
	InstanceID  int64    `json:"instance_id"`
	Environment string   `json:"environment"`
	Sent        []string `json:"sent"` // ids of invitations that attempts are proven to have made
	Open        int      `json:"open"` // creates whose effect is not known yet
	Late        int      `json:"late"` // late answers with status 200: they may have made an invitation after all
	AttemptIDs  []int64  `json:"attempt_ids"`
}

// Why returns a person's story. If no file names the person, the story has no rows.
func Why(ctx context.Context, pool *pgxpool.Pool, key string) (*Story, error) {
	s := &Story{Key: key, Keys: []string{key}}
	err := db.Snapshot(ctx, pool, func(tx pgx.Tx) error {
		hash, err := erased.PurgedAs(ctx, tx, key)
		if err != nil {
			return err
		}
		if hash != "" {
			s.Keys = append(s.Keys, hash)
		}
		// A correction that gives the person another address is rare. It makes the loop read
		// everything again for all addresses.
		for asked := 0; asked < len(s.Keys); {
			asked = len(s.Keys)
			if err := s.read(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tell a person's story: %w", err)
	}
	return s, nil
}

// storyPlans makes PostgreSQL plan each query once, not for each person; planning took longer than
// everything else. Such a plan stays until tables are analyzed again. A plan from before the first
// large file would read all of its rows, so small databases plan each time.
const storyPlans = `select set_config('plan_cache_mode', case when pg_relation_size('results') < 8 << 20 then 'force_custom_plan' else 'force_generic_plan' end, true)`

// read reads all parts of the story in one round trip.
func (s *Story) read(ctx context.Context, tx pgx.Tx) error {
	var b pgx.Batch
	b.Queue(storyPlans)
	tell(&b, "addresses", &s.Keys, pgx.RowTo[string], storyKeys, s.Keys, s.Key)
	tell(&b, "rows", &s.Rows, storyRow, storyRows, s.Keys)
	tell(&b, "attempts", &s.Attempts, pgx.RowToStructByPos, storyAttempts, s.Keys)
	tell(&b, "late answers", &s.LateAnswers, pgx.RowToStructByPos, storyLate, s.Keys)
	tell(&b, "sightings", &s.Sightings, pgx.RowToStructByPos, storySightings, s.Keys)
	tell(&b, "reads", &s.Reads, pgx.RowToStructByPos, storyReads, s.Keys)
	tell(&b, "events", &s.Events, pgx.RowToStructByPos, storyEvents, s.Keys)
	tell(&b, "summary", &s.Summary, pgx.RowToStructByPos, storySummary, s.Keys)
	return tx.SendBatch(ctx, &b).Close()
}

// tell adds a query for one part of the story to the batch.
func tell[T any](b *pgx.Batch, what string, into *[]T, row pgx.RowToFunc[T], sql string, args ...any) {
	b.Queue(sql, args...).Query(func(rows pgx.Rows) (err error) {
		if *into, err = pgx.CollectRows(rows, row); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	})
}

func storyRow(row pgx.CollectableRow) (r StoryRow, err error) {
	err = row.Scan(append(r.fields(), &r.Actor, &r.FileName, &r.Environment, &r.ImportedAt, &r.ResendOf, &r.CorrectsID, &r.CorrectsRow, &r.RevokeSentAt)...)
	return r, err
}

// settledBy is the read that showed that attempt a made nothing for person p.
const settledBy = `(
	select coalesce(r.pass_id, r.id) from reads r
	where r.instance_id = a.instance_id and r.call = 'invitations' and r.complete and r.ended_at <= p.closed_at
	  and r.pass_begun_at >= coalesce(a.answered_at, a.deadline) and (r.reached is null or r.reached <= a.started_at)
	order by r.pass_begun_at desc limit 1)`

// The queries of a story. $1 has the person's keys.
const (
	// storyKeys finds the addresses that corrections connect to the person, the requested one
	// first.
	storyKeys = `
		with recursive person (key) as (
			select unnest($1::text[])
			union
			select case when n.key = person.key then o.key else n.key end
			from person
			join batches b on b.corrects is not null
			join results n on n.batch_id = b.id and n.row_number = 1
			join results o on o.batch_id = b.corrects and o.row_number = b.corrects_row
			where person.key in (n.key, o.key) and o.key is not null)
		select key from person order by key <> $2, key`

	storyRows = `
		select ` + resultColumns + `, b.actor, b.file_name, i.environment, b.created_at, b.resend_of, b.corrects, b.corrects_row, r.revoke_sent
		from results r join batches b on b.id = r.batch_id join instances i on i.id = r.instance_id
		where r.key = any($1) order by r.batch_id, r.row_number`

	storyAttempts = `
		select a.id, a.instance_id, i.environment, p.batch_id, p.row_number, a.call,
		       (select count(*) - 1 from attempt_people o where o.attempt_id = a.id),
		       a.worker_id, a.sweep_id, s.started_by, a.under, a.started_at, a.deadline, a.answered_at, a.http_status,
		       coalesce(p.error_code, a.error_code), a.trace_id, p.open, p.answer, p.clerk_invitation_id, p.closed_at, p.resolution,
		       case when p.resolution = 'not_there' then ` + settledBy + ` end
		from attempt_people p
		join attempts a on a.id = p.attempt_id
		join instances i on i.id = a.instance_id
		left join sweeps s on s.id = a.sweep_id
		where p.key = any($1) order by a.id`

	storyLate = `
		select l.attempt_id, l.received_at, l.http_status, l.error_code, l.trace_id, coalesce(l.clerk_invitation_ids, '{}')
		from late_answers l join attempt_people p on p.attempt_id = l.attempt_id
		where p.key = any($1) order by l.id`

	storySightings = `
		select s.instance_id, i.environment, s.clerk_id, s.kind, s.status, s.created_at, s.expires_at, s.first_seen, s.first_read, s.last_seen, s.last_read
		from sightings s join instances i on i.id = s.instance_id
		where s.key = any($1) order by s.first_seen, s.clerk_id`

	storyReads = `
		select id, call, begun_at, ended_at, http_status, error_code, trace_id, items, complete from reads
		where id in (
			select unnest(array[read_id, users_read_id, status_read_id]) from results where key = any($1)
			union select unnest(array[first_read, last_read]) from sightings where key = any($1)
			union select ` + settledBy + ` from attempt_people p join attempts a on a.id = p.attempt_id where p.key = any($1) and p.resolution = 'not_there')
		order by id`

	storyEvents = `
		select e.at, e.batch_id, e.actor, e.action, e.details from events e
		where e.batch_id in (select batch_id from results where key = any($1))
		  and (e.details->'row' is null or exists (
		      select from results r where r.key = any($1) and r.batch_id = e.batch_id and r.row_number = (e.details->>'row')::int))
		  and (e.details->'sweep' is null or exists (
		      select from revocations v where v.key = any($1) and v.sweep_id = (e.details->>'sweep')::bigint))
		order by e.id`

	// storySummary counts as sent only what an attempt is proven to have made: an answer says so,
	// or a read showed it and no other row carries it.
	storySummary = `
		with mine as materialized (select instance_id, outcome, clerk_invitation_id from results where key = any($1)),
		asked as materialized (select instance_id, attempt_id, open, answer, resolution, clerk_invitation_id from attempt_people where key = any($1))
		select i.id, i.environment,
		       coalesce((select array_agg(distinct id) from (
		           select p.clerk_invitation_id from asked p where p.instance_id = i.id and (p.answer = 'created' or p.resolution = 'ours')
		           union
		           select r.clerk_invitation_id from mine r where r.instance_id = i.id and r.outcome = 'invited') made (id) where id is not null), '{}'),
		       (select count(*) from asked p join attempts a on a.id = p.attempt_id where p.instance_id = i.id and p.open and a.call <> 'revoke'),
		       (select count(*) from late_answers l join asked p on p.attempt_id = l.attempt_id where p.instance_id = i.id and l.http_status = 200 and p.resolution = 'not_there'),
		       coalesce((select array_agg(p.attempt_id order by p.attempt_id) from asked p where p.instance_id = i.id), '{}')
		from instances i
		where i.id in (select instance_id from mine union select instance_id from asked)
		order by i.id`
)
