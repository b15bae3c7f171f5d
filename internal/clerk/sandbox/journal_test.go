package sandbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// crash takes the sandbox's file away as kill -9 does: nothing more is written, and the lock is
// free.
func (b *bench) crash() {
	b.Helper()
	b.server.mu.Lock()
	defer b.server.mu.Unlock()
	must.OK(b, b.server.journal.file.Close())
	b.server.journal.file = nil
}

// restart starts another sandbox on the same file and clock.
func (b *bench) restart(c Config) *bench {
	b.Helper()
	b.crash()
	c.Now = b.clock.now
	next := setup(b.T, c)
	next.clock = b.clock
	return next
}

func TestStateOutlivesACrash(t *testing.T) {
	t.Parallel()
	c := Config{
		StateFile: filepath.Join(t.TempDir(), "state"), Users: []string{"user@example.com"}, Invitations: []string{"pending@example.com"},
		Switches: Switches{MailCap: 3},
	}
	b := setup(t, c)
	a := b.invite("a@example.com")
	b.clock.advance(time.Second)
	b.post("/v1/invitations/bulk", items("b@example.com", "c@example.com", "d@example.com"))
	b.post("/v1/invitations/"+a.ID+"/revoke", "")
	b.post("/sandbox/accept", `{"addresses":["b@example.com"]}`)
	b.post("/sandbox/users", `["more@example.com"]`)
	b.post("/v1/invitations", "{}")
	b.post("/sandbox/faults", `[{"kind":"cut_after","first":1}]`)
	if _, err := b.try("POST", "/v1/invitations", item("cut@example.com")); err == nil {
		t.Fatal("not cut")
	}
	before := b.server.state

	next := b.restart(c)
	for _, path := range []string{"/sandbox/mailbox", "/sandbox/stats", "/sandbox/requests", "/sandbox/invitations", "/v1/invitations?limit=500", "/v1/users?limit=500"} {
		if got, want := next.get(path).body, b.get(path).body; got != want && !strings.HasPrefix(path, "/v1") {
			t.Errorf("%s:\n%s\nbefore the crash:\n%s", path, got, want)
		}
	}
	after := next.server.state
	same(t, "invitations", after.byID, before.byID)
	same(t, "users", after.users, before.users)
	same(t, "waiting for acceptance", len(after.waiting), len(before.waiting))
	same(t, "mails this month", after.monthMails, 3)
	next.post("/v1/invitations", item("cut@example.com")).wants(t, 400, "duplicate_record")
	next.post("/v1/invitations", item("b@example.com")).wants(t, 422, "form_identifier_exists")
}

func TestWindowsOutliveACrash(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"sliding", "fixed"} {
		c := Config{
			StateFile: filepath.Join(t.TempDir(), "state"), WindowMode: mode,
			Limits: Limits{Create: Limit{3, 10 * time.Second}}, Switches: Switches{RefusedAreFree: true, Alignment: "first"},
		}
		b := setup(t, c)
		b.post("/v1/invitations", "{}") // does not count
		b.sent(2)
		b.clock.advance(5 * time.Second)
		b = b.restart(c)
		same(t, mode, b.sent(2), []int{200, 429})
		b.clock.advance(5 * time.Second)
		b = b.restart(c)
		want := []int{200, 200, 429}
		if mode == "fixed" {
			want = []int{200, 200, 200, 429}
		}
		same(t, mode, b.sent(len(want)), want)
	}
}

