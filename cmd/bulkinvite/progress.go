package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/internal/words"
	"bulkinvite/ratelimit"
)

// logEvery is the least time between two lines of progress in a log.
const logEvery = 5 * time.Second

// waitLogEvery is the time between two lines in a log while nothing changes.
const waitLogEvery = time.Minute

// progress tells how far a batch is: a bar on a terminal, log lines elsewhere.
type progress struct {
	*upload
	rows    int
	began   time.Time
	before  int // rows that were decided when we began
	logged  time.Time
	decided int      // as last logged
	bar     *mpb.Bar // nil: the log tells
	end     func()   // takes the bar away
	view    atomic.Pointer[view]
	until   time.Time // a paused batch's last answers are awaited until then; zero: it is not, or none is
}

// view is what the bar says beside its length. It is replaced whole, since the
// bar draws itself at its own times.
type view struct {
	rate   string
	end    time.Time // when the last request leaves; zero: not known
	opens  time.Time // when the next request may leave, if none may now
	next   string    // what happens then
	left   string    // the requests that are left, and when the last one leaves
	budget string
}

func (u *upload) newProgress(ctx context.Context) (*progress, error) {
	state, err := report.ReadProgress(ctx, u.pool, u.batch)
	if err != nil {
		return nil, err
	}
	pr := &progress{upload: u, rows: state.Rows, began: time.Now(), before: state.Rows - state.Undecided}
	pr.decided = pr.before
	if !u.tellsSteps() {
		return pr, nil
	}
	pr.view.Store(&view{})
	below := mpb.BarExtender(mpb.BarFillerFunc(pr.below), false)
	pr.bar, pr.end = u.newBar(int64(state.Rows), fmt.Sprintf("Batch %d ", u.batch), pr.beside, below)
	pr.bar.SetCurrent(int64(pr.before))
	return pr, nil
}

// stop takes the bar away, or leaves it full: the report says it all.
func (pr *progress) stop() {
	if pr.bar != nil {
		pr.end()
		pr.note("")
	}
}

// update looks how far the batch is, shows it, and reports whether it is over:
// decided, or no longer running.
func (pr *progress) update(ctx context.Context) (bool, error) {
	state, err := report.ReadProgress(ctx, pr.pool, pr.batch)
	if err != nil {
		return false, err
	}
	decided := state.Rows - state.Undecided
	if pr.bar != nil {
		if err := pr.draw(ctx, decided, state.Undecided); err != nil {
			return false, err
		}
	} else if pr.due(decided, time.Now()) {
		if err := pr.say(ctx, state); err != nil {
			return false, err
		}
	}
	// Of a cancelled batch what is under way is still to be decided.
	return state.Undecided == 0 || state.State == invitation.Paused && pr.settled(state), nil
}

// due reports whether a line of progress is to be logged: when rows were decided, and once a
// minute while the batch waits, so that it does not look stuck.
func (pr *progress) due(decided int, now time.Time) bool {
	if decided != pr.decided {
		return now.Sub(pr.logged) >= logEvery
	}
	last := pr.began
	if pr.logged.After(last) {
		last = pr.logged
	}
	return now.Sub(last) >= waitLogEvery
}

// settled reports whether nothing that a paused batch has sent is still to be
// known. An answer takes the request timeout at most, the read that stands in for
// a lost one a settle time and as long again: it waits no longer.
func (pr *progress) settled(state report.Progress) bool {
	now := time.Now()
	switch {
	case state.Open == 0:
		return true
	case !pr.until.IsZero():
		return now.After(pr.until)
	}
	const spare = 5 * time.Second // for the database, and between two looks
	most := 2*pr.settings.RequestTimeout + pr.settings.Settle + spare
	pr.until = now.Add(most)
	text := fmt.Sprintf("Batch %d is paused; waiting for what became of %s under way, %s at most", pr.batch, counted(state.Open, "person", "people"), span(most))
	if pr.bar != nil {
		_, _ = fmt.Fprintln(pr.logTo, text) // nobody is left to tell
	} else {
		pr.log.Info(text, "batch", pr.batch, "people", state.Open)
	}
	return false
}

// say writes a line of progress to the log.
func (pr *progress) say(ctx context.Context, state report.Progress) error {
	plan, budget, err := pr.left(ctx)
	if err != nil {
		return err
	}
	pr.logged, pr.decided = time.Now(), state.Rows-state.Undecided
	pr.log.Info("progress", "batch", pr.batch, "rows", state.Rows, "decided", pr.decided, "undecided", state.Undecided,
		"bulk", plan.Bulk, "create", plan.Create, "windows", plan.Windows, "seconds", plan.Seconds,
		"eta", budget.Now.Add(plan.Lasts()).Truncate(time.Second))
	return nil
}

