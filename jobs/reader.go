package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/ratelimit"
)

// pageTries is how often a page of a list is read again after a failure.
const pageTries = 2

// reader reads Clerk, and records each GET in the ledger.
type reader struct {
	*process
	general  *ratelimit.General
	measured *measured
}

// get sends one GET under the general limit and records it in the ledger.
func (r *reader) get(ctx context.Context, call string, first *ledger.GET, send func(context.Context) clerk.Answer,
	end func(clerk.Answer, *ledger.ReadEnd)) (ledger.GET, clerk.Answer, error) {
	release, err := r.general.Acquire(ctx)
	if err != nil {
		return ledger.GET{}, clerk.Answer{}, err
	}
	var throttled *ratelimit.Throttled
	defer func() { release(throttled) }()
	began := time.Now()
	g, err := ledger.BeginRead(ctx, r.pool, r.cfg.Instance.ID, r.id, call, first)
	if err != nil {
		return g, clerk.Answer{}, err
	}
	calling, cancel := context.WithTimeout(clerk.About(ctx, "read", g.ID), r.cfg.RequestTimeout)
	a := send(calling)
	cancel()
	if a.Class == clerk.Throttled {
		throttled = &ratelimit.Throttled{Wait: a.RetryAfter, Told: a.HasRetryAfter}
	}
	e := ledger.ReadEnd{Status: a.Status, Code: a.Code, TraceID: a.TraceID}
	if a.Class == clerk.Success {
		end(a, &e)
	}
	ended, err := ledger.EndRead(context.WithoutCancel(ctx), r.pool, r.cfg.Instance.ID, g, e)
	if err != nil {
		return g, a, err
	}
	if !a.Date.IsZero() {
		r.measured.skew.read(a.Date, ended, time.Since(began), time.Now())
	}
	if a.Class != clerk.Success {
		return g, a, answerError(a)
	}
	return g, a, nil
}

// pass reads one of the lists of invitations in pages, newest first, back to a time by PostgreSQL's
// clock. The zero time means to the end. It keeps what the list shows of people in rows, and
// returns its first GET.
func (r *reader) pass(ctx context.Context, call string, back time.Time) (ledger.GET, error) {
	status := map[string]invitation.Status{ledger.ReadPending: invitation.Pending, ledger.ReadRevoked: invitation.Revoked}[call]
	return r.walk(ctx, list{call: call, status: status, back: back, sight: true})
}

// list is one of Clerk's lists of invitations, and how far to read it.
type list struct {
	call   string            // as in reads.call
	status invitation.Status // empty: every status except revoked
	back   time.Time         // newest first, to this time by PostgreSQL's clock; zero: to the end
	sight  bool              // keep what it shows of people in rows
	// take gets each page; some invitations come twice. It may be nil.
	take  func(context.Context, ledger.GET, []clerk.Invitation) error
	asked *int // counts the requests; may be nil
}

// walk reads a list in pages.
//
// A list shifts while it is read. A new invitation moves everything down, so some items come twice.
// An invitation that is revoked or accepted leaves the list and moves everything up, which would
// hide items. So pages overlap by one, and if the overlap is missing, walk steps back.
func (r *reader) walk(ctx context.Context, l list) (ledger.GET, error) {
	var first *ledger.GET
	var before []string // ids of the page before
	offset, tries := 0, 0
	for steps := 0; steps < 100; {
		var page []string
		var shows []clerk.Invitation
		var done, gap bool
		g, a, err := r.get(ctx, l.call, first, func(ctx context.Context) clerk.Answer {
			if l.asked != nil {
				*l.asked++
			}
			a := r.api.Invitations(ctx, clerk.ListQuery{Status: string(l.status), Offset: offset, Limit: clerk.MaxPage})
			page, shows = ids(a.Invitations), a.Invitations
			gap = len(before) > 0 && !overlap(before, page)
			end := a.Total >= 0 && offset+len(page) >= a.Total || len(page) == 0 || slices.Equal(page, last(before))
			done = end && !gap
			return a.Answer
		}, func(a clerk.Answer, e *ledger.ReadEnd) {
			if n := len(page); n > 0 && !gap && !l.back.IsZero() && shows[n-1].CreatedAt.Before(l.back) {
				done, e.Reached = true, l.back
			}
			e.Items, e.Complete = len(page), done
			if l.sight {
				e.Seen = seen(shows)
			}
		})
		if err == nil && l.take != nil {
			err = l.take(ctx, g, shows)
		}
		if err != nil && tries < pageTries && a.Class != clerk.Unauthorized && ctx.Err() == nil {
			// Do not restart a long walk because of one page.
			tries++
			_ = sleep(ctx, r.cfg.paced(time.Duration(tries)*time.Second))
			continue
		}
		if err != nil {
			return g, fmt.Errorf("read %s: %w", l.call, err)
		}
		tries = 0
		if first == nil {
			first = &g
		}
		switch {
		case done:
			return *first, nil
		case gap && offset > 0:
			steps++
			offset = max(0, offset-clerk.MaxPage/2)
		default:
			steps = max(0, steps-1) // a long list may shift more often than a short one
			before = page
			offset += max(0, len(page)-1)
		}
	}
	return *first, fmt.Errorf("read %s: the list changes faster than it can be read", l.call)
}

func ids(invitations []clerk.Invitation) []string {
	out := make([]string, len(invitations))
	for i, one := range invitations {
		out[i] = one.ID
	}
	return out
}