// TestTornTail checks that the sandbox starts with a file that ends within its first or last record,
// and knows every complete record.
func TestTornTail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := Config{StateFile: filepath.Join(dir, "state")}
	b := setup(t, c)
	b.invite("a@example.com")
	b.invite("b@example.com")
	b.crash()
	whole, err := os.ReadFile(c.StateFile)
	must.OK(t, err)
	first, last := bytes.IndexByte(whole, '\n')+1, bytes.LastIndexByte(whole[:len(whole)-1], '\n')
	for size := range len(whole) + 1 {
		if size > first && size < last {
			continue
		}
		path := filepath.Join(dir, fmt.Sprint("torn", size))
		must.OK(t, os.WriteFile(path, whole[:size], 0o600))
		s, err := New(Config{StateFile: path})
		if err != nil {
			t.Fatalf("%d of %d bytes: %v", size, len(whole), err)
		}
		if got, want := len(s.state.invitations), strings.Count(string(whole[:strings.LastIndexByte(string(whole[:size]), '\n')+1]), `"op":"invite"`); got != want {
			t.Fatalf("%d of %d bytes: %d invitations, want %d", size, len(whole), got, want)
		}
		// It continues after the last complete line.
		in := newInvitation("c@example.com", 1, 30)
		s.commit(&record{Op: opInvite, Invitations: []*invitation{in}})
		must.OK(t, s.Close())
		again, err := New(Config{StateFile: path})
		if err != nil {
			t.Fatalf("%d of %d bytes, again: %v", size, len(whole), err)
		}
		if again.state.byID[in.ID] == nil {
			t.Fatalf("%d of %d bytes: what came after the tear is lost", size, len(whole))
		}
		must.OK(t, again.Close())
	}
}

func TestDamagedOrForeignFileIsLeftAlone(t *testing.T) {
	t.Parallel()
	begin := `{"op":"sandbox","version":1}` + "\n"
	for name, content := range map[string]string{
		"foreign":             "Name,Email\nAnn,ann@example.com\n",
		"foreign, no newline": "Name,Email",
		"JSON of another":     `{"op":"arrive","n":1}` + "\n",
		"newer":               `{"op":"sandbox","version":2}` + "\n",
		"damaged":             begin + "###\n" + `{"op":"arrive","n":1,"call":"create"}` + "\n",
		"two beginnings":      begin + begin,
	} {
		path := filepath.Join(t.TempDir(), "state")
		must.OK(t, os.WriteFile(path, []byte(content), 0o600))
		if _, err := New(Config{StateFile: path}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v", name, err)
		}
		left, err := os.ReadFile(path)
		must.OK(t, err)
		same(t, name+": the file", string(left), content)
	}
}

func TestStateFileHasOneUser(t *testing.T) {
	t.Parallel()
	c := Config{StateFile: filepath.Join(t.TempDir(), "state")}
	first, err := New(c)
	must.OK(t, err)
	if _, err := New(c); !errors.Is(err, ErrInUse) {
		t.Errorf("second user: %v", err)
	}
	must.OK(t, first.Close())
	second, err := New(c)
	must.OK(t, err)
	must.OK(t, second.Close())
}

func TestSeedsArePlantedOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := Config{
		StateFile: filepath.Join(dir, "state"), SeedFile: filepath.Join(dir, "seeds.json"),
		Users: []string{"u1@example.com"}, Invitations: []string{"i1@example.com"},
	}
	seeds := `{"users":["u2@example.com",{"email":"u3@example.com","created_at":"2026-01-02T03:04:05Z"}],
		"invitations":[{"email":"i2@example.com","age":"48h","expires_in_days":3},{"email":"i3@example.com","status":"accepted"},{"email":"i4@example.com","status":"revoked"}]}`
	must.OK(t, os.WriteFile(c.SeedFile, []byte(seeds), 0o600))
	b := setup(t, c)
	for range 2 {
		same(t, "users", len(b.server.state.users), 4) // a person who accepted is a user
		same(t, "pending", emails(b.list("status=pending")), []string{"i1@example.com", "i2@example.com"})
		same(t, "accepted", emails(b.list("status=accepted")), []string{"i3@example.com"})
		same(t, "revoked", emails(b.list("status=revoked")), []string{"i4@example.com"})
		same(t, "age", b.list("query=i2")[0].CreatedAt, b.clock.now().Add(-48*time.Hour).UnixMilli())
		same(t, "mails", b.mailbox().Mails, 0)
		b = b.restart(c)
	}
	for name, bad := range map[string]string{
		"status": `{"invitations":[{"email":"a@example.com","status":"open"}]}`, "days": `{"invitations":[{"email":"a@example.com","expires_in_days":400}]}`,
		"field": `{"invitations":[{"mail":"a@example.com"}]}`, "list": `{"people":[]}`, "JSON": `{`,
	} {
		path := filepath.Join(dir, "bad"+name)
		must.OK(t, os.WriteFile(path, []byte(bad), 0o600))
		if _, err := New(Config{SeedFile: path}); err == nil {
			t.Errorf("bad %s: no error", name)
		}
	}
}

