package web

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
)

// courseView is the picture of how a batch went: people invited and accepted, as
// time went by.
type courseView struct {
	From, To          time.Time
	Invited, Accepted int
	InvitedLine       string // the points of a polyline in a box 600 wide and 100 high
	AcceptedLine      string
}

// courseSteps is how many steps the picture has.
const courseSteps = 100

// courseOf counts how a batch went, or gives a count of that which is not old.
func (s *Server) courseOf(ctx context.Context, b *invitation.Batch) (report.Course, error) {
	return s.courses.get(ctx, s, b.ID, string(b.State), func(ctx context.Context) (report.Course, int, error) {
		c, err := report.ReadCourse(ctx, s.pool, b.ID, courseSteps)
		if err != nil || c.From.IsZero() {
			return c, 0, err
		}
		return c, c.Steps[len(c.Steps)-1].Invited, nil
	})
}

// coursePage shows the picture alone: it may take a moment to count.
func (s *Server) coursePage(w http.ResponseWriter, r *http.Request, who *visitor, b *invitation.Batch) error {
	view := batchView{Batch: b, Drawn: true}
	c, err := s.courseOf(r.Context(), b)
	if err != nil {
		return err
	}
	if !c.From.IsZero() {
		last := c.Steps[len(c.Steps)-1]
		view.Course = &courseView{From: c.From, To: c.To, Invited: last.Invited, Accepted: last.Accepted}
		view.Course.InvitedLine = polyline(c.Steps, last.Invited, func(s report.Step) int { return s.Invited })
		if last.Accepted > 0 {
			view.Course.AcceptedLine = polyline(c.Steps, last.Invited, func(s report.Step) int { return s.Accepted })
		}
	}
	return s.render(w, r, who, http.StatusOK, "course", fmt.Sprintf("Batch %d over time", b.ID), view)
}

// polyline draws counts from left to right, of most.
func polyline(steps []report.Step, most int, of func(report.Step) int) string {
	points := []string{"0,100"}
	for i, step := range steps {
		points = append(points, fmt.Sprintf("%g,%g", float64(600*(i+1))/float64(len(steps)), 100-100*float64(of(step))/float64(max(most, 1))))
	}
	return strings.Join(points, " ")
}
