package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/app"
	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/postgres"
	"bulkinvite/internal/report"
	"bulkinvite/jobs"
	"bulkinvite/ratelimit"
)

// The stand-in inside the program has an instance of its own, so that a
// rehearsal is never taken for the real thing.
const (
	sandboxInstance = "sandbox"
	sandboxKey      = "sk_test_sandbox"
)

// maxKeyFile is more than any key is long, in bytes.
const maxKeyFile = 4 << 10

// target is whom a command talks to.
type target struct {
	api         *clerk.Client
	clerkID     string // the instance, as instances.clerk_id has it
	formerID    string // what an earlier version may have called it in instances.clerk_id; empty: nothing else
	environment string // production, development or sandbox
	live        bool   // the key is a live one
}

// real reports whether mail may reach people.
func (t *target) real() bool { return t.live || t.environment == "production" }

// String names the target as the plan shows it.
func (t *target) String() string {
	if t.environment == sandboxInstance {
		return "the sandbox inside the program; nothing leaves this machine"
	}
	s := t.environment + " instance " + t.clerkID
	if t.live {
		s += " (live key)"
	}
	return s
}

// connect finds out which instance the key belongs to. It asks Clerk before anything is written,
// so that a bad key is known at once.
func (p *program) connect(ctx context.Context) (*target, error) {
	if p.settings.Sandbox {
		return p.connectSandbox()
	}
	key, err := p.clerkKey()
	if err != nil {
		return nil, err
	}
	api, err := p.client(clerk.Config{Key: key, URL: p.settings.ClerkURL})
	if err != nil {
		return nil, err
	}
	answer := p.askInstance(ctx, api)
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), errInterrupted) {
		return nil, errInterrupted
	}
	if answer.Class != clerk.Success {
		return nil, p.instanceFailure(answer.Answer)
	}
	return &target{
		api: api, live: api.Live(), environment: answer.Environment,
		clerkID: answer.ID, formerID: "key:" + clerk.Fingerprint(key),
	}, nil
}

// ensure returns the target's row in instances. It makes one the first time, and takes over the
// row that an earlier version made under the key's fingerprint.
func (t *target) ensure(ctx context.Context, pool *pgxpool.Pool) (invitation.Instance, error) {
	if t.formerID != "" {
		if err := batch.AdoptInstance(ctx, pool, t.clerkID, t.formerID); err != nil {
			return invitation.Instance{}, twoInstances(err)
		}
	}
	return batch.EnsureInstance(ctx, pool, t.clerkID, t.environment)
}

// connection is an instance of Clerk, and the database that knows it.
type connection struct {
	*program
	target   *target
	pool     *pgxpool.Pool
	instance invitation.Instance // its row
	limits   invitation.Limits   // its own
}

// connection finds out which instance the key belongs to, opens the database, and finds or makes
// the instance's row in it.
func (p *program) connection(ctx context.Context) (*connection, error) {
	t, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	pool, err := p.database(ctx)
	if err != nil {
		return nil, err
	}
	c := &connection{program: p, target: t, pool: pool, limits: p.limits(t.environment)}
	c.instance, err = t.ensure(ctx, c.pool)
	return c, err
}

// app returns the use cases that the page and the API share, for the key's instance.
func (c *connection) app() *app.App {
	return &app.App{Pool: c.pool, Instance: c.instance, Real: c.target.real()}
}

// batchOf finds a batch of the instance.
func (c *connection) batchOf(ctx context.Context, number int64) (*invitation.Batch, error) {
	b, err := c.app().Batch(ctx, number)
	return b, otherBatch(noBatch(err))
}

// otherBatch says what to do where a batch belongs to another instance than the key.
func otherBatch(err error) error {
	return otherInstance(err, "use the key that it was sent with, or --sandbox for a rehearsal")
}

// otherInstance says what to do where something belongs to another instance than the key. It
// leaves other errors as they are.
func otherInstance(err error, remedy string) error {
	var other *app.OtherInstanceError
	if !errors.As(err, &other) {
		return err
	}
	return &failure{exit: exitUsage, code: "other_instance", err: err, remedy: remedy}
}

// useOwnKey is the remedy for what belongs to another instance.
const useOwnKey = "use the key of the instance that it belongs to"

