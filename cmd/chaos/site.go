package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/rig"
)

// errNotHere says that this machine does not permit a fault. Such a run counts as not made.
var errNotHere = errors.New("this machine does not permit it")

// site has the PostgreSQL servers of one run, for faults that would damage the lane's server.
type site struct {
	dir     string // next to the run's directory
	bin     string // directory of PostgreSQL's programs
	owner   *syscall.SysProcAttr
	uid     int
	gid     int
	servers []*server
	dataDir string // the program's data directory if the server is its private one, else empty
	after   func() error
}

// newSite makes the directory of a run's own servers. They run as the same user as the lane's
// server.
func (r *run) newSite() (*site, error) {
	bin, err := r.binaries()
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(filepath.Join(r.Rig.Dir, "postgres", "data"))
	if err != nil {
		return nil, err
	}
	stat := info.Sys().(*syscall.Stat_t)
	s := &site{dir: r.Dir + "-servers", bin: bin, uid: int(stat.Uid), gid: int(stat.Gid), owner: &syscall.SysProcAttr{Setpgid: true}}
	if os.Geteuid() != s.uid {
		s.owner.Credential = &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}
	}
	if err := os.Mkdir(s.dir, 0o711); err != nil {
		return nil, err
	}
	return s, os.Chown(s.dir, s.uid, s.gid)
}

