// Package ledgertest makes ledgers for tests: a database with an instance, a worker, batches and attempts.
package ledgertest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
)

// Times that the tests use.
const (
	Settle = 15 * time.Second
	GiveUp = 24 * time.Hour
	Fresh  = 10 * time.Minute
	Slack  = 2 * time.Second
)

var began = time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)

// At is a time some seconds after 20:00.
func At(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }

// Bundle is a database with an instance and a worker, w, that lives.
type Bundle struct {
	*testing.T
	Pool     *pgxpool.Pool
	Picker   *ledger.Picker
	Instance int64
}

// New returns a new database with one instance, ins_one, and a live worker, w.
func New(t *testing.T) *Bundle {
	t.Helper()
	l := &Bundle{T: t, Pool: postgrestest.New(t)}
	l.Picker = ledger.NewPicker(l.Pool, 0)
	l.Instance = l.NewInstance("ins_one")
	l.Beat("w")
	return l
}

// NewInstance adds a production instance and returns its id.
func (l *Bundle) NewInstance(name string) int64 {
	l.Helper()
	in, err := batch.EnsureInstance(l.Context(), l.Pool, name, "production")
	must.OK(l, err)
	return in.ID
}

// Beat records a heartbeat of a worker.
func (l *Bundle) Beat(worker string) (since time.Time) {
	l.Helper()
	since, err := ledger.Beat(l.Context(), l.Pool, ledger.WorkerInfo{ID: worker, InstanceID: l.Instance, Host: "host", PID: 1, Version: "v", Lives: 20 * time.Second})
	must.OK(l, err)
	return since
}

// Tx runs f in a transaction and commits it.
func (l *Bundle) Tx(f func(context.Context, pgx.Tx) error) {
	l.Helper()
	ctx := l.Context()
	must.OK(l, pgx.BeginFunc(ctx, l.Pool, func(tx pgx.Tx) error { return f(ctx, tx) }))
}

// Exec changes the database directly, as no function of the program does.
func (l *Bundle) Exec(sql string, args ...any) {
	l.Helper()
	postgrestest.Plant(l, l.Pool, sql, args...)
}

// Is fails the test if the value that sql reads, as text, is not want. NULL reads as null.
func (l *Bundle) Is(want string, sql string, args ...any) {
	l.Helper()
	if got := must.Read[string](l, l.Pool, `select coalesce((`+sql+`)::text, 'null')`, args...); got != want {
		l.Errorf("%s: got %s, want %s", sql, got, want)
	}
}

// Batch imports people as rows 1 to n and starts them.
func (l *Bundle) Batch(people ...string) int64 {
	l.Helper()
	return l.BatchOf(invitation.Batch{Preflight: true}, people...)
}

// BatchOf is Batch with the options of b.
func (l *Bundle) BatchOf(b invitation.Batch, people ...string) (id int64) {
	l.Helper()
	if b.InstanceID == 0 {
		b.InstanceID = l.Instance
	}
	b.FileName, b.Encoding, b.Delimiter, b.Columns, b.Actor = "hires.csv", "UTF-8", ",", []string{"email"}, "maria"
	l.Tx(func(ctx context.Context, tx pgx.Tx) (err error) {
		if id, err = batch.CreateBatch(ctx, tx, b); err != nil {
			return err
		}
		for i, p := range people {
			_, err := tx.Exec(ctx, `insert into results (batch_id, row_number, instance_id, line, original, email, key) values ($1, $2, $3, $2 + 1, array[$4], $4, $5)`,
				id, i+1, b.InstanceID, Address(p), Key(p))
			if err != nil {
				return err
			}
		}
		return batch.StartBatch(ctx, tx, id, "maria", len(people), 0)
	})
	return id
}

// Address returns a person's address as a file has it.
func Address(person string) string { return person + "@Example.com" }

// Key returns a person's key.
func Key(person string) string { return person + "@example.com" }

// Row returns the id of a row.
func Row(batch int64, number int) invitation.RowID {
	return invitation.RowID{Batch: batch, Row: number}
}

// Person returns the person of a row, by name.
func Person(batch int64, number int, name string) ledger.Person {
	return ledger.Person{RowID: Row(batch, number), Key: Key(name)}
}

// Bulk returns a request that invites several people.
func Bulk(people ...ledger.Person) ledger.Request {
	return ledger.Request{Call: "bulk", Bucket: "bulk", People: people}
}

// Single returns a request that invites one person.
func Single(p ledger.Person) ledger.Request {
	return ledger.Request{Call: "create", Bucket: "create", People: []ledger.Person{p}}
}

