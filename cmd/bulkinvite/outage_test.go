package main

import (
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres"
)

// ownServer is a PostgreSQL of a test's own, which the program under test knows by
// its URL alone, as one that somebody else runs.
type ownServer struct {
	t      *testing.T
	config postgres.Config
	server *postgres.Server
}

func newServer(t *testing.T) *ownServer {
	t.Helper()
	dir := t.TempDir()
	// As root the server runs as another user, who must be able to enter.
	for _, d := range []string{filepath.Dir(dir), dir} {
		must.OK(t, os.Chmod(d, 0o711))
	}
	s := &ownServer{t: t, config: postgres.Config{Dir: filepath.Join(dir, "postgres"), Settings: map[string]string{"fsync": "off"}}}
	s.start()
	t.Cleanup(func() {
		expect.OK(t, s.server.Close())
	})
	return s
}

// start starts it, again where it was stopped.
func (s *ownServer) start() {
	s.t.Helper()
	server, err := postgres.Start(s.t.Context(), s.config)
	must.OK(s.t, err)
	if s.server != nil {
		if err := s.server.Close(); err != nil { // the new share keeps the server
			s.t.Fatal(err)
		}
	}
	s.server = server
}

// stop is pg_ctl stop -m immediate: the postmaster's SIGQUIT.
func (s *ownServer) stop() {
	s.t.Helper()
	signalServer(s.t, s.config.Dir, syscall.SIGQUIT)
}

// url names the server's database, with a pool small enough for many programs.
func (s *ownServer) url() string {
	u, err := url.Parse(s.server.URL())
	must.OK(s.t, err)
	return u.String()
}

// TestPostgresAwayForLong stops PostgreSQL under two workers with requests under
// way, for longer than anything in them is patient: a request and its settle time,
// the time after which a process counts as dead, the queue's own three tries to
// write down that a job is done. They wait, go on by themselves, and end as told.
func TestPostgresAwayForLong(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Config{Limits: sandbox.Limits{Create: sandbox.Limit{N: -1}},
		Faults: []sandbox.Fault{{Call: "create", Kind: sandbox.FaultSlow, After: true, Delay: sandbox.Duration(400 * time.Millisecond), Every: 2}}})
	b := newBench(t, "CLERK_API_URL="+s.url, "CLERK_SECRET_KEY=sk_live_outage")
	server := newServer(t)
	b.env = append(b.env, "DATABASE_URL="+server.url())
	const rows = 120
	b.run("import", "--yes", b.file("outage.csv", people(rows))).want(t, exitOK)
	var workers [2]*started
	for i := range workers {
		workers[i] = b.start("work", "--limit-bulk", "off", "--limit-create", "20/1s", "--settle", "1s", "--request-timeout", "2s", "--recover-after", "2s")
	}
	awaitMails(t, s, 30)
	server.stop()
	// The outage itself: nothing is there to be awaited. The queue's three tries take seven seconds.
	time.Sleep(12 * time.Second)
	if n := s.mailbox(t).Mails; n > 70 {
		t.Errorf("%d mails while nothing could be written down", n)
	}
	server.start()
	pool := open(t, server.url())
	awaitCount(t, pool, 1, `select count(*) from batches where state = 'done'`)
	awaitCount(t, pool, 1, `select case when exists (select from river_job where kind <> 'notice' and state in ('available', 'scheduled', 'retryable', 'running')) then 0 else 1 end`)
	for _, w := range workers {
		expect.OK(t, w.Process.Signal(syscall.SIGTERM))
		w.endsWith(t, exitOK)
	}
	d := b.status("1")
	d.addsUp(t)
	d.once(t, s, rows)
}

// TestWorkerIsTold ends a worker with a request under way: at the first signal it
// is recorded and everything else goes back to the queue at once; at the second the
// process ends there and then, and the request is read by the next.
func TestWorkerIsTold(t *testing.T) {
	t.Parallel()
	for _, signals := range []int{1, 2} {
		t.Run(strconv.Itoa(signals), func(t *testing.T) {
			t.Parallel()
			delay := 7 * time.Second // more than a stop in haste would leave it
			if signals == 2 {
				delay = 20 * time.Second
			}
			s := newStand(t, sandbox.Config{Limits: sandbox.Limits{Create: sandbox.Limit{N: -1}},
				Faults: []sandbox.Fault{{Call: "create", Kind: sandbox.FaultSlow, After: true, Delay: sandbox.Duration(delay), First: 4}}})
			b := newBench(t, "CLERK_API_URL="+s.url, "CLERK_SECRET_KEY=sk_live_told")
			b.detectRaces()
			b.run("import", "--yes", b.file("told.csv", people(30))).want(t, exitOK)
			pool := open(t, b.url)
			args := []string{"work", "--limit-bulk", "off", "--limit-create", "1000/1s", "--settle", "1s", "--request-timeout", "25s", "--recover-after", "1s"}
			w := b.start(args...)
			awaitMails(t, s, 4)
			// Two of the same kind that come before the process looks are one.
			for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}[:signals] {
				w.signal(t, signal)
			}
			told := time.Now()
			exit := w.ends()
			if took := time.Since(told); signals == 2 && (exit != exitInterrupted || took > 10*time.Second) || signals == 1 && exit != exitOK {
				t.Fatalf("exit status %d after %s: %s", exit, took, w.errs.String())
			}
			var open, unanswered, running, late, listed int
			err := pool.QueryRow(t.Context(), `
				select (select count(*) from attempt_people where open), (select count(*) from attempts where answered_at is null),
				       (select count(*) from river_job where state = 'running'), (select count(*) from river_job where state = 'scheduled' and scheduled_at > clock_timestamp() + interval '1 s'),
				       (select count(*) from workers)`).Scan(&open, &unanswered, &running, &late, &listed)
			must.OK(t, err)
			if signals == 1 && open+unanswered+running+late+listed != 0 {
				t.Errorf("%d people open, %d requests unanswered, %d jobs running, %d scheduled, %d workers listed: want none", open, unanswered, running, late, listed)
			}
			if signals == 2 && open != 4 {
				t.Errorf("%d people open, want those 4 whose answers nobody heard", open)
			}
			if signals == 2 {
				return // what becomes of them is TestKill's
			}
			b.run(append(args, "--until-idle")...).want(t, exitOK)
			d := b.status("1")
			d.once(t, s, 30)
		})
	}
}
