package report

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
)

// Undecided is the [RowFilter] value for rows without an outcome.
const Undecided invitation.Outcome = "undecided"

// RowFilter says which rows of a batch a page shows. Zero fields do not restrict it.
type RowFilter struct {
	Outcome invitation.Outcome // or [Undecided]
	Status  invitation.Status
	Reason  string // results.reason; for invalid rows: the code of the problem
	Search  string // beginning of an address in the form of [invitation.Key], or a row number, or an invitation id
	After   int    // only rows after this row number
	Before  int    // only the last rows before this row number; After is then ignored
	Limit   int    // maximum number of rows
}

// Page is some rows of a batch in file order.
type Page struct {
	Rows   []Result
	Before bool // there are rows before these
	After  bool // there are rows after these
}

// ReadPage returns a page of a batch's rows. Pages follow one another by row number, so the last page
// of a million rows takes as long as the first.
func ReadPage(ctx context.Context, pool *pgxpool.Pool, batch int64, f RowFilter) (Page, error) {
	where, args := f.where(batch)
	order, back := "r.row_number", f.Before > 0
	switch {
	case back:
		where, args, order = where+fmt.Sprintf(" and r.row_number < $%d", len(args)+1), append(args, f.Before), "r.row_number desc"
	case f.After > 0:
		where, args = where+fmt.Sprintf(" and r.row_number > $%d", len(args)+1), append(args, f.After)
	}
	args = append(args, f.Limit+1)
	rows, _ := pool.Query(ctx, `select `+resultColumns+` from results r where `+where+` order by `+order+fmt.Sprintf(" limit $%d", len(args)), args...)
	// Scan into one Result and copy it. Garbage of each row would make one response in forty wait.
	var row Result
	found := make([]Result, 0, f.Limit+1)
	_, err := pgx.ForEachRow(rows, row.fields(), func() error {
		found = append(found, row)
		row = Result{}
		return nil
	})
	if err != nil {
		return Page{}, fmt.Errorf("read a page of batch %d: %w", batch, err)
	}
	more := len(found) > f.Limit
	if more {
		found = found[:f.Limit]
	}
	if back {
		slices.Reverse(found)
		return Page{Rows: found, Before: more, After: true}, nil
	}
	return Page{Rows: found, Before: f.After > 0, After: more}, nil
}

// where returns the filter as a condition on results r, with its arguments.
func (f RowFilter) where(batch int64) (string, []any) {
	where, args := "r.batch_id = $1", []any{batch}
	add := func(condition string, arg any) {
		args = append(args, arg)
		where += fmt.Sprintf(" and "+condition, len(args))
	}
	switch f.Outcome {
	case "":
	case Undecided:
		where += " and r.outcome is null"
	default:
		add("r.outcome = $%d", f.Outcome)
	}
	if f.Status != "" {
		add("r.status = $%d", f.Status)
	}
	if f.Reason != "" {
		add("r.reason = $%d", f.Reason)
	}
	var number int
	switch {
	case f.Search == "":
	case strings.HasPrefix(f.Search, "inv_"):
		args = append(args, f.Search)
		where += fmt.Sprintf(` and (r.outcome = 'invited' and r.clerk_invitation_id = $%[1]d and r.instance_id = (select instance_id from batches where id = $1)
			or r.outcome = 'already_invited' and r.clerk_invitation_id = $%[1]d)`, len(args))
	case isNumber(f.Search, &number):
		add("r.row_number = $%d", number)
	default:
		add(`r.key like $%d`, likePrefix(f.Search))
	}
	return where, args
}

// isNumber reads a number of at most nine digits.
func isNumber(text string, n *int) bool {
	if len(text) == 0 || len(text) > 9 || strings.Trim(text, "0123456789") != "" {
		return false
	}
	var err error
	*n, err = strconv.Atoi(text) // 08 is 8
	return err == nil
}

// likePrefix returns the LIKE pattern of texts that begin with text.
func likePrefix(text string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(text)) + "%"
}

// Tally counts the rows of a batch. It reads only indexes, but all entries of the batch: tens of
// milliseconds for a million rows.
func Tally(ctx context.Context, pool *pgxpool.Pool, batch int64) (invitation.Tally, error) {
	all, err := Tallies(ctx, pool, []int64{batch})
	return all[batch], err
}

