package invitation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/lease"
)

// Reasons of rows that a resend does not invite.
const (
	ReasonCooldown = "invited_again_recently" // another row invited the person again within the cooldown
	ReasonRevoked  = "revoked_elsewhere"      // somebody revoked the invitation meanwhile
	ReasonAccepted = "accepted"               // the person has accepted
)

// withoutRevoked returns the evidence without invitations that are known to be revoked, even if a
// list that lags still shows them, and whenever they were made. These are invitations of other rows
// that say so, and invitations that were or may have been revoked for this row. None of them means
// that the person is invited. For a row whose link goes to a file, it also leaves out invitations
// that are over.
func withoutRevoked(row Row, ev Evidence) Evidence {
	own := func(id string) bool {
		return slices.ContainsFunc(ev.Revoked, func(r OwnRevoke) bool { return r.InvitationID == id })
	}
	gone := func(s Sighting) bool {
		others := func(o Other) bool { return o.InvitationID == s.ID && o.Status == Revoked }
		return !s.User && (own(s.ID) || s.Status == Pending && slices.ContainsFunc(ev.Others, others) ||
			row.Links && over(s.Status, s.ExpiresAt, ev.Now))
	}
	if slices.ContainsFunc(ev.Sightings, gone) {
		ev.Sightings = slices.DeleteFunc(slices.Clone(ev.Sightings), gone)
	}
	if len(ev.Revoked) > 0 {
		ev.Others = slices.Clone(ev.Others)
		for i, o := range ev.Others {
			if own(o.InvitationID) {
				ev.Others[i].Status = Revoked
			}
		}
	}
	return ev
}

// blocking returns the invitation that must be revoked before the row can make its own. That is one
// of these:
//
//   - a pending invitation of the person that was made before this batch began, at most once in a
//     cooldown;
//   - an expired one, if Clerk refused the row because of it;
//   - one that the row made itself and whose link is lost.
//
// If the row must not be sent at all, decided is true and act says how it ends.
func blocking(row Row, ev Evidence) (revoke string, act Action, decided bool) {
	if row.Links {
		if s, a, ok := ours(ev); ok && s.Status != Pending {
			return "", invited(s, a, ClosedOurs), true // accepted: the person has the link
		} else if ok {
			return s.ID, Action{}, false
		}
	}
	if !row.Resend || row.Owed {
		return "", Action{}, false
	}
	if act, ok := acceptedBefore(row, ev); ok {
		return "", act, true
	}
	for _, o := range ev.Others {
		if !stands(o, ev) {
			continue
		}
		if !o.DecidedAt.Before(row.BatchStarted) {
			return "", Action{}, false // it was made since the batch began: known decides
		}
		act = Action{Kind: Decide, Outcome: AlreadyInvited, Reason: ReasonCooldown, InvitationID: o.InvitationID, Status: o.Status}
		revoke = o.InvitationID
	}
	if s, ok := standing(ev, recently(row, ev)); ok && revoke == "" {
		if !s.FirstSeen.Before(row.BatchStarted) && !s.CreatedAt.Before(row.BatchStarted.Add(-ev.Slack)) {
			return "", Action{}, false
		}
		act, revoke = already(s, ReasonCooldown), s.ID
	}
	if revoke != "" && !ev.Resent.IsZero() && ev.Now.Sub(ev.Resent) < row.Cooldown {
		return "", act, true
	}
	if revoke == "" && row.Repeat && takenBack(ev) {
		return "", Action{Kind: Decide, Outcome: Cancelled, Reason: ReasonRevoked}, true
	}
	if revoke == "" && slices.ContainsFunc(ev.Attempts, func(a Attempt) bool { return a.Answer == AnswerExists }) {
		revoke = expired(ev)
	}
	return revoke, Action{}, false
}

// expired finds an invitation of the person that has expired and that nothing else has ended. Clerk
// may refuse another one because of it.
func expired(ev Evidence) string {
	ended := func(s Status, at time.Time) bool {
		return s == Expired || (s == Pending || s == "") && !at.IsZero() && !at.After(ev.Now)
	}
	for _, s := range slices.Backward(ev.Sightings) {
		if !s.User && ended(s.Status, s.ExpiresAt) {
			return s.ID
		}
	}
	for _, o := range slices.Backward(ev.Others) {
		seen := func(s Sighting) bool { return !s.User && s.ID == o.InvitationID }
		if o.Outcome == Invited && ended(o.Status, o.ExpiresAt) && !slices.ContainsFunc(ev.Sightings, seen) {
			return o.InvitationID
		}
	}
	return ""
}

