package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"bulkinvite/internal/postgres"
	"bulkinvite/internal/rig"
)

// Time limits of a run. The machine may be busy, so a run fails only if it makes no progress.
const (
	stillFor = time.Minute
	longest  = 5 * time.Minute
)

// run is one scenario that is being played, with its own database and sandbox.
type run struct {
	scenario
	*draw
	*rig.Stage
	ctx     context.Context // ends when the run has taken too long
	watched *pgxpool.Pool   // connection of the watch
	watch   *watch
	site    *site                       // PostgreSQL servers of this run; nil if it uses the lane's server
	binary  string                      // the program that the workers run
	disk    string                      // directory of the small disk; empty if there is none
	again   func(context.Context) error // restarts the server on the small disk
	private *postgres.Server
	proxy   *proxy // to PostgreSQL
	toClerk *proxy
	fleet   *fleet
	crowd   *crowd
	struck  time.Time      // when the harm began; zero before that, or without a harm
	did     map[string]int // what the harm did, and how often
	idled   []string       // what no worker did while one worker was stopped
	uneasy  string         // a fault that the harm itself found
	rivals  int            // requests of another program
}

// play plays a scenario and judges it. An error means that the run itself failed and proves
// nothing.
func (h *house) play(ctx context.Context, s scenario, seed uint64) (_ *verdict, err error) {
	limit := longest + s.harm.to
	playing, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the run did not end within %s", limit))
	defer cancel()
	stage, err := h.NewStage()
	if err != nil {
		return nil, err
	}
	r := &run{
		scenario: s, draw: s.prepare(seed), Stage: stage, ctx: playing, did: map[string]int{}, binary: h.Binary,
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if s.harm.steps {
		r.binary = h.stepping
	}
	if err := r.setUp(); err != nil {
		return nil, err
	}
	v, err := r.through(ctx)
	if err != nil || v.bad() {
		err = errors.Join(err, r.keep(h.kept(s, seed), v))
	}
	return v, err
}

// setUp starts the sandbox and the workers, and imports the people.
func (r *run) setUp() error {
	var url string
	var err error
	if r.harm.prepare != nil {
		url, err = r.harm.prepare(r)
	} else {
		url, err = r.Rig.Migrated(r.ctx, r.Name)
	}
	if err != nil {
		return err
	}
	if err := r.Connect(r.ctx, url); err != nil {
		return err
	}
	database, proxied := url, ""
	if r.harm.through {
		if proxied, err = r.openProxy(database); err != nil {
			return err
		}
		if !r.harm.one {
			database = proxied
		}
	}
	r.crowd = newCrowd(r.dice, r.blocked)
	if err := r.startSandbox(); err != nil {
		return err
	}
	r.Env = append(r.Env, "DATABASE_URL="+database)
	if r.harm.throughClerk {
		clerk, err := r.openClerkProxy()
		if err != nil {
			return err
		}
		r.Env = append(r.Env, "CLERK_API_URL="+clerk+"/v1")
	}
	if r.site != nil && r.site.dataDir != "" {
		// The program finds its private server by its data directory.
		r.Env = append(r.Env, "DATABASE_URL=", "BULKINVITE_DATA_DIR="+r.site.dataDir)
	}
	r.fleet = &fleet{binary: r.binary, env: r.Env, dir: r.Dir, quit: r.harm.quits,
		args: append(append([]string{"work", "--log-level=debug", "--log-format=json"}, r.settings()...), r.harm.flags...)}
	if r.harm.one {
		r.fleet.each = func(i int) []string {
			if i != r.worker {
				return nil
			}
			return []string{"DATABASE_URL=" + proxied}
		}
	}
	if r.harm.stopAt != "" {
		r.fleet.env = append(slices.Clone(r.Env), "BULKINVITE_FAILSTOP="+r.stopFile())
	}
	if r.harm.steps {
		if err := r.setClocks(); err != nil {
			return err
		}
	}
	if err := r.fleet.start(r.ctx, r.points); err != nil {
		return err
	}
	if err := r.await("the workers", `select count(*) >= $1 from workers`, workers); err != nil {
		return err
	}
	if r.harm.idle {
		// The work is imported once the worker at its fail point has stopped.
		if _, err := r.stopped(); err != nil {
			return err
		}
	}
	if err := r.importPeople(); err != nil {
		return err
	}
	r.watch, err = r.overlook()
	return err
}

// settings returns the flags that import and work share.
func (r *run) settings() []string {
	return append([]string{fmt.Sprintf("--settle=%s", settle), fmt.Sprintf("--request-timeout=%s", requestTimeout), fmt.Sprintf("--recover-after=%s", recoverAfter)}, r.limits...)
}

// openProxy puts a proxy in front of the database and returns the URL through it.
func (r *run) openProxy(database string) (string, error) {
	u, err := url.Parse(database)
	if err != nil {
		return "", errors.New("the server's URL can't be read")
	}
	query := u.Query()
	if query.Get("host") == "" { // a server of this run, over TCP
		if r.proxy, err = openProxy("tcp", u.Host); err != nil {
			return "", err
		}
		u.Host = r.proxy.listener.Addr().String()
		return u.String(), nil
	}
	socket := filepath.Join(query.Get("host"), ".s.PGSQL."+query.Get("port"))
	if r.proxy, err = openProxy("unix", socket); err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(r.proxy.listener.Addr().String())
	if err != nil {
		return "", err
	}
	query.Set("host", host)
	query.Set("port", port)
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// openClerkProxy puts a proxy in front of the sandbox and returns the URL through it.
func (r *run) openClerkProxy() (string, error) {
	u, err := url.Parse(r.Sandbox.URL)
	if err != nil {
		return "", fmt.Errorf("the sandbox's URL: %w", err)
	}
	if r.toClerk, err = openProxy("tcp", u.Host); err != nil {
		return "", err
	}
	u.Host = r.toClerk.listener.Addr().String()
	return u.String(), nil
}

func planted(people []string) []rig.Seed {
	seeds := make([]rig.Seed, len(people))
	for i, email := range people {
		seeds[i] = rig.Seed{Email: email, Age: "24h"}
	}
	return seeds
}

func (r *run) startSandbox() error {
	seeds := filepath.Join(r.Dir, "seeds.json")
	text, err := json.Marshal(map[string][]rig.Seed{"users": planted(r.crowd.of(user)), "invitations": planted(r.crowd.of(pending))})
	if err != nil {
		return err
	}
	if err := os.WriteFile(seeds, text, 0o600); err != nil {
		return err
	}
	args := append([]string{"--seeds=" + seeds}, r.limits...)
	args = append(args, r.flags...)
	for _, s := range r.switches {
		args = append(args, "--switch="+s)
	}
	for _, address := range r.crowd.of(blocked) {
		args = append(args, "--block="+address)
	}
	for _, f := range r.faults {
		text, err := json.Marshal(f)
		if err != nil {
			return err
		}
		args = append(args, "--fault="+string(text))
	}
	return r.OpenSandbox(r.ctx, args...)
}

// importPeople imports the people as many times as the harm says, in parallel, each time from a
// different file.
func (r *run) importPeople() error {
	var group errgroup.Group
	for i := range max(1, r.harm.batches) {
		if i > 0 && r.harm.resend {
			break // sendAgain imports it later
		}
		file := filepath.Join(r.Dir, fmt.Sprintf("people-%d.csv", i))
		if err := os.WriteFile(file, []byte(r.crowd.file(i)), 0o600); err != nil {
			return err
		}
		group.Go(func() error {
			return r.importFile(file)
		})
	}
	return group.Wait()
}

// importFile imports a file. Some rows are invalid, so exit status 3 is expected.
func (r *run) importFile(file string, flags ...string) error {
	args := append([]string{"import", file, "--yes", "--json", "--actor=chaos"}, r.settings()...)
	_, err := r.Call(r.ctx, append(append(args, flags...), r.imports...)...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		return nil
	}
	return err
}

// through applies the harm, waits for the end, and judges. ctx outlives the run's own time limit,
// because judging needs it.
func (r *run) through(ctx context.Context) (*verdict, error) {
	if r.harm.do != nil {
		if r.harm.stopAt == "" { // otherwise the harm waits for the fail point
			if err := r.invited(r.trigger); err != nil {
				return nil, err
			}
		}
		if err := r.harm.do(r); err != nil {
			return nil, fmt.Errorf("%s: %w", r.harm.name, err)
		}
	}
	still := r.settled()
	r.watch.end()
	deaths, quits := r.fleet.seen()
	// A job ends a moment after its row is decided, and a worker may die there.
	for wait := time.Now(); r.harm.point != "" && len(deaths) == 0 && len(quits) == 0 && still == nil && time.Since(wait) < 5*time.Second; {
		if err := rig.Sleep(r.ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
		deaths, quits = r.fleet.seen()
	}
	if len(quits) > 0 {
		return nil, errors.Join(quits...)
	}
	// Claims delete the jobs of their rows, so in some runs no job completes. Such a run is judged,
	// and counts as one that the harm did not strike.
	if r.harm.point != "" && r.harm.point != "before_completion" && len(deaths) == 0 && still == nil {
		return nil, fmt.Errorf("no worker came to its fail point: %s", strings.Join(r.points, ", "))
	}
	if r.struck.IsZero() && len(deaths) > 0 {
		r.struck = deaths[0]
	}
	if still == nil {
		if err := r.fleet.end(syscall.SIGTERM); err != nil {
			return nil, err
		}
	}
	judging, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r.ctx = judging
	v, err := r.judge()
	if err == nil {
		r.watch.judge(v)
		v.did = r.did
		for _, what := range r.idled {
			v.add(stalled, rowID{}, "%s", what)
		}
	}
	if err == nil && still != nil {
		v.add(lostOnes, rowID{}, "%v", still)
	}
	return v, err
}

// invited waits until Clerk has made n invitations.
func (r *run) invited(n int) error {
	n += len(r.crowd.of(pending))
	for {
		stats, err := r.Sandbox.Stats(r.ctx)
		if err != nil || stats.Invitations >= n {
			return err
		}
		if err := rig.Sleep(r.ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("wait for %d invitations, have %d: %w", n, stats.Invitations, err)
		}
	}
}

// await waits until a query returns true.
func (r *run) await(what, query string, args ...any) error {
	for {
		var yes bool
		if err := r.Pool.QueryRow(r.ctx, query, args...).Scan(&yes); err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if yes {
			return nil
		}
		if err := rig.Sleep(r.ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
	}
}

// unfinished is the condition for jobs that have not ended. $1 says that clocks are stepped: a
// worker whose clock is an hour ahead schedules jobs an hour too late. Those jobs block nothing and
// end when they are due.
const unfinished = `state not in ('completed', 'cancelled', 'discarded')
	and not ($1 and scheduled_at > now() + interval '30 minutes')`

// settled returns nil when nothing is left to do. It returns an error if nothing has changed for
// stillFor.
func (r *run) settled() error {
	var last string
	moved := time.Now()
	for {
		var done bool
		var now string
		err := r.Pool.QueryRow(r.ctx, `
			with rows as (select count(*) filter (where outcome is null) as undecided, count(*) as n from results),
			     tries as (select count(*) as n, count(*) filter (where resolved_at is null) as open from attempts),
			     queue as (select count(*) as n from river_job where kind = 'invite' and `+unfinished+`),
			     batch as (select count(*) as n, string_agg(distinct state || coalesce(': ' || state_reason, ''), ', ') as states from batches where finished_at is null)
			select rows.undecided = 0 and tries.open = 0 and queue.n = 0 and batch.n = 0,
			       format('%s of %s rows undecided, %s of %s attempts open, %s jobs, %s batches not finished (%s)', rows.undecided, rows.n, tries.open, tries.n, queue.n, batch.n, batch.states)
			from rows, tries, queue, batch`, r.harm.steps).Scan(&done, &now)
		switch {
		case err != nil && r.ctx.Err() != nil:
			return fmt.Errorf("%w: %s", context.Cause(r.ctx), last)
		case err == nil && done:
			return nil
		case err == nil && now != last:
			last, moved = now, time.Now()
		case time.Since(moved) > stillFor:
			return fmt.Errorf("nothing changed for %s: %s (%v)", stillFor, last, err)
		}
		if err := rig.Sleep(r.ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("%w: %s", err, last)
		}
	}
}

// keep copies the files of a run to a directory that is not removed.
func (r *run) keep(dir string, v *verdict) error {
	// On SIGQUIT a Go program writes its goroutines to its log.
	if err := r.fleet.end(syscall.SIGQUIT); err != nil {
		return err
	}
	if err := os.CopyFS(dir, os.DirFS(r.Dir)); err != nil {
		return fmt.Errorf("keep the logs: %w", err)
	}
	// The run's own time may be over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), time.Minute)
	defer cancel()
	if err := r.tool(ctx, "pg_dump", "--file="+filepath.Join(dir, "database.sql"), "--dbname="+r.URL); err != nil {
		return err
	}
	fmt.Printf("  logs, the sandbox's state and a dump of the database: %s\n", dir)
	if v != nil {
		r.stories(ctx, v)
	}
	return nil
}

// stories prints what the program says about some of the faulty rows. It names them by their
// numbers instead of their addresses.
func (r *run) stories(ctx context.Context, v *verdict) {
	for i, w := range v.wrongs {
		if i == 3 {
			fmt.Printf("  and %d more\n", len(v.wrongs)-i)
			break
		}
		fmt.Printf("  %s: %s\n", w.row, w.what)
		if w.key == "" {
			continue
		}
		text, err := rig.Call(ctx, r.Rig.Binary, r.direct(), "why", w.key)
		if err != nil {
			fmt.Printf("    no story: %v\n", err)
			continue
		}
		for line := range strings.Lines(strings.ReplaceAll(string(text), w.key, "the person of "+w.row.String())) {
			fmt.Print("    ", line)
		}
	}
}

// direct returns the environment with the database's own URL instead of the proxy's.
func (r *run) direct() []string {
	return append(slices.Clone(r.Env), "DATABASE_URL="+r.URL)
}

// tool runs one of PostgreSQL's programs against the server.
func (r *run) tool(ctx context.Context, name string, args ...string) error {
	bin, err := r.binaries()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, name), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// binaries returns the directory of the PostgreSQL programs that the lane's server uses.
func (r *run) binaries() (string, error) {
	pid, err := r.postmaster()
	if err != nil {
		return "", err
	}
	server, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return "", fmt.Errorf("find PostgreSQL's programs: %w", err)
	}
	return filepath.Dir(server), nil
}

// close ends the programs and drops the database.
func (r *run) close() error {
	var err error
	if r.watch != nil {
		r.watch.end()
	}
	if r.watched != nil {
		r.watched.Close()
	}
	if r.fleet != nil {
		err = r.fleet.end(syscall.SIGKILL)
	}
	for _, p := range []*proxy{r.proxy, r.toClerk} {
		if p != nil {
			err = errors.Join(err, p.close())
		}
	}
	if r.site != nil {
		err = errors.Join(err, r.site.close())
	}
	return errors.Join(err, r.Stage.Close())
}
