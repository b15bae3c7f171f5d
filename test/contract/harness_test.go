package contract_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/postgres/postgrestest"
)

// Exit statuses of docs/contract.md.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRows        = 3
	exitHeld        = 4
	exitInterrupted = 130
)

// patience is the time limit of each step, also for a busy machine.
const patience = 3 * time.Minute

// binary is the path of the program, which is built once.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	parallel := false
	flag.Visit(func(f *flag.Flag) { parallel = parallel || f.Name == "test.parallel" })
	if !parallel {
		// The programs mostly wait: for each other and for windows.
		if err := flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0))); err != nil {
			panic(err) // the testing package defines the flag
		}
	}
	// A child inherits ignored signals, so none of these may be ignored here. With a handler they
	// are not.
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	dir, err := os.MkdirTemp("", "bulkinvite-contract-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // the private PostgreSQL may run as another user
	}
	if err == nil {
		binary = filepath.Join(dir, "bulkinvite")
		err = build(binary)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "before the tests:", err)
		os.Exit(1)
	}
	postgrestest.Main(m, func() error { return os.RemoveAll(dir) })
}

// build builds the program. It first reads the state of each file of the module. go test then knows
// that the result depends on these files, and does not reuse a cached result after a change.
func build(to string) error {
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil && len(d.Name()) > 2 && strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir
			}
			return err
		}
		_, err = os.Stat(path)
		return err
	})
	if err != nil {
		return fmt.Errorf("look at the program's files: %w", err)
	}
	out, err := exec.Command("go", "build", "-o", to, "bulkinvite/cmd/bulkinvite").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return nil
}

// A bench is the environment in which a check runs the program: a data directory, a database and
// variables. It has none of the caller's variables except PATH.
type bench struct {
	*check
	env []string
	dir string // data directory
	cwd string // working directory
	url string // URL of the database
}

// bench returns a bench with a new database and data directory and without a key.
func (c *check) bench(env ...string) *bench {
	c.Helper()
	b := &bench{check: c, dir: c.TempDir(), cwd: c.TempDir(), url: postgrestest.URL(c)}
	b.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.TempDir(), "TMPDIR=" + c.TempDir(), "TZ=UTC",
		"BULKINVITE_DATA_DIR=" + b.dir, "DATABASE_URL=" + b.url}
	return b.with(env...)
}

// with returns a copy of the bench with more variables, as NAME=VALUE. They replace earlier ones.
// NAME alone unsets a variable.
func (b *bench) with(env ...string) *bench {
	other := *b
	other.env = slices.Clone(b.env)
	for _, pair := range env {
		name, _, set := strings.Cut(pair, "=")
		other.env = slices.DeleteFunc(other.env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
		if set {
			other.env = append(other.env, pair)
		}
		switch {
		case name == "BULKINVITE_DATA_DIR" && set:
			other.dir = strings.TrimPrefix(pair, name+"=")
		case name == "DATABASE_URL" && set:
			other.url = strings.TrimPrefix(pair, name+"=")
		}
		b.trace.add(pair)
	}
	return &other
}

// sql returns a pool of connections to the bench's database.
func (b *bench) sql() *pgxpool.Pool {
	b.Helper()
	pool, err := pgxpool.New(b.Context(), b.url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	return pool
}

// count returns the number that a query returns.
func (b *bench) count(sql string, args ...any) (n int) {
	b.Helper()
	b.trace.add(sql)
	if err := b.sql().QueryRow(b.Context(), sql, args...).Scan(&n); err != nil {
		b.Fatalf("%s: %v", sql, err)
	}
	return n
}

// awaits waits until a query returns the number want.
func (b *bench) awaits(want int, sql string, args ...any) {
	b.Helper()
	b.trace.add(sql)
	pool := b.sql()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		var n int
		if err := pool.QueryRow(b.Context(), sql, args...).Scan(&n); err != nil {
			b.Fatalf("%s: %v", sql, err)
		}
		if n == want {
			return
		}
		if time.Since(began) > patience {
			b.Fatalf("%s: %d, want %d", sql, n, want)
		}
	}
}

// exec runs a statement with the triggers disabled that protect evidence. It is for states that
// nothing else brings about in the time of a test.
func (b *bench) exec(sql string, args ...any) {
	b.Helper()
	b.trace.add(sql)
	postgrestest.Plant(b, b.sql(), sql, args...)
}

// file writes a file and returns its path.
func (b *bench) file(name, text string) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// people writes a file with the given addresses and returns its path.
func (b *bench) people(addresses ...string) string {
	b.Helper()
	return b.file("people.csv", "email\n"+strings.Join(addresses, "\n")+"\n")
}

// some returns n addresses that begin with a name.
func some(name string, n int) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("%s%03d@example.com", name, i))
	}
	return list
}

