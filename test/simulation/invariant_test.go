package simulation

import (
	"slices"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/proof"
)

// invariants must hold in the tables once nothing is left to do. Each query lists what breaks the
// rule.
var invariants = []struct{ name, sql string }{
	{"every row has an outcome", `
		select format('row %s of batch %s', row_number, batch_id) from results where outcome is null`},
	{"a batch's rows are as many as it says", `
		select format('batch %s', b.id) from batches b
		where b.rows is distinct from (select count(*) from results r where r.batch_id = b.id)`},
	{"every batch has ended", `
		select format('batch %s is %s', id, state) from batches where state not in ('done', 'cancelled')
			or finished_at is null`},
	{"no attempt is open", `
		select format('attempt %s', id) from attempts where resolved_at is null`},
	{"an answer that came after its attempt was settled is kept apart", `
		select format('attempt %s', id) from attempts where answered_at > resolved_at`},
	{"nobody is in an open attempt", `
		select format('attempt %s', attempt_id) from attempt_people where open or closed_at is null`},
	{"who is invited has an attempt that made the invitation", `
		select format('row %s of batch %s', r.row_number, r.batch_id) from results r where r.outcome = 'invited'
			and not exists (
			select from attempt_people p join attempts a on a.id = p.attempt_id
			where a.id = r.attempt_id and a.call in ('create', 'bulk') and (p.batch_id, p.row_number) = (r.batch_id,
				r.row_number)
			  and p.key = r.key and p.resolution in ('answered', 'ours')
			  	and p.clerk_invitation_id = r.clerk_invitation_id)`},
	{"what a read proves was read", `
		select format('row %s of batch %s', r.row_number, r.batch_id) from results r
		where r.read_id is not null and not exists (select from reads d where d.id = r.read_id
			and d.ended_at is not null and d.http_status = 200)`},
	{"the read that showed a status is kept", `
		select format('row %s of batch %s', r.row_number, r.batch_id) from results r
		where r.status_read_id is not null and not exists (select from reads d where d.id = r.status_read_id)`},
	{"who is known already has the attempt or the read that proves it", `
		select format('row %s of batch %s is %s (%s)', r.row_number, r.batch_id, r.outcome, r.reason) from results r
		where r.outcome in ('already_invited', 'already_registered', 'rejected', 'failed') and r.attempt_id is null
			and r.read_id is null
		  and not (r.reason in ('invited_by_another_row', 'invited_again_recently', 'accepted') and exists (
			select from results o where o.key = r.key and o.outcome = 'invited'
				and (o.batch_id, o.row_number) <> (r.batch_id, r.row_number)))`},
	{"an invitation is one row's", `
		select format('invitation %s', clerk_invitation_id) from results where outcome = 'invited'
			group by clerk_invitation_id having count(*) > 1`},
	{"nobody has two requests at a time", `
		select format('attempts %s and %s', a.id, b.id) from attempt_people p join attempts a on a.id = p.attempt_id
			and a.call in ('create', 'bulk')
		join attempt_people q on q.key = p.key and q.attempt_id > p.attempt_id join attempts b on b.id = q.attempt_id
			and b.call in ('create', 'bulk')
		where b.started_at < p.closed_at`},
	{"who is cancelled was not asked for, or that came to nothing", `
		select format('row %s of batch %s, attempt %s', r.row_number, r.batch_id, p.attempt_id) from results r
		join attempt_people p on (p.batch_id, p.row_number) = (r.batch_id, r.row_number)
			join attempts a on a.id = p.attempt_id and a.call in ('create', 'bulk')
		where r.outcome = 'cancelled' and (p.answer = 'created' or p.resolution = 'ours')`},
	{"every sweep has ended", `
		select format('sweep %s', id) from sweeps where apply and not held and finished_at is null`},
	{"every revocation is decided", `
		select format('invitation %s of sweep %s', clerk_invitation_id, v.sweep_id) from revocations v
			join sweeps s on s.id = v.sweep_id and not s.held where v.outcome is null`},
	{"a revocation that was done has its attempt", `
		select format('invitation %s of sweep %s', clerk_invitation_id, sweep_id) from revocations
			where outcome = 'revoked' and attempt_id is null`},
	{"one process reconciles at a time", `
		select format('reconciling %s began before %s ended', b.id, a.id) from reconciles a
			join reconciles b on b.instance_id = a.instance_id
		where a.complete and b.complete and b.started_at > a.started_at and b.started_at < a.finished_at`},
	{"a read that proves an outcome ended before it", `
		select format('row %s of batch %s', r.row_number, r.batch_id) from results r join reads d on d.id = r.read_id
			where d.ended_at > r.decided_at`},
	{"every batch that has ended has a certificate", `
		select format('batch %s', b.id) from batches b where not exists (select from certificates c
			where c.batch_id = b.id)`},
}

