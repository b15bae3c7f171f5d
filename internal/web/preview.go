package web

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"bulkinvite/importer"
	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/jobs"
)

// lookUp has a draft's people looked up in the background, unless that was done
// lately or is being done, and returns what is known of them so far. It does not
// wait: a list of Clerk's may be long, and its budget spent.
func (s *Server) lookUp(ctx context.Context, b *invitation.Batch) (*invitation.Preview, error) {
	begun, ok, err := batch.BeginPreview(ctx, s.pool, b.ID)
	if err != nil {
		return nil, err
	}
	if ok {
		var clerk *jobs.Preflight
		if s.cfg.Clerk != nil && b.InstanceID == s.cfg.Instance.ID {
			clerk = jobs.NewPreflight(s.cfg.Clerk, s.general, s.cfg.RequestTimeout)
		}
		s.work.Go(func() {
			if err := jobs.LookUp(s.life, s.pool, b, begun, clerk); err != nil && s.life.Err() == nil {
				s.log.Error("a draft's people could not be looked up", "batch", b.ID, "error", err)
			}
		})
	}
	return batch.Preview(ctx, s.pool, b.ID)
}

// warned is how many warnings a draft's card shows one by one.
const warned = 5

// previewView is what sending a draft takes, as its card shows it.
type previewView struct {
	*invitation.Preview
	ToInvite int
	Skip     bool // who has an invitation is left alone, not invited again
	Plan     invitation.Plan
	Begins   time.Time // when the first people are invited; zero: at once
	Done     time.Time // when the last goes out
	Limited  bool      // a development instance that would not deliver all mails
	Typed    bool      // the number of people has to be typed
	Warnings []importer.Problem
	Emails   map[int]string // of the rows that these are about
	More     int            // warnings that are not shown
}

// preview works out what sending a draft takes, given what is known of its people.
func (s *Server) preview(ctx context.Context, b *invitation.Batch, waiting int, u *upload) (*previewView, error) {
	v := &previewView{Skip: b.Duplicates != invitation.Resend}
	var err error
	if v.Preview, err = s.lookUp(ctx, b); err != nil {
		return nil, err
	}
	if v.Preview == nil { // it was begun by another process, which gave it up
		v.Preview = &invitation.Preview{}
	}
	v.ToInvite = v.Preview.ToInvite(waiting, b.Duplicates)
	_, budget, err := s.budgetOf(ctx, b.InstanceID)
	if err != nil {
		return nil, err
	}
	own := invitation.Load{Batch: b.ID, Priority: b.Priority, People: v.ToInvite, StartAt: b.StartAt, Hours: b.Hours}
	if !b.Hours.IsZero() {
		if own.Zone, err = batch.Zone(ctx, s.pool, b.Hours.TZ); err != nil {
			return nil, err
		}
	}
	others, err := s.loads(ctx, b.InstanceID)
	if err != nil {
		return nil, err
	}
	v.Plan = invitation.MakePlan(budget.Now, own, others, budget.Limits.Create, budget.Limits.Bulk, budget.Spent)
	if v.Plan.First >= time.Minute {
		v.Begins = budget.Now.Add(v.Plan.First)
	}
	v.Done = budget.Now.Add(time.Duration(v.Plan.Seconds * float64(time.Second)))
	sending, err := s.app().Sending(ctx, b.InstanceID)
	if err != nil {
		return nil, err
	}
	sending = sending.Of(b, v.Preview, waiting)
	v.Limited, v.Typed = sending.Undelivered(), sending.NeedsNumber()
	return v, s.warn(ctx, b.ID, u, v)
}

// warn adds the first warnings of a draft's file, those about all of it before
// those about rows, with the addresses of these.
func (s *Server) warn(ctx context.Context, batch int64, u *upload, v *previewView) (err error) {
	if u == nil || u.Summary == nil {
		return nil
	}
	var rows []int
	for _, whole := range []bool{true, false} {
		for _, w := range u.Summary.Warnings {
			if whole == (w.Row == 0) && len(v.Warnings) < warned {
				v.Warnings, rows = append(v.Warnings, w), append(rows, w.Row)
			}
		}
	}
	v.More = len(u.Summary.Warnings) + u.Summary.MoreWarnings - len(v.Warnings)
	v.Emails, err = report.Emails(ctx, s.pool, batch, rows)
	return err
}

// planPart shows what sending a draft takes, for a page that waits until its
// people are looked up.
func (s *Server) planPart(w http.ResponseWriter, r *http.Request, who *visitor, b *invitation.Batch) error {
	if b.State != invitation.Draft || r.Header.Get("HX-Request") == "" {
		return s.leave(w, r, b.ID, "")
	}
	return s.showCard(w, r, who, b)
}

// showCard shows the card of a draft alone.
func (s *Server) showCard(w http.ResponseWriter, r *http.Request, who *visitor, b *invitation.Batch) error {
	view := batchView{Batch: b}
	var err error
	if view.Standing.Tally, err = s.tally(r.Context(), b.ID, b.State, &b.FinishedAt); err != nil {
		return err
	}
	if view.Draft, err = s.draftCard(r.Context(), b, view.Standing.Undecided); err != nil {
		return err
	}
	return s.render(w, r, who, http.StatusOK, "draft", "", view)
}

// pace is how many people the limits let through, once the first are; empty where
// nothing limits them.
func pace(p invitation.Plan) string {
	if p.Window == 0 || p.Each == 0 {
		return ""
	}
	return fmt.Sprintf("%d people %s", p.Each, perWindow(p.Window))
}
