package invitation

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// StateError says that a batch's state does not allow what was asked.
type StateError struct {
	Batch  int64
	State  State
	Reason string // why it is in that state, if the program put it there
	Action string // what was asked: pause, resume, cancel, start, retry
}

func (e *StateError) Error() string {
	text := fmt.Sprintf("batch %d is %s", e.Batch, e.State)
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	return text + ": it can't be " + map[string]string{"pause": "paused", "resume": "resumed", "cancel": "cancelled", "start": "started", "retry": "retried"}[e.Action]
}

// move changes a batch's state from one of those given, and records who did it.
// The caller holds the instance's create and bulk buckets: claims read the state
// after they hold them, so that none slips between.
func (s *Store) move(ctx context.Context, tx pgx.Tx, b *Batch, actor, action, reason string, to State, from ...State) error {
	err := tx.QueryRow(ctx, `update batches set state = $2, state_reason = nullif($3, '') where id = $1 and state = any($4) returning id`,
		b.ID, to, reason, from).Scan(&b.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		now := StateError{Batch: b.ID, Action: action}
		if err := tx.QueryRow(ctx, `select state, coalesce(state_reason, '') from batches where id = $1`, b.ID).Scan(&now.State, &now.Reason); err != nil {
			return fmt.Errorf("%s batch %d: %w", action, b.ID, err)
		}
		return &now
	}
	if err != nil {
		return fmt.Errorf("%s batch %d: %w", action, b.ID, err)
	}
	details := map[string]any{}
	if reason != "" {
		details["reason"] = reason
	}
	return event(ctx, tx, b.InstanceID, b.ID, actor, action, details)
}

// PauseBatch stops a running batch until it is resumed.
func (s *Store) PauseBatch(ctx context.Context, tx pgx.Tx, b *Batch, actor, reason string) error {
	return s.move(ctx, tx, b, actor, "pause", reason, Paused, Running)
}

// CancelBatch stops a batch for good. Its rows are decided by [Store.CancelRows]
// in a transaction of its own, after this one is committed.
func (s *Store) CancelBatch(ctx context.Context, tx pgx.Tx, b *Batch, actor string) error {
	return s.move(ctx, tx, b, actor, "cancel", "", StateCancelled, Draft, Running, Paused)
}