// acceptedBefore decides a row whose person has accepted an earlier invitation.
func acceptedBefore(row Row, ev Evidence) (Action, bool) {
	for _, s := range ev.Sightings {
		if s.User && !s.LastSeen.Before(recently(row, ev)) && !slices.ContainsFunc(ev.Attempts, func(a Attempt) bool { return !a.decided() }) {
			return Action{Kind: Decide, Outcome: AlreadyRegistered, Reason: "user_at_clerk", UserID: s.ID, ReadID: s.ReadID}, true
		}
	}
	for _, o := range ev.Others {
		if o.Outcome != Invited {
			continue
		}
		seen := slices.IndexFunc(ev.Sightings, func(s Sighting) bool { return !s.User && s.ID == o.InvitationID && s.Status == Accepted })
		switch {
		case o.Status == Accepted:
			return Action{Kind: Decide, Outcome: AlreadyRegistered, Reason: ReasonAccepted, AttemptID: ev.Accepted}, true
		case seen >= 0:
			return Action{Kind: Decide, Outcome: AlreadyRegistered, Reason: ReasonAccepted, ReadID: ev.Sightings[seen].ReadID}, true
		}
	}
	return Action{}, false
}

// takenBack reports whether the person's latest invitation that this program made was revoked or
// deleted. It returns false if a row is owed an invitation, because then the revocation was made
// for that row.
func takenBack(ev Evidence) bool {
	var last Other
	for _, o := range ev.Others {
		if o.Owed {
			return false
		}
		if o.Outcome == Invited && !o.DecidedAt.Before(last.DecidedAt) {
			last = o
		}
	}
	revoked := func(s Status) bool { return s == Revoked || s == Deleted }
	seen := func(s Sighting) bool { return !s.User && s.ID == last.InvitationID && revoked(s.Status) }
	return last.Outcome == Invited && (revoked(last.Status) || slices.ContainsFunc(ev.Sightings, seen))
}

// stands reports whether another row's invitation is not known to be over.
func stands(o Other, ev Evidence) bool {
	return o.Outcome == Invited && !over(o.Status, o.ExpiresAt, ev.Now) && !seenOver(o.InvitationID, ev)
}

// recently returns the earliest begin of a read that still counts. What an older read showed may
// have changed, so it is read again. Sightings have the time at which their read began, so what the
// reads that guard a claim showed counts as long as these reads do.
func recently(row Row, ev Evidence) time.Time {
	oldest := ev.Now.Add(-ev.Fresh)
	c := ev.Coverage
	for _, r := range [][2]time.Time{{c.Users, c.UsersEnded}, {c.Invitations, c.InvitationsEnded}} {
		if begun := r[0]; begun.Before(oldest) && ev.recent(begun, r[1]) {
			oldest = begun
		}
	}
	if oldest.After(row.BatchStarted) {
		return oldest
	}
	return row.BatchStarted
}

// found continues with a row whose open attempt made an invitation, as a read shows. If the row's
// link must go to a file, the link is lost: the attempt is closed, and the next claim revokes that
// invitation.
func found(row Row, s Sighting, a Attempt) Action {
	if row.Links && s.Status != Accepted && !row.stopped() {
		return void(row, Action{Close: ClosedOurs, InvitationID: s.ID, ReadID: s.ReadID, Alone: true})
	}
	return invited(s, a, ClosedOurs)
}

// loadRevoked reads the rows' own revokes. An earlier version sent them under a create, and a row
// waits for the end of those too.
const loadRevoked = `
	select r.batch_id, r.row_number, a.id, coalesce(p.clerk_invitation_id, ''), a.resolved_at is null,
	       p.answer is not distinct from 'gone'
	from unnest($1::bigint[], $2::int[]) as w (batch_id, row_number)
	cross join lateral (select * from results r where r.batch_id = w.batch_id and r.row_number = w.row_number and r.revoke_sent is not null offset 0) r
	cross join lateral (select * from attempt_people p where p.batch_id = r.batch_id and p.row_number = r.row_number offset 0) p
	join attempts a on a.id = p.attempt_id
	where ` + ownRevoke + ` and not ` + undone + `
	order by a.id`