// last returns the last item of a page, as a page of its own.
func last(page []string) []string { return page[max(0, len(page)-1):] }

func overlap(a, b []string) bool {
	return slices.ContainsFunc(b, func(id string) bool { return slices.Contains(a, id) })
}

func seen(invitations []clerk.Invitation) []ledger.Seen {
	out := make([]ledger.Seen, 0, len(invitations))
	for _, i := range invitations {
		key, err := invitation.Key(i.Email)
		if err != nil {
			key = i.ID // not an address that a file can name
		}
		status := invitation.Status(i.Status)
		switch {
		case i.Revoked:
			status = invitation.Revoked
		case !status.AtClerk(): // a status that Clerk's documentation does not have
			status = ""
		}
		out = append(out, ledger.Seen{ID: i.ID, Key: key, Status: status, CreatedAt: i.CreatedAt, ExpiresAt: i.ExpiresAt})
	}
	return out
}

// unanswered is a person that Clerk gave no answer for: it did not say whether they are a user,
// although the request was for them alone.
type unanswered struct {
	invitation.RowID
	key  string
	code string
}

// users reads which of the people are users. If Clerk refuses the request, fails over it, or sends
// something that cannot be read, users asks again in halves, because some addresses may be the
// cause. It returns the people that still get no answer when they are asked for alone. An address
// that Clerk refuses as a parameter counts as read. If Clerk answers for none of the people, that
// is an outage, and users returns an error.
func (r *reader) users(ctx context.Context, people []*ledger.Case) ([]unanswered, error) {
	return r.usersAmong(ctx, people, false)
}

// usersAmong is users with what is known before: answers says that Clerk answers for other people.
func (r *reader) usersAmong(ctx context.Context, people []*ledger.Case, answers bool) ([]unanswered, error) {
	a, err := r.usersOnce(ctx, people)
	switch {
	case err == nil, !aboutThem(a), ctx.Err() != nil:
		return nil, err
	case len(people) == 1:
		return []unanswered{{people[0].RowID, people[0].Key, a.Code}}, nil
	}
	half := len(people) / 2
	_, first := r.usersOnce(ctx, people[:half])
	_, second := r.usersOnce(ctx, people[half:])
	answers = answers || first == nil || second == nil || a.Class == clerk.Rejected || r.answersFew(ctx, people[:half])
	if !answers && len(people) > fewUnanswered && slices.ContainsFunc(people, func(c *ledger.Case) bool { return c.Tries == 0 }) {
		return nil, first
	}
	var left []unanswered
	if first != nil {
		left, first = r.usersAmong(ctx, people[:half], answers)
	}
	if second != nil {
		var more []unanswered
		more, second = r.usersAmong(ctx, people[half:], answers)
		left = append(left, more...)
	}
	return left, errors.Join(first, second)
}

// answersFew reports whether Clerk answers for a smaller part of the people, down to one.
func (r *reader) answersFew(ctx context.Context, people []*ledger.Case) bool {
	for len(people) > 1 {
		people = people[:len(people)/2]
		if a, err := r.usersOnce(ctx, people); err == nil || !aboutThem(a) || ctx.Err() != nil {
			return err == nil
		}
	}
	return false
}

// fewUnanswered is the largest number of people that are asked for one by one although Clerk
// answers for none of them: so few cannot be told from an outage. More people are asked for one by
// one only if all of them have backed off before.
const fewUnanswered = 3

// aboutThem reports whether an answer may be caused by the people of the request. An answer without
// a call means that no request was sent, because the ledger could not be written.
func aboutThem(a clerk.Answer) bool {
	switch a.Class {
	case clerk.Rejected, clerk.Unexplained, clerk.Transient, clerk.Lost:
		return a.Call != ""
	}
	return false
}

// usersOnce sends one request. If it is for one person and Clerk refuses the address, that is an
// answer, and the read keeps it. The person counts as read, and the answer to the invitation will
// say the same.
func (r *reader) usersOnce(ctx context.Context, people []*ledger.Case) (clerk.Answer, error) {
	emails := make([]string, len(people))
	rows := make([]invitation.RowID, len(people))
	keys := make(map[string]bool, len(people))
	for i, c := range people {
		emails[i], rows[i], keys[c.Key] = c.Email, c.RowID, true
	}
	var found []clerk.User
	_, a, err := r.get(ctx, ledger.ReadUsers, nil, func(ctx context.Context) clerk.Answer {
		a := r.api.Users(ctx, spellings(emails))
		found = a.Users
		if a.Class == clerk.Rejected && len(people) == 1 {
			a.Class = clerk.Success
		}
		return a.Answer
	}, func(_ clerk.Answer, e *ledger.ReadEnd) {
		e.Items, e.Complete, e.Covers = len(found), true, rows
		for _, u := range found {
			for _, email := range u.Emails {
				if key, err := invitation.Key(email); err == nil && keys[key] {
					e.Seen = append(e.Seen, ledger.Seen{ID: u.ID, Key: key, User: true})
				}
			}
		}
	})
	if err != nil {
		return a, fmt.Errorf("read users: %w", err)
	}
	return a, nil
}

func (r *reader) load(ctx context.Context, ids []invitation.RowID) (cases []*ledger.Case, err error) {
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		cases, err = ledger.Load(ctx, tx, r.cfg.Instance.ID, ids, r.measured.rules(r.cfg), invitation.Coverage{})
		return err
	})
	return cases, err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
