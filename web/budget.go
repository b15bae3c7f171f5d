package web

import (
	"context"
	"net/http"
	"slices"
	"time"

	"bulkinvite/invitation"
	"bulkinvite/ratelimit"
	"bulkinvite/words"
)

// budgetView is what the limits on our calls have left.
type budgetView struct {
	Strips    []strip
	Differing []invitation.WorkerLimits // the live workers where they have different limits
}

// strip is one call's limit over its window: where each request that weighs on
// it returns.
type strip struct {
	usage
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

// usage is a limit with what is left of it, and each request that weighs on it.
type usage struct {
	gauge
	Limit    ratelimit.Limit
	Weighing []ratelimit.Lease
}

// usages reads the limits of the server's instance: bulk, create and general.
func (s *Server) usages(ctx context.Context) (b invitation.Budget, all []usage, err error) {
	b, err = s.reader.Budget(ctx, s.cfg.Instance.ID, s.cfg.Limits(s.cfg.Instance.Environment))
	if err != nil {
		return b, nil, err
	}
	for _, g := range gauges(b) {
		busy, limit := b.Bulk.Busy, b.Limits.Bulk
		if g.Name == ratelimit.Create {
			busy, limit = b.Create.Busy, b.Limits.Create
		}
		all = append(all, usage{g, limit, singles(busy)})
	}
	general := usage{gauge{Name: ratelimit.GeneralCall, Word: "Reads and revocations"}, b.Limits.General, nil}
	if !general.Limit.None {
		general.Weighing, err = ratelimit.Leases(ctx, s.pool, s.cfg.Instance.ID, general.Limit, s.cfg.RequestTimeout)
		general.Of, general.Free = general.Limit.N, general.Limit.N
	}
	for _, l := range general.Weighing {
		general.Free = max(0, general.Free-l.Tokens)
	}
	if n := len(general.Weighing); n > 0 {
		general.Next, general.Full = b.Now.Add(general.Weighing[0].Weighs), b.Now.Add(general.Weighing[n-1].Weighs)
	}
	general.freeze(b.Frozen)
	return b, append(all, general), err
}

// budgetPage shows the limits of the server's instance.
func (s *Server) budgetPage(w http.ResponseWriter, r *http.Request, who *visitor) error {
	b, all, err := s.usages(r.Context())
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

func singles(busy []time.Duration) []ratelimit.Lease {
	var all []ratelimit.Lease
	for _, d := range busy {
		all = append(all, ratelimit.Lease{Tokens: 1, Weighs: d})
	}
	return all
}

// drawStrip draws what weighs on a limit: now on the left, a window from now on
// the right.
func drawStrip(u usage, now time.Time) strip {
	st := strip{usage: u, Weighs: u.Limit.Weight()}
	slices.SortFunc(u.Weighing, func(a, b ratelimit.Lease) int { return int(a.Weighs - b.Weighs) })
	part := st.Weighs / parts
	for _, w := range u.Weighing {
		h := min(100, max(20, 100*w.Tokens*parts/max(1, u.Limit.N)))
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
	if !u.Frozen.IsZero() {
		st.Until = max(4, along(u.Frozen.Sub(now), st.Weighs))
	}
	return st
}

// along is where a time stands on a strip, of a thousand.
func along(d, whole time.Duration) int {
	return int(min(1000, max(0, 1000*d/whole)))
}