func (pr *progress) draw(ctx context.Context, decided, undecided int) error {
	plan, budget, err := pr.left(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	v := &view{end: now.Add(plan.Lasts())}
	if plan.Window > 0 && plan.Seconds > 1 {
		v.rate = perHour(float64(plan.Each) / plan.Window.Hours())
	} else if took := time.Since(pr.began); took > time.Second {
		v.rate = fmt.Sprintf("%.0f/s", float64(decided-pr.before)/took.Seconds())
	}
	if plan.Windows > 1 {
		v.left = fmt.Sprintf("%s in %s, done %s", words.Requests(plan.Bulk, plan.Create), counted(plan.Windows, "window", "windows"), moment(v.end))
	}
	v.budget = budgetText(budget)
	if undecided > 0 && plan.First > 0 {
		v.opens = now.Add(plan.First)
		v.next = "next window"
		if busy := slices.Concat(budget.Bulk.Busy, budget.Create.Busy); len(busy) == 0 || plan.First > slices.Max(busy) {
			v.next = "next requests" // something else is waited for: the time, others, a freeze
		}
	}
	pr.view.Store(v)
	pr.bar.SetCurrent(int64(decided))
	return nil
}

// left plans what is left to do.
func (pr *progress) left(ctx context.Context) (invitation.Plan, report.Budget, error) {
	budget, loads, err := waiting(ctx, pr.pool, pr.instance.ID, pr.limits)
	return report.PlanLeft(pr.batch, loads, budget), budget, err
}

func perHour(n float64) string {
	if n > 3600*10 {
		return fmt.Sprintf("%.0f/s", n/3600)
	}
	return thousands(int(n)) + "/h"
}

// budgetText says what is left of the limits.
func budgetText(b report.Budget) string {
	var parts []string
	for _, f := range b.Frozen {
		parts = append(parts, fmt.Sprintf("Clerk said to slow down: %s wait until %s", callWords[f.Bucket], f.Until.Local().Format("15:04:05")))
	}
	for _, one := range []struct {
		name  string
		limit ratelimit.Limit
		use   invitation.Use
	}{{"bulk", b.Limits.Bulk, b.Bulk}, {"single", b.Limits.Create, b.Create}} {
		if one.limit.None || one.limit.Off {
			continue
		}
		n := one.limit.N
		parts = append(parts, fmt.Sprintf("%s %d of %d", one.name, max(0, n-len(one.use.Busy)), n))
	}
	return dotted(parts...)
}

// beside is the text to the right of the bar.
func (pr *progress) beside(st decor.Statistics) string {
	v := pr.view.Load()
	text := fmt.Sprintf("  %s of %s  %d %%", thousands(int(st.Current)), thousands(pr.rows), 100*st.Current/max(1, st.Total))
	if v.rate != "" {
		text += "   " + v.rate
	}
	if left := time.Until(v.end); !v.end.IsZero() && left > time.Second {
		text += "   " + span(left) + " left"
	}
	return text
}

// below writes the lines under the bar: one, or two while windows are to come,
// and one more on a terminal that is too narrow for the note beside the last.
func (pr *progress) below(w io.Writer, at decor.Statistics) error {
	v := pr.view.Load()
	text := v.budget
	if left := time.Until(v.opens); !v.opens.IsZero() && left > 0 {
		text = dotted(v.next+" in "+span(left), text)
	}
	lines := []string{text}
	if v.left != "" {
		lines = append(lines, v.left)
	}
	_, err := io.WriteString(w, under(lines, "Ctrl-C leaves it to go on later", at.AvailableWidth))
	return err
}

// under lays out lines and a note for a terminal of so many columns. No line is
// longer: the terminal would go on in another one, of which mpb knows nothing,
// and the next drawing would leave it standing.
func under(lines []string, note string, columns int) string {
	const gap, wide = "        ", 80
	indent := "         "
	if columns < wide {
		indent = ""
	}
	if columns < 1 {
		return "" // the terminal does not know its width
	}
	lines = slices.Clone(lines)
	if last := &lines[len(lines)-1]; runewidth.StringWidth(indent+*last+gap+note) <= columns {
		*last += gap + note
	} else {
		lines = append(lines, note)
	}
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(cut(indent+line, columns) + "\n")
	}
	return b.String()
}
