package jobs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/time/rate"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/ratelimit"
)

// PreflightAtMost is how many people Clerk is asked about before a plan is shown, which takes a
// second or two. For longer files the workers do it.
const PreflightAtMost = 10_000

// preflightTries is how often a read is tried if Clerk does not answer it.
const preflightTries = 3

// Preflight reads from Clerk which people need no invitation, for a plan. It writes nothing to the
// ledger, because no claim relies on it.
type Preflight struct {
	api     *clerk.Client
	budget  Acquirer
	timeout time.Duration
	pending map[string]bool // keys of people with a pending invitation
}

// NewPreflight returns a Preflight. It gets the right to send each read from budget. timeout is the
// longest that one read may take.
func NewPreflight(api *clerk.Client, budget Acquirer, timeout time.Duration) *Preflight {
	return &Preflight{api: api, budget: budget, timeout: timeout}
}

// Acquirer gives the right to send one read: [ratelimit.General] for a fleet, [Pacer] for a program
// that writes nothing.
type Acquirer interface {
	Acquire(context.Context) (release func(*ratelimit.Throttled), err error)
}

// Pacer paces the reads of a program that must not write, and so cannot take part in the fleet's
// count. It leaves nine tenths of the limit to others.
type Pacer struct {
	*rate.Limiter
	until time.Time     // until then Clerk asked to wait
	most  time.Duration // the longest Retry-After that is believed
}

// NewPacer returns a Pacer for a limit.
func NewPacer(limit ratelimit.Limit) *Pacer {
	if limit.None {
		return &Pacer{Limiter: rate.NewLimiter(rate.Inf, 1), most: ratelimit.DefaultProduction.Window}
	}
	pace := rate.Limit(float64(limit.N) / limit.Window.Seconds() / 10)
	return &Pacer{most: limit.Window, Limiter: rate.NewLimiter(pace, max(1, limit.N/50))}
}

// Acquire waits for the right to send one read. The caller passes release what a 429 said, or nil.
func (p *Pacer) Acquire(ctx context.Context) (func(*ratelimit.Throttled), error) {
	if sleep(ctx, time.Until(p.until)) != nil {
		return nil, context.Cause(ctx)
	}
	if err := p.Wait(ctx); err != nil {
		return nil, err
	}
	return func(t *ratelimit.Throttled) {
		if t != nil {
			p.until = time.Now().Add(max(min(t.Wait, p.most), time.Second))
		}
	}, nil
}

// UnansweredError says that Clerk did not answer which people it knows.
type UnansweredError struct {
	Answer clerk.Answer // the last answer
}

// Error has the class, status and code of the last answer.
func (e *UnansweredError) Error() string {
	return fmt.Sprintf("Clerk does not answer what it knows of people: %s (%d %s)", e.Answer.Class, e.Answer.Status, e.Answer.Code)
}

// get repeats a read until it is answered. A 429 does not count as a try.
func (f *Preflight) get(ctx context.Context, send func(context.Context) clerk.Answer) (clerk.Answer, error) {
	for try := 1; ; {
		release, err := f.budget.Acquire(ctx)
		if err != nil {
			return clerk.Answer{}, err
		}
		calling, cancel := context.WithTimeout(ctx, f.timeout)
		a := send(calling)
		cancel()
		if a.Class == clerk.Throttled {
			release(&ratelimit.Throttled{Wait: a.RetryAfter, Told: a.HasRetryAfter})
			continue
		}
		release(nil)
		switch {
		case ctx.Err() != nil:
			return a, context.Cause(ctx)
		case a.Class == clerk.Success, a.Class == clerk.Rejected:
			return a, nil
		case a.Class == clerk.Unauthorized, try == preflightTries:
			return a, &UnansweredError{a}
		}
		try++
		if sleep(ctx, time.Second) != nil {
			return a, context.Cause(ctx)
		}
	}
}

// readPending reads the list of pending invitations.
func (f *Preflight) readPending(ctx context.Context) error {
	f.pending = map[string]bool{}
	for offset := 0; ; {
		var page clerk.ListAnswer
		_, err := f.get(ctx, func(ctx context.Context) clerk.Answer {
			page = f.api.Invitations(ctx, clerk.ListQuery{Status: string(invitation.Pending), Offset: offset})
			return page.Answer
		})
		if err != nil {
			return fmt.Errorf("read the pending invitations: %w", err)
		}
		for _, one := range page.Invitations {
			if key, err := invitation.Key(one.Email); err == nil { // no file can name other addresses
				f.pending[key] = true
			}
		}
		offset += len(page.Invitations)
		if len(page.Invitations) == 0 || page.Total >= 0 && offset >= page.Total {
			return nil
		}
	}
}

// users returns which of the people are users.
func (f *Preflight) users(ctx context.Context, people []invitation.Addressee) (map[string]bool, error) {
	users := map[string]bool{}
	for chunk := range questions(people, func(p invitation.Addressee) string { return p.Email }) {
		emails := make([]string, len(chunk))
		for i, p := range chunk {
			emails[i] = p.Email
		}
		if err := f.readUsers(ctx, emails, users); err != nil {
			return nil, fmt.Errorf("read which people are users: %w", err)
		}
	}
	return users, nil
}

