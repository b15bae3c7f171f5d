package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/postgres"
	"bulkinvite/internal/rig"
)

// strike records that the harm begins now.
func (r *run) strike() { r.struck = time.Now() }

// kill sends SIGKILL to two workers, one after the other. The second may be the restarted first.
func (r *run) kill() error {
	r.strike()
	if err := r.fleet.worker(r.worker).Kill(); err != nil {
		return err
	}
	if err := rig.Sleep(r.ctx, between(r.dice, 0, 2*time.Second)); err != nil {
		return err
	}
	return r.fleet.worker(r.dice.IntN(workers)).Kill()
}

// stop stops a worker for longer than its deadlines, like a paused virtual machine.
func (r *run) stop() error {
	r.strike()
	p := r.fleet.worker(r.worker)
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	err := rig.Sleep(r.ctx, r.wait)
	return errors.Join(err, p.Signal(syscall.SIGCONT))
}

// stopInClaim stops a worker while it holds the locks of the buckets. No other worker can claim
// meanwhile.
func (r *run) stopInClaim() error {
	for {
		p := r.fleet.worker(r.worker)
		if err := r.stopWaiting(p); err != nil {
			return errors.Join(err, p.Signal(syscall.SIGCONT))
		}
		r.strike()
		held, err := r.standsStill()
		if err == nil && held {
			err = rig.Sleep(r.ctx, r.wait)
		}
		if err := errors.Join(err, p.Signal(syscall.SIGCONT)); err != nil || held {
			return err
		}
	}
}

// stopWaiting locks the buckets, waits until all workers wait for these locks, and stops one worker.
// It then releases the locks. The server gives them to each worker in turn, also to the stopped one,
// which does not notice.
func (r *run) stopWaiting(p *rig.Process) error {
	return pgx.BeginFunc(r.ctx, r.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(r.ctx, `select from buckets order by name desc for update`); err != nil {
			return fmt.Errorf("hold the buckets: %w", err)
		}
		err := r.await("all workers to claim", `
			select count(*) >= $1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`, workers)
		if err != nil {
			return err
		}
		return p.Signal(syscall.SIGSTOP)
	})
}

// standsStill reports whether a session of the database has been idle in a transaction for longer
// than any transaction that is making progress.
func (r *run) standsStill() (bool, error) {
	if err := rig.Sleep(r.ctx, time.Second); err != nil {
		return false, err
	}
	var held bool
	err := r.Pool.QueryRow(r.ctx, `
		select exists (select from pg_stat_activity where datname = current_database() and state = 'idle in transaction'
		               and state_change < clock_timestamp() - interval '500 milliseconds')`).Scan(&held)
	if err != nil {
		return false, fmt.Errorf("look for the claim: %w", err)
	}
	return held, nil
}

