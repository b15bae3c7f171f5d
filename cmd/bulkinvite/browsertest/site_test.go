package browsertest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/bcrypt"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/internal/rig"
	"bulkinvite/internal/web"
	"bulkinvite/ratelimit"
)

const password = "correct horse"

// users are those who may sign in, maria to send and alex to look, as
// --users-file has them; the hash is a cheap one.
var users = sync.OnceValue(func() string {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		panic(err)
	}
	return "maria:operator:" + string(hash) + "\nalex:auditor:" + string(hash) + "\n"
})

// site is the program over a database of its own, and its server.
type site struct {
	t        *testing.T
	dir      string
	database string // its URL
	env      []string
	flags    []string     // of each of its processes
	server   *rig.Process // nil: it does not serve now
	listen   string       // its address, once it has one
}

// newSite gives a test a database; the flags are those that every process gets.
func newSite(t *testing.T, flags ...string) *site {
	t.Helper()
	must.OK(t, shared.open())
	s := &site{t: t, dir: t.TempDir(), database: postgrestest.URL(t), flags: flags, listen: "127.0.0.1:0"}
	s.env = append(rig.Environment(s.dir, s.database, "sk_live_browser"), "BULKINVITE_USERS="+users(), "TZ=UTC")
	return s
}

// rehearsal is a site that works by itself, with the stand-in inside it.
func rehearsal(t *testing.T, flags ...string) *site {
	t.Helper()
	s := newSite(t, append([]string{"--sandbox"}, flags...)...)
	s.serve("--work")
	return s
}

// launch starts one of the program's processes, which ends with the test.
func (s *site) launch(args ...string) *rig.Process {
	s.t.Helper()
	// It outlives the test's context: the pages that look at it are closed before it.
	p, err := rig.Launch(context.WithoutCancel(s.t.Context()), shared.binary, s.env, filepath.Join(s.dir, args[0]+".log"), nil, append(args, s.flags...)...)
	must.OK(s.t, err)
	s.t.Cleanup(func() { s.stop(p) })
	return p
}

// stop tells a process to end, as a service manager does, and waits for it; one
// that does not end well fails the test.
func (s *site) stop(p *rig.Process) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), patience)
	defer cancel()
	expect.OK(s.t, errors.Join(p.Signal(syscall.SIGTERM), p.Wait(ctx)))
}

// serve starts the server; one that was stopped comes back at its address.
func (s *site) serve(args ...string) {
	s.t.Helper()
	log := filepath.Join(s.dir, "serve.log")
	if err := os.Remove(log); err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	s.server = s.launch(append([]string{"serve", "--listen=" + s.listen, "--log-format=json"}, args...)...)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if address := serving(s.t, log); address != "" {
			s.listen = strings.TrimPrefix(address, "http://")
			return
		}
		select {
		case <-s.server.Over():
			s.t.Fatalf("%v: %s", s.server.Err(), rig.Tail(log))
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("it does not serve: %s", rig.Tail(log))
		}
	}
}

// serving finds the address in the server's log, once it is there.
func serving(t *testing.T, log string) string {
	t.Helper()
	text, err := os.ReadFile(log)
	must.OK(t, err)
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		var line struct{ Msg, Address string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
			return line.Address
		}
	}
	return ""
}

func (s *site) url(path string) string { return "http://" + s.listen + path }

// call runs a command to its end and returns its standard output.
func (s *site) call(args ...string) string {
	s.t.Helper()
	out, err := rig.Call(s.t.Context(), shared.binary, s.env, append(args, s.flags...)...)
	must.OK(s.t, err)
	return string(out)
}

// with opens the site's database.
func (s *site) with(do func(context.Context, *pgx.Conn) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.database)
	must.OK(s.t, err)
	must.OK(s.t, errors.Join(do(ctx, conn), conn.Close(ctx)))
}

// exec changes the database as no page can: it lets days pass.
func (s *site) exec(sql string) {
	s.t.Helper()
	s.with(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
}

// until waits until a question to the database is answered with yes.
func (s *site) until(sql string) {
	s.t.Helper()
	s.with(func(ctx context.Context, conn *pgx.Conn) error {
		for {
			var yes bool
			if err := conn.QueryRow(ctx, sql).Scan(&yes); err != nil || yes {
				return err
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("never true: %s", sql)
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
}

// within is a server inside the test's process, without a worker, for what the
// program's flags do not reach. change is told what browsers call it by.
func within(t *testing.T, change func(*web.Config)) *site {
	t.Helper()
	must.OK(t, shared.open())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	pool := postgrestest.New(t)
	cfg := web.Config{URL: &url.URL{Scheme: "http", Host: listener.Addr().String()}, Limits: func(string) invitation.Limits {
		return invitation.Limits{Create: ratelimit.DefaultCreate, Bulk: ratelimit.DefaultBulk, General: ratelimit.DefaultProduction}
	}}
	if cfg.Instance, err = batch.EnsureInstance(t.Context(), pool, "ins_within", "production"); err != nil {
		t.Fatal(err)
	}
	if cfg.Users, err = web.ParseUsers(strings.NewReader(users())); err != nil {
		t.Fatal(err)
	}
	change(&cfg)
	server, err := web.New(pool, cfg)
	must.OK(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		expect.OK(t, <-ended)
	})
	return &site{t: t, listen: listener.Addr().String()}
}

// file writes a file for people to upload, and returns its path.
func (s *site) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), name)
	must.OK(s.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}
