package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"bulkinvite/internal/app"
	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/internal/revocation"
	"bulkinvite/internal/words"
)

// batchList shows the batches, the newest first, and takes a new file.
func (s *Server) batchList(w http.ResponseWriter, r *http.Request, who *visitor) error {
	before, err := keyNumber(r.URL.Query(), "before", errNoPage)
	if err != nil {
		return err
	}
	lines, err := s.batchLines(r.Context(), before, pageRows+1)
	if err != nil {
		return err
	}
	view := listView{Newer: before > 0, Most: s.cfg.MaxUpload}
	if len(lines) > pageRows {
		lines = lines[:pageRows]
		view.Before = lines[pageRows-1].Batch
	}
	view.Lines = lines
	return s.render(w, r, who, http.StatusOK, "batches", "Batches", view)
}

// batchLines lists batches with their counts; those of large ones may be some
// seconds old.
func (s *Server) batchLines(ctx context.Context, before int64, limit int) ([]report.BatchLine, error) {
	lines, err := report.BatchLines(ctx, s.pool, before, limit)
	if err != nil {
		return nil, err
	}
	var small []int64
	for _, l := range lines {
		if l.Rows < largeFrom {
			small = append(small, l.Batch)
		}
	}
	tallies, err := report.Tallies(ctx, s.pool, small)
	if err != nil {
		return nil, err
	}
	for i := range lines {
		l := &lines[i]
		t, counted := tallies[l.Batch]
		if !counted {
			if t, err = s.tally(ctx, l.Batch, l.State, l.FinishedAt); err != nil {
				return nil, err
			}
		}
		l.Count(t)
	}
	return lines, nil
}

// listView is a page of the list of batches.
type listView struct {
	Lines  []report.BatchLine
	Before int64 // where the next page begins; 0: there is none
	Newer  bool  // there are pages before
	Most   int64 // bytes of a file
}

// batchView is a batch as its page shows it.
type batchView struct {
	*invitation.Batch
	Standing standing
	Table    tableView
	Draft    *draftView  // nil: it is no draft
	Course   *courseView // nil: nobody was invited, or it is not drawn
	Drawn    bool        // Course was looked for
	Undo     *undoState  // nil: it is no page of a batch
}

// undoState is what undoing a batch takes, or where that stands.
type undoState struct {
	Revoke    int               `json:"invitations" doc:"Invitations that would be revoked: what POST …/undo takes. 0 for a batch of another instance."`
	Cancel    int               `json:"waiting" doc:"People who would not be invited any more."`
	FollowUps []int64           `json:"follow_ups" doc:"Batches undone with it: its resends, corrections of its rows."`
	Replaces  bool              `json:"-"`     // it revoked pending invitations to make its own: those stay revoked
	Sweep     *revocation.Sweep `json:"sweep"` // the last that undid the batch, or does so; nil: none
}

// Offer reports whether there is anything to undo.
func (v undoState) Offer() bool {
	return v.Revoke+v.Cancel > 0 && (v.Sweep == nil || v.Sweep.State() == revocation.SweepDone)
}

// batchHandler answers a page about a batch.
type batchHandler func(w http.ResponseWriter, r *http.Request, who *visitor, b *invitation.Batch) error

// ofBatch looks up the batch that a page is about.
func (s *Server) ofBatch(h batchHandler) handler {
	return func(w http.ResponseWriter, r *http.Request, who *visitor) error {
		id, err := number(r, "id")
		if err != nil {
			return err
		}
		b, err := batch.Batch(r.Context(), s.pool, id)
		if err != nil {
			return err
		}
		return h(w, r, who, b)
	}
}

// batchPage shows a batch, or a draft and what sending it would take.
func (s *Server) batchPage(w http.ResponseWriter, r *http.Request, who *visitor, b *invitation.Batch) error {
	view := batchView{Batch: b}
	var err error
	if view.Standing, err = s.standing(r.Context(), b); err != nil {
		return err
	}
	if b.State == invitation.Draft {
		if view.Draft, err = s.draft(r, b, view.Standing.Undecided); err != nil {
			return err
		}
	}
	if view.Table, err = s.table(r, b); err != nil {
		return err
	}
	page := "draft"
	if b.State != invitation.Draft {
		page = "batch"
		if view.Undo, err = s.undoing(r.Context(), b, view.Standing.Tally); err != nil {
			return err
		}
	}
	return s.render(w, r, who, http.StatusOK, page, fmt.Sprintf("Batch %d: %s", b.ID, b.FileName), view)
}

