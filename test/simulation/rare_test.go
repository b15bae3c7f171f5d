package simulation

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// states has rare states that the tables show at the end of a run.
var states = []struct{ name, sql string }{
	{"an answer came after its attempt was resolved", `select count(*) from late_answers`},
	{"an attempt was settled by reading", `select count(*) from attempts where resolution = 'read'
		and call in ('create', 'bulk')`},
	{"an attempt was settled by reading, and had made its invitation", `
		select count(distinct a.id) from attempts a join attempt_people p on p.attempt_id = a.id
			where a.resolution = 'read' and p.resolution = 'ours'`},
	{"an attempt was settled by reading, and had made nothing", `
		select count(distinct a.id) from attempts a join attempt_people p on p.attempt_id = a.id
			where a.resolution = 'read' and p.resolution = 'not_there'`},
	{"nobody ever recorded an answer to an attempt", `select count(*) from attempts where answered_at is null`},
	{"a request was never written", `select count(*) from attempts where resolution = 'not_sent'`},
	{"two workers asked for the same row, one after the other", `
		select count(*) from (select p.batch_id, p.row_number from attempt_people p
			join attempts a on a.id = p.attempt_id and a.call in ('create', 'bulk')
		group by 1, 2 having count(distinct a.worker_id) > 1) t`},
	{"a row was asked for three times or more", `
		select count(*) from (select p.batch_id, p.row_number from attempt_people p
			join attempts a on a.id = p.attempt_id and a.call in ('create', 'bulk')
		group by 1, 2 having count(*) > 2) t`},
	{"a bulk call was answered for some of its people alone", `
		select count(*) from (select p.attempt_id from attempt_people p join attempts a on a.id = p.attempt_id
			and a.call = 'bulk'
		group by 1 having bool_or(p.answer is null) and bool_or(p.answer is not null)) t`},
	{"a row went alone", `select count(*) from results r join batches b on b.id = r.batch_id where r.alone
		and b.resend_of is null`},
	{"a person was found to be invited by the answer to their request", `select count(*) from attempt_people
		where answer = 'exists'`},
	{"a person was found to be a user by the answer to their request", `select count(*) from attempt_people
		where answer = 'user'`},
	{"a row was decided by what another row did", `select count(*) from results
		where reason = 'invited_by_another_row'`},
	{"a resend revoked an invitation", `select count(*) from attempts where call = 'revoke'
		and sweep_id is null`},
	{"the answer to a resend's revoke was lost", `
		select count(*) from attempts
		where call = 'revoke' and sweep_id is null and http_status is null and resolution is distinct from 'not_sent'`},
	{"a resend's revoke was done and its create was not: another create followed", `
		select count(*) from results r where r.revoke_sent is not null and r.outcome = 'invited' and (
			select count(*) from attempt_people p join attempts a on a.id = p.attempt_id
				and a.call in ('create', 'bulk')
			where (p.batch_id, p.row_number) = (r.batch_id, r.row_number)) > 1`},
	{"a sweep revoked an invitation", `select count(*) from revocations where outcome = 'revoked'`},
	{"a sweep's revocation was decided by reading", `select count(*) from revocations where read_id is not null`},
	{"a row was taken away while a request for it was under way", `
		select count(*) from results where withdrawn_by is not null and outcome = 'invited'`},
	{"a row of a cancelled batch ended as invited", `
		select count(*) from results r join batches b on b.id = r.batch_id where b.state = 'cancelled'
			and r.outcome = 'invited'
		  and r.decided_at > (select max(e.at) from events e where e.batch_id = b.id and e.action = 'cancelled')`},
	{"a request was under way while its batch was paused", `
		select count(*) from attempts a where a.call in ('create', 'bulk') and exists (
			select from attempt_people p join events e on e.batch_id = p.batch_id and e.action = 'paused'
			where p.attempt_id = a.id and e.at between a.started_at and a.resolved_at)`},
	{"a batch was opened again by a retry", `select count(*) from events where action = 'retried'`},
	{"reconciling ended", `select count(*) from reconciles where finished_at is not null`},
}

