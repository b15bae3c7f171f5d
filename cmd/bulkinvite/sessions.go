package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/web"
)

type sessionsCmd struct {
	List sessionsListCmd `cmd:"" help:"List the people who are signed in to the page."`
	End  sessionsEndCmd  `cmd:"" help:"Sign people out at once."`
}

// Help is shown before the flags.
func (sessionsCmd) Help() string {
	return `Examples:

    bulkinvite sessions list
    bulkinvite sessions end 3

A session ends 8 hours after it was last used, and 72 hours after it began.`
}

type sessionsListCmd struct{}

// Help is shown before the flags.
func (sessionsListCmd) Help() string {
	return `Examples:

    bulkinvite sessions list
    bulkinvite sessions list --json

The newest first. The role is that of signing in: each request has the role that the server's users or groups give it now. A session whose user, password or provider has changed is listed until it ends, and signs nobody in.`
}

// Run lists the sessions.
func (sessionsListCmd) Run(ctx context.Context, p *program, pool *pgxpool.Pool) error {
	sessions, err := web.Sessions(ctx, pool)
	if err != nil {
		return err
	}
	if len(sessions) == 0 {
		return p.show(sessions, "Nobody is signed in.\n")
	}
	t := table{head: []string{"Session", "User", "Role", "By", "Began", "Last used", "Ends"}, right: []bool{true}}
	for _, s := range sessions {
		t.add(strconv.FormatInt(s.ID, 10), s.User, string(s.Role), s.Via, moment(s.CreatedAt), moment(s.UsedAt), moment(s.EndsAt))
	}
	return p.show(sessions, t.on(p.outDisplay()))
}

type sessionsEndCmd struct {
	Session *int64 `arg:"" optional:"" help:"The session's number; bulkinvite sessions list has them."`
	User    string `placeholder:"NAME" help:"All sessions of this user. Default: none."`
	All     bool   `help:"All sessions of everybody. Default: off."`
	Actor   actor  `placeholder:"NAME" help:"Who ends them, for the record. Default: the login name."`
}

// Help is shown before the flags.
func (sessionsEndCmd) Help() string {
	return `Examples:

    bulkinvite sessions end 3
    bulkinvite sessions end --user maria
    bulkinvite sessions end --all

Name a session, --user or --all. The next request of an ended session is refused at every server; a live page closes within 15 seconds. People may sign in again: to keep a user out, take them off the users file and restart the server.`
}

// Run ends sessions.
func (c *sessionsEndCmd) Run(ctx context.Context, p *program) error {
	which := web.Ending{User: c.User, All: c.All}
	named := 0
	for _, given := range []bool{c.Session != nil, c.User != "", c.All} {
		if given {
			named++
		}
	}
	if named != 1 {
		return fail(exitUsage, "usage", "use bulkinvite sessions end SESSION, bulkinvite sessions end --user NAME or bulkinvite sessions end --all", "sessions end needs exactly one of a session's number, --user and --all")
	}
	if c.Session != nil {
		if which.ID = *c.Session; which.ID < 1 {
			return fail(exitUsage, "no_session", "bulkinvite sessions list lists them", "end session %d: %w", which.ID, web.ErrNoSession)
		}
	}
	pool, err := p.database(ctx)
	if err != nil {
		return err
	}
	ended, err := web.EndSessions(ctx, pool, which, c.Actor.name())
	if errors.Is(err, web.ErrNoSession) {
		return fail(exitUsage, "no_session", "bulkinvite sessions list lists them", "%w", err)
	}
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(struct {
			Ended []int64 `json:"ended"`
		}{ended})
	}
	p.note("Sessions ended: %d.", len(ended))
	return nil
}
