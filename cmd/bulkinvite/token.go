package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/web"
)

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Make a token, which is shown once."`
	List   tokenListCmd   `cmd:"" help:"List the tokens, with who made them and when they were last used."`
	Revoke tokenRevokeCmd `cmd:"" help:"Make a token worthless at once."`
}

// Help is shown before the flags.
func (tokenCmd) Help() string {
	return `Examples:

    bulkinvite token create hr-import --role operator --expires 90d
    bulkinvite token list
    bulkinvite token revoke 3

A script shows its token with each request: Authorization: Bearer biv_… What it does is in the events as done by token:hr-import.`
}

type tokenCreateCmd struct {
	Name    string `arg:"" help:"What it is for; what is done with it has the actor token:NAME."`
	Role    string `enum:"auditor,operator" default:"auditor" placeholder:"auditor|operator" help:"auditor reads everything; operator also uploads, starts, pauses and cancels. Default: auditor."`
	Expires age    `default:"90d" placeholder:"AGE" help:"How long it is good for: 90d, or 36h. Default: 90d."`
	Actor   actor  `placeholder:"NAME" help:"Who makes it, for the record. Default: the login name."`
}

// Help is shown before the flags.
func (tokenCreateCmd) Help() string {
	return `Examples:

    bulkinvite token create hr-import --role operator --expires 90d
    bulkinvite token create dashboard > token

Prints the token on standard output, this once: the database keeps only its hash. No two tokens that are good at the same time have one name.`
}

// Run makes a token and prints it.
func (c *tokenCreateCmd) Run(ctx context.Context, p *program, pool *pgxpool.Pool) error {
	expires := time.Now().Add(time.Duration(c.Expires)).Truncate(time.Second).UTC()
	text, err := web.CreateToken(ctx, pool, c.Name, web.Role(c.Role), c.Actor.name(), expires)
	if errors.Is(err, web.ErrTokenName) {
		return usage(err)
	}
	if errors.Is(err, web.ErrTokenExists) {
		return fail(exitHeld, "token_exists", "choose another name, or revoke that token first: bulkinvite token list shows its number", "%w", err)
	}
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(struct {
			Text      string    `json:"token_text"`
			Name      string    `json:"name"`
			Role      string    `json:"role"`
			ExpiresAt time.Time `json:"expires_at"`
		}{text, c.Name, c.Role, expires})
	}
	p.note("Good until %s, as %s. It is not shown again.", moment(expires), c.Role)
	return p.printAsIs(text + "\n")
}

type tokenListCmd struct{}

// Help is shown before the flags.
func (tokenListCmd) Help() string {
	return `Examples:

    bulkinvite token list
    bulkinvite token list --json

The newest first; expired and revoked ones too. None of them shows its text.`
}

// Run lists the tokens.
func (tokenListCmd) Run(ctx context.Context, p *program, pool *pgxpool.Pool) error {
	tokens, err := web.Tokens(ctx, pool)
	if err != nil {
		return err
	}
	if len(tokens) == 0 {
		return p.show(tokens, "No tokens yet. bulkinvite token create NAME makes one.\n")
	}
	t := table{head: []string{"Token", "Name", "Role", "State", "By", "Made", "Expires", "Last used"}, right: []bool{true}}
	for _, one := range tokens {
		used := "never"
		if one.UsedAt != nil {
			used = moment(*one.UsedAt)
		}
		t.add(strconv.FormatInt(one.ID, 10), one.Name, string(one.Role), one.State(time.Now()), one.CreatedBy, moment(one.CreatedAt), moment(one.ExpiresAt), used)
	}
	return p.show(tokens, t.on(p.outDisplay()))
}

type tokenRevokeCmd struct {
	Token int64 `arg:"" help:"The token's number; bulkinvite token list has them."`
	Actor actor `placeholder:"NAME" help:"Who revokes it, for the record. Default: the login name."`
}

// Help is shown before the flags.
func (tokenRevokeCmd) Help() string {
	return `Examples:

    bulkinvite token list
    bulkinvite token revoke 3

The next request that shows it is refused, at every server. One that was revoked before stays so.`
}

// Run revokes a token.
func (c *tokenRevokeCmd) Run(ctx context.Context, p *program, pool *pgxpool.Pool) error {
	err := web.RevokeToken(ctx, pool, c.Token, c.Actor.name())
	if errors.Is(err, web.ErrNoToken) {
		return fail(exitUsage, "no_token", "bulkinvite token list lists them", "%w", err)
	}
	if err != nil {
		return err
	}
	p.note("Token %d is worth nothing from now on.", c.Token)
	return nil
}
