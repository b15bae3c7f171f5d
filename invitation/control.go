package invitation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// StateError says that a batch's state does not allow an action.
type StateError struct {
	Batch  int64
	State  State
	Reason string // why it is in that state, if the program put it there
	Action string // the refused action, a key of pastOf
}

// Error names the batch, its state and the action.
func (e *StateError) Error() string {
	text := fmt.Sprintf("batch %d is %s", e.Batch, e.State)
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	return text + ": it can't be " + pastOf[e.Action]
}

// pastOf has the past participle of each action, for texts. events.action stores the same words,
// except for changed options, which are stored as "set".
var pastOf = map[string]string{"read again": "read again", "set": "changed", "pause": "paused", "resume": "resumed", "cancel": "cancelled", "discard": "discarded", "start": "started", "retry": "retried", "undo": "undone", "correct": "corrected"}

// change is a change of a batch's state.
type change struct {
	action string // a key of pastOf
	to     State
	from   []State
	by     Pauser    // for a pause
	reason string    // for a pause; may be empty
	rows   []int     // rows that are opened again; may be empty
	also   []Outcome // outcomes that a retry opens in addition to failed
}

// move changes a batch's state from one of the allowed states and records who did it. For a change
// that stops or starts claims, the caller must hold the instance's create and bulk buckets. Claims
// read the state after they hold the buckets, so no claim slips in between.
func (s *Store) move(ctx context.Context, tx pgx.Tx, b *Batch, actor string, c change) error {
	err := tx.QueryRow(ctx, `update batches set state = $2, state_reason = nullif($3, ''), paused_by = nullif($4, '') where id = $1 and state = any($5) returning id`,
		b.ID, c.to, c.reason, c.by, c.from).Scan(&b.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return s.allowed(ctx, tx, b, c)
	}
	if err != nil {
		return fmt.Errorf("%s batch %d: %w", c.action, b.ID, err)
	}
	details := map[string]any{}
	if c.by != "" {
		details["by"] = c.by
	}
	if c.reason != "" {
		details["reason"] = c.reason
	}
	if len(c.rows) > 0 {
		details["rows"] = c.rows
	}
	if len(c.also) > 0 {
		details["also"] = c.also
	}
	return event(ctx, tx, b.InstanceID, b.ID, actor, pastOf[c.action], details)
}

// allowed returns a [StateError] if the batch's state does not allow a change.
func (s *Store) allowed(ctx context.Context, tx pgx.Tx, b *Batch, c change) error {
	now := StateError{Batch: b.ID, Action: c.action}
	if err := tx.QueryRow(ctx, `select state, coalesce(state_reason, '') from batches where id = $1`, b.ID).Scan(&now.State, &now.Reason); err != nil {
		return fmt.Errorf("%s batch %d: %w", c.action, b.ID, err)
	}
	if slices.Contains(c.from, now.State) {
		return nil
	}
	return &now
}

// PauseBatch pauses a running batch because a person asked for it. reason may be empty. It fails
// with a [StateError] if the batch is not running.
func (s *Store) PauseBatch(ctx context.Context, tx pgx.Tx, b *Batch, actor, reason string) error {
	return s.move(ctx, tx, b, actor, change{action: "pause", to: Paused, from: []State{Running}, by: ByPerson, reason: reason})
}

// CancelBatch stops a batch for good. [Store.CancelRows] decides its rows in a second transaction,
// after this one has committed. CancelBatch fails with a [StateError] if the batch is over.
func (s *Store) CancelBatch(ctx context.Context, tx pgx.Tx, b *Batch, actor string) error {
	return s.move(ctx, tx, b, actor, change{action: "cancel", to: StateCancelled, from: []State{Draft, Running, Paused}})
}

// DiscardDraft stops a draft for good, as [Store.CancelBatch] does. It fails with a [StateError] if
// somebody has started the batch meanwhile.
func (s *Store) DiscardDraft(ctx context.Context, tx pgx.Tx, b *Batch, actor string) error {
	return s.move(ctx, tx, b, actor, change{action: "discard", to: StateCancelled, from: []State{Draft}})
}

