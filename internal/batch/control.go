package batch

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/event"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
)

// StateError says that a batch's state does not allow an action.
type StateError struct {
	Batch  int64
	State  invitation.State
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

// allowedIn has the states in which each action is allowed.
var allowedIn = map[string][]invitation.State{
	"read again": {invitation.Draft},
	"set":        {invitation.Draft},
	"start":      {invitation.Draft},
	"discard":    {invitation.Draft},
	"pause":      {invitation.Running},
	"resume":     {invitation.Paused},
	"cancel":     {invitation.Draft, invitation.Running, invitation.Paused},
	"retry":      {invitation.Running, invitation.Done},
	"undo":       {invitation.Running, invitation.Paused, invitation.StateCancelled, invitation.Done},
}

// Allow returns a [StateError] if a state does not allow an action, which is a key of allowedIn. It
// is for callers that ask a person first: the action itself checks the state again.
func Allow(id int64, state invitation.State, action string) error {
	if slices.Contains(allowedIn[action], state) {
		return nil
	}
	return &StateError{Batch: id, State: state, Action: action}
}

// change is a change of a batch's state.
type change struct {
	action string // a key of pastOf
	to     invitation.State
	by     invitation.Pauser    // for a pause
	reason string               // for a pause; may be empty
	rows   []int                // rows that are opened again; may be empty
	also   []invitation.Outcome // outcomes that a retry opens in addition to failed
}

// move changes a batch's state if its present state allows the action, and records who did it. For a change
// that stops or starts claims, the caller must hold the instance's create and bulk buckets. Claims
// read the state after they hold the buckets, so no claim slips in between.
func move(ctx context.Context, tx pgx.Tx, b *invitation.Batch, actor string, c change) error {
	err := tx.QueryRow(ctx, `update batches set state = $2, state_reason = nullif($3, ''), paused_by = nullif($4, '') where id = $1 and state = any($5) returning id`,
		b.ID, c.to, c.reason, c.by, allowedIn[c.action]).Scan(&b.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return allowed(ctx, tx, b, c)
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
	return event.Record(ctx, tx, b.InstanceID, b.ID, actor, pastOf[c.action], details)
}

// allowed returns a [StateError] if the batch's state does not allow a change.
func allowed(ctx context.Context, tx pgx.Tx, b *invitation.Batch, c change) error {
	now := StateError{Batch: b.ID, Action: c.action}
	if err := tx.QueryRow(ctx, `select state, coalesce(state_reason, '') from batches where id = $1`, b.ID).Scan(&now.State, &now.Reason); err != nil {
		return fmt.Errorf("%s batch %d: %w", c.action, b.ID, err)
	}
	if slices.Contains(allowedIn[c.action], now.State) {
		return nil
	}
	return &now
}

// PauseBatch pauses a running batch because a person asked for it. reason may be empty. It fails
// with a [StateError] if the batch is not running.
func PauseBatch(ctx context.Context, tx pgx.Tx, b *invitation.Batch, actor, reason string) error {
	return move(ctx, tx, b, actor, change{action: "pause", to: invitation.Paused, by: invitation.ByPerson, reason: reason})
}

// CancelBatch stops a batch for good. [ledger.CancelRows] decides its rows in a second transaction,
// after this one has committed. CancelBatch fails with a [StateError] if the batch is over.
func CancelBatch(ctx context.Context, tx pgx.Tx, b *invitation.Batch, actor string) error {
	return move(ctx, tx, b, actor, change{action: "cancel", to: invitation.StateCancelled})
}

// DiscardDraft stops a draft for good, as [CancelBatch] does. It fails with a [StateError] if
// somebody has started the batch meanwhile.
func DiscardDraft(ctx context.Context, tx pgx.Tx, b *invitation.Batch, actor string) error {
	return move(ctx, tx, b, actor, change{action: "discard", to: invitation.StateCancelled})
}

// ResumeBatch sets a paused batch to running and returns the numbers of its undecided rows, which
// need jobs. If the trial of the batch is decided, resuming confirms it.
func ResumeBatch(ctx context.Context, tx pgx.Tx, b *invitation.Batch, actor string) ([]int, error) {
	if err := move(ctx, tx, b, actor, change{action: "resume", to: invitation.Running}); err != nil {
		return nil, err
	}
	_, err := tx.Exec(ctx, `
		update batches b set judged_from = clock_timestamp(), canary_row = case when exists (
			select from results r where r.batch_id = b.id and r.row_number <= b.canary_row and r.outcome is null) then canary_row end
		where id = $1`, b.ID)
	if err != nil {
		return nil, fmt.Errorf("resume batch %d: %w", b.ID, err)
	}
	return UndecidedRows(ctx, tx, b.ID)
}

// RetryBatch opens the rows again that ended as failed, and those with the outcomes in also. Only
// Rejected may be in also. [ledger.Reopen] says which rows it leaves out. It returns the numbers of
// the rows, which need jobs. If there are none, the batch stays as it is.
func RetryBatch(ctx context.Context, tx pgx.Tx, b *invitation.Batch, actor string,
	also ...invitation.Outcome) ([]int, error) {
	// The batch is locked first, because its certificate may be in the making.
	if _, err := tx.Exec(ctx, `select from batches where id = $1 for update`, b.ID); err != nil {
		return nil, fmt.Errorf("retry batch %d: %w", b.ID, err)
	}
	numbers, err := ledger.Reopen(ctx, tx, b.ID, also...)
	if err != nil {
		return nil, fmt.Errorf("retry batch %d: %w", b.ID, err)
	}
	retried := change{action: "retry", to: invitation.Running, rows: numbers, also: also}
	if len(numbers) == 0 {
		return nil, allowed(ctx, tx, b, retried)
	}
	if err := move(ctx, tx, b, actor, retried); err != nil {
		return nil, err
	}
	_, err = tx.Exec(ctx, `update batches set finished_at = null, certificate = null, judged_from = clock_timestamp() where id = $1`, b.ID)
	if err != nil {
		return nil, fmt.Errorf("retry batch %d: %w", b.ID, err)
	}
	return numbers, nil
}

// Terms check and may change the options of a draft that is about to start. [HoldDraft] calls them
// while it holds the draft's lock, with the draft's preview (nil if there is none) and its number
// of undecided rows. An error refuses the start.
type Terms func(b *invitation.Batch, p *invitation.Preview, waiting int) error

// HoldDraft locks a draft until the transaction ends, if terms allow its start. It sets b to the
// draft as it is under the lock, so changes that others made before count.
func HoldDraft(ctx context.Context, tx pgx.Tx, b *invitation.Batch, actor string, terms Terms) error {
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
func UndecidedRows(ctx context.Context, tx pgx.Tx, batch int64) ([]int, error) {
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
func Judge(ctx context.Context, tx pgx.Tx, instance int64) (paused []*invitation.Batch, doubt bool, err error) {
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
		By     invitation.Pauser
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
		b := &invitation.Batch{ID: v.Batch, InstanceID: instance, State: invitation.Paused, PausedBy: v.By, Reason: v.Reason}
		if err := move(ctx, tx, b, "bulkinvite", change{action: "pause", to: invitation.Paused, by: v.By, reason: v.Reason}); err != nil {
			return nil, false, err
		}
		paused = append(paused, b)
	}
	return paused, doubt, nil
}
