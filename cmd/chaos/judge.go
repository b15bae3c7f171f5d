package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/rig"
)

// verdict is the result of a run.
type verdict struct {
	rows   int
	deaths int
	// the longest time from a death, or from the harm if no worker died, to the end of the last
	// attempt that was open then
	settled time.Duration
	struck  bool           // the harm struck
	done    time.Duration  // from the harm, or from the first attempt if there was no harm, to the last decided row
	idle    time.Duration  // the longest time without progress although work and budget were there
	did     map[string]int // what the harm did, and how often
	wrongs  []wrong
}

// wrong is a fault that the judge found.
type wrong struct {
	kind string
	row  rowID  // zero if it concerns no single row
	key  string // the person, for asking the program for the timeline; never printed
	what string
}

// Kinds of faults, as the report counts them.
const (
	lostOnes = "lost"    // no outcome, no mail, or an attempt, person or job left open
	doubled  = "doubled" // two mails
	untrue   = "wrong"   // an outcome that Clerk's state contradicts or that has no evidence
	over     = "over"    // more requests than the limit
	stalled  = "stalled" // no progress for too long
	late     = "late"    // a request arrived after its deadline
)

type rowID struct {
	batch int64
	row   int
}

func (id rowID) String() string {
	if id.row == 0 {
		return "the run"
	}
	return fmt.Sprintf("row %d of batch %d", id.row, id.batch)
}

func (v *verdict) bad() bool { return len(v.wrongs) > 0 }

func (v *verdict) add(kind string, row rowID, format string, args ...any) {
	v.wrongs = append(v.wrongs, wrong{kind: kind, row: row, what: fmt.Sprintf(format, args...)})
}

// count returns the number of faults of a kind.
func (v *verdict) count(kind string) int {
	n := 0
	for _, w := range v.wrongs {
		if w.kind == kind {
			n++
		}
	}
	return n
}

// result is a row as the program's database has it.
type result struct {
	BatchID   int64
	File      int // number of its batch's file, from 0
	RowNumber int
	Key       *string
	Outcome   *string
	Reason    *string
	ClerkID   *string `db:"clerk_invitation_id"`
	DecidedAt *time.Time
}

func (r result) id() rowID { return rowID{r.BatchID, r.RowNumber} }

func (r result) outcome() string {
	if r.Outcome == nil {
		return "undecided"
	}
	return *r.Outcome
}

// truth is what the sandbox recorded.
type truth struct {
	made    map[string][]rig.Invitation // by address
	mails   map[string]int
	largest map[string]rig.Largest // by bucket
	creates int                    // create and bulk requests that arrived, without another program's

	requests []rig.Request
}

// limitOf returns how many requests a window allows, or 0 if there is no limit.
func limitOf(l rig.Largest) int {
	number, _, _ := strings.Cut(l.Limit, "/")
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return n
}

func (r *run) truth() (*truth, error) {
	seen, err := r.Sandbox.Record(r.ctx)
	if err != nil {
		return nil, err
	}
	stats, err := r.Sandbox.Stats(r.ctx)
	if err != nil {
		return nil, err
	}
	t := &truth{made: map[string][]rig.Invitation{}, mails: seen.Mailbox.Addresses, largest: stats.Largest, requests: seen.Requests}
	t.creates = stats.Of(rig.Creates...) - r.rivals
	for _, m := range seen.Invitations {
		t.made[m.Email] = append(t.made[m.Email], m)
	}
	return t, nil
}

// judge compares the program's results with what the sandbox recorded.
func (r *run) judge() (*verdict, error) {
	v := &verdict{}
	deaths, _ := r.fleet.seen()
	v.deaths = len(deaths)
	t, err := r.truth()
	if err != nil {
		return nil, err
	}
	rows, _ := r.Pool.Query(r.ctx, `
		select r.batch_id, substring(b.file_name from '\d+')::int as file, r.row_number, r.key, r.outcome, r.reason, r.clerk_invitation_id, r.decided_at
		from results r join batches b on b.id = r.batch_id order by r.batch_id, r.row_number`)
	results, err := pgx.CollectRows(rows, pgx.RowToStructByName[result])
	if err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	explained, err := r.explained(t)
	if err != nil {
		return nil, err
	}
	r.judgeRows(v, t, results, explained)
	r.judgeMails(v, t, results)
	if err := r.judgeLedger(v, t); err != nil {
		return nil, err
	}
	sent, err := r.sent()
	if err != nil {
		return nil, err
	}
	r.judgeDeadlines(v, t, sent)
	if r.uneasy != "" {
		v.add(untrue, rowID{}, "%s", r.uneasy)
	}
	return v, r.measure(v, results)
}

