package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/postgres"
)

// Clerk's limits on creates, per instance and hour, from the documentation of its Backend API.
const (
	Singles   = 100
	Bulks     = 25
	BulkSize  = 10
	PerWindow = Singles + Bulks*BulkSize // people
)

// Key is a key with which the sandbox acts as a production instance.
const Key = "sk_live_rig"

// Stage is the place of one run: a database, a sandbox and a directory.
type Stage struct {
	Conditions
	Rig     *Rig
	Dir     string
	Name    string // of the database
	URL     string // of the database
	Env     []string
	Pool    *pgxpool.Pool
	Sandbox *Sandbox
	Workers []*Process
}

// Conditions has the limits and flags for the programs of a stage.
type Conditions struct {
	Mode    string        // how the sandbox counts: "sliding" or "fixed"
	Window  time.Duration // window of the limits, in place of Clerk's hour; 0 for no limits
	Sandbox []string      // additional flags of the sandbox
	Worker  []string      // additional flags of import and work
}

// Limits returns the limits on creates, as flags for the sandbox and the workers.
func (c Conditions) Limits() []string {
	if c.Window == 0 {
		return []string{"--limit-create=none", "--limit-bulk=none", "--limit-general=none"}
	}
	return []string{
		fmt.Sprintf("--limit-create=%d/%s", Singles, c.Window), fmt.Sprintf("--limit-bulk=%d/%s", Bulks, c.Window),
	}
}

// Weight returns how long a request counts against its limit after its answer: the window and the
// ledger's margin.
func (c Conditions) Weight() time.Duration {
	return c.Window + max(c.Window/1000, 5*time.Millisecond)
}

// NewStage makes a stage that has only a directory. The caller closes it.
func (r *Rig) NewStage() (*Stage, error) {
	name := fmt.Sprintf("run_%d", r.stages.Add(1))
	s := &Stage{Rig: r, Name: name, Dir: filepath.Join(r.Dir, name)}
	return s, os.Mkdir(s.Dir, 0o711) // a private PostgreSQL may run as another user
}

// Connect sets the stage's database and opens a pool of three connections to it.
func (s *Stage) Connect(ctx context.Context, url string) (err error) {
	s.URL, s.Env = url, Environment(s.Dir, url, Key)
	s.Pool, err = postgres.Open(ctx, WithParameter(url, "pool_max_conns=3"))
	return err
}

// OpenSandbox starts the stage's sandbox and adds its URL to Env.
func (s *Stage) OpenSandbox(ctx context.Context, args ...string) (err error) {
	s.Sandbox, err = OpenSandbox(ctx, s.Rig.Binary, s.Env, filepath.Join(s.Dir, "sandbox.log"), args...)
	if err == nil {
		s.Env = append(s.Env, "CLERK_API_URL="+s.Sandbox.URL+"/v1")
	}
	return err
}