// keyRefused says what to do where a worker's key is good no more. It leaves other errors as they
// are. what begins the message.
func keyRefused(err error, remedy, what string) error {
	if !errors.Is(err, jobs.ErrUnauthorized) {
		return err
	}
	return fail(exitFailed, "clerk_key", remedy, "%s%w", what, err)
}

// find returns the number of the target's row in instances, 0 where there is none. It changes
// nothing: former says that the row still has the key's fingerprint for its id.
func (t *target) find(ctx context.Context, pool *pgxpool.Pool) (id int64, former bool, err error) {
	before, err := batch.FormerInstance(ctx, pool, t.clerkID, t.formerID)
	if err != nil {
		return 0, false, twoInstances(err)
	}
	id, known, err := report.InstanceByClerkID(ctx, pool, t.clerkID)
	if err == nil && !known && before != 0 {
		return before, true, nil
	}
	return id, false, err
}

// twoInstances says what to do where a database has the key's instance twice.
func twoInstances(err error) error {
	var two *invitation.TwoInstancesError
	if !errors.As(err, &two) {
		return err
	}
	return &failure{exit: exitHeld, code: "two_instances", err: err, remedy: fmt.Sprintf(
		"see docs/keys.md, \"One key, two instances\". Once nothing of the other is pending, retire it: "+
			"update instances set clerk_id = 'retired:' || clerk_id where id = %d", two.FormerID)}
}

// askInstance asks Clerk who it is. Workers may be using the whole limit, which
// this request is not counted in, since it is not known yet whose that is: a 429
// is waited out, some times.
func (p *program) askInstance(ctx context.Context, api *clerk.Client) clerk.InstanceAnswer {
	const tries, longest = 5, 30 * time.Second
	for try := 1; ; try++ {
		within, cancel := context.WithTimeout(ctx, p.settings.RequestTimeout)
		answer := api.Instance(within)
		cancel()
		if answer.Class != clerk.Throttled || try == tries {
			return answer
		}
		wait := min(max(answer.RetryAfter, time.Second), longest)
		p.log.Warn("Clerk answered 429 to who it is", "again_in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return answer
		}
	}
}

// instanceFailure says why it is not known which instance the key belongs to.
func (p *program) instanceFailure(a clerk.Answer) error {
	switch {
	case a.Class == clerk.Unauthorized:
		return fail(exitFailed, "clerk_key", "take the secret key from Clerk's dashboard, API keys, and set "+keyVariable,
			"Clerk refuses the key (%d %s)", a.Status, a.Code)
	case a.Status == 0:
		return fail(exitFailed, "clerk_unreachable", "see that this machine reaches the network, and that --clerk-url is right; nothing was sent",
			"Clerk can't be reached at %s: %s", p.settings.ClerkURL, a.Code)
	case a.Class == clerk.Throttled || a.Status >= http.StatusInternalServerError:
		return fail(exitFailed, "clerk", "try again later; nothing was sent",
			"Clerk at %s does not say which instance it is: %d %s", p.settings.ClerkURL, a.Status, a.Code)
	}
	remedy := "set CLERK_API_URL (--clerk-url) to " + clerk.DefaultURL +
		", or leave it unset; a proxy in between must pass GET /instance on; nothing was sent"
	if !strings.HasSuffix(strings.TrimRight(p.settings.ClerkURL, "/"), "/v1") {
		remedy = "CLERK_API_URL (--clerk-url) needs the /v1 at its end: " + clerk.DefaultURL + "; nothing was sent"
	}
	return fail(exitFailed, "not_clerk", remedy,
		"%s is not Clerk's Backend API: it answered GET /instance with status %d, content type %s, code %s",
		p.settings.ClerkURL, a.Status, cmp.Or(a.ContentType, "none"), a.Code)
}

// client makes the adapter that logs and counts what it calls.
func (p *program) client(config clerk.Config) (*clerk.Client, error) {
	config.Log, config.Answered = p.log, p.requests.Answered
	api, err := clerk.New(config)
	switch {
	case errors.Is(err, clerk.ErrKey):
		return nil, fail(exitFailed, "clerk_key", "take the secret key from Clerk's dashboard, API keys", "what is given as Clerk's key is none: it begins with sk_test_ or sk_live_")
	case errors.Is(err, clerk.ErrInsecureURL):
		return nil, fail(exitUsage, "clerk_url", "use https://; http:// is for 127.0.0.1 and localhost only", "--clerk-url: %w", err)
	case err != nil:
		return nil, fail(exitUsage, "clerk_url", "give it as https://api.clerk.com/v1", "--clerk-url: %w", err)
	}
	return api, nil
}