// close ends the servers and removes their files.
func (s *site) close() error {
	var err error
	for _, one := range s.servers {
		err = errors.Join(err, one.kill())
	}
	if s.after != nil {
		err = errors.Join(err, s.after())
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// command returns one of PostgreSQL's programs, set up to run as the server's user.
func (s *site) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir, cmd.SysProcAttr = s.dir, s.owner
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH"), "LD_LIBRARY_PATH=" + os.Getenv("LD_LIBRARY_PATH")}
	return cmd
}

func (s *site) call(name string, args ...string) error {
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// server is a PostgreSQL on a TCP port of loopback.
type server struct {
	site     *site
	data     string
	port     int
	log      string
	settings []string
	cmd      *exec.Cmd
	over     chan struct{}
}

// superuser is the superuser of the servers. It needs no password.
const superuser = "bulkinvite"

// add reserves a directory and a port for a server. initdb or pg_basebackup makes its data.
func (s *site) add(name, log string, settings ...string) (*server, error) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	one := &server{site: s, data: filepath.Join(s.dir, name), log: log, port: free.Addr().(*net.TCPAddr).Port}
	one.settings = append([]string{"fsync=off", "listen_addresses=127.0.0.1", fmt.Sprintf("port=%d", one.port),
		"unix_socket_directories=", "max_connections=200", "timezone=UTC", "log_timezone=UTC"}, settings...)
	s.servers = append(s.servers, one)
	return one, free.Close()
}

func (one *server) initialise() error {
	return one.site.call("initdb", "--pgdata="+one.data, "--username="+superuser, "--auth=trust",
		"--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
}

// address returns the address on which the server listens.
func (one *server) address() string { return fmt.Sprintf("127.0.0.1:%d", one.port) }

// start starts the server and returns when it accepts connections.
func (one *server) start(ctx context.Context) error {
	log, err := os.OpenFile(one.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the server has it now
	args := []string{"-D", one.data}
	for _, s := range one.settings {
		args = append(args, "-c", s)
	}
	one.cmd = one.site.command("postgres", args...)
	one.cmd.Stdout, one.cmd.Stderr = log, log
	if err := one.cmd.Start(); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	over := make(chan struct{})
	one.over = over
	cmd := one.cmd
	go func() {
		_ = cmd.Wait() // one.over tells that it ended
		close(over)
	}()
	for {
		err := one.exec(ctx, "postgres", "select 1")
		if err == nil {
			return nil
		}
		select {
		case <-over:
			return fmt.Errorf("PostgreSQL exited while it started: %s", rig.Tail(one.log))
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait for PostgreSQL: %w: %w", context.Cause(ctx), err)
		}
	}
}

// lives reports whether the postmaster runs.
func (one *server) lives() bool {
	if one.over == nil {
		return false
	}
	select {
	case <-one.over:
		return false
	default:
		return true
	}
}

// kill stops the server in immediate mode, like a crash.
func (one *server) kill() error {
	if !one.lives() {
		return nil
	}
	if err := one.cmd.Process.Signal(syscall.SIGQUIT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	select {
	case <-one.over:
	case <-time.After(20 * time.Second):
		_ = one.cmd.Process.Kill() // its children end by themselves
		<-one.over
	}
	return nil
}

// exec runs each statement by itself in a database.
func (one *server) exec(ctx context.Context, database string, statements ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, one.url(database))
	if err != nil {
		return err
	}
	defer conn.Close(ctx) // it was only asked
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// is waits until a query returns true.
func (one *server) is(ctx context.Context, what, query string) error {
	for {
		conn, err := pgx.Connect(ctx, one.url("postgres"))
		yes := false
		if err == nil {
			err = errors.Join(conn.QueryRow(ctx, query).Scan(&yes), conn.Close(ctx))
		}
		if err == nil && yes {
			return nil
		}
		if s := rig.Sleep(ctx, 50*time.Millisecond); s != nil {
			return fmt.Errorf("wait until %s: %w: %w", what, s, err)
		}
	}
}

func (one *server) url(database string) string {
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable&connect_timeout=5", superuser, one.address(), database)
}

// runAhead waits until server a has ahead more attempts than server b.
func (r *run) runAhead(a, b *server, ahead int) error {
	for {
		known, err := r.attempts(a)
		if err != nil {
			return err
		}
		left, err := r.attempts(b)
		if err != nil {
			return err
		}
		if known >= left+ahead {
			return nil
		}
		if done, err := r.over(); err != nil || done {
			return errors.Join(err, fmt.Errorf("all rows were decided when the standby lacked only %d of %d attempts", known-left, known))
		}
		if err := rig.Sleep(r.ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// attempts returns how many attempts of the run a server has.
func (r *run) attempts(one *server) (n int, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, one.url(r.Name))
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx) // it was only asked
	err = conn.QueryRow(ctx, `select count(*) from attempts`).Scan(&n)
	return n, err
}

// fill makes the run's database and its tables.
func (r *run) fill(one *server) error {
	if err := one.exec(r.ctx, "postgres", "create database "+r.Name); err != nil {
		return err
	}
	_, err := rig.Call(r.ctx, r.Rig.Binary, rig.Environment(r.Dir, one.url(r.Name), rig.Key), "migrate")
	return err
}

// ownServer starts a server for this run that is reached over TCP.
func (r *run) ownServer() (string, error) {
	var err error
	if r.site, err = r.newSite(); err != nil {
		return "", err
	}
	one, err := r.site.add("postgres", filepath.Join(r.Dir, "postgres.log"))
	if err != nil {
		return "", err
	}
	if err := errors.Join(one.initialise(), one.start(r.ctx)); err != nil {
		return "", err
	}
	return one.url(r.Name), r.fill(one)
}

// withStandby starts a server for this run and a standby. The URL names both.
func (r *run) withStandby() (string, error) {
	var err error
	if r.site, err = r.newSite(); err != nil {
		return "", err
	}
	a, err := r.site.add("primary", filepath.Join(r.Dir, "primary.log"))
	if err != nil {
		return "", err
	}
	b, err := r.site.add("standby", filepath.Join(r.Dir, "standby.log"), "cluster_name=standby", "hot_standby=on")
	if err != nil {
		return "", err
	}
	if err := errors.Join(a.initialise(), a.start(r.ctx)); err != nil {
		return "", err
	}
	if err := r.fill(a); err != nil {
		return "", err
	}
	from := fmt.Sprintf("host=127.0.0.1 port=%d user=%s", a.port, superuser)
	if err := r.site.call("pg_basebackup", "--pgdata="+b.data, "--dbname="+from, "--write-recovery-conf",
		"--checkpoint=fast", "--no-sync"); err != nil {
		return "", err
	}
	if err := b.start(r.ctx); err != nil {
		return "", err
	}
	if err := a.is(r.ctx, "the standby follows", `select exists (
		select from pg_stat_replication where application_name = 'standby' and state = 'streaming')`); err != nil {
		return "", err
	}
	if !r.harm.restored {
		// With a synchronous standby, PostgreSQL confirms a commit once the standby has it.
		err := a.exec(r.ctx, "postgres", `alter system set synchronous_standby_names = 'standby'`, `select pg_reload_conf()`)
		if err != nil {
			return "", err
		}
		if err := a.is(r.ctx, "the standby is waited for", `select exists (select from pg_stat_replication where sync_state = 'sync')`); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("postgres://%s@%s,%s/%s?sslmode=disable&connect_timeout=5&target_session_attrs=read-write",
		superuser, a.address(), b.address(), r.Name), nil
}

// promote kills the primary and promotes its standby, which has every commit that PostgreSQL
// confirmed.
func (r *run) promote() error {
	a, b := r.site.servers[0], r.site.servers[1]
	r.strike()
	r.watch.excuse(true)
	defer r.watch.excuse(false)
	if err := a.kill(); err != nil {
		return err
	}
	if err := rig.Sleep(r.ctx, r.wait); err != nil {
		return err
	}
	return b.exec(r.ctx, "postgres", `select pg_promote()`)
}

// promoteBehind promotes a standby that lacks the last commits. In half of the runs it also kills
// the workers; in the others they continue. Then it does what docs/database.md tells an operator to
// do.
func (r *run) promoteBehind() error {
	a, b := r.site.servers[0], r.site.servers[1]
	err := b.exec(r.ctx, "postgres", `alter system set primary_conninfo = ''`, `select pg_reload_conf()`)
	if err != nil {
		return err
	}
	if err := b.is(r.ctx, "the standby follows no more", `select not exists (select from pg_stat_wal_receiver)`); err != nil {
		return err
	}
	ahead := 10 + r.dice.IntN(40)
	if r.mode == bulk {
		ahead = 1 + r.dice.IntN(3)
	}
	if err := r.runAhead(a, b, ahead); err != nil {
		return err
	}
	stopped := r.dice.IntN(2) == 0
	r.watch.excuse(true)
	defer r.watch.excuse(false)
	known, err := r.attempts(a)
	if err != nil {
		return err
	}
	r.strike()
	if err := a.kill(); err != nil {
		return err
	}
	if stopped {
		if err := r.fleet.end(syscall.SIGKILL); err != nil {
			return err
		}
	}
	left, err := r.attempts(b)
	if err != nil {
		return err
	}
	if left >= known {
		return fmt.Errorf("the standby has %d of %d attempts, so none was lost", left, known)
	}
	r.did["requests that the standby did not have"] += known - left
	if stopped {
		r.did["times the workers were killed too"]++
	}
	if err := b.exec(r.ctx, "postgres", `select pg_promote()`); err != nil {
		return err
	}
	for _, command := range [][]string{{"migrate"}, {"doctor", "--after-restore"}} {
		if _, err := r.Call(r.ctx, append(command, r.settings()[3:]...)...); err != nil {
			// doctor exits with 1 if anything is wrong, such as workers that are gone.
			var exit *exec.ExitError
			if !errors.As(err, &exit) || command[0] != "doctor" || exit.ExitCode() != 1 {
				return err
			}
		}
	}
	if stopped {
		return r.fleet.start(r.ctx, nil)
	}
	return nil
}