// explained returns the people whose invitation at Clerk one of our attempts may have made.
func (r *run) explained(t *truth) (map[string]bool, error) {
	rows, _ := r.Pool.Query(r.ctx, `
		select p.key, min(a.started_at) from attempt_people p join attempts a on a.id = p.attempt_id
		where a.call in ('create', 'bulk') and a.resolution is distinct from 'not_sent' group by 1`)
	explained := map[string]bool{}
	var key string
	var from time.Time
	_, err := pgx.ForEachRow(rows, []any{&key, &from}, func() error {
		for _, m := range t.made[key] {
			explained[key] = explained[key] || !m.CreatedAt.Before(from.Add(-time.Second))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the attempts: %w", err)
	}
	return explained, nil
}

// judgeRows checks each row by itself.
func (r *run) judgeRows(v *verdict, t *truth, results []result, explained map[string]bool) {
	v.rows = len(results)
	if want := len(r.crowd.keys) * max(1, r.harm.batches); v.rows != want {
		v.add(lostOnes, rowID{}, "%d rows, want %d", v.rows, want)
	}
	for _, row := range results {
		i := r.crowd.at(row.File, row.RowNumber)
		kind, key := r.crowd.kinds[i], r.crowd.keys[i]
		want := r.expected(kind, key, t, explained)
		theirs := 0 // index of the person's invitation that the row must name
		if r.harm.resend && row.File == 1 && (kind == fresh || kind == pending) {
			want, theirs = []string{string(invitation.Invited)}, len(t.made[key])-1
		}
		if row.Outcome == nil || !slices.Contains(want, *row.Outcome) {
			class := untrue
			if row.Outcome == nil || kind == fresh && len(t.made[key]) == 0 {
				class = lostOnes
			}
			v.add(class, row.id(), "%s (%s), want %s", row.outcome(), text(row.Reason), strings.Join(want, " or "))
			v.wrongs[len(v.wrongs)-1].key = key
			continue
		}
		named := *row.Outcome == string(invitation.Invited) || *row.Outcome == string(invitation.AlreadyInvited)
		if named && (len(t.made[key]) == 0 || text(row.ClerkID) != t.made[key][theirs].ID) {
			v.add(untrue, row.id(), "%s names invitation %s, which is not the one that Clerk has", *row.Outcome, text(row.ClerkID))
			v.wrongs[len(v.wrongs)-1].key = key
		}
	}
}

// expected returns the outcomes that a row may have.
func (r *run) expected(kind, key string, t *truth, explained map[string]bool) []string {
	var want []string
	switch kind {
	case invalid:
		return []string{string(invitation.Invalid)}
	case again:
		return []string{string(invitation.DuplicateRow)}
	case user:
		want = append(want, string(invitation.AlreadyRegistered))
	case blocked:
		want = append(want, string(invitation.Rejected))
	case pending:
		want = append(want, string(invitation.AlreadyInvited))
	case fresh:
		if made := t.made[key]; len(made) > 0 {
			// After a lost answer, or a bulk call that was refused without naming anybody, there is
			// an attempt that could have made the other program's invitation.
			rivals := made[0].Metadata != nil
			if explained[key] && !(rivals && r.mode == single && r.answer.name == "none") {
				want = append(want, string(invitation.Invited))
			}
			if r.harm.restored && !explained[key] || r.harm.batches > 1 && !r.harm.resend || rivals {
				want = append(want, string(invitation.AlreadyInvited))
			}
			return want
		}
	}
	if r.harm.name == "cancel" {
		want = append(want, string(invitation.Cancelled))
	}
	return want
}

func text(s *string) string {
	if s == nil {
		return "none"
	}
	return *s
}

// judgeMails checks each person: at most one mail (one more after a resend), and one row that
// claims it.
func (r *run) judgeMails(v *verdict, t *truth, results []result) {
	for i, kind := range r.crowd.kinds {
		if kind == again {
			continue
		}
		key := r.crowd.keys[i]
		n, most := t.mails[key], 0
		if kind == fresh {
			most = 1
		}
		if r.harm.resend && (kind == fresh || kind == pending) {
			most++
			r.judgeDoor(v, t, key, i)
		}
		if n > most {
			v.add(doubled, rowID{1, i + 1}, "%d mails, want at most %d", n, most)
			v.wrongs[len(v.wrongs)-1].key = key
		}
	}
	for key := range t.mails {
		if !slices.Contains(r.crowd.keys, key) {
			v.add(doubled, rowID{}, "a mail to a person in no file")
		}
	}
	claimed := map[string]int{}
	for _, row := range results {
		if row.outcome() == string(invitation.Invited) {
			claimed[*row.Key]++
		}
	}
	for key, n := range claimed {
		if n > 1 && !(r.harm.resend && n == 2) {
			row := rowID{1, slices.Index(r.crowd.keys, key) + 1}
			v.add(untrue, row, "%d rows of the person have the outcome invited", n)
		}
	}
	if r.harm.batches < 2 {
		return
	}
	for i, kind := range r.crowd.kinds {
		if kind == fresh && claimed[r.crowd.keys[i]] == 0 {
			v.add(untrue, rowID{1, i + 1}, "no row of the person has the outcome invited")
		}
	}
}

// judgeDoor checks that a person who was invited again has exactly one usable invitation. A revoked
// invitation without a new one is as bad as a lost row.
func (r *run) judgeDoor(v *verdict, t *truth, key string, i int) {
	open := 0
	for _, m := range t.made[key] {
		if m.Status == string(invitation.Pending) || m.Status == string(invitation.Accepted) {
			open++
		}
	}
	if open != 1 {
		v.add(lostOnes, rowID{2, i + 1}, "%d usable invitations, want one", open)
		v.wrongs[len(v.wrongs)-1].key = key
	}
}

// judgeLedger looks for attempts, people and jobs that are left open, for requests that the ledger
// does not have, and for more requests than the limits allow.
func (r *run) judgeLedger(v *verdict, t *truth) error {
	var open, people, waiting, sent int
	err := r.Pool.QueryRow(r.ctx, `
		select (select count(*) from attempts where resolved_at is null),
		       (select count(*) from attempt_people where open),
		       (select count(*) from river_job where kind = 'invite' and `+unfinished+`),
		       (select count(*) from attempts where call in ('create', 'bulk') and resolution is distinct from 'not_sent')`, r.harm.steps).
		Scan(&open, &people, &waiting, &sent)
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	if open+people+waiting > 0 {
		v.add(lostOnes, rowID{}, "%d attempts, %d people and %d jobs are left open", open, people, waiting)
	}
	if t.creates > sent && !r.harm.restored {
		v.add(untrue, rowID{}, "%d requests arrived, but the ledger has %d", t.creates, sent)
	}
	for bucket, most := range t.largest {
		// A restored ledger has forgotten what it spent, and no ledger has what other programs
		// spend.
		if n := limitOf(most); n > 0 && !r.harm.restored && !r.harm.rival && most.Requests > n {
			v.add(over, rowID{}, "%d %s requests in a window of %d", most.Requests, bucket, n)
		}
	}
	return nil
}

// attempt is a request as the ledger has it.
type attempt struct {
	ID       int64
	Started  time.Time
	Deadline time.Time
	Traces   []string // trace ids of its answers
	Keys     []string // keys of its people
	Creates  bool
}

// sent returns the attempts that may have been sent.
func (r *run) sent() ([]attempt, error) {
	rows, _ := r.Pool.Query(r.ctx, `
		select a.id, a.started_at as started, a.deadline,
		       array_remove(a.trace_id || (select array_agg(l.trace_id) from late_answers l where l.attempt_id = a.id), null) as traces,
		       array(select p.key from attempt_people p where p.attempt_id = a.id) as keys, a.call in ('create', 'bulk') as creates
		from attempts a where a.resolution is distinct from 'not_sent'`)
	sent, err := pgx.CollectRows(rows, pgx.RowToStructByName[attempt])
	if err != nil {
		return nil, fmt.Errorf("read the attempts: %w", err)
	}
	return sent, nil
}

// deadlineSlack is how long a request may take from its write to the sandbox on a busy machine. The
// faults that the judge looks for are much later than that: by the length of a stop, or by an hour.
const deadlineSlack = time.Second

// judgeDeadlines looks for requests that arrived after the deadline of their attempt. It knows
// those whose answer the ledger has and those that made an invitation.
func (r *run) judgeDeadlines(v *verdict, t *truth, sent []attempt) {
	came := map[string]time.Time{}
	for _, a := range t.requests {
		came[a.Trace] = a.At
	}
	byKey := map[string][]attempt{}
	for _, a := range sent {
		for _, trace := range a.Traces {
			if at, ok := came[trace]; ok && at.After(a.Deadline.Add(deadlineSlack)) {
				v.add(late, rowID{}, "attempt %d arrived %s after its deadline", a.ID, at.Sub(a.Deadline).Round(time.Millisecond))
			}
		}
		for _, key := range a.Keys {
			if a.Creates {
				byKey[key] = append(byKey[key], a)
			}
		}
	}
	for key, all := range t.made {
		for _, m := range all {
			if m.Metadata != nil {
				continue // made by another program
			}
			var last *attempt // with the latest deadline among those that started before
			for i, a := range byKey[key] {
				// The sandbox's times are whole milliseconds.
				before := !m.CreatedAt.Before(a.Started.Add(-time.Millisecond))
				if before && (last == nil || a.Deadline.After(last.Deadline)) {
					last = &byKey[key][i]
				}
			}
			// A restored ledger may lack the attempt that made the invitation.
			if last != nil && !r.harm.restored {
				// A slow Clerk makes the invitation some time after the request arrived.
				r.judgeLate(v, key, m.CreatedAt.Sub(last.Deadline)-r.slowest())
			}
		}
	}
}

// slowest returns the longest time after a request's arrival at which the sandbox acts on it.
func (c *clerk) slowest() time.Duration {
	var slowest time.Duration
	for _, f := range c.faults {
		if f["kind"] != "slow" || f["after"] == true {
			continue
		}
		if delay, err := time.ParseDuration(fmt.Sprint(f["delay"])); err == nil {
			slowest += delay // a request may meet several faults
		}
	}
	return slowest
}

func (r *run) judgeLate(v *verdict, key string, after time.Duration) {
	if after > deadlineSlack {
		v.add(late, rowID{1, slices.Index(r.crowd.keys, key) + 1}, "invited %s after the deadline", after.Round(time.Millisecond))
		v.wrongs[len(v.wrongs)-1].key = key
	}
}

// measure sets the durations of the verdict.
func (r *run) measure(v *verdict, results []result) error {
	deaths, _ := r.fleet.seen()
	began := r.struck
	v.struck = !began.IsZero()
	if len(deaths) == 0 && v.struck {
		deaths = append(deaths, began)
	}
	for _, at := range deaths {
		var end time.Time
		err := r.Pool.QueryRow(r.ctx, `select coalesce(max(resolved_at), $1) from attempts where started_at <= $1 and resolved_at > $1`, at).Scan(&end)
		if err != nil {
			return fmt.Errorf("read what was open: %w", err)
		}
		v.settled = max(v.settled, end.Sub(at))
	}
	if !v.struck {
		if err := r.Pool.QueryRow(r.ctx, `select coalesce(min(started_at), clock_timestamp()) from attempts`).Scan(&began); err != nil {
			return fmt.Errorf("read the first attempt: %w", err)
		}
	}
	for _, row := range results {
		if row.DecidedAt != nil {
			v.done = max(v.done, row.DecidedAt.Sub(began))
		}
	}
	return nil
}