// spellings returns addresses as typed and, if different, in lower case. Clerk stores users'
// addresses in lower case and may compare them exactly.
func spellings(emails []string) []string {
	all := make([]string, 0, len(emails))
	for _, email := range emails {
		all = append(all, email)
		if lower := strings.ToLower(email); lower != email {
			all = append(all, lower)
		}
	}
	return all
}

// questions divides people over GET /users requests, each with at most [clerk.MaxUsers] spellings.
func questions[T any](people []T, email func(T) string) iter.Seq[[]T] {
	return func(yield func([]T) bool) {
		first, n := 0, 0
		for i, p := range people {
			more := len(spellings([]string{email(p)}))
			if n+more > clerk.MaxUsers {
				if !yield(people[first:i]) {
					return
				}
				first, n = i, 0
			}
			n += more
		}
		if first < len(people) {
			yield(people[first:])
		}
	}
}

// readUsers asks again in halves if Clerk refuses the request because of an address in it. A person
// whose address Clerk refuses alone counts as not a user.
func (f *Preflight) readUsers(ctx context.Context, emails []string, users map[string]bool) error {
	var found clerk.UsersAnswer
	a, err := f.get(ctx, func(ctx context.Context) clerk.Answer {
		found = f.api.Users(ctx, spellings(emails))
		return found.Answer
	})
	if err != nil {
		return err
	}
	if a.Class == clerk.Rejected {
		if len(emails) == 1 {
			return nil
		}
		half := len(emails) / 2
		if err := f.readUsers(ctx, emails[:half], users); err != nil {
			return err
		}
		return f.readUsers(ctx, emails[half:], users)
	}
	for _, u := range found.Users {
		for _, email := range u.Emails {
			if key, err := invitation.Key(email); err == nil {
				users[key] = true
			}
		}
	}
	return nil
}

// Lookup finds out which people need no invitation: in the results, at Clerk, or both.
type Lookup struct {
	Pool     *pgxpool.Pool // nil: there is no database
	Instance int64
	Clerk    *Preflight // nil: do not ask Clerk
	Batch    int64      // the draft of the people; 0: a file that is not a batch yet
}

// LookupChunk is how many people are best looked up at a time.
const LookupChunk = 1000

// People passes people to take, up to [LookupChunk] at a time. It may be called twice.
type People func(take func([]invitation.Addressee) error) error

// Preview counts the people that need no invitation. n is the number of people. If it is above
// [PreflightAtMost], Preview does not ask Clerk. If Clerk does not answer, Preview uses only the
// results, and silent says why.
func (l Lookup) Preview(ctx context.Context, n int, people People) (k invitation.Known, silent *UnansweredError,
	err error) {
	if n > PreflightAtMost {
		l.Clerk = nil
	}
	if k, err = l.Known(ctx, people); errors.As(err, &silent) {
		l.Clerk = nil
		k, err = l.Known(ctx, people)
	}
	return k, silent, err
}

// Known counts the people that need no invitation. It fails with an [UnansweredError] if Clerk does
// not answer.
func (l Lookup) Known(ctx context.Context, people People) (k invitation.Known, err error) {
	ctx, span := tracer.Start(ctx, "lookup")
	defer func() { endSpan(span, err) }()
	if l.Batch != 0 {
		span.SetAttributes(spanBatch.Int64(l.Batch))
	}
	needed, err := l.begin(ctx)
	if err != nil || !needed {
		return k, err
	}
	err = people(func(some []invitation.Addressee) error { return l.count(ctx, some, &k) })
	return k, err
}

// begin makes the reads that are needed once for all people. It returns false if nobody can be
// known, because there is nothing to look them up in.
func (l *Lookup) begin(ctx context.Context) (bool, error) {
	if l.Pool != nil {
		any, err := report.AnyInvited(ctx, l.Pool, l.Instance)
		if err != nil {
			return false, err
		}
		if !any {
			l.Pool = nil
		}
	}
	if l.Clerk != nil {
		if err := l.Clerk.readPending(ctx); err != nil {
			return false, err
		}
	}
	return l.Pool != nil || l.Clerk != nil, nil
}

// count adds to k the people that need no invitation.
func (l *Lookup) count(ctx context.Context, people []invitation.Addressee, k *invitation.Known) error {
	var ours, users map[string]bool
	var err error
	if l.Pool != nil {
		keys := make([]string, len(people))
		for i, p := range people {
			keys[i] = p.Key
		}
		if ours, err = report.Known(ctx, l.Pool, l.Instance, keys); err != nil {
			return err
		}
	}
	if l.Clerk != nil {
		if users, err = l.Clerk.users(ctx, people); err != nil {
			return err
		}
	}
	for _, p := range people {
		stands, invited := ours[p.Key]
		switch {
		case users[p.Key]:
			k.Registered++
		case stands:
			k.Invited++
		case l.Clerk != nil && l.Clerk.pending[p.Key]:
			k.Pending++
		case invited:
			k.Lapsed++
		}
	}
	return nil
}
