package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/cmd/internal/rig"
)

// rosterLines are those of rosters.
var rosterLines = []line{
	{"roster", "5,000 rows against 5,000: 300 gone, 200 new, 100 twice in the file: exactly those are taken back and invited", showRoster},
	{"killed", "the same, killed while it takes back, and given again: the same end", showRosterKilled},
	{"half-a-file", "half of the roster is missing: nothing is done", showHalfRoster},
}

// The roster of a show: people from 1, of whom the first are gone from the next
// version, which ends with the new ones and repeats some of the others.
const (
	rosterPeople = 5_000
	rosterGone   = 300
	rosterNew    = 200
	rosterTwice  = 100
)

// nextRoster is the people of the next version, and its rows.
func nextRoster() (people, rows []string) {
	people = crowd("roster", rosterPeople+rosterNew)[rosterGone:]
	rows = slices.Clone(people)
	for _, again := range people[:rosterTwice] {
		rows = append(rows, strings.ToUpper(again))
	}
	return people, rows
}

// adopt makes a batch of people who have an invitation at the sandbox, as if it
// had sent these; statuses are what the rows say of them, by address, and
// pending for the others.
func (s *stage) adopt(ctx context.Context, people []string, ids, statuses map[string]string) error {
	file := filepath.Join(s.dir, "adopted.csv")
	if err := os.WriteFile(file, []byte("email\n"+strings.Join(people, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	if _, err := s.call(ctx, "import", file, "--draft", "--yes", "--json", "--no-preflight"); err != nil {
		return err
	}
	rows := make([][]any, len(people))
	for i, p := range people {
		status := "pending"
		if said := statuses[p]; said != "" {
			status = said
		}
		rows[i] = []any{p, ids[p], status}
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `create temp table adopted (email text, id text, status text) on commit drop`); err != nil {
			return err
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"adopted"}, []string{"email", "id", "status"}, pgx.CopyFromRows(rows)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `update results r set outcome = 'invited', status = a.status, status_at = now() - interval '1 hour', decided_at = now() - interval '1 hour',
			clerk_invitation_id = a.id, invited_at = now() - interval '1 hour' from adopted a where a.email = r.email`)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `update batches set state = 'done', started_at = now(), finished_at = now(), rows = (select count(*) from results r where r.batch_id = batches.id) where state = 'draft'`)
		return err
	})
}

// call runs bulkinvite to its end, with the stage's limits where it sends.
func (s *stage) call(ctx context.Context, args ...string) ([]byte, error) {
	return rig.Call(ctx, s.bench.Binary, s.env, args...)
}

// seed is an invitation that is planted at the sandbox.
type seed struct {
	Email  string `json:"email"`
	Status string `json:"status,omitempty"`
	Age    string `json:"age,omitempty"`
}

// plant makes invitations at the sandbox and returns their ids by address.
func (s *stage) plant(ctx context.Context, seeds []seed) (map[string]string, error) {
	for part := range slices.Chunk(seeds, 10_000) {
		if err := s.standin.Post(ctx, "/sandbox/invitations", part); err != nil {
			return nil, err
		}
	}
	var all []invitation
	if err := s.standin.Get(ctx, "/sandbox/invitations", &all); err != nil {
		return nil, err
	}
	ids := make(map[string]string, len(all))
	for _, one := range all {
		ids[one.Email] = one.ID
	}
	return ids, nil
}

// onRoster runs f on a stage where the roster's first version was sent, and
// gives it the file of the next.
func (s *show) onRoster(ctx context.Context, rows []string, f func(st *stage, file string) error) error {
	return s.on(ctx, conditions{mode: "sliding", window: scaled}, func(st *stage) error {
		people := crowd("roster", rosterPeople)
		seeds := make([]seed, len(people))
		for i, p := range people {
			seeds[i].Email = p
		}
		ids, err := st.plant(ctx, seeds)
		if err != nil {
			return err
		}
		if err := st.adopt(ctx, people, ids, nil); err != nil {
			return err
		}
		file := filepath.Join(st.dir, "roster.csv")
		if err := os.WriteFile(file, []byte("email\n"+strings.Join(rows, "\n")+"\n"), 0o600); err != nil {
			return err
		}
		return f(st, file)
	})
}

// sendRoster is the command that sends the next version.
func (s *stage) sendRoster(file string) []string {
	return append([]string{"send", file, "--roster=1", "--yes", "--json"}, s.limits()...)
}