// Tallies counts the rows of several batches. The map has an entry for each of them.
func Tallies(ctx context.Context, pool *pgxpool.Pool, batches []int64) (map[int64]invitation.Tally, error) {
	all := make(map[int64]invitation.Tally, len(batches))
	for _, id := range batches {
		all[id] = invitation.Tally{Outcomes: invitation.Counts{}, Statuses: map[invitation.Status]int{}}
	}
	// Count one outcome after another, in the order of the index. Grouping would double the time.
	rows, _ := pool.Query(ctx, `
		select b, o, s.* from unnest($1::bigint[]) b cross join unnest($2::text[]) o cross join lateral (
			select count(*) as n, count(*) filter (where status = 'pending'), count(*) filter (where status = 'accepted'), count(*) filter (where status = 'revoked'), count(*) filter (where status = 'expired'), count(*) filter (where status = 'gone')
			from results where batch_id = b and outcome = o) s where n > 0
		union all
		select batch_id, '', count(*), 0, 0, 0, 0, 0 from results where batch_id = any($1) and outcome is null group by 1`, batches, invitation.Outcomes)
	var id int64
	var outcome invitation.Outcome
	var n int
	var in [5]int
	_, err := pgx.ForEachRow(rows, []any{&id, &outcome, &n, &in[0], &in[1], &in[2], &in[3], &in[4]}, func() error {
		t := all[id]
		if outcome == "" {
			t.Undecided = n
			all[id] = t
			return nil
		}
		t.Outcomes[outcome] = n
		for i, status := range invitation.Statuses {
			if outcome == invitation.Invited && in[i] > 0 {
				t.Statuses[status] = in[i]
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count the rows of batches: %w", err)
	}
	return all, nil
}

// ReasonCount is the number of rows with a reason.
type ReasonCount struct {
	Reason string
	Count  int
}

// Problems counts the invalid rows of a batch by the code of their problem, most frequent first.
func Problems(ctx context.Context, pool *pgxpool.Pool, batch int64) ([]ReasonCount, error) {
	rows, _ := pool.Query(ctx, `select reason, count(*) from results where batch_id = $1 and outcome = 'invalid' and reason is not null group by 1 order by 2 desc, 1`, batch)
	counts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ReasonCount])
	if err != nil {
		return nil, fmt.Errorf("count the problems of batch %d: %w", batch, err)
	}
	return counts, nil
}

// PersonLine is a person in a list, with the last row that names them.
type PersonLine struct {
	Key         string              `json:"key"`
	BatchID     int64               `json:"batch_id"`
	RowNumber   int                 `json:"row_number"`
	Outcome     *invitation.Outcome `json:"outcome"`
	Status      *invitation.Status  `json:"status"`
	DecidedAt   *time.Time          `json:"decided_at"`
	FileName    string              `json:"file_name"`
	Environment string              `json:"environment"`
}

// People finds people across batches by the beginning of their address. It returns one line for
// each person, ordered by address, after the key in after.
func People(ctx context.Context, pool *pgxpool.Pool, search, after string, limit int) ([]PersonLine, error) {
	// The recursion takes one step for each person. A distinct would read all rows whose address
	// has this beginning. It uses bounds because a generic plan cannot use an index for a pattern
	// that it does not know.
	from := strings.ToLower(search)
	rows, _ := pool.Query(ctx, `
		with recursive p (key, n) as (
			(select key, 1 from results where key ~>=~ $1 and key ~<~ $4 and key ~>~ $2 order by key using ~<~ limit 1)
			union all
			select (select r.key from results r where r.key ~>~ p.key and r.key ~<~ $4 order by r.key using ~<~ limit 1), n + 1 from p where p.n < $3 and p.key is not null)
		select p.key, l.batch_id, l.row_number, l.outcome, l.status, l.decided_at, b.file_name, i.environment
		from p
		cross join lateral (select * from results r where r.key = p.key order by r.batch_id desc, r.row_number desc limit 1) l
		join batches b on b.id = l.batch_id join instances i on i.id = l.instance_id
		where p.key is not null order by p.n`, from, after, limit, from+string(unicode.MaxRune))
	people, err := pgx.CollectRows(rows, pgx.RowToStructByPos[PersonLine])
	if err != nil {
		return nil, fmt.Errorf("look for people: %w", err)
	}
	return people, nil
}

// Fleet returns an instance and the number of its processes with a heartbeat in the last minute.
func Fleet(ctx context.Context, pool *pgxpool.Pool, instance int64) (invitation.Instance, int, error) {
	in := invitation.Instance{ID: instance}
	var workers int
	err := pool.QueryRow(ctx, `
		select clerk_id, environment, (select count(*) from workers w where w.instance_id = i.id and heartbeat_at > clock_timestamp() - interval '1 minute') from instances i where id = $1`, instance).
		Scan(&in.ClerkID, &in.Environment, &workers)
	if err != nil {
		return in, 0, fmt.Errorf("look for the workers of instance %d: %w", instance, err)
	}
	return in, workers, nil
}

// Event is something that a person or the program did.
type Event struct {
	ID      int64           `json:"id"`
	At      time.Time       `json:"at"`
	BatchID *int64          `json:"batch_id"`
	Actor   string          `json:"actor"`
	Action  string          `json:"action"`
	Details json.RawMessage `json:"details"`
}

// Events returns the newest events first. batch 0 selects all batches. before is the id of the last
// event of the previous page, or 0 for the first page.
func Events(ctx context.Context, pool *pgxpool.Pool, batch, before int64, limit int) ([]Event, error) {
	rows, _ := pool.Query(ctx, `
		select id, at, batch_id, actor, action, details from events
		where ($1::bigint = 0 or batch_id = $1) and ($2::bigint = 0 or id < $2) order by id desc limit $3`, batch, before, limit)
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Event])
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return events, nil
}

// Emails returns the addresses of the given rows of a batch, except of rows that have none.
func Emails(ctx context.Context, pool *pgxpool.Pool, batch int64, numbers []int) (map[int]string, error) {
	emails := map[int]string{}
	if len(numbers) == 0 {
		return emails, nil
	}
	rows, _ := pool.Query(ctx, `select row_number, email from results where batch_id = $1 and row_number = any($2) and email is not null`, batch, numbers)
	var number int
	var email string
	if _, err := pgx.ForEachRow(rows, []any{&number, &email}, func() error { emails[number] = email; return nil }); err != nil {
		return nil, fmt.Errorf("read addresses of batch %d: %w", batch, err)
	}
	return emails, nil
}