func scanRevoked(rows pgx.Rows, byRow map[RowID]*Case) error {
	for rows.Next() {
		var id RowID
		var r OwnRevoke
		if err := rows.Scan(&id.Batch, &id.Row, &r.Attempt, &r.InvitationID, &r.Open, &r.Gone); err != nil {
			return err
		}
		if c := byRow[id]; c != nil {
			c.Revoked = append(c.Revoked, r)
		}
	}
	return rows.Err()
}

// loadResent finds when other rows invited the people again: rows for which an invitation was
// revoked, and rows of a resend that needed no revocation because the earlier invitation had
// expired. Batches whose links go to a file do not count, because Clerk mailed nobody and there is
// no cooldown.
const loadResent = `
	select o.key, o.batch_id, o.row_number, coalesce(o.revoke_sent, o.decided_at)
	from (select distinct r.key from unnest($2::bigint[], $3::int[]) as w (batch_id, row_number)
	      join results r using (batch_id, row_number) join batches b on b.id = r.batch_id and b.on_duplicate = 'resend') k
	cross join lateral (select * from results o where o.key = k.key and o.instance_id = $1 offset 0) o
	join batches b on b.id = o.batch_id
	where b.links_file is null and (o.revoke_sent is not null or b.resend_of is not null and o.outcome = 'invited')`

func scanResent(rows pgx.Rows, byKey map[string][]*Case) error {
	for rows.Next() {
		var key string
		var id RowID
		var at time.Time
		if err := rows.Scan(&key, &id.Batch, &id.Row, &at); err != nil {
			return err
		}
		for _, c := range byKey[key] {
			if c.RowID != id && at.After(c.Resent) {
				c.Resent = at
			}
		}
	}
	return rows.Err()
}

// undone says that a row's own revoke p is proven to have done nothing.
const undone = `coalesce(p.resolution, '') in ('not_sent', 'refused', 'not_there')`

// MarkRevoking marks rows for which an invitation is being revoked. Until the result is known their
// people are claimed, and if the revoke is done they are owed another invitation. Call it in the
// transaction of the claim.
func (s *Store) MarkRevoking(ctx context.Context, tx pgx.Tx, ids []RowID) error {
	if len(ids) == 0 {
		return nil
	}
	batches, numbers := split(ids)
	_, err := tx.Exec(ctx, `
		update results r set revoke_sent = coalesce(r.revoke_sent, clock_timestamp())
		from unnest($1::bigint[], $2::int[]) as d (batch, number)
		where r.batch_id = d.batch and r.row_number = d.number`, batches, numbers)
	if err != nil {
		return fmt.Errorf("mark %d rows for which an invitation is revoked: %w", len(ids), err)
	}
	return nil
}

// CloseOwnRevoke closes a row's own revoke and records the status of the invitation, as
// [Store.CloseRevoke] does. If done is true, the row is owed an invitation and is among the
// returned rows. If not, the row starts anew.
func (s *Store) CloseOwnRevoke(ctx context.Context, tx pgx.Tx, instance, attempt int64, p Person,
	status Status, how string, done bool) ([]Freed, error) {
	if !done {
		_, err := tx.Exec(ctx, `update results set revoke_sent = null
			where batch_id = $1 and row_number = $2 and outcome is null`, p.Batch, p.Row)
		if err != nil {
			return nil, fmt.Errorf("close attempt %d: %w", attempt, err)
		}
	}
	return s.CloseRevoke(ctx, tx, instance, attempt, p, status, how)
}

// promiseFor is how long after its revoke an owed row reserves budget. Clerk may fail on the row,
// or its process may be gone. After that time the row still goes first.
const promiseFor = 10 * time.Minute