// CancelRows decides the rows of an instance's cancelled batches, except those with an open attempt
// and those that are owed an invitation. It returns how many rows it cancelled. A row with an open
// attempt is decided when the attempt is resolved, and an owed row when it has its invitation.
func (s *Store) CancelRows(ctx context.Context, instance int64) (int64, error) {
	var n int64
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// An invitation whose link was lost exists all the same.
		_, err := tx.Exec(ctx, `
			update results r set outcome = 'invited', reason = 'link_lost', clerk_invitation_id = p.clerk_invitation_id, status = 'pending', status_at = clock_timestamp(),
			       attempt_id = p.attempt_id, decided_at = clock_timestamp(), not_before = null
			from batches b, attempt_people p
			where b.instance_id = $1 and b.state = 'cancelled' and b.finished_at is null and b.links_file is not null and r.batch_id = b.id and r.outcome is null and r.revoke_sent is null
			  and (p.batch_id, p.row_number) = (r.batch_id, r.row_number) and p.resolution = 'ours'
			  and p.attempt_id = (
			      select max(o.attempt_id) from attempt_people o join attempts a on a.id = o.attempt_id and a.call <> 'revoke'
			                    where (o.batch_id, o.row_number) = (r.batch_id, r.row_number))`, instance)
		if err != nil {
			return err
		}
		// Lock rows in their order, as other statements that lock several rows do.
		tag, err := tx.Exec(ctx, `
			with waiting as (
				select r.batch_id, r.row_number from results r join batches b on b.id = r.batch_id
				where b.instance_id = $1 and b.state = 'cancelled' and b.finished_at is null and r.outcome is null and r.revoke_sent is null
				  and not exists (select from attempt_people p where (p.batch_id, p.row_number) = (r.batch_id, r.row_number) and p.open)
				order by r.batch_id, r.row_number for no key update of r)
			update results r set outcome = 'cancelled', decided_at = clock_timestamp(), not_before = null
			from waiting w where r.batch_id = w.batch_id and r.row_number = w.row_number`, instance)
		if err != nil {
			return err
		}
		n = tag.RowsAffected()
		_, err = tx.Exec(ctx, `
			update batches b set finished_at = clock_timestamp()
			where instance_id = $1 and state = 'cancelled' and finished_at is null
			  and not exists (select from results r where r.batch_id = b.id and r.outcome is null)`, instance)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("cancel rows of instance %d: %w", instance, err)
	}
	return n, nil
}

// ResumeBatch sets a paused batch to running and returns the numbers of its undecided rows, which
// need jobs. If the trial of the batch is decided, resuming confirms it.
func (s *Store) ResumeBatch(ctx context.Context, tx pgx.Tx, b *Batch, actor string) ([]int, error) {
	if err := s.move(ctx, tx, b, actor, change{action: "resume", to: Running, from: []State{Paused}}); err != nil {
		return nil, err
	}
	_, err := tx.Exec(ctx, `
		update batches b set judged_from = clock_timestamp(), canary_row = case when exists (
			select from results r where r.batch_id = b.id and r.row_number <= b.canary_row and r.outcome is null) then canary_row end
		where id = $1`, b.ID)
	if err != nil {
		return nil, fmt.Errorf("resume batch %d: %w", b.ID, err)
	}
	return s.UndecidedRows(ctx, tx, b.ID)
}

// RetryBatch opens the rows again that ended as failed, and those with the outcomes in also. Only
// Rejected may be in also. It leaves out rows that were corrected, in this batch or in the batch
// that this one resends, rows that a sweep has withdrawn (unless each such sweep was stopped),
// because no worker claims them, and rows of erased people, because their address is gone. It
// returns the numbers of the rows, which need jobs. If there are none, the batch stays as it is.
func (s *Store) RetryBatch(ctx context.Context, tx pgx.Tx, b *Batch, actor string, also ...Outcome) ([]int, error) {
	// The database opens only rows that are recorded in retries. The batch is locked first, because
	// its certificate may be in the making.
	if _, err := tx.Exec(ctx, `select from batches where id = $1 for update`, b.ID); err != nil {
		return nil, fmt.Errorf("retry batch %d: %w", b.ID, err)
	}
	rows, _ := tx.Query(ctx, `
		insert into retries (batch_id, row_number, outcome, reason, attempt_id, read_id, decided_at)
		select batch_id, row_number, outcome, reason, attempt_id, read_id, decided_at from results
		where batch_id = $1 and outcome = any($2) and erased_by is null and not exists (
			select from unnest(array_prepend(withdrawn_by, also_withdrawn_by)) as w (sweep)
			where w.sweep is not null and not exists (
				select from events where action = 'sweep_stopped' and (details->>'sweep')::bigint = w.sweep))
		  and not exists (
			select from batches c join results o on o.batch_id = c.corrects and o.row_number = c.corrects_row
			where c.corrects in ($1, (select resend_of from batches where id = $1)) and c.state <> 'cancelled'
			  and o.key = results.key)
		order by row_number for update
		returning row_number`, b.ID, append([]Outcome{Failed}, also...))
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("retry batch %d: %w", b.ID, err)
	}
	retried := change{action: "retry", to: Running, from: []State{Done, Running}, rows: numbers, also: also}
	if len(numbers) == 0 {
		return nil, s.allowed(ctx, tx, b, retried)
	}
	if err := s.move(ctx, tx, b, actor, retried); err != nil {
		return nil, err
	}
	_, err = tx.Exec(ctx, `
		update results set outcome = null, decided_at = null, reason = null, attempt_id = null, read_id = null,
		       tries = 0, transient_since = null, not_before = null,
		       withdrawn_by = null, also_withdrawn_by = null
		where batch_id = $1 and row_number = any($2)`, b.ID, numbers)
	if err != nil {
		return nil, fmt.Errorf("retry batch %d: %w", b.ID, err)
	}
	_, err = tx.Exec(ctx, `update batches set finished_at = null, certificate = null, judged_from = clock_timestamp() where id = $1`, b.ID)
	if err != nil {
		return nil, fmt.Errorf("retry batch %d: %w", b.ID, err)
	}
	return numbers, nil
}

