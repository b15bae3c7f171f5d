package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"bulkinvite/clerk"
	"bulkinvite/invitation"
	"bulkinvite/ratelimit"
)

// preflightAtMost is how many people send and import ask Clerk about before they
// show the plan: a second or two. Of longer files the workers find it out.
const preflightAtMost = 10_000

// tries is how often a read is tried that Clerk does not answer.
const tries = 3

// preflight reads at Clerk who needs no invitation. It writes nothing.
type preflight struct {
	api     *clerk.Client
	budget  acquirer
	timeout time.Duration
	pending map[string]bool // the people with a pending invitation, by key
}

// acquirer gives the right to send one read; [ratelimit.General] does for a
// fleet.
type acquirer interface {
	Acquire(context.Context) (release func(*ratelimit.Throttled), err error)
}

// pacer paces the reads of a program that may write nothing, and so can take no
// part in the fleet's count: it leaves nine tenths of the limit to others.
type pacer struct {
	*rate.Limiter
	until time.Time // Clerk said to wait
}

func newPacer(limit ratelimit.Limit) *pacer {
	if limit.None {
		return &pacer{Limiter: rate.NewLimiter(rate.Inf, 1)}
	}
	return &pacer{Limiter: rate.NewLimiter(rate.Limit(float64(limit.N)/limit.Window.Seconds()/10), max(1, limit.N/50))}
}

// Acquire waits for the right to send a read.
func (p *pacer) Acquire(ctx context.Context) (func(*ratelimit.Throttled), error) {
	if err := sleep(ctx, time.Until(p.until)); err != nil {
		return nil, err
	}
	if err := p.Wait(ctx); err != nil {
		return nil, err
	}
	return func(t *ratelimit.Throttled) {
		if t != nil {
			p.until = time.Now().Add(max(t.Wait, time.Second))
		}
	}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// get sends a read until it is answered. Being told to slow down is no try.
func (f *preflight) get(ctx context.Context, send func(context.Context) clerk.Answer) (clerk.Answer, error) {
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
		case a.Class == clerk.Unauthorized, try == tries:
			return a, fail(exitFailed, "clerk", "try again later; nothing was sent", "Clerk does not answer what it knows of people: %s (%d %s)", a.Class, a.Status, a.Code)
		}
		try++
		if err := sleep(ctx, time.Second); err != nil {
			return a, err
		}
	}
}

// readPending reads the list of pending invitations.
func (f *preflight) readPending(ctx context.Context) error {
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
			if key, err := invitation.Key(one.Email); err == nil { // others no file could name
				f.pending[key] = true
			}
		}
		offset += len(page.Invitations)
		if len(page.Invitations) == 0 || page.Total >= 0 && offset >= page.Total {
			return nil
		}
	}
}

// users tells which of the people are users.
func (f *preflight) users(ctx context.Context, emails []string) (map[string]bool, error) {
	users := map[string]bool{}
	for chunk := range slices.Chunk(emails, clerk.MaxUsers) {
		if err := f.readUsers(ctx, chunk, users); err != nil {
			return nil, fmt.Errorf("read which people are users: %w", err)
		}
	}
	return users, nil
}

// readUsers asks in halves where Clerk refuses the question for an address in
// it; whoever can't be asked for is taken for no user.
func (f *preflight) readUsers(ctx context.Context, emails []string, users map[string]bool) error {
	var found clerk.UsersAnswer
	a, err := f.get(ctx, func(ctx context.Context) clerk.Answer {
		found = f.api.Users(ctx, emails)
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