func (r *run) postmaster() (int, error) {
	text, err := os.ReadFile(filepath.Join(r.Rig.Dir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		return 0, fmt.Errorf("find PostgreSQL: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return 0, fmt.Errorf("find PostgreSQL: %w", err)
	}
	return pid, nil
}

// postgresDown stops PostgreSQL as pg_ctl stop -m immediate does, and starts it some time later.
func (r *run) postgresDown() error {
	pid, err := r.postmaster()
	if err != nil {
		return err
	}
	r.strike()
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	r.watch.excuse(true)
	defer r.watch.excuse(false)
	if err := rig.Sleep(r.ctx, r.wait); err != nil {
		return err
	}
	return r.Rig.Start(r.ctx)
}

// connectionLost breaks every worker's connections to PostgreSQL and refuses new ones for some
// time.
func (r *run) connectionLost() error { return r.interrupt(lost) }

// connectionSilent forwards nothing to or from PostgreSQL for some time.
func (r *run) connectionSilent() error { return r.interrupt(silent) }

func (r *run) interrupt(state string) error {
	return r.cutOff(r.proxy, state)
}

// cutOff puts a proxy into a state for the length of the harm.
func (r *run) cutOff(p *proxy, state string) error {
	r.strike()
	r.watch.excuse(!r.harm.one)
	defer r.watch.excuse(false)
	p.set(state)
	err := rig.Sleep(r.ctx, r.wait)
	p.set(open)
	return err
}

// swallowPostgres drops every packet between PostgreSQL and the workers, or one of them.
func (r *run) swallowPostgres() error { return r.cutOff(r.proxy, swallowed) }

// swallowClerk drops every packet between the workers and Clerk.
func (r *run) swallowClerk() error { return r.cutOff(r.toClerk, swallowed) }

// restore dumps the database in the middle of the run, lets the workers continue, stops them, and
// restores the dump.
func (r *run) restore() error {
	dump := filepath.Join(r.Dir, "dump")
	if err := r.tool(r.ctx, "pg_dump", "--format=custom", "--file="+dump, "--dbname="+r.URL); err != nil {
		return err
	}
	if err := r.invited(min(300, r.trigger+20+r.dice.IntN(60))); err != nil {
		return err
	}
	sig := syscall.SIGTERM
	if r.dice.IntN(2) == 0 {
		sig = syscall.SIGKILL
	}
	if err := r.fleet.end(sig); err != nil {
		return err
	}
	r.strike()
	r.watch.excuse(true)
	defer r.watch.excuse(false)
	r.Pool.Close()
	if err := r.Rig.Drop(r.ctx, r.Name); err != nil {
		return err
	}
	if _, err := r.Rig.Database(r.ctx, r.Name, ""); err != nil {
		return err
	}
	if err := r.tool(r.ctx, "pg_restore", "--dbname="+r.URL, dump); err != nil {
		return err
	}
	var err error
	if r.Pool, err = postgres.Open(r.ctx, rig.WithParameter(r.URL, "pool_max_conns=3")); err != nil {
		return err
	}
	return r.fleet.start(r.ctx, nil)
}

// invite acts as another program with the same key that invites some of the people during the run.
// The judge knows what its requests made, however they end.
func (r *run) invite() error {
	r.strike()
	people := r.crowd.of(fresh)
	for range 40 {
		body := fmt.Sprintf(`{"email_address":%q,"public_metadata":{"by":"another"}}`, people[r.dice.IntN(len(people))])
		req, err := http.NewRequestWithContext(r.ctx, http.MethodPost, r.Sandbox.URL+"/v1/invitations", strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+rig.Key)
		req.Header.Set("Content-Type", "application/json")
		r.rivals++
		if resp, err := r.Sandbox.Client.Do(req); err == nil {
			_ = resp.Body.Close() // the answer does not matter
		}
		if err := rig.Sleep(r.ctx, between(r.dice, 0, 60*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// cancel cancels the batch.
func (r *run) cancel() error {
	if err := r.tell("cancel", "--yes"); err != nil {
		return err
	}
	r.strike()
	if err := rig.Sleep(r.ctx, 1500*time.Millisecond); err != nil {
		return err
	}
	return r.quiet()
}

// pause pauses the batch for some time.
func (r *run) pause() error {
	if err := r.tell("pause"); err != nil {
		return err
	}
	r.strike()
	if err := rig.Sleep(r.ctx, r.wait); err != nil {
		return err
	}
	if err := r.quiet(); err != nil {
		return err
	}
	return r.tell("resume")
}

// tell runs a command of the program on the batch.
func (r *run) tell(command string, flags ...string) error {
	_, err := r.Call(r.ctx, append([]string{command, "1", "--actor=chaos"}, flags...)...)
	return err
}

// quiet records an error of the run if an attempt started more than a second after the batch was
// stopped, or if it still has waiting jobs.
func (r *run) quiet() error {
	var late, waiting int
	err := r.Pool.QueryRow(r.ctx, `
		select (select count(*) from attempts where started_at > $1::timestamptz + interval '1 second'),
		       (select count(*) from river_job where kind = 'invite' and state in ('available', 'scheduled', 'retryable', 'pending'))`, r.struck).Scan(&late, &waiting)
	if err == nil && late+waiting > 0 {
		r.uneasy = fmt.Sprintf("a stopped batch reserved %d requests more than a second later, and still has %d jobs", late, waiting)
	}
	return err
}

// sendAgain imports the file again once every row of the first batch is decided, and resends
// pending invitations.
func (r *run) sendAgain() error {
	if err := r.await("the end of the first batch", `select not exists (select from results where outcome is null)`); err != nil {
		return err
	}
	file := filepath.Join(r.Dir, "people-1.csv")
	if err := os.WriteFile(file, []byte(r.crowd.file(1)), 0o600); err != nil {
		return err
	}
	return r.importFile(file, "--on-duplicate=resend")
}
