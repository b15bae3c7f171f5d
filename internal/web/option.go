package web

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
)

// options sets what goes with a draft, and shows what sending it takes then.
func (s *Server) options(w http.ResponseWriter, r *http.Request, who *visitor) error {
	id, err := number(r, "id")
	if err != nil {
		return err
	}
	if err := readForm(w, r, maxForm); err != nil {
		return err
	}
	b, err := s.setOptions(r.Context(), id, r.PostForm, who)
	if err != nil {
		return err
	}
	if r.Header.Get("HX-Request") == "" {
		return s.leave(w, r, id, "options")
	}
	return s.showCard(w, r, who, b)
}

// setOptions changes the options of a draft that a form names, and returns it.
func (s *Server) setOptions(ctx context.Context, id int64, form url.Values, who *visitor) (*invitation.Batch, error) {
	if err := s.knowsZone(ctx, form); err != nil {
		return nil, err
	}
	return batch.SetOptions(ctx, s.pool, id, who.Name, func(b *invitation.Batch) error { return s.readOptions(b, form) })
}

// field is an option of a draft: what its form calls it, what people do, and how
// it is read. A field that a form lacks stays as it is; an empty one is Clerk's or
// the program's default.
type field struct {
	name, label string
	read        func(b *invitation.Batch, text string) error
}

var fields = []field{
	{"redirect_url", "Where the invitation leads", func(b *invitation.Batch, text string) error { b.Options.RedirectURL = text; return nil }},
	{"template", "Template", func(b *invitation.Batch, text string) error { b.Options.Template = text; return nil }},
	{"expires_in_days", "Valid for days", func(b *invitation.Batch, text string) error { return whole(text, 0, &b.Options.ExpiresInDays) }},
	{"priority", "Priority", func(b *invitation.Batch, text string) error {
		return whole(text, invitation.DefaultPriority, &b.Priority)
	}},
	{"canary", "So many people first", func(b *invitation.Batch, text string) error { return whole(text, 0, &b.Canary) }},
	{"on_duplicate", "Who is invited already", func(b *invitation.Batch, text string) error {
		b.Duplicates = cmp.Or(invitation.OnDuplicate(text), invitation.Skip)
		return nil
	}},
	{"revoke_after_days", "Taken back after days", func(b *invitation.Batch, text string) error {
		days := 0
		err := whole(text, 0, &days)
		b.RevokeAfter = time.Duration(days) * 24 * time.Hour
		return err
	}},
}

// whole reads a whole number.
func whole(text string, empty int, to *int) error {
	*to = empty
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n > 1<<31-1 || n < 0 {
		return refuse(http.StatusUnprocessableEntity, "Write it in digits, or leave it empty.", "%q is no number.", shownText(text))
	}
	*to = n
	return nil
}

// readOptions reads the options of a draft from its form into b. It asks nobody,
// so that it can be done while b is locked: see [Server.knowsZone].
func (s *Server) readOptions(b *invitation.Batch, form url.Values) error {
	for _, f := range fields {
		if !form.Has(f.name) {
			continue
		}
		if err := f.read(b, strings.TrimSpace(form.Get(f.name))); err != nil {
			said := asRefusal(err)
			return &refusal{said.Status, f.label + ": " + said.Title, said.Remedy}
		}
	}
	if form.Has("start_at") || form.Has("hours") {
		if err := s.readTimes(b, strings.TrimSpace(form.Get("start_at")), strings.ReplaceAll(form.Get("hours"), " ", ""), strings.TrimSpace(form.Get("tz"))); err != nil {
			return err
		}
	}
	var option *invitation.OptionError
	err := b.Validate()
	if !errors.As(err, &option) {
		return err
	}
	label := option.Option
	for _, f := range fields {
		if strings.HasPrefix(f.name, option.Option) {
			label = f.label
		}
	}
	return refuse(http.StatusUnprocessableEntity, option.Remedy, "%s: it %s.", label, option.Problem)
}

// knowsZone refuses a time zone of a draft's form by which the database could not
// tell the hours in which it is sent.
func (s *Server) knowsZone(ctx context.Context, form url.Values) error {
	tz := strings.TrimSpace(form.Get("tz"))
	if tz == "" || strings.TrimSpace(form.Get("hours")) == "" {
		return nil
	}
	if _, err := invitation.LoadZone(tz); err != nil {
		return nil // readOptions says what is wrong with it
	}
	known, err := batch.KnowsZone(ctx, s.pool, tz)
	if err == nil && !known {
		err = refuse(http.StatusUnprocessableEntity, "Take one that it knows, such as Europe/Berlin.", "Time zone: PostgreSQL does not know %s.", tz)
	}
	return err
}

// readTimes reads when a draft is sent, in a time zone.
func (s *Server) readTimes(b *invitation.Batch, start, hours, tz string) error {
	b.StartAt, b.Hours = time.Time{}, invitation.Hours{}
	if start == "" && hours == "" {
		return nil
	}
	zone, err := invitation.LoadZone(tz)
	if err != nil {
		return refuse(http.StatusUnprocessableEntity, "Write it as Europe/Berlin.", "Time zone: %q is none.", shownText(tz))
	}
	if b.StartAt, err = invitation.ParseStart(start, s.now().In(zone)); err != nil {
		return refuse(http.StatusUnprocessableEntity, "", "Not before: %s %s.", shownText(start), err)
	}
	if b.Hours, err = invitation.ParseHours(hours); err != nil {
		return refuse(http.StatusUnprocessableEntity, "", "Hours: %s %s.", shownText(hours), err)
	}
	if !b.Hours.IsZero() {
		b.Hours.TZ = tz
	}
	return nil
}

// Zone is the time zone that Start and the hours are written in; empty: neither is
// set.
func (v batchView) Zone() string {
	if v.StartAt.IsZero() {
		return v.Hours.TZ
	}
	return cmp.Or(v.Hours.TZ, "UTC")
}

// Start is when the batch starts, as a form's field has it; empty: at once.
func (v batchView) Start() string {
	zone, err := invitation.LoadZone(v.Zone())
	if v.StartAt.IsZero() || err != nil {
		return ""
	}
	return v.StartAt.In(zone).Format("2006-01-02T15:04")
}