// undoing tells what undoing a batch takes, or where that stands.
func (s *Server) undoing(ctx context.Context, b *invitation.Batch, t invitation.Tally) (*undoState, error) {
	v := &undoState{FollowUps: []int64{}, Replaces: b.Duplicates == invitation.Resend}
	var err error
	if s.app().Owns(b.InstanceID) { // else nothing is offered
		if v.FollowUps, err = revocation.FollowUps(ctx, s.pool, b.ID); err != nil {
			return v, err
		}
		sent, err := revocation.CountSent(ctx, s.pool, v.FollowUps...)
		if err != nil {
			return v, err
		}
		if v.Cancel, _, err = revocation.Undecided(ctx, s.pool, v.FollowUps...); err != nil {
			return v, err
		}
		v.Revoke = t.Statuses[invitation.Pending] + sent[invitation.Pending]
		if b.State != invitation.StateCancelled {
			v.Cancel += t.Undecided
		}
	}
	id, err := revocation.LastUndo(ctx, s.pool, b.ID)
	if err == nil && id > 0 {
		v.Sweep, err = revocation.ReadSweep(ctx, s.pool, id)
	}
	return v, err
}

// deed answers a form that does something to a batch or a sweep, which is then shown
// again. do returns the notice that the page shows.
func deed(do func(r *http.Request, id int64, who *visitor) (notice string, err error)) handler {
	return func(w http.ResponseWriter, r *http.Request, who *visitor) error {
		id, err := number(r, "id")
		if err != nil {
			return err
		}
		if err := readForm(w, r, maxForm); err != nil {
			return err
		}
		notice, err := do(r, id, who)
		if err != nil {
			return err
		}
		http.Redirect(w, r, path.Dir(r.URL.Path)+"?done="+notice, http.StatusSeeOther)
		return nil
	}
}

// undo takes a batch back, if as many invitations were typed as there are to revoke.
func (s *Server) undo(r *http.Request, id int64, who *visitor) (notice string, err error) {
	_, err = s.undoBatch(r.Context(), id, typedNumber(r.PostForm, "invitations"), who)
	return "undo", err
}

// undoBatch takes a batch back, with its resends and the corrections of its rows.
// invitations is how many somebody typed: it must be as many as are to be revoked now.
// The sweep that it returns ends when all of them are.
func (s *Server) undoBatch(ctx context.Context, id int64, invitations *int, who *visitor) (*revocation.Sweep, error) {
	plan, err := s.app().PlanUndo(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := batch.Allow(id, plan.Batch.State, "undo"); err != nil { // a draft is discarded
		return nil, err
	}
	sw, err := s.app().Undo(ctx, plan, invitation.Consent{Number: invitations}, who.Name)
	var unsaid *app.UndoConsentError
	if errors.As(err, &unsaid) {
		return nil, refuse(http.StatusConflict, fmt.Sprintf("Type %d if that is what you mean.", unsaid.Revoke),
			"What was typed is not the number of invitations to revoke: %d.", unsaid.Revoke)
	}
	if err != nil {
		return nil, err
	}
	s.log.Info("batch changed", "batch", id, "action", "undo")
	return revocation.ReadSweep(ctx, s.pool, sw.ID)
}

// typedNumber reads a number of a form as people type it. It returns nil if the field is empty,
// and -1, which confirms nothing, if it is no number.
func typedNumber(form url.Values, name string) *int {
	text := strings.NewReplacer(",", "", ".", "", " ", "", "\u00a0", "", "\u202f", "").Replace(form.Get(name))
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		n = -1
	}
	return &n
}

// standing is where a batch stands.
type standing struct {
	invitation.Tally
	Environment string
	Plan        *invitation.Plan // of what is left; nil: nothing is sent
	Done        time.Time        // when the last goes out, by the plan
	Gauges      []usage
	Frozen      []report.Freeze
	Differing   []report.WorkerLimits // the live workers where they have different limits
	Workers     int                   // processes that work for the instance
	Lately      int                   // people invited in the last hour
}

func perWindow(d time.Duration) string {
	if d == time.Hour {
		return "an hour"
	}
	return "each " + words.Span(d)
}

// budgetOf reads where the limits of an instance stand, and what it is.
func (s *Server) budgetOf(ctx context.Context, instance int64) (environment string, b report.Budget, err error) {
	in, _, err := report.Fleet(ctx, s.pool, instance)
	if err == nil {
		b, err = report.ReadBudget(ctx, s.pool, instance, s.cfg.Limits(in.Environment))
	}
	return in.Environment, b, err
}