// outcome is the result of a run of the program.
type outcome struct {
	check    *check
	args     []string
	exit     int
	out, err string
}

// command prepares a run of the program, which is killed after patience.
func (b *bench) command(args ...string) *exec.Cmd {
	b.trace.add("bulkinvite " + strings.Join(args, " "))
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	b.Cleanup(cancel)
	c := exec.CommandContext(ctx, binary, args...)
	c.Env = b.env
	c.Dir = b.cwd
	return c
}

// run runs the program without a terminal and with empty standard input.
func (b *bench) run(args ...string) outcome {
	b.Helper()
	return b.runWith("", args...)
}

// runWith is run with a text on standard input.
func (b *bench) runWith(stdin string, args ...string) outcome {
	b.Helper()
	c := b.command(args...)
	c.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		b.Fatal(err)
	}
	o := outcome{b.check, args, c.ProcessState.ExitCode(), out.String(), errs.String()}
	if !slices.Contains(args, "--help") && (len(args) == 0 || args[0] != "help") {
		// Help names everything, so it proves nothing.
		b.trace.add(fmt.Sprintf("exit status\n%d\n%s\n%s", o.exit, o.out, o.err))
	}
	return o
}

// want fails the test unless the exit status is exit.
func (o outcome) want(exit int) outcome {
	o.check.Helper()
	if o.exit != exit {
		o.check.Fatalf(
			"bulkinvite %s: exit status %d, want %d\nstdout: %s\nstderr: %s",
			strings.Join(o.args, " "),
			o.exit,
			exit,
			o.out,
			o.err,
		)
	}
	return o
}

// says fails the test unless the output or the errors of the run contain a text.
func (o outcome) says(text string) outcome {
	o.check.Helper()
	if !strings.Contains(o.out+o.err, text) {
		o.check.Errorf(
			"bulkinvite %s: does not say %q\nstdout: %s\nstderr: %s",
			strings.Join(o.args, " "),
			text,
			o.out,
			o.err,
		)
	}
	return o
}

// doc decodes standard output, which must be exactly one JSON document.
func (o outcome) doc() any {
	o.check.Helper()
	return decode(o.check, o.out)
}

// object is doc for a document that must be an object.
func (o outcome) object() object {
	o.check.Helper()
	return asObject(o.check, o.doc())
}

// objects is doc for a document that must be an array of objects.
func (o outcome) objects() []object {
	o.check.Helper()
	return asObjects(o.check, o.doc())
}

// refused fails the test unless the run, which needs --json, ended with the exit status and printed
// one JSON document of an error with the code. It returns the error.
func (o outcome) refused(exit int, code string) object {
	o.check.Helper()
	o.want(exit)
	e := asObject(o.check, o.object()["error"])
	e.has(o.check, "code string, message string, remedy string")
	if e["code"] != code {
		o.check.Errorf("bulkinvite %s: code %v, want %s", strings.Join(o.args, " "), e["code"], code)
	}
	return e
}

// An object is a JSON object. Its numbers are json.Number.
type object map[string]any

// decode decodes exactly one JSON document. It fails if an object has a key twice, since parsers
// disagree about such an object.
func decode(t testing.TB, text string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	doc, err := decodeValue(d)
	if err != nil {
		t.Fatalf("no JSON: %v\n%s", err, text)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Fatalf("more than one JSON document: %s", text)
	}
	return doc
}

func decodeValue(d *json.Decoder) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		o := object{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			name, _ := key.(string)
			if _, twice := o[name]; twice {
				return nil, fmt.Errorf("the key %q stands twice", name)
			}
			if o[name], err = decodeValue(d); err != nil {
				return nil, err
			}
		}
		_, err = d.Token()
		return o, err
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := decodeValue(d)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = d.Token()
		return list, err
	}
	return t, nil
}

func asObject(t testing.TB, v any) object {
	t.Helper()
	o, ok := v.(object)
	if !ok {
		t.Fatalf("%v is no JSON object", v)
	}
	return o
}

func asObjects(t testing.TB, v any) []object {
	t.Helper()
	list, ok := v.([]any)
	if !ok {
		t.Fatalf("%v is no JSON array", v)
	}
	objects := []object{}
	for _, one := range list {
		objects = append(objects, asObject(t, one))
	}
	return objects
}

// object returns the object at a key.
func (o object) object(t testing.TB, key string) object {
	t.Helper()
	return asObject(t, o[key])
}

// int returns the integer at a key.
func (o object) int(t testing.TB, key string) int {
	t.Helper()
	number, ok := o[key].(json.Number)
	n, err := number.Int64()
	if !ok || err != nil {
		t.Fatalf("%s is %v, which is no whole number (%v)", key, o[key], err)
	}
	return int(n)
}

