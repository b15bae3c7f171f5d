package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/ledger"
	"bulkinvite/internal/report"
	"bulkinvite/internal/revocation"
	"bulkinvite/internal/words"
	"bulkinvite/jobs"
)

// sweepsView is what was taken back, and what waits for a person.
type sweepsView struct {
	Held   []*revocation.Sweep
	Last   *revocation.Sweep // of last night; nil: none
	Nights []schedule
	Sweeps []*revocation.Sweep
	More   string // where earlier ones are; empty: there are none
}

// schedule is when workers sweep next.
type schedule struct {
	revocation.Schedule
	Next time.Time `json:"next_at"`
}

// sweepsPage shows the sweeps, those that are held on top.
func (s *Server) sweepsPage(w http.ResponseWriter, r *http.Request, who *visitor) error {
	before, err := keyNumber(r.URL.Query(), "before", refuse(http.StatusUnprocessableEntity, "", "before must be a number."))
	if err != nil {
		return err
	}
	var view sweepsView
	if view.Held, err = revocation.Sweeps(r.Context(), s.pool, revocation.SweepFilter{Held: true}); err != nil {
		return err
	}
	if view.Last, err = revocation.LastNight(r.Context(), s.pool); err != nil {
		return err
	}
	if view.Nights, err = s.nights(r.Context()); err != nil {
		return err
	}
	if view.Sweeps, err = revocation.Sweeps(r.Context(), s.pool, revocation.SweepFilter{Before: before, Limit: pageRows + 1}); err != nil {
		return err
	}
	if len(view.Sweeps) > pageRows {
		view.Sweeps = view.Sweeps[:pageRows]
		view.More = fmt.Sprintf("/sweeps?before=%d", view.Sweeps[pageRows-1].ID)
	}
	return s.render(w, r, who, http.StatusOK, "sweeps", "Sweeps", view)
}

// nights tells when workers sweep next, by each of their schedules.
func (s *Server) nights(ctx context.Context) ([]schedule, error) {
	schedules, err := revocation.Schedules(ctx, s.pool)
	if err != nil {
		return nil, err
	}
	all := make([]schedule, 0, len(schedules))
	for _, one := range schedules {
		at, err := jobs.ParseSchedule(one.Expression, one.TZ)
		if err != nil {
			return nil, err
		}
		all = append(all, schedule{one, at.Next(s.now()).UTC()})
	}
	return all, nil
}

// sweepView is a sweep and each invitation of it.
type sweepView struct {
	*revocation.Sweep
	Self        string // the address of this page of it
	Workers     int
	Revocations []revocation.RevocationLine
	More        string
}

// sweepPage shows what a sweep has done, or would do.
func (s *Server) sweepPage(w http.ResponseWriter, r *http.Request, who *visitor) error {
	id, err := number(r, "id")
	if err != nil {
		return err
	}
	sw, err := revocation.ReadSweep(r.Context(), s.pool, id)
	if err != nil {
		return err
	}
	view := sweepView{Sweep: sw, Self: r.URL.RequestURI()}
	if _, view.Workers, err = report.Fleet(r.Context(), s.pool, sw.InstanceID); err != nil {
		return err
	}
	after := r.URL.Query().Get("after")
	if len(after) > 200 {
		return refuse(http.StatusUnprocessableEntity, "", "after must be the id of an invitation.")
	}
	if view.Revocations, err = revocation.Revocations(r.Context(), s.pool, sw.ID, after, pageRows+1); err != nil {
		return err
	}
	if len(view.Revocations) > pageRows {
		view.Revocations = view.Revocations[:pageRows]
		view.More = fmt.Sprintf("/sweeps/%d?%s", sw.ID, url.Values{"after": {view.Revocations[pageRows-1].ClerkInvitationID}}.Encode())
	}
	return s.render(w, r, who, http.StatusOK, "sweep", fmt.Sprintf("Sweep %d", sw.ID), view)
}

