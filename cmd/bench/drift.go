package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"bulkinvite/cmd/internal/rig"
)

// driftLines are those of reconciling.
var driftLines = []line{
	{"drift", "100,000 invitations: at most 210 requests, every status learned, drift planted by hand all found, and nothing else", showDrift},
}

// What is planted: so many invitations at Clerk in all.
const (
	atClerk      = 100_000
	unexplained  = 700 // of any status, with no row
	gone         = 300 // of a row, and not at Clerk
	pendingAgain = 50  // over by the row
)

func showDrift(ctx context.Context, s *show) error {
	return s.on(ctx, conditions{mode: "sliding", window: scaled}, func(st *stage) error {
		people, planted, truth, err := st.plantDrift(ctx)
		if err != nil {
			return err
		}
		for _, which := range []string{"first", "again"} {
			r, err := st.reconcile(ctx)
			if err != nil {
				return err
			}
			s.verdict(r.Complete && r.Requests <= 210 && r.Scanned == atClerk, which+": requests", "at most 210", fmt.Sprintf("%d for %s invitations; %d MiB", r.Requests, grouped(r.Scanned), r.memory>>20))
			found, err := st.drift(ctx)
			if err != nil {
				return err
			}
			s.verdict(maps.Equal(found, planted), which+": drift", grouped(len(planted))+" planted, all found", fmt.Sprintf("%s found, %d wrongly or not", grouped(len(found)), differ(found, planted)))
		}
		rows, err := st.statuses(ctx)
		if err != nil {
			return err
		}
		s.verdict(maps.Equal(rows, truth), "statuses", grouped(len(people))+" as Clerk has them", fmt.Sprintf("%d wrong", differ(rows, truth)))
		return nil
	})
}

// differ counts in how many places two maps are not the same.
func differ(a, b map[string]string) int {
	n := 0
	for key, value := range a {
		if b[key] != value {
			n++
		}
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			n++
		}
	}
	return n
}

// plantDrift makes invitations of every status with rows that say pending, and
// drift of every kind. It returns the people of the rows, the drift by
// invitation, and what each row must say in the end.
func (s *stage) plantDrift(ctx context.Context) (people []string, planted, truth map[string]string, err error) {
	ours := crowd("ours", atClerk-unexplained)
	said := []string{"", "", "accepted", "revoked"} // by turns; empty: pending
	seeds := make([]seed, 0, atClerk)
	for i, p := range ours {
		seeds = append(seeds, seed{Email: p, Status: said[i%len(said)]})
	}
	for i, p := range crowd("stranger", unexplained) {
		seeds = append(seeds, seed{Email: p, Status: said[i%len(said)]})
	}
	ids, err := s.plant(ctx, seeds)
	if err != nil {
		return nil, nil, nil, err
	}
	planted, truth = map[string]string{}, map[string]string{}
	for _, p := range crowd("stranger", unexplained) {
		planted[ids[p]] = "unexplained"
	}
	lost := crowd("lost", gone)
	for i, p := range lost {
		ids[p] = fmt.Sprintf("inv_gone_%d", i)
		planted[ids[p]], truth[p] = "gone", "pending"
	}
	statuses := map[string]string{}
	for i, p := range ours {
		truth[p] = said[i%len(said)]
		if truth[p] == "" {
			truth[p] = "pending"
		}
		if i < pendingAgain*len(said) && i%len(said) == 0 {
			statuses[p], truth[p], planted[ids[p]] = "revoked", "revoked", "pending_again"
		}
	}
	people = append(ours, lost...)
	return people, planted, truth, s.adopt(ctx, people, ids, statuses)
}

// reconciled is what bulkinvite says of a reconciling, and the memory it took, in bytes.
type reconciled struct {
	Complete          bool
	Requests, Scanned int
	memory            int64
}

func (s *stage) reconcile(ctx context.Context) (r reconciled, err error) {
	path := filepath.Join(s.dir, "reconcile.json")
	out, err := os.Create(path)
	if err != nil {
		return r, err
	}
	defer out.Close() //nolint:errcheck // the program has written it
	p, err := rig.Launch(ctx, s.bench.Binary, s.env, filepath.Join(s.dir, "reconcile.log"), out, "reconcile", "--json")
	if err != nil {
		return r, err
	}
	if r.memory, err = rig.PeakMemory(p); err != nil {
		return r, err
	}
	if err := p.Wait(ctx); err != nil {
		return r, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

// drift is what bulkinvite lists: the kind of each invitation.
func (s *stage) drift(ctx context.Context) (map[string]string, error) {
	out, err := s.call(ctx, "drift", "--json")
	if err != nil {
		return nil, err
	}
	var all []struct {
		Kind string
		ID   string `json:"clerk_invitation_id"`
	}
	if err := json.Unmarshal(out, &all); err != nil {
		return nil, err
	}
	found := make(map[string]string, len(all))
	for _, one := range all {
		found[one.ID] = one.Kind
	}
	return found, nil
}

// statuses is what the rows say, by address.
func (s *stage) statuses(ctx context.Context) (map[string]string, error) {
	rows, err := s.pool.Query(ctx, `select email, status from results`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]string{}
	for rows.Next() {
		var email, status string
		if err := rows.Scan(&email, &status); err != nil {
			return nil, err
		}
		all[email] = status
	}
	return all, rows.Err()
}