// clerkKey reads the key from the file that was named, else from the environment.
func (p *program) clerkKey() (string, error) {
	if p.settings.ClerkKeyFile == "" {
		if key := strings.TrimSpace(os.Getenv(keyVariable)); key != "" {
			return key, nil
		}
		return "", fail(exitFailed, "clerk_key", "set "+keyVariable+" or name --clerk-key-file FILE; --sandbox rehearses without one", "Clerk's secret key is missing")
	}
	f, err := os.Open(p.settings.ClerkKeyFile)
	if err != nil {
		return "", fail(exitFailed, "clerk_key", "see that the file is there and may be read", "read --clerk-key-file: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read --clerk-key-file: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		p.log.Warn("others on this machine may read the key's file; chmod 600 closes it", "file", p.settings.ClerkKeyFile)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return "", fail(exitFailed, "clerk_key", "see that the file is there and may be read", "read --clerk-key-file: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// sandboxState is the file in which the stand-in keeps its state, whether it
// runs inside the program or as a server.
func (p *program) sandboxState() (string, error) {
	dir, err := p.settings.directory()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "sandbox")
	file := filepath.Join(dir, "state.jsonl")
	// Looked at before anything is made, and again, since it may be only now that it exists.
	if err := postgres.OnlyRootWrites(dir); err != nil {
		return "", err
	}
	if err := makeDirectories(dir); err != nil {
		return "", fail(exitFailed, "data_dir", "name another: --data-dir DIR", "make the sandbox's directory: %w", err)
	}
	return file, postgres.OnlyRootWrites(file)
}

// makeDirectories is os.MkdirAll, but what it makes as root can be entered by
// others whatever the umask: the private PostgreSQL, which lies below the same
// data directory, then runs as another user. What is there is left as it is.
func makeDirectories(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDirectories(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) { // by another program, meanwhile
			return nil
		}
		return err
	}
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chmod(dir, 0o755)
}

// connectSandbox starts the sandbox inside the program, where nobody else can
// call it. Its limits are those that the program keeps.
func (p *program) connectSandbox() (*target, error) {
	state, err := p.sandboxState()
	if err != nil {
		return nil, err
	}
	p.step("Starting the sandbox")
	config := sandbox.Demo()
	config.StateFile = state
	config.Log = p.log
	limits := p.limits(sandboxInstance)
	config.Limits = sandbox.Limits{
		Create: sandboxLimit(limits.Create), Bulk: sandboxLimit(limits.Bulk), General: sandboxLimit(limits.General),
	}
	stand, err := p.openSandbox(config)
	if err != nil {
		return nil, err
	}
	listener := &memoryListener{accept: make(chan net.Conn), closed: make(chan struct{})}
	p.serveOn("the sandbox", listener, stand.Handler())
	api, err := p.client(clerk.Config{Key: sandboxKey, URL: "http://localhost/v1", Dial: listener.dial})
	if err != nil {
		return nil, err
	}
	return &target{api: api, clerkID: sandboxInstance, environment: sandboxInstance}, nil
}

// openSandbox makes a sandbox that is closed when the program ends.
func (p *program) openSandbox(config sandbox.Config) (*sandbox.Server, error) {
	stand, err := sandbox.New(config)
	if err != nil {
		return nil, sandboxFailure(err)
	}
	p.onClose(stand.Close)
	return stand, nil
}

// listen has what serves on an address until the program ends, and returns the
// address, whose port the system may have chosen.
func (p *program) listen(what, address string, handler http.Handler) (net.Addr, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fail(exitFailed, "listen", "name an address that is free, such as 127.0.0.1:8092", "start %s: %w", what, err)
	}
	p.serveOn(what, listener, handler)
	return listener.Addr(), nil
}

// serveOn serves what connects to a listener until the program ends.
func (p *program) serveOn(what string, listener net.Listener, handler http.Handler) {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	p.onClose(server.Close)
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			p.log.Error(what+" stopped serving", "error", err)
		}
	}()
}

func sandboxLimit(l ratelimit.Limit) sandbox.Limit {
	switch {
	case l.None:
		return sandbox.Limit{N: -1}
	case l.Off:
		return sandbox.Limit{} // Clerk's own, since nobody calls it
	}
	return sandbox.Limit{N: l.N, Window: l.Window}
}