// judge checks everything that must hold at the end of a run.
func (r *run) judge() {
	for _, i := range invariants {
		rows, _ := r.pool.Query(r.ctx, i.sql)
		broken, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			r.wrong("%s: %v", i.name, err)
		}
		for _, what := range broken[:min(len(broken), 3)] {
			r.wrong("it does not hold that %s: %s", i.name, what)
		}
	}
	r.judgeMails()
	r.judgeResends()
	r.judgeCertificates()
}

// judgeMails compares the mailbox with the outcomes.
func (r *run) judgeMails() {
	rows, _ := r.pool.Query(r.ctx, `select key, count(*) from results where outcome = 'invited' group by key`)
	invited := map[string]int{}
	var key string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&key, &n}, func() error { invited[key] = n; return nil }); err != nil {
		r.wrong("count who is invited: %v", err)
		return
	}
	mails := r.mails()
	for key, n := range mails {
		if invited[key] != n {
			r.wrong("%s got %d mails and is invited by %d rows", key, n, invited[key])
		}
	}
	for key, n := range invited {
		if mails[key] != n {
			r.wrong("%s is invited by %d rows and got %d mails", key, n, mails[key])
		}
	}
	known := map[string]string{} // addresses by invitation id
	for _, m := range r.invitations() {
		known[m.ID] = m.Email
	}
	rows, _ = r.pool.Query(r.ctx, `select key, clerk_invitation_id from results where outcome = 'invited'`)
	var id *string
	_, err := pgx.ForEachRow(rows, []any{&key, &id}, func() error {
		if id == nil || known[*id] != key {
			r.wrong("%s is invited by an invitation that is not theirs at Clerk", key)
		}
		return nil
	})
	if err != nil {
		r.wrong("list who is invited: %v", err)
	}
}

// judgeResends looks for people whose invitation was revoked for a row that never made another. It
// leaves out people whose invitation or row was withdrawn by a sweep, rescind, undo or correct, and
// people that Clerk rejected.
func (r *run) judgeResends() {
	rows, _ := r.pool.Query(r.ctx, `
		select distinct p.key from attempt_people p join attempts a on a.id = p.attempt_id and a.call = 'revoke'
			and a.sweep_id is null
		where (p.answer = 'revoked' or p.resolution = 'read')
		  and not exists (select from revocations v where v.key = p.key)
		  and not exists (select from attempt_people c where c.key = p.key and c.answer = 'rejected')
		  and not exists (select from results r where r.key = p.key and r.withdrawn_by is not null)`)
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		r.wrong("list who was invited again: %v", err)
		return
	}
	all := r.invitations()
	users := r.world.users
	for _, key := range keys {
		open := slices.ContainsFunc(all,
			func(m made) bool { return m.Email == key && (m.Status == "pending" || m.Status == "accepted") })
		if !open && !slices.Contains(users, key) {
			var rows string
			err := r.pool.QueryRow(r.ctx, `select string_agg(format('row %s of batch %s: %s %s', row_number, batch_id, outcome, reason), '; ')
				from results where key = $1`, key).Scan(&rows)
			r.wrong("%s has lost an invitation to a resend, and got none (%s, %v)", key, rows, err)
		}
	}
}

// judgeCertificates verifies the certificate of each batch.
func (r *run) judgeCertificates() {
	rows, _ := r.pool.Query(r.ctx, `select batch_id from certificates group by 1 order by 1`)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		r.wrong("list certificates: %v", err)
		return
	}
	for _, id := range ids {
		v, err := proof.Verify(r.ctx, r.pool, id, nil)
		if err != nil {
			r.wrong("verify batch %d: %v", id, err)
		} else if !v.Holds {
			r.wrong("the certificate of batch %d does not hold: %v", id, v.Differences)
		}
	}
}