// standing reads where a batch stands.
func (s *Server) standing(ctx context.Context, b *invitation.Batch) (standing, error) {
	var st standing
	var err error
	if st.Tally, err = s.tally(ctx, b.ID, b.State, &b.FinishedAt); err != nil {
		return st, err
	}
	var budget report.Budget
	if st.Environment, budget, err = s.budgetOf(ctx, b.InstanceID); err != nil {
		return st, err
	}
	st.Workers, st.Gauges, st.Frozen, st.Differing = len(budget.Workers), usages(budget), budget.Frozen, budget.Differing()
	if st.Undecided == 0 || b.State != invitation.Running {
		return st, nil
	}
	loads, err := s.loads(ctx, b.InstanceID)
	if err != nil {
		return st, err
	}
	plan := report.PlanLeft(b.ID, loads, budget)
	if st.Lately, err = report.InvitedLately(ctx, s.pool, b, time.Hour); err != nil {
		return st, err
	}
	st.Plan, st.Done = &plan, budget.Now.Add(plan.Lasts())
	return st, nil
}

// app returns the use cases that the server shares with the commands.
func (s *Server) app() *app.App {
	return &app.App{Pool: s.pool, Instance: s.cfg.Instance, Real: s.cfg.Real}
}

// actions are what can be done to a batch.
var actions = map[string]func(a *app.App, ctx context.Context, id int64, actor string) error{
	"pause": (*app.App).Pause, "resume": (*app.App).Resume, "cancel": (*app.App).Cancel, "discard": (*app.App).Discard,
	"retry": retry(false), "retry-rejected": retry(true),
}

func retry(rejected bool) func(*app.App, context.Context, int64, string) error {
	return func(a *app.App, ctx context.Context, id int64, actor string) error {
		_, err := a.Retry(ctx, id, rejected, actor)
		return err
	}
}

// act does something to a batch.
func (s *Server) act(action string) func(*http.Request, int64, *visitor) (string, error) {
	return func(r *http.Request, id int64, who *visitor) (string, error) {
		do := action
		if action == "retry" && r.PostForm.Get("rejected") == "true" {
			do = "retry-rejected"
		}
		return do, s.do(r.Context(), id, do, who)
	}
}

// do does something to a batch in somebody's name.
func (s *Server) do(ctx context.Context, id int64, action string, who *visitor) error {
	if err := actions[action](s.app(), ctx, id, who.Name); err != nil {
		return err
	}
	s.log.Info("batch changed", "batch", id, "action", action)
	return nil
}

// start lets a draft run, with the options of the form. Of real mail the number
// of people is typed: it must be the one that the draft has now.
func (s *Server) start(r *http.Request, id int64, who *visitor) (notice string, err error) {
	form := r.PostForm
	consent := invitation.Consent{Yes: true, Number: typedNumber(form, "people"), Undelivered: form.Get("undelivered") != ""}
	err = s.startDraft(r.Context(), id, consent, form, who)
	var state *batch.StateError
	if errors.As(err, &state) && state.State != invitation.StateCancelled {
		err = nil // the form was sent twice, or somebody else was faster: it was started
	}
	return "start", err
}

// startDraft starts a draft, if it is then what somebody agreed to: what others
// change meanwhile, its options or how its file is read, counts. options are those
// that change, as the draft's form has them.
func (s *Server) startDraft(
	ctx context.Context, id int64, consent invitation.Consent, options url.Values, who *visitor,
) error {
	change := func(b *invitation.Batch) error { return s.readOptions(b, options) }
	err := s.app().Start(ctx, id, change, consent, who.Name)
	var unsaid *invitation.ConsentError
	var undelivered *invitation.UndeliveredError
	var zone *invitation.ZoneError
	switch {
	case errors.As(err, &unsaid):
		n := unsaid.Sending.People
		remedy := fmt.Sprintf("Type %d if that is what you mean.", n)
		if !unsaid.Sending.Real {
			return refuse(http.StatusConflict, remedy, "What was typed is not the number of people: %d.", n)
		}
		return refuse(http.StatusConflict, remedy, "This sends real e-mail, and the number that was typed is not the number of people: %d.", n)
	case errors.As(err, &undelivered):
		return refuse(http.StatusConflict, "Use a production instance, or tick that undelivered mail is fine.", "%s.", upperFirst(undelivered.Error()))
	case errors.As(err, &zone):
		if err := s.knowsZone(ctx, options); err != nil { // the zone is the form's
			return err
		}
		return refuse(http.StatusConflict, "Take another time zone, or bring PostgreSQL's time zones up to date.", "%s.", upperFirst(zone.Error()))
	case err != nil:
		return err
	}
	s.log.Info("batch changed", "batch", id, "action", "start")
	return nil
}
