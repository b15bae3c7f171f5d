package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/rig"
	"bulkinvite/invitation"
)

// verdict is what came of a run.
type verdict struct {
	rows    int
	deaths  int
	settled time.Duration  // from a death, else the harm, to the end of the last attempt that was open then; the longest
	struck  bool           // there was a harm
	done    time.Duration  // from the harm, else the first attempt, to the last decided row
	idle    time.Duration  // the longest time in which nobody did anything though work and budget were there
	did     map[string]int // what the harm did, and how often
	wrongs  []wrong
}

// wrong is something that should not be.
type wrong struct {
	kind string
	row  rowID  // of whom; zero: of nobody
	key  string // the person, to ask the program for the story; never printed
	what string
}

// The kinds of what can be wrong, as the report counts them.
const (
	lostOnes = "lost"    // no outcome, or no mail, or something left open
	doubled  = "doubled" // two mails
	untrue   = "wrong"   // an outcome that Clerk does not bear out, or without evidence
	over     = "over"    // more requests than the limit
	stalled  = "stalled" // nobody did anything for too long
	late     = "late"    // a request came after its deadline
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

// count is how much of a kind is wrong.
func (v *verdict) count(kind string) int {
	n := 0
	for _, w := range v.wrongs {
		if w.kind == kind {
			n++
		}
	}
	return n
}

// result is a row as the program tells it.
type result struct {
	BatchID   int64
	File      int // its batch's, from 0
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

// truth is what the sandbox did.
type truth struct {
	made    map[string][]rig.Invitation // by address
	mails   map[string]int
	largest map[string]rig.Largest // by bucket
	creates int                    // requests of ours that came

	requests []rig.Request
}

// limitOf is how many requests may come in a window; 0: any number.
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

// judge compares what the program says with what Clerk did.
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

// explained says of which people an attempt of ours can have made the
// invitation that Clerk has.
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

// judgeRows looks at each row by itself.
func (r *run) judgeRows(v *verdict, t *truth, results []result, explained map[string]bool) {
	v.rows = len(results)
	if want := len(r.crowd.keys) * max(1, r.harm.batches); v.rows != want {
		v.add(lostOnes, rowID{}, "%d rows, want %d", v.rows, want)
	}
	for _, row := range results {
		i := r.crowd.at(row.File, row.RowNumber)
		kind, key := r.crowd.kinds[i], r.crowd.keys[i]
		want := r.expected(kind, key, t, explained)
		theirs := 0 // which of the person's invitations the row is to name
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

// expected lists the outcomes that a row may have.
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
			// A lost answer, or a bulk call that was refused without a name, leaves an
			// attempt that could have made the other's.
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

// judgeMails looks at each person: one mail, and one row that claims it.
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
			v.add(doubled, rowID{1, i + 1}, "%d mails, want %d at the most", n, most)
			v.wrongs[len(v.wrongs)-1].key = key
		}
	}
	for key := range t.mails {
		if !slices.Contains(r.crowd.keys, key) {
			v.add(doubled, rowID{}, "a mail to somebody who is in no file")
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
			v.add(untrue, row, "%d rows say that they were invited by themselves", n)
		}
	}
	if r.harm.batches < 2 {
		return
	}
	for i, kind := range r.crowd.kinds {
		if kind == fresh && claimed[r.crowd.keys[i]] == 0 {
			v.add(untrue, rowID{1, i + 1}, "no batch has the person as invited")
		}
	}
}

// judgeDoor looks whether somebody who was invited again has one invitation that
// they can use: revoked and forgotten is as bad as lost.
func (r *run) judgeDoor(v *verdict, t *truth, key string, i int) {
	open := 0
	for _, m := range t.made[key] {
		if m.Status == string(invitation.Pending) || m.Status == string(invitation.Accepted) {
			open++
		}
	}
	if open != 1 {
		v.add(lostOnes, rowID{2, i + 1}, "%d invitations stand, want one", open)
		v.wrongs[len(v.wrongs)-1].key = key
	}
}

// judgeLedger looks for what is left open, for requests that the ledger does not
// know, and for more of them than the limits allow.
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
		v.add(untrue, rowID{}, "%d requests came, and the ledger has %d", t.creates, sent)
	}
	for bucket, most := range t.largest {
		// A restored ledger has forgotten what it spent, and none has what others spend.
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
	Traces   []string // of its answers
	Keys     []string // its people
	Creates  bool
}

// sent lists the attempts that may have been sent.
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

// deadlineSlack is how much later than it was written a request may come to the
// sandbox of a machine that is busy. What this is to find comes later by the length of a stop, or
// by an hour.
const deadlineSlack = time.Second

// judgeDeadlines looks for requests that came after the deadline of their attempt:
// those whose answer the ledger has, and those that made an invitation.
func (r *run) judgeDeadlines(v *verdict, t *truth, sent []attempt) {
	came := map[string]time.Time{}
	for _, a := range t.requests {
		came[a.Trace] = a.At
	}
	byKey := map[string][]attempt{}
	for _, a := range sent {
		for _, trace := range a.Traces {
			if at, ok := came[trace]; ok && at.After(a.Deadline.Add(deadlineSlack)) {
				v.add(late, rowID{}, "attempt %d came %s after its deadline", a.ID, at.Sub(a.Deadline).Round(time.Millisecond))
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
				continue // another program's
			}
			var last *attempt // of those that began before
			for i, a := range byKey[key] {
				// The sandbox' times are whole milliseconds.
				before := !m.CreatedAt.Before(a.Started.Add(-time.Millisecond))
				if before && (last == nil || a.Deadline.After(last.Deadline)) {
					last = &byKey[key][i]
				}
			}
			// A ledger that forgot some of what was done may lack the attempt that made it.
			if last != nil && !r.harm.restored {
				// A slow Clerk makes it some time after the request has come.
				r.judgeLate(v, key, m.CreatedAt.Sub(last.Deadline)-r.slowest())
			}
		}
	}
}

// slowest is how long after a request came the sandbox acts on it, at most.
func (c *clerk) slowest() time.Duration {
	var slowest time.Duration
	for _, f := range c.faults {
		if f["kind"] != "slow" || f["after"] == true {
			continue
		}
		if delay, err := time.ParseDuration(fmt.Sprint(f["delay"])); err == nil {
			slowest += delay // a request may meet several
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

// measure says how long it took.
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