// Stage makes a stage with a migrated database and a sandbox. The caller closes it.
func (r *Rig) Stage(ctx context.Context, c Conditions) (_ *Stage, err error) {
	s, err := r.NewStage()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	s.Conditions = c
	url, err := r.Migrated(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	if err := s.Connect(ctx, url); err != nil {
		return nil, err
	}
	args := append([]string{"--window=" + c.Mode}, c.Limits()...)
	return s, s.OpenSandbox(ctx, append(args, c.Sandbox...)...)
}

// Close kills the processes, drops the database and removes the directory.
func (s *Stage) Close() error {
	err := s.Kill()
	if s.Sandbox != nil {
		err = errors.Join(err, s.Sandbox.Kill())
	}
	if s.Pool != nil {
		s.Pool.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(err, s.Rig.Drop(ctx, s.Name), os.RemoveAll(s.Dir))
}

// Call runs bulkinvite until it exits and returns its standard output. See [Call].
func (s *Stage) Call(ctx context.Context, args ...string) ([]byte, error) {
	return Call(ctx, s.Rig.Binary, s.Env, args...)
}

// Read runs bulkinvite with --json and decodes its standard output.
func (s *Stage) Read(ctx context.Context, into any, args ...string) error {
	out, err := s.Call(ctx, append(args, "--json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal(out, into)
}

// Launch starts bulkinvite and adds it to Workers, so that it ends with the stage.
func (s *Stage) Launch(ctx context.Context, args ...string) (*Process, error) {
	log := filepath.Join(s.Dir, fmt.Sprintf("%s-%d.log", args[0], len(s.Workers)))
	p, err := Launch(ctx, s.Rig.Binary, s.Env, log, nil, args...)
	if err == nil {
		s.Workers = append(s.Workers, p)
	}
	return p, err
}

// File writes a file with a row for each address and returns its path.
func (s *Stage) File(name string, people []string) (string, error) {
	path := filepath.Join(s.Dir, name)
	return path, os.WriteFile(path, []byte("email\n"+strings.Join(people, "\n")+"\n"), 0o600)
}

// Import imports a file with the addresses. When it returns, the jobs are in the queue.
func (s *Stage) Import(ctx context.Context, people []string) error {
	file, err := s.File("people.csv", people)
	if err != nil {
		return err
	}
	args := append([]string{"import", file, "--yes", "--json"}, s.Limits()...)
	_, err = s.Call(ctx, append(args, s.Worker...)...)
	return err
}

// Work starts workers that exit when nothing is left to do (--until-idle).
func (s *Stage) Work(ctx context.Context, processes int) error {
	args := append([]string{"work", "--until-idle", "--log-level=warn"}, s.Limits()...)
	for range processes {
		if _, err := s.Launch(ctx, append(args, s.Worker...)...); err != nil {
			return err
		}
	}
	return nil
}

// Wait waits until every worker has exited.
func (s *Stage) Wait(ctx context.Context) error {
	for _, p := range s.Workers {
		if err := p.Wait(ctx); err != nil {
			return err
		}
	}
	s.Workers = nil
	return nil
}

// Kill sends SIGKILL to every worker.
func (s *Stage) Kill() error {
	var err error
	for _, p := range s.Workers {
		err = errors.Join(err, p.Kill())
	}
	s.Workers = nil
	return err
}

// Whole returns an error unless batch 1 has exactly people rows as invited and none undecided, and
// each person got one mail.
func (s *Stage) Whole(ctx context.Context, people int) error {
	var status struct {
		Outcomes  map[string]int
		Undecided int
	}
	if err := s.Read(ctx, &status, append([]string{"status", "1"}, s.Limits()...)...); err != nil {
		return err
	}
	var box struct {
		Mails   int
		Doubled []string
	}
	if err := s.Sandbox.Get(ctx, "/sandbox/mailbox", &box); err != nil {
		return err
	}
	if status.Outcomes["invited"] != people || status.Undecided > 0 || box.Mails != people || len(box.Doubled) > 0 {
		return fmt.Errorf("of %d people: outcomes %v, %d undecided, %d mails, %d people with more than one",
			people, status.Outcomes, status.Undecided, box.Mails, len(box.Doubled))
	}
	return nil
}

// Crowd returns n addresses.
func Crowd(name string, n int) []string {
	people := make([]string, n)
	for i := range people {
		people[i] = fmt.Sprintf("%s.%06d@example.com", name, i+1)
	}
	return people
}

// Seed is an invitation or a user to add to the sandbox.
type Seed struct {
	Email  string `json:"email"`
	Status string `json:"status,omitempty"`
	Age    string `json:"age,omitempty"`
}

// Plant adds invitations to the sandbox and returns the ids of all its invitations by address.
func (s *Stage) Plant(ctx context.Context, seeds []Seed) (map[string]string, error) {
	for len(seeds) > 0 {
		n := min(len(seeds), 10_000)
		if err := s.Sandbox.Post(ctx, "/sandbox/invitations", seeds[:n]); err != nil {
			return nil, err
		}
		seeds = seeds[n:]
	}
	var all []Invitation
	if err := s.Sandbox.Get(ctx, "/sandbox/invitations", &all); err != nil {
		return nil, err
	}
	ids := make(map[string]string, len(all))
	for _, one := range all {
		ids[one.Email] = one.ID
	}
	return ids, nil
}

// Adopt makes a batch of people who have an invitation at the sandbox, as if the batch had sent
// them an hour ago. statuses has the rows' statuses by address; the default is pending.
func (s *Stage) Adopt(ctx context.Context, people []string, ids, statuses map[string]string) error {
	file, err := s.File("adopted.csv", people)
	if err != nil {
		return err
	}
	if _, err := s.Call(ctx, "import", file, "--draft", "--yes", "--json", "--no-preflight"); err != nil {
		return err
	}
	rows := make([][]any, len(people))
	for i, p := range people {
		rows[i] = []any{p, ids[p], statuses[p]}
	}
	return pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `create temp table adopted (email text, id text, status text) on commit drop`)
		if err != nil {
			return err
		}
		columns := []string{"email", "id", "status"}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"adopted"}, columns, pgx.CopyFromRows(rows)); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			update results r set outcome = 'invited', status = coalesce(nullif(a.status, ''), 'pending'),
			       status_at = h, decided_at = h, invited_at = h, clerk_invitation_id = a.id
			from adopted a, (select now() - interval '1 hour' as h) t where a.email = r.email`)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			update batches set state = 'done', started_at = now(), finished_at = now(),
			       rows = (select count(*) from results r where r.batch_id = batches.id)
			where state = 'draft'`)
		return err
	})
}

// StaleAfter is the age at which a sweep revokes an invitation.
const StaleAfter = 14 * 24 * time.Hour

// Age returns the age of the i-th invitation of [Stage.Pending]. Ages are spread over 28 days and
// at least half a day away from [StaleAfter].
func Age(i int) time.Duration {
	return time.Duration(i%28)*24*time.Hour + 12*time.Hour
}

// Pending adds n pending invitations to the sandbox, and a batch that sent them.
func (s *Stage) Pending(ctx context.Context, n int) error {
	people := Crowd("pending", n)
	seeds := make([]Seed, n)
	for i, p := range people {
		seeds[i] = Seed{Email: p, Age: Age(i).String()}
	}
	// A lost revoke is read back to the row's invited_at. An invitation that is older than that,
	// because the import below took long, is not found, and is revoked twice.
	planted := time.Now()
	ids, err := s.Plant(ctx, seeds)
	if err != nil {
		return err
	}
	if err := s.Adopt(ctx, people, ids, nil); err != nil {
		return err
	}
	_, err = s.Pool.Exec(ctx, `
		update results
		set invited_at = $1::timestamptz - (row_number - 1) % 28 * interval '1 day' - interval '12 hours'`, planted)
	return err
}