// Terms check and may change the options of a draft that is about to start. The store calls them
// while it holds the draft's lock, with the draft's preview (nil if there is none) and its number
// of undecided rows. An error refuses the start.
type Terms func(b *Batch, p *Preview, waiting int) error

// HoldDraft locks a draft until the transaction ends, if terms allow its start. It sets b to the
// draft as it is under the lock, so changes that others made before count.
func (s *Store) HoldDraft(ctx context.Context, tx pgx.Tx, b *Batch, actor string, terms Terms) error {
	locked, err := lockDraft(ctx, tx, b.ID, "start")
	if err != nil {
		return err
	}
	*b = *locked
	var waiting int
	err = tx.QueryRow(ctx, `select count(*) from results where batch_id = $1 and outcome is null`, b.ID).Scan(&waiting)
	if err != nil {
		return fmt.Errorf("count the undecided rows of draft %d: %w", b.ID, err)
	}
	known, err := preview(ctx, tx, b.ID)
	if err == nil {
		err = terms(b, known, waiting)
	}
	if err == nil {
		err = setOptions(ctx, tx, b, locked, actor)
	}
	return err
}

// UndecidedRows returns the numbers of a batch's undecided rows in file order.
func (s *Store) UndecidedRows(ctx context.Context, tx pgx.Tx, batch int64) ([]int, error) {
	rows, _ := tx.Query(ctx, `select row_number from results where batch_id = $1 and outcome is null order by row_number`, batch)
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("list the undecided rows of batch %d: %w", batch, err)
	}
	return numbers, nil
}

// Judge pauses two kinds of an instance's running batches: batches whose trial is decided, and
// batches in which more than a fifth of at least twenty people were rejected or failed since the
// batch was started, resumed or retried. The caller must hold the create and bulk buckets. Judge
// returns the batches that it paused. doubt is true if another batch has more than a fifth, but of
// fewer than twenty people.
func (s *Store) Judge(ctx context.Context, tx pgx.Tx, instance int64) (paused []*Batch, doubt bool, err error) {
	rows, _ := tx.Query(ctx, `
		with judged as (
			select b.id, b.canary, bad.n, bad.total, bad.n * 5 > bad.total and bad.total >= 20 as broke,
			       b.canary_row is not null and not exists (select from results r where r.batch_id = b.id and r.row_number <= b.canary_row and r.outcome is null) as sung
			from batches b cross join lateral (
				select count(*) filter (where r.outcome in ('rejected', 'failed')) as n, count(*) as total from results r
				where r.batch_id = b.id and r.decided_at >= b.judged_from and r.outcome not in ('invalid', 'duplicate_row', 'cancelled')) bad
			where b.instance_id = $1 and b.state = 'running' and exists (select from results r where r.batch_id = b.id and r.outcome is null))
		select id, case when broke then 'breaker' when sung then 'canary' else '' end,
		       case when broke then n || ' of ' || total || ' people were rejected or failed' when sung then 'the first ' || canary || ' people were asked for' else '' end
		from judged where broke or sung or n * 5 > total and total < 20 order by id`, instance)
	type verdict struct {
		Batch  int64
		By     Pauser
		Reason string
	}
	verdicts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[verdict])
	if err != nil {
		return nil, false, fmt.Errorf("judge the batches of instance %d: %w", instance, err)
	}
	for _, v := range verdicts {
		if v.By == "" {
			doubt = true
			continue
		}
		b := &Batch{ID: v.Batch, InstanceID: instance, State: Paused, PausedBy: v.By, Reason: v.Reason}
		if err := s.move(ctx, tx, b, "bulkinvite", change{action: "pause", to: Paused, from: []State{Running}, by: v.By, reason: v.Reason}); err != nil {
			return nil, false, err
		}
		paused = append(paused, b)
	}
	return paused, doubt, nil
}
