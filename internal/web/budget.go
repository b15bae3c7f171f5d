package web

import (
	"context"
	"net/http"
	"slices"
	"time"

	"bulkinvite/internal/report"
	"bulkinvite/internal/words"
	"bulkinvite/ratelimit"
)

// budgetView is what the limits on our calls have left.
type budgetView struct {
	Strips    []strip
	Differing []report.WorkerLimits // the live workers where they have different limits
}

// strip is one call's limit over its window: where each request that weighs on
// it returns.
type strip struct {
	usage
	Ticks   []tick
	Returns []returns
	Until   int // how much of the strip it is frozen for, of a thousand
}

// Allows says what the limit lets through.
func (s strip) Allows() string { return words.Thousands(s.Limit.N) + " " + perWindow(s.Limit.Window) }

// tick is a request, or a block of them, at the moment when it returns.
type tick struct{ X, Y, H int } // of a thousand by a hundred

// parts is into how many parts the table beside a strip divides its window.
const parts = 12

// allUsages reads the limits of the server's instance: bulk, create and general.
func (s *Server) allUsages(ctx context.Context) (b report.Budget, all []usage, err error) {
	b, err = report.ReadBudget(ctx, s.pool, s.cfg.Instance.ID, s.cfg.Limits(s.cfg.Instance.Environment))
	if err != nil {
		return b, nil, err
	}
	var leases []ratelimit.Lease
	if !b.Limits.General.None {
		leases, err = ratelimit.Leases(ctx, s.pool, s.cfg.Instance.ID, b.Limits.General, s.cfg.RequestTimeout)
	}
	return b, append(usages(b), usageOf(b, ratelimit.GeneralCall, "Reads and revocations", b.Limits.General, leases)), err
}

// budgetPage shows the limits of the server's instance.
func (s *Server) budgetPage(w http.ResponseWriter, r *http.Request, who *visitor) error {
	b, all, err := s.allUsages(r.Context())
	if err != nil {
		return err
	}
	view := budgetView{Differing: b.Differing()}
	for _, u := range all {
		if !u.Limit.None {
			view.Strips = append(view.Strips, drawStrip(u, b.Now))
		}
	}
	return s.render(w, r, who, http.StatusOK, "budget", "Budget", view)
}

// drawStrip draws what weighs on a limit: now on the left, a window from now on
// the right.
func drawStrip(u usage, now time.Time) strip {
	st, window := strip{usage: u}, u.Limit.Weight()
	slices.SortFunc(u.Weighing, func(a, b ratelimit.Lease) int { return int(a.Weighs - b.Weighs) })
	part := window / parts
	for _, w := range u.Weighing {
		h := min(100, max(20, 100*w.Tokens*parts/max(1, u.Limit.N)))
		if w.Tokens == 1 {
			h = 100
		}
		st.Ticks = append(st.Ticks, tick{X: min(996, along(w.Weighs, window)), Y: 100 - h, H: h})
		by := now.Add((w.Weighs/part + 1) * part)
		if n := len(st.Returns); n > 0 && st.Returns[n-1].At.Equal(by) {
			st.Returns[n-1].Requests += w.Tokens
		} else {
			st.Returns = append(st.Returns, returns{by, w.Tokens})
		}
	}
	if !u.Frozen.IsZero() {
		st.Until = max(4, along(u.Frozen.Sub(now), window))
	}
	return st
}

// along is where a time stands on a strip, of a thousand.
func along(d, whole time.Duration) int {
	return int(min(1000, max(0, 1000*d/whole)))
}