// Promised counts the rows of an instance for which an invitation is being revoked or that are owed
// one, for [promiseFor] after the revoke. Each of them needs a create. Rows whose create is under
// way do not count, because that attempt uses budget already. ready counts the rows whose create
// can be claimed now.
func (p *Picker) Promised(ctx context.Context, db Queryer, instance int64) (promised, ready int, err error) {
	err = db.QueryRow(ctx, `
		select count(*) filter (where r.revoke_sent > clock_timestamp() - $2::interval),
		       count(*) filter (where `+owed+` and `+waiting+`
		           and exists (select from batches b where b.id = r.batch_id and `+p.mine()+`))
		from results r where r.instance_id = $1 and r.revoke_sent is not null and r.outcome is null and r.withdrawn_by is null
		  and not exists (
			select from attempt_people p join attempts a on a.id = p.attempt_id and a.call <> 'revoke'
			where p.batch_id = r.batch_id and p.row_number = r.row_number and p.open)`,
		instance, promiseFor).Scan(&promised, &ready)
	if err != nil {
		return 0, 0, fmt.Errorf("count the rows of instance %d that are owed an invitation: %w", instance, err)
	}
	return promised, ready, nil
}

// RevokedBefore reports whether a revoke for the row, earlier than attempt, may have reached Clerk,
// even late.
func (s *Store) RevokedBefore(ctx context.Context, tx pgx.Tx, id RowID, attempt int64) (bool, error) {
	var yes bool
	err := tx.QueryRow(ctx, `select exists (select from attempt_people p join attempts a on a.id = p.attempt_id
		where p.batch_id = $1 and p.row_number = $2 and `+ownRevoke+` and a.id < $3
		  and coalesce(p.resolution, '') not in ('not_sent', 'refused'))`,
		id.Batch, id.Row, attempt).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("look for revokes before %d: %w", attempt, err)
	}
	return yes, nil
}

// SetAlone makes rows go in calls of their own from now on.
func (s *Store) SetAlone(ctx context.Context, tx pgx.Tx, ids []RowID) error {
	if len(ids) == 0 {
		return nil
	}
	batches, numbers := split(ids)
	_, err := tx.Exec(ctx, `update results r set alone = true from unnest($1::bigint[], $2::int[]) as d (batch, number)
		where r.batch_id = d.batch and r.row_number = d.number`, batches, numbers)
	if err != nil {
		return fmt.Errorf("set %d rows apart: %w", len(ids), err)
	}
	return nil
}

// again selects the rows r of a batch that a resend may invite again, with l, the latest invitation
// of the person that this program made. l is pending or has expired. It leaves out people who have
// accepted, people whose invitation was revoked or is being revoked (except by a sweep of stale
// invitations), and corrected addresses.
const again = `
	from results r cross join lateral (
		select l.* from results l where l.key = r.key and l.instance_id = r.instance_id and l.outcome = 'invited'
		order by l.decided_at desc limit 1) l
	where r.batch_id = $1 and r.outcome = 'invited' and r.erased_by is null and coalesce(l.status, 'pending') in ('pending', 'expired')
	  and l.withdrawn_by is null
	  and not exists (
	      select from sweeps s join revocations v on v.sweep_id = s.id and v.clerk_invitation_id = l.clerk_invitation_id
	      where s.instance_id = r.instance_id and s.apply and s.finished_at is null and not s.held
	        and s.kind <> 'sweep' and v.outcome is null)
	  and not exists (
	      select from batches c where c.corrects = r.batch_id and c.corrects_row = r.row_number and c.state <> 'cancelled')
	  and not exists (select from results u where u.key = r.key and u.instance_id = r.instance_id and u.outcome = 'already_registered' and u.decided_at > l.decided_at)`

// Again counts the people that a resend would invite, and those that it leaves out, by reason.
type Again struct {
	People   int `json:"people"`   // invited again
	Expired  int `json:"expired"`  // part of People: their invitation has expired, so nothing is revoked
	Younger  int `json:"younger"`  // pending, but not for long enough
	Cooling  int `json:"cooling"`  // left out: invited again within the cooldown
	Accepted int `json:"accepted"` // of the batch's invited: accepted
	Revoked  int `json:"revoked"`  // of the batch's invited: revoked, or deleted at Clerk
	Erased   int `json:"erased"`   // of the batch's invited, pending or expired: the address was erased or purged
}