func showRoster(ctx context.Context, s *show) error {
	people, rows := nextRoster()
	return s.onRoster(ctx, rows, func(st *stage, file string) error {
		if _, err := st.call(ctx, st.sendRoster(file)...); err != nil {
			return err
		}
		return s.judgeRoster(ctx, st, people)
	})
}

// judgeRoster holds what happened at the sandbox against the people who should
// be invited now.
func (s *show) judgeRoster(ctx context.Context, st *stage, people []string) error {
	seen, err := st.standin.record(ctx)
	if err != nil {
		return err
	}
	open, taken := []string{}, map[string]bool{}
	for _, one := range seen.invitations {
		switch one.Status {
		case "pending":
			open = append(open, one.Email)
		case "revoked":
			taken[one.Email] = true
		}
	}
	slices.Sort(open)
	wrong := 0
	for _, gone := range crowd("roster", rosterGone) {
		if !taken[gone] {
			wrong++
		}
	}
	got := fmt.Sprintf("%s revoked, %d of them wrongly or not at all; %s pending", grouped(len(taken)), wrong+max(0, len(taken)-rosterGone), grouped(len(open)))
	s.verdict(len(taken) == rosterGone && wrong == 0 && slices.Equal(open, people), "taken back", "300 and no other", got)
	mailed := 0
	for _, fresh := range crowd("roster", rosterPeople+rosterNew)[rosterPeople:] {
		if seen.mailbox.Addresses[fresh] == 1 {
			mailed++
		}
	}
	s.verdict(mailed == rosterNew && seen.mailbox.Mails == rosterNew, "invited", "200 and no other",
		fmt.Sprintf("%d of the new, %d mails in all", mailed, seen.mailbox.Mails))
	s.verdict(seen.answered(429) == 0, "limits", "0 answers of 429", fmt.Sprint(seen.answered(429)))
	var sw struct {
		State                  string
		Stale, Revoked, Failed int
	}
	out, err := st.call(ctx, "sweep", "1", "--json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, &sw); err != nil {
		return err
	}
	s.verdict(sw.State == "done" && sw.Revoked+sw.Failed <= sw.Stale && sw.Failed == 0, "its sweep", "done, none failed", fmt.Sprintf("%s, %d revoked, %d failed", sw.State, sw.Revoked, sw.Failed))
	return nil
}

func showRosterKilled(ctx context.Context, s *show) error {
	people, rows := nextRoster()
	return s.onRoster(ctx, rows, func(st *stage, file string) error {
		for kill := range 3 {
			p, err := rig.Launch(ctx, st.bench.Binary, st.env, filepath.Join(st.dir, "send.log"), nil, st.sendRoster(file)...)
			if err != nil {
				return err
			}
			if err := st.standin.awaitCall(ctx, p, "revoke", 40*(kill+1)); err != nil {
				return err
			}
			if err := p.Kill(); err != nil {
				return err
			}
		}
		if _, err := st.call(ctx, st.sendRoster(file)...); err != nil {
			return err
		}
		return s.judgeRoster(ctx, st, people)
	})
}

// awaitCall returns once so many requests of a call have arrived, or the process
// that sends them has ended.
func (s *standin) awaitCall(ctx context.Context, p *rig.Process, call string, n int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var stats struct {
			Requests map[string]map[string]int
		}
		if err := s.Get(ctx, "/sandbox/stats", &stats); err != nil {
			return err
		}
		sum := 0
		for _, answered := range stats.Requests[call] {
			sum += answered
		}
		if sum >= n {
			return nil
		}
		select {
		case <-p.Over():
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func showHalfRoster(ctx context.Context, s *show) error {
	people, _ := nextRoster()
	return s.onRoster(ctx, people[:len(people)/2], func(st *stage, file string) error {
		_, err := st.call(ctx, st.sendRoster(file)...)
		seen, errSeen := st.standin.record(ctx)
		if errSeen != nil {
			return errSeen
		}
		open := 0
		for _, one := range seen.invitations {
			if one.Status == "pending" {
				open++
			}
		}
		refused := err != nil && strings.Contains(err.Error(), "exit status 4")
		s.verdict(refused && open == rosterPeople && seen.mailbox.Mails == 0, "2,550 are gone", "exit 4, nothing done", fmt.Sprintf("refused %v, %s still pending, %d mails", refused, grouped(open), seen.mailbox.Mails))
		return nil
	})
}
