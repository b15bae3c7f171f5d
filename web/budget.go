package web

import (
	"net/http"
	"slices"
	"time"

	"bulkinvite/invitation"
	"bulkinvite/ratelimit"
	"bulkinvite/words"
)

// budgetView is what the limits on our calls have left.
type budgetView struct {
	Now    time.Time
	Strips []strip

	Differing []invitation.WorkerLimits // the live workers where they have different limits
}

// strip is one call's limit over its window: where each request that weighs on
// it returns.
type strip struct {
	gauge
	Limit   ratelimit.Limit
	Weighs  time.Duration // for how long a request weighs after its answer
	Ticks   []tick
	Returns []returning
	Until   int // how much of the strip it is frozen for, of a thousand
}

// Allows says what the limit lets through.
func (s strip) Allows() string { return words.Thousands(s.Limit.N) + " " + perWindow(s.Limit.Window) }

// tick is a request, or a block of them, at the moment when it returns.
type tick struct{ X, Y, H int } // of a thousand by a hundred

// returning is how many requests return within a part of the window.
type returning struct {
	By time.Time
	N  int
}

// parts is into how many parts the table beside a strip divides its window.
const parts = 12

// budgetPage shows the limits of the server's instance.
func (s *Server) budgetPage(w http.ResponseWriter, r *http.Request, who *visitor) error {
	b, err := s.reader.Budget(r.Context(), s.cfg.Instance.ID, s.cfg.Limits(s.cfg.Instance.Environment))
	if err != nil {
		return err
	}
	limits := b.Limits
	view := budgetView{Now: b.Now, Differing: b.Differing()}
	for _, g := range gauges(b) {
		busy, limit := b.Bulk.Busy, limits.Bulk
		if g.Name == ratelimit.Create {
			busy, limit = b.Create.Busy, limits.Create
		}
		view.Strips = append(view.Strips, drawStrip(g, limit, b.Now, singles(busy)))
	}
	if !limits.General.None {
		leases, err := ratelimit.Leases(r.Context(), s.pool, s.cfg.Instance.ID, limits.General, s.cfg.RequestTimeout)
		if err != nil {
			return err
		}
		view.Strips = append(view.Strips, drawStrip(generalGauge(b, limits.General, leases), limits.General, b.Now, leases))
	}
	return s.render(w, r, who, http.StatusOK, "budget", "Budget", view)
}

func singles(busy []time.Duration) []ratelimit.Lease {
	var all []ratelimit.Lease
	for _, d := range busy {
		all = append(all, ratelimit.Lease{Tokens: 1, Weighs: d})
	}
	return all
}

func generalGauge(b invitation.Budget, limit ratelimit.Limit, leases []ratelimit.Lease) gauge {
	g := gauge{Name: ratelimit.GeneralCall, Word: "Reads and revocations", Of: limit.N, Free: limit.N}
	for _, l := range leases {
		g.Free = max(0, g.Free-l.Tokens)
	}
	if len(leases) > 0 {
		g.Next, g.Full = b.Now.Add(leases[0].Weighs), b.Now.Add(leases[len(leases)-1].Weighs)
	}
	g.freeze(b.Frozen)
	return g
}

// drawStrip draws what weighs on a limit: now on the left, a window from now on
// the right.
func drawStrip(g gauge, limit ratelimit.Limit, now time.Time, weighing []ratelimit.Lease) strip {
	st := strip{gauge: g, Limit: limit, Weighs: limit.Weight()}
	slices.SortFunc(weighing, func(a, b ratelimit.Lease) int { return int(a.Weighs - b.Weighs) })
	part := st.Weighs / parts
	for _, w := range weighing {
		h := min(100, max(20, 100*w.Tokens*parts/max(1, limit.N)))
		if w.Tokens == 1 {
			h = 100
		}
		st.Ticks = append(st.Ticks, tick{X: min(996, along(w.Weighs, st.Weighs)), Y: 100 - h, H: h})
		by := now.Add((w.Weighs/part + 1) * part)
		if n := len(st.Returns); n > 0 && st.Returns[n-1].By.Equal(by) {
			st.Returns[n-1].N += w.Tokens
		} else {
			st.Returns = append(st.Returns, returning{by, w.Tokens})
		}
	}
	if !g.Frozen.IsZero() {
		st.Until = max(4, along(g.Frozen.Sub(now), st.Weighs))
	}
	return st
}

// along is where a time stands on a strip, of a thousand.
func along(d, whole time.Duration) int {
	return int(min(1000, max(0, 1000*d/whole)))
}