// Open claims people for requests that are about to be sent.
func (l *Bundle) Open(requests ...ledger.Request) (claimed []ledger.Claimed) {
	l.Helper()
	l.Tx(func(ctx context.Context, tx pgx.Tx) (err error) {
		claimed, err = ledger.Open(ctx, tx, l.Instance, "w", 20*time.Second, requests)
		return err
	})
	return claimed
}

// Attempt opens one request and returns its number.
func (l *Bundle) Attempt(r ledger.Request) int64 {
	l.Helper()
	claimed := l.Open(r)
	if len(claimed) != 1 || len(claimed[0].People) != len(r.People) {
		l.Fatalf("claimed %+v of %+v", claimed, r)
	}
	return claimed[0].AttemptID
}

// Decide records an outcome without an attempt.
func (l *Bundle) Decide(id invitation.RowID, outcome invitation.Outcome) {
	l.Helper()
	l.Exec(`update results set outcome = $3, decided_at = clock_timestamp() where batch_id = $1 and row_number = $2`, id.Batch, id.Row, outcome)
}

// SetState sets the state of a batch, whatever it is.
func (l *Bundle) SetState(batch int64, s invitation.State) {
	l.Helper()
	l.Exec(`update batches set state = $2 where id = $1`, batch, string(s))
}

// AwaitBlocked waits until a session of the test's database waits for a lock.
func (l *Bundle) AwaitBlocked() {
	l.Helper()
	for began := time.Now(); must.Read[int](l, l.Pool, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) == 0; {
		if time.Since(began) > 2*time.Minute {
			l.Fatal("nobody waits for a lock")
		}
		time.Sleep(time.Millisecond)
	}
}

// Noted is the answer to an attempt that is in the ledger now.
func (l *Bundle) Noted(attempt int64, r ledger.Reply) ledger.Noted {
	l.Helper()
	started := must.Read[*time.Time](l, l.Pool, `select max(started_at) from attempts where id = $1`, attempt)
	n := ledger.Noted{Attempt: attempt, Reply: r}
	if started != nil {
		n.Started = *started
	}
	return n
}

// Note records the reply to an attempt, and returns whether the attempt is still open.
func (l *Bundle) Note(attempt int64, r ledger.Reply) (open bool) {
	l.Helper()
	l.Tx(func(ctx context.Context, tx pgx.Tx) (err error) {
		noted, err := ledger.Note(ctx, tx, Settle, l.Noted(attempt, r))
		open = noted[attempt]
		return err
	})
	return open
}

// Settle records verdicts and returns the freed rows in the order of their ids.
func (l *Bundle) Settle(verdicts ...ledger.Verdict) (freed []ledger.Freed) {
	l.Helper()
	l.Tx(func(ctx context.Context, tx pgx.Tx) (err error) {
		freed, err = ledger.Settle(ctx, tx, l.Instance, verdicts)
		return err
	})
	slices.SortFunc(freed, func(a, b ledger.Freed) int {
		return int(a.Batch-b.Batch)*1000 + a.RowID.Row - b.RowID.Row
	})
	return freed
}

// Read makes a complete read.
func (l *Bundle) Read(worker, call string, end ledger.ReadEnd) ledger.GET {
	l.Helper()
	g, err := ledger.BeginRead(l.Context(), l.Pool, l.Instance, worker, call, nil)
	must.OK(l, err)
	end.Complete = true
	if _, err := ledger.EndRead(l.Context(), l.Pool, l.Instance, g, end); err != nil {
		l.Fatal(err)
	}
	return g
}

// Load returns what is known of a row.
func (l *Bundle) Load(id invitation.RowID) (c *ledger.Case) {
	l.Helper()
	l.Tx(func(ctx context.Context, tx pgx.Tx) error {
		rules := ledger.Rules{Settle: Settle, GiveUp: GiveUp, Fresh: Fresh, Slack: Slack, NamesNobody: clerk.NamesNobody}
		cases, err := ledger.Load(ctx, tx, l.Instance, []invitation.RowID{id}, rules, invitation.Coverage{})
		if err != nil {
			return err
		}
		if len(cases) != 1 {
			return fmt.Errorf("%d cases", len(cases))
		}
		c = cases[0]
		return nil
	})
	return c
}

// Closes says that a row's open attempt is void, and how.
func Closes(id invitation.RowID, name, how string) ledger.Verdict {
	return ledger.Verdict{RowID: id, Key: Key(name), Action: invitation.Action{Kind: invitation.Claim, Close: how}}
}