// cooling says that the person of row r was invited again less than $3 ago.
const cooling = `exists (select from results o join batches ob on ob.id = o.batch_id
	where o.key = r.key and o.instance_id = r.instance_id and ob.links_file is null
	  and coalesce(o.revoke_sent, case when ob.resend_of is not null and o.outcome = 'invited' then o.decided_at end) > clock_timestamp() - $3::interval)`

// CountAgain counts the people that a resend of a batch would invite again. pendingFor is the
// minimum age of their invitation.
func (r *Reader) CountAgain(ctx context.Context, batch int64, pendingFor, cooldown time.Duration) (Again, error) {
	var a Again
	err := r.pool.QueryRow(ctx, `
		with pending as (
			select l.decided_at <= clock_timestamp() - $2::interval as old, coalesce(l.expires_at <= clock_timestamp(), false) or l.status = 'expired' as expired, `+cooling+` as cooling `+again+`)
		select count(*) filter (where old and not cooling), count(*) filter (where old and not cooling and expired),
		       count(*) filter (where not old), count(*) filter (where old and cooling),
		       (select count(*) from results r where r.batch_id = $1 and r.outcome = 'invited' and exists (
		           select from results o where o.key = r.key and o.instance_id = r.instance_id and (o.status = 'accepted' or o.outcome = 'already_registered'))),
		       (select count(*) from results r where r.batch_id = $1 and r.outcome = 'invited' and r.status in ('revoked', 'gone') and not exists (
		           select from results o where o.key = r.key and o.instance_id = r.instance_id and o.outcome = 'invited' and coalesce(o.status, 'pending') not in ('revoked', 'gone'))),
		       (select count(*) from results r where r.batch_id = $1 and r.outcome = 'invited' and r.erased_by is not null and coalesce(r.status, 'pending') in ('pending', 'expired'))
		from pending`, batch, pendingFor, cooldown).Scan(&a.People, &a.Expired, &a.Younger, &a.Cooling, &a.Accepted, &a.Revoked, &a.Erased)
	if err != nil {
		return a, fmt.Errorf("count whom of batch %d to invite again: %w", batch, err)
	}
	return a, nil
}

// CreateResend makes a batch of the people of another batch who have not accepted, with their rows
// as they were. It leaves out people in their cooldown, and the claim checks the cooldown again. It
// returns the number of the new batch and its row numbers, which need jobs.
func (s *Store) CreateResend(ctx context.Context, tx pgx.Tx, b Batch, of *Batch, pendingFor time.Duration) (int64, []int, error) {
	b.InstanceID, b.FileName, b.Encoding, b.Delimiter, b.Columns = of.InstanceID, of.FileName, of.Encoding, of.Delimiter, of.Columns
	b.Duplicates, b.ResendOf, b.Options, b.Preflight, b.RevokeAfter = Resend, of.ID, of.Options, true, of.RevokeAfter
	id, err := s.CreateBatch(ctx, tx, b)
	if err != nil {
		return 0, nil, err
	}
	rows, _ := tx.Query(ctx, `
		insert into results (batch_id, row_number, instance_id, line, original, email, key, redirect_url, expires_in_days, public_metadata, revoke_on, alone)
		select $4, row_number() over (order by r.row_number), r.instance_id, r.line, r.original, r.email, r.key, r.redirect_url, r.expires_in_days, r.public_metadata, r.revoke_on, true `+
		again+` and l.decided_at <= clock_timestamp() - $2::interval and not `+cooling+`
		returning row_number`, of.ID, pendingFor, cmp.Or(b.Cooldown, DefaultCooldown), id)
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return 0, nil, fmt.Errorf("resend batch %d: %w", of.ID, err)
	}
	return id, numbers, nil
}

// ResendUnderWay returns the running or paused resend of a batch, or nil.
func ResendUnderWay(ctx context.Context, db Queryer, batch int64) (*Batch, error) {
	b, err := scanBatch(db.QueryRow(ctx, `select `+batchColumns+` from batches
		where resend_of = $1 and state in ('running', 'paused') order by id desc limit 1`, batch))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for a resend of batch %d: %w", batch, err)
	}
	return b, nil
}

// LockResend makes resends of one batch wait for each other until the transaction ends.
func LockResend(ctx context.Context, tx pgx.Tx, of *Batch) error {
	return lease.Exclude(ctx, tx, of.InstanceID, fmt.Sprintf("resend %d", of.ID))
}