const voidRuns = "runs that are void, since the machine was too busy"

// states counts the rare states that a run has reached.
func (r *run) states() {
	for _, s := range states {
		var n int
		if err := r.pool.QueryRow(r.ctx, s.sql).Scan(&n); err != nil {
			r.wrong("count where %s: %v", s.name, err)
		}
		r.rare.many(s.name, n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.kinds {
		r.rare.count(s)
	}
	r.rare.count("runs")
	switch {
	case r.voided:
		r.rare.count(voidRuns)
	case len(r.wrongs) > 0:
		r.rare.count("runs that failed")
	}
}

// wanted has rare states that are counted during a run. A long simulation must reach each of them,
// and each of states.
var wanted = []string{
	"commit claim: " + fLost, "commit claim: " + fCut, "commit claim: " + fDieAfter, "commit claim: " + fStandAfter,
	"commit record: " + fLost, "commit record: " + fCut, "commit record: " + fDieBefore,
	"commit record: " + fStandBefore,
	firstOfRecord + ": " + fStandBefore, "commit settle: " + fLost, "commit revocation: " + fLost,
	"create: " + cLostBefore, "create: " + cLostAfter, "create: " + cCut, "bulk: " + cCut,
	"create: " + cDieBefore, "create: " + cDieAfter,
	"create: " + cStandAfter, "create: " + cThrottled,
	"create: " + cGarbled, "create: " + cQuota, "bulk: " + cQuota, "create: " + cUnknown, "bulk: " + cUnknown,
	"create: " + cKey, "bulk: " + cLostAfter, "bulk: " + cPartial, "bulk: " + cGarbled, "bulk: " + cDieAfter,
	"bulk: " + cStandAfter,
	"revoke: " + cLostBefore, "revoke: " + cLostAfter, "revoke: " + cCut, "revoke: " + cDieAfter, "list: " + cGarbled,
	"users: " + cLostBefore,
	"a worker was killed while a request of its was under way",
	"a worker stood still for longer than a lease while a request of its was under way",
	"a worker lost a lease while a request of its was under way",
	"a worker that stood still lost the lease of settle", "a worker that stood still lost the lease of preflight",
	"a worker that stood still lost the lease of reconcile",
	"a worker was declared dead and went on",
	"a guard came after another had taken the lease",
	"a bucket was frozen after a 429: create", "a bucket was frozen after a 429: bulk",
	"a bucket was frozen after a 429: general",
	"a probe tried a frozen bucket: create",
	"pause while a request was under way", "cancel while a request was under way",
	"rescind while a request was under way",
	"undo while a request was under way", "correct while a request was under way",
	"sweep while a request was under way", "resend while a request was under way",
	"a batch was paused by clerk", "a batch was paused by person", "a batch was paused by canary",
	"a batch was paused by breaker",
	"somebody was mailed again, after their invitation was revoked",
}

// report prints the counts. If complete is set, it returns an error if a state was not reached, or
// if too many runs are void.
func (c *rare) report(w io.Writer, complete bool) error {
	if _, err := fmt.Fprintf(w, "what the runs came to:\n%s", c); err != nil {
		return err
	}
	all := slices.Clone(wanted)
	for _, s := range states {
		all = append(all, s.name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var missing []string
	for _, name := range all {
		if c.n[name] == 0 {
			missing = append(missing, name)
		}
	}
	if complete && float64(c.n[voidRuns]) > mostVoid*float64(c.n["runs"]) {
		return fmt.Errorf("%d of %d runs are void: give a longer -second", c.n[voidRuns], c.n["runs"])
	}
	if complete && len(missing) > 0 {
		return fmt.Errorf("no seed reached:\n%s", strings.Join(missing, "\n"))
	}
	return nil
}