// has fails the test unless the object has exactly these keys with these types, such as "batch int,
// eta time|null". The types are int, number, string, bool, null, time (RFC 3339 in UTC), object,
// array and any.
func (o object) has(t testing.TB, keys string) {
	t.Helper()
	want := map[string]string{}
	for pair := range strings.SplitSeq(keys, ",") {
		name, kinds, ok := strings.Cut(strings.TrimSpace(pair), " ")
		if !ok {
			t.Fatalf("%q has no type", pair)
		}
		want[name] = kinds
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		value, there := o[name]
		if !there {
			t.Errorf("the key %q is missing in %v", name, o)
		} else if !slices.ContainsFunc(strings.Split(want[name], "|"), func(kind string) bool { return isKind(value, kind) }) {
			t.Errorf("%s is %v, not %s", name, value, want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if _, known := want[name]; !known {
			t.Errorf("the page has no key %q, which is in %v", name, o)
		}
	}
}

func isKind(v any, kind string) bool {
	switch v := v.(type) {
	case nil:
		return kind == "null" || kind == "any"
	case json.Number:
		_, err := v.Int64()
		return kind == "number" || kind == "int" && err == nil || kind == "any"
	case string:
		at, err := time.Parse(time.RFC3339, v)
		return kind == "string" || kind == "time" && err == nil && at.Location() == time.UTC || kind == "any"
	case bool:
		return kind == "bool" || kind == "any"
	case object:
		return kind == "object" || kind == "any"
	case []any:
		return kind == "array" || kind == "any"
	}
	return false
}

// A process is a running program.
type process struct {
	*bench
	*exec.Cmd
	mu       sync.Mutex
	out, err strings.Builder
	more     chan struct{} // signals that something was written
	done     chan struct{} // closed when the process has ended
}

// start starts the program, which is killed at the end of the test.
func (b *bench) start(args ...string) *process {
	b.Helper()
	p := &process{bench: b, Cmd: b.command(args...), more: make(chan struct{}, 1), done: make(chan struct{})}
	out, err := p.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	errs, err := p.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := p.Start(); err != nil {
		b.Fatal(err)
	}
	var heard sync.WaitGroup
	heard.Go(func() { p.hear(out, &p.out) })
	heard.Go(func() { p.hear(errs, &p.err) })
	go func() {
		heard.Wait()
		_ = p.Cmd.Wait() // wait reads the exit status
		close(p.done)
	}()
	b.Cleanup(func() {
		_ = p.Process.Kill() // an error means that it has ended
		<-p.done
	})
	return p
}

func (p *process) hear(from io.Reader, to *strings.Builder) {
	for lines := bufio.NewReader(from); ; {
		line, err := lines.ReadString('\n')
		p.mu.Lock()
		to.WriteString(line)
		p.mu.Unlock()
		p.trace.add(line)
		select {
		case p.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// wrote returns what the process has written so far.
func (p *process) wrote() (out, errs string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String(), p.err.String()
}

// await waits until the process has written a text.
func (p *process) await(text string) {
	p.Helper()
	late := time.After(patience)
	for {
		out, errs := p.wrote()
		if strings.Contains(out+errs, text) {
			return
		}
		select {
		case <-p.more:
		case <-p.done:
			if out, errs = p.wrote(); !strings.Contains(out+errs, text) {
				p.Fatalf("it ended without %q:\n%s%s", text, out, errs)
			}
		case <-late:
			p.Fatalf("it never wrote %q:\n%s%s", text, out, errs)
		}
	}
}

// end sends a signal, waits until the process has ended, and returns its result.
func (p *process) end(signal syscall.Signal) outcome {
	p.Helper()
	if err := p.Process.Signal(signal); err != nil {
		p.Fatal(err)
	}
	return p.wait()
}

// wait waits until the process has ended, and returns its result.
func (p *process) wait() outcome {
	p.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.Fatal("it does not end")
	}
	out, errs := p.wrote()
	return outcome{p.check, p.Args[1:], p.ProcessState.ExitCode(), out, errs}
}

// A clerk is a running `bulkinvite sandbox`.
type clerk struct {
	*process
	url string // for CLERK_API_URL
}

// clerk starts the sandbox as a server on a free port.
func (c *check) clerk(args ...string) *clerk {
	c.Helper()
	b := &bench{check: c, dir: c.TempDir(), env: []string{"HOME=" + c.TempDir(), "PATH=" + os.Getenv("PATH")}}
	args = append([]string{"sandbox", "--listen", "127.0.0.1:0", "--data-dir", b.dir}, args...)
	p := b.start(args...)
	p.await("/v1\n")
	out, _ := p.wrote()
	return &clerk{p, strings.TrimSpace(out)}
}

// env returns the variables with which the program uses this sandbox. A key `sk_test_…` makes it a
// development instance, `sk_live_…` a production instance.
func (k *clerk) env(key string) []string {
	return []string{"CLERK_API_URL=" + k.url, "CLERK_SECRET_KEY=" + key, "BULKINVITE_SETTLE=1ms"}
}

// stage starts a sandbox and returns it with a bench that uses it.
func (c *check) stage(key string, args ...string) (*clerk, *bench) {
	c.Helper()
	k := c.clerk(args...)
	return k, c.bench(k.env(key)...)
}

// standing returns the number of invitations by status and address. A key is, for example, "pending
// a@example.com".
func (k *clerk) standing() map[string]int {
	k.Helper()
	all := map[string]int{}
	for _, one := range asObjects(k.check, k.ask(http.MethodGet, "/sandbox/invitations", "")) {
		all[fmt.Sprint(one["status"], " ", one["email"])]++
	}
	return all
}

// pending fails the test unless exactly these addresses have pending invitations.
func (k *clerk) pending(want ...string) {
	k.Helper()
	got := []string{}
	for one := range k.standing() {
		if address, ok := strings.CutPrefix(one, "pending "); ok {
			got = append(got, address)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		k.Errorf("pending at Clerk: %v, want %v", got, want)
	}
}

// ask calls one of the sandbox's own endpoints, such as GET /sandbox/mailbox.
func (k *clerk) ask(method, path, body string) any {
	k.Helper()
	status, text := request(k.check, method, strings.TrimSuffix(k.url, "/v1")+path, nil, body)
	if status >= 300 {
		k.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	if text == "" {
		return nil
	}
	return decode(k.check, text)
}

// mails returns the number of mails by address.
func (k *clerk) mails() map[string]int {
	k.Helper()
	box := asObject(k.check, k.ask(http.MethodGet, "/sandbox/mailbox", ""))
	got := map[string]int{}
	for address := range box.object(k.check, "addresses") {
		got[address] = box.object(k.check, "addresses").int(k.check, address)
	}
	return got
}

// request sends a request and returns the status and the text of the answer. It reads only the
// first event of a stream, because streams do not end.
func request(c *check, method, url string, header http.Header, body string) (int, string) {
	c.Helper()
	status, _, text := exchange(c, method, url, header, body)
	return status, text
}

// noRedirects returns a redirect as the answer instead of following it.
var noRedirects = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// exchange is request, with the header of the answer.
func exchange(c *check, method, url string, header http.Header, body string) (int, http.Header, string) {
	c.Helper()
	r, err := http.NewRequestWithContext(c.Context(), method, url, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	maps.Copy(r.Header, header)
	answer, err := noRedirects.Do(r)
	if err != nil {
		c.Fatal(err)
	}
	defer answer.Body.Close() // it was only read
	var text []byte
	if answer.Header.Get("Content-Type") == "text/event-stream" {
		for lines := bufio.NewReader(answer.Body); err == nil && !bytes.HasSuffix(text, []byte("\n\n")); {
			var line []byte
			line, err = lines.ReadBytes('\n')
			text = append(text, line...)
		}
	} else {
		text, err = io.ReadAll(answer.Body)
	}
	if err != nil {
		c.Fatalf("%s %s: %v", method, url, err)
	}
	for name, list := range header {
		if name != "Authorization" {
			c.trace.add(name + ": " + strings.Join(list, ", "))
		}
	}
	c.trace.add(
		fmt.Sprintf(
			"%s %s\n%s\n%d\n%s\n%s",
			method,
			r.URL.RequestURI(),
			body,
			answer.StatusCode,
			answer.Header.Get("Content-Type"),
			text,
		),
	)
	return answer.StatusCode, answer.Header, string(text)
}

// A server is a running `bulkinvite serve`.
type server struct {
	*process
	base  string // http://127.0.0.1:PORT
	token string // an operator's token
}

// serve starts the server on a free port, without users.
func (b *bench) serve(args ...string) *server {
	b.Helper()
	made := b.run("token", "create", "contract", "--role", "operator", "--json").want(exitOK).object()
	token, _ := made["token_text"].(string)
	p := b.start(append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	p.await("/login")
	_, errs := p.wrote()
	base := errs[:strings.Index(errs, "/login")]
	return &server{p, base[strings.LastIndex(base, "http://"):], token}
}

// ask calls the API with the operator's token.
func (s *server) ask(method, path, body string) (int, string) {
	s.Helper()
	return request(s.check, method, s.base+path, http.Header{"Authorization": {"Bearer " + s.token}}, body)
}

// get returns the document at a path. The answer must be 200.
func (s *server) get(path string) any {
	s.Helper()
	status, text := s.ask(http.MethodGet, path, "")
	if status != http.StatusOK {
		s.Fatalf("GET %s: %d %s", path, status, text)
	}
	return decode(s.check, text)
}