// CancelRows decides the rows of cancelled batches of an instance that have no
// open attempt, and returns how many; those that have one are decided when it
// is resolved.
func (s *Store) CancelRows(ctx context.Context, instance int64) (int64, error) {
	var n int64
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			update results r set outcome = 'cancelled', decided_at = clock_timestamp(), not_before = null
			from batches b
			where b.instance_id = $1 and b.state = 'cancelled' and b.finished_at is null and r.batch_id = b.id and r.outcome is null
			  and not exists (select from attempt_people p where (p.batch_id, p.row_number) = (r.batch_id, r.row_number) and p.open)`, instance)
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

// ResumeBatch lets a paused batch run again and returns the numbers of its
// undecided rows, which need jobs. A canary that had paused it is confirmed.
func (s *Store) ResumeBatch(ctx context.Context, tx pgx.Tx, b *Batch, actor string) ([]int, error) {
	if err := s.move(ctx, tx, b, actor, "resume", "", Running, Paused); err != nil {
		return nil, err
	}
	_, err := tx.Exec(ctx, `
		update batches b set judged_from = clock_timestamp(), canary_row = case when exists (
			select from results r where r.batch_id = b.id and r.row_number <= b.canary_row and r.outcome is null) then canary_row end
		where id = $1`, b.ID)
	if err != nil {
		return nil, fmt.Errorf("resume batch %d: %w", b.ID, err)
	}
	return s.undecided(ctx, tx, b.ID)
}

// RetryBatch opens the rows that ended failed again and returns the numbers of
// the undecided rows, which need jobs.
func (s *Store) RetryBatch(ctx context.Context, tx pgx.Tx, b *Batch, actor string) ([]int, error) {
	if err := s.move(ctx, tx, b, actor, "retry", "", Running, Done, Running); err != nil {
		return nil, err
	}
	rows, _ := tx.Query(ctx, `
		update results set outcome = null, decided_at = null, reason = null, attempt_id = null, read_id = null,
		       tries = 0, transient_since = null, not_before = null
		where batch_id = $1 and outcome = 'failed' returning row_number`, b.ID)
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("retry batch %d: %w", b.ID, err)
	}
	_, err = tx.Exec(ctx, `update batches set finished_at = null, judged_from = clock_timestamp() where id = $1`, b.ID)
	if err != nil {
		return nil, fmt.Errorf("retry batch %d: %w", b.ID, err)
	}
	return numbers, event(ctx, tx, b.InstanceID, b.ID, actor, "reopened", map[string]any{"rows": numbers})
}

// CountBatch records how many rows and blank records an import found.
func (s *Store) CountBatch(ctx context.Context, tx pgx.Tx, id int64, rows, blank int) error {
	if _, err := tx.Exec(ctx, `update batches set rows = $2, blank = $3 where id = $1`, id, rows, blank); err != nil {
		return fmt.Errorf("count the rows of batch %d: %w", id, err)
	}
	return nil
}

// StartDraft lets a draft run and returns the numbers of its undecided rows,
// which need jobs.
func (s *Store) StartDraft(ctx context.Context, tx pgx.Tx, b *Batch, actor string) ([]int, error) {
	var state State
	if err := tx.QueryRow(ctx, `select state from batches where id = $1 for update`, b.ID).Scan(&state); err != nil {
		return nil, fmt.Errorf("start batch %d: %w", b.ID, err)
	}
	if state != Draft {
		return nil, &StateError{Batch: b.ID, State: state, Action: "start"}
	}
	if err := s.StartBatch(ctx, tx, b.ID, actor, b.Rows, b.Blank); err != nil {
		return nil, err
	}
	return s.undecided(ctx, tx, b.ID)
}

func (s *Store) undecided(ctx context.Context, tx pgx.Tx, batch int64) ([]int, error) {
	rows, _ := tx.Query(ctx, `select row_number from results where batch_id = $1 and outcome is null order by row_number`, batch)
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("list the undecided rows of batch %d: %w", batch, err)
	}
	return numbers, nil
}

// Canaries reports whether a running batch of an instance sends its canary.
func (s *Store) Canaries(ctx context.Context, instance int64) (bool, error) {
	var yes bool
	err := s.pool.QueryRow(ctx, `select exists (select from batches where instance_id = $1 and state = 'running' and canary_row is not null)`, instance).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("look for canaries of instance %d: %w", instance, err)
	}
	return yes, nil
}

// Judge pauses running batches of an instance that have shown what they had to
// show: a canary whose rows are all decided, and a batch of which too many rows
// are rejected or failed. The caller holds the create and bulk buckets. It
// returns the batches that it paused.
func (s *Store) Judge(ctx context.Context, tx pgx.Tx, instance int64) ([]*Batch, error) {
	rows, _ := tx.Query(ctx, `
		select b.id, case
			when bad.n * 5 > bad.total and bad.total >= 20 then bad.n || ' of ' || bad.total || ' people were rejected or failed'
			when b.canary_row is not null and not exists (select from results r where r.batch_id = b.id and r.row_number <= b.canary_row and r.outcome is null)
			     and exists (select from results r where r.batch_id = b.id and r.outcome is null)
			then 'the first ' || b.canary || ' people were asked for: look at the results, then resume' end
		from batches b cross join lateral (
			select count(*) filter (where r.outcome in ('rejected', 'failed')) as n, count(*) as total from results r
			where r.batch_id = b.id and r.decided_at >= b.judged_from and r.outcome not in ('invalid', 'duplicate_row', 'cancelled')) bad
		where b.instance_id = $1 and b.state = 'running'`, instance)
	var paused []*Batch
	var id int64
	var reason *string
	reasons := map[int64]string{}
	if _, err := pgx.ForEachRow(rows, []any{&id, &reason}, func() error {
		if reason != nil {
			reasons[id] = *reason
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("judge the batches of instance %d: %w", instance, err)
	}
	for id, reason := range reasons {
		b := &Batch{ID: id, InstanceID: instance}
		if err := s.PauseBatch(ctx, tx, b, "bulkinvite", reason); err != nil {
			return nil, err
		}
		b.Reason = reason
		paused = append(paused, b)
	}
	return paused, nil
}