// changeSweep allows a sweep that is held, or stops one that is held or goes on, in
// somebody's name, and returns it as it is then.
func (s *Server) changeSweep(ctx context.Context, id int64, action string, who *visitor) (*revocation.Sweep, error) {
	sw, err := revocation.ReadSweep(ctx, s.pool, id)
	if err != nil {
		return nil, err
	}
	allow := action == "allow"
	switch state := sw.State(); {
	case state != revocation.SweepHeld && (allow || state != revocation.SweepRunning):
		return nil, refuse(http.StatusConflict, "Look at it as it is now.", "Sweep %d is %s.", sw.ID, words.SweepStates[state])
	case allow:
		if err := s.app().CheckSweep(sw); err != nil {
			return nil, err
		}
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if allow {
			return jobs.AllowSweep(ctx, tx, sw, who.Name)
		}
		return revocation.StopSweep(ctx, tx, sw.ID, who.Name)
	})
	if err != nil {
		return nil, err
	}
	s.log.Info("sweep changed", "sweep", id, "action", action)
	return revocation.ReadSweep(ctx, s.pool, id)
}

// actOnSweep does something to a sweep.
func (s *Server) actOnSweep(action string) func(*http.Request, int64, *visitor) (string, error) {
	return func(r *http.Request, id int64, who *visitor) (string, error) {
		_, err := s.changeSweep(r.Context(), id, action, who)
		return action, err
	}
}

// driftView is where Clerk and our rows tell different stories.
type driftView struct {
	Last  *ledger.Reconcile // nil: there was none
	Kind  ledger.DriftKind  // the only kind that is shown; empty: all are
	Drift []report.Drift
	More  string
}

// driftPage shows what the last reconciling found.
func (s *Server) driftPage(w http.ResponseWriter, r *http.Request, who *visitor) error {
	q := r.URL.Query()
	view := driftView{Kind: ledger.DriftKind(q.Get("kind"))}
	if _, known := words.DriftKinds[view.Kind]; view.Kind != "" && !known {
		return refuse(http.StatusUnprocessableEntity, "", "There is no drift %q.", view.Kind)
	}
	after, err := driftAfter(q)
	if err != nil {
		return err
	}
	if view.Last, err = report.LastReconcile(r.Context(), s.pool, s.cfg.Instance.ID); err != nil {
		return err
	}
	err = report.EachDrift(r.Context(), s.pool, report.DriftFilter{Kind: view.Kind, After: after, Limit: pageRows + 1}, func(d *report.Drift) error {
		view.Drift = append(view.Drift, *d)
		return nil
	})
	if err != nil {
		return err
	}
	if len(view.Drift) > pageRows {
		view.Drift = view.Drift[:pageRows]
		last := view.Drift[pageRows-1]
		more := url.Values{"seen": {last.FirstSeen.UTC().Format(time.RFC3339Nano)}, "after": {last.ClerkInvitationID},
			"after_kind": {string(last.Kind)}, "instance": {strconv.FormatInt(last.InstanceID, 10)}}
		if view.Kind != "" {
			more.Set("kind", string(view.Kind))
		}
		view.More = "/drift?" + more.Encode()
	}
	return s.render(w, r, who, http.StatusOK, "drift", "Drift", view)
}

// driftAfter reads where a page of drift begins; nil: at the newest.
func driftAfter(q url.Values) (*report.Drift, error) {
	if q.Get("after") == "" {
		return nil, nil
	}
	seen, err := time.Parse(time.RFC3339Nano, q.Get("seen"))
	instance, also := strconv.ParseInt(q.Get("instance"), 10, 64)
	if err != nil || also != nil || instance < 1 || len(q.Get("after")) > 200 {
		return nil, refuse(http.StatusUnprocessableEntity, "Begin at the first page.", "This is no page of the drift.")
	}
	return &report.Drift{FirstSeen: seen, ClerkInvitationID: q.Get("after"), Kind: ledger.DriftKind(q.Get("after_kind")), InstanceID: instance}, nil
}
