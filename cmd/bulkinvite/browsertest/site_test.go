package browsertest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"bulkinvite/clerk/sandbox"
	"bulkinvite/cmd/internal/rig"
	"bulkinvite/postgres/postgrestest"
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
	t      *testing.T
	dir    string
	env    []string
	flags  []string     // of each of its processes
	server *rig.Process // nil: it does not serve now
	listen string       // its address, once it has one
}

// newSite gives a test a database; the flags are those that every process gets.
func newSite(t *testing.T, flags ...string) *site {
	t.Helper()
	if err := shared.open(); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: t.TempDir(), flags: flags, listen: "127.0.0.1:0"}
	s.env = append(rig.Environment(s.dir, postgrestest.URL(t), "sk_live_browser"), "BULKINVITE_USERS="+users(), "TZ=UTC")
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
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.stop(p) })
	return p
}

// stop tells a process to end, as a service manager does, and waits for it; one
// that does not end well fails the test.
func (s *site) stop(p *rig.Process) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), patience)
	defer cancel()
	if err := errors.Join(p.Signal(syscall.SIGTERM), p.Wait(ctx)); err != nil {
		s.t.Error(err)
	}
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
	if err != nil {
		t.Fatal(err)
	}
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
	if err != nil {
		s.t.Fatal(err)
	}
	return string(out)
}

// file writes a file for people to upload, and returns its path.
func (s *site) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// standin is a sandbox beside the program, as Clerk is.
type standin struct {
	t      *testing.T
	server *sandbox.Server
	url    string // for --clerk-url
}

func newStandin(t *testing.T, config sandbox.Config) *standin {
	t.Helper()
	server, err := sandbox.New(config)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(server.Handler())
	t.Cleanup(func() {
		web.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return &standin{t, server, web.URL + "/v1"}
}

// mails tells how many mails each address got.
func (s *standin) mails() map[string]int {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.server.Handler().ServeHTTP(w, httptest.NewRequestWithContext(s.t.Context(), "GET", "/sandbox/mailbox", nil))
	var box struct{ Addresses map[string]int }
	if err := json.Unmarshal(w.Body.Bytes(), &box); err != nil {
		s.t.Fatalf("mailbox: %v: %s", err, w.Body)
	}
	return box.Addresses
}