func TestUnwritableStateAnswers500(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{StateFile: filepath.Join(t.TempDir(), "state")})
	b.server.mu.Lock()
	file := b.server.journal.file
	readOnly, err := os.Open(file.Name())
	must.OK(t, err)
	b.server.journal.file = readOnly
	b.server.mu.Unlock()
	for range 2 {
		b.post("/v1/invitations", item("a@example.com")).wants(t, 500, "internal_clerk_error")
	}
	if err := b.server.Close(); err == nil {
		t.Error("Close does not say that the state was not kept")
	}
	expect.OK(t, file.Close())
}

// TestKilledProcess kills a sandbox in a separate process while it handles calls. Everything that
// it answered must exist afterwards.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	if path := os.Getenv("SANDBOX_TEST_STATE"); path != "" {
		serveUntilKilled(t, path)
		return
	}
	state := filepath.Join(t.TempDir(), "state")
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledProcess$")
	child.Env = append(os.Environ(), "SANDBOX_TEST_STATE="+state)
	out, err := child.StdoutPipe()
	must.OK(t, err)
	must.OK(t, child.Start())
	url, err := bufio.NewReader(out).ReadString('\n')
	must.OK(t, err)
	far := &bench{T: t, client: &http.Client{Transport: &http.Transport{}}, url: strings.TrimSpace(url), key: "sk_test_x"}
	answered := make(chan string, 1000)
	for caller := range 4 {
		go func() {
			defer func() { answered <- "" }()
			for i := 0; ; i++ {
				r, err := far.try("POST", "/v1/invitations", item(fmt.Sprintf("n%d.%d@example.com", caller, i)))
				if err != nil || r.status != 200 {
					return
				}
				answered <- fmt.Sprintf("n%d.%d@example.com", caller, i)
			}
		}()
	}
	var known []string
	for running := 4; running > 0; {
		address := <-answered
		if address == "" {
			running--
			continue
		}
		if known = append(known, address); len(known) == 300 {
			must.OK(t, child.Process.Kill())
		}
	}
	if err := child.Wait(); err == nil {
		t.Error("the process ended by itself")
	}
	s, err := New(Config{StateFile: state})
	must.OK(t, err)
	for _, address := range known {
		if s.state.mails[address] != 1 {
			t.Errorf("%s: %d mails in the state", address, s.state.mails[address])
		}
	}
	if extra := len(s.state.invitations) - len(known); extra < 0 || extra > 4 {
		t.Errorf("%d invitations beyond the %d answered; 4 callers", extra, len(known))
	}
	expect.OK(t, s.Close())
}

func serveUntilKilled(t *testing.T, path string) {
	s, err := New(Config{StateFile: path, Limits: Limits{Create: Limit{N: -1}}})
	must.OK(t, err)
	server := httptest.NewServer(s.Handler())
	fmt.Println(server.URL)
	<-t.Context().Done() // never: the parent kills this process
	server.Close()
}

func TestRecordsDoNotDependOnSettings(t *testing.T) {
	t.Parallel()
	c := Config{StateFile: filepath.Join(t.TempDir(), "state"), Switches: Switches{MailCap: 1, ThrottledCount: true}, Limits: Limits{Create: Limit{2, time.Hour}}}
	b := setup(t, c)
	b.sent(4)
	before := b.server.state
	next := b.restart(Config{StateFile: c.StateFile})
	if !reflect.DeepEqual(next.server.state.mails, before.mails) || !reflect.DeepEqual(next.server.state.byID, before.byID) {
		t.Error("other settings made another state")
	}
	same(t, "counted requests", len(next.server.state.windows[bucketCreate].times), 4)
}
