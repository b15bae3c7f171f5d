package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/event"
)

// tokenPrefix begins every token, so that people and scanners for leaked secrets
// know one when they see it.
const tokenPrefix = "biv_"

// Token is what a script shows with its requests. Its text is not kept.
type Token struct {
	ID        int64      `json:"token"`
	Name      string     `json:"name"`
	Role      Role       `json:"role"`
	CreatedBy string     `json:"created_by"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt time.Time  `json:"expires_at"`
	UsedAt    *time.Time `json:"used_at"`    // to the minute; nil: never
	RevokedAt *time.Time `json:"revoked_at"` // nil: it was not
}

// State is active, expired or revoked.
func (t Token) State(now time.Time) string {
	switch {
	case t.RevokedAt != nil:
		return "revoked"
	case !t.ExpiresAt.After(now):
		return "expired"
	}
	return "active"
}

// Actor is the name under which events record what is done with the token: no
// user can have it.
func (t Token) Actor() string { return "token:" + t.Name }

// ErrTokenName says that a token can't have the name that it was to have.
var ErrTokenName = errors.New("a token's name has letters, digits and . _ @ + - in it, and no more than 100 of them")

// ErrTokenExists says that a token of that name is still good: events could not tell
// what the two do apart.
var ErrTokenExists = errors.New("a token of that name is still good")

// ErrNoToken says that there is no token of that number.
var ErrNoToken = errors.New("no such token")

// CreateToken makes a token, and records who made it. The text that it returns
// is kept nowhere else: only its hash is. While a token of that name is still good,
// it returns [ErrTokenExists].
func CreateToken(ctx context.Context, db *pgxpool.Pool, name string, role Role, createdBy string, expires time.Time) (text string, err error) {
	switch {
	case !userName.MatchString(name):
		return "", ErrTokenName
	case !role.Valid():
		return "", fmt.Errorf("%q is no role: take auditor or operator", role)
	}
	random, _ := secret()
	text = tokenPrefix + random
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		// Two that are made at once must see each other. An index can't do it: it does not
		// know what time it is.
		if _, err := tx.Exec(ctx, `lock table api_tokens in share row exclusive mode`); err != nil {
			return err
		}
		var taken bool
		err := tx.QueryRow(ctx, `select exists (select from api_tokens where name = $1 and revoked_at is null and expires_at > clock_timestamp())`,
			name).Scan(&taken)
		switch {
		case err != nil:
			return err
		case taken:
			return ErrTokenExists
		}
		var id int64
		err = tx.QueryRow(ctx, `insert into api_tokens (hash, name, role, created_by, expires_at) values ($1, $2, $3, $4, $5) returning id`,
			hashOf(text), name, role, createdBy, expires).Scan(&id)
		if err != nil {
			return err
		}
		return event.RecordGeneral(ctx, tx, createdBy, "token_created", map[string]any{"token": id})
	})
	if err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	return text, nil
}

// Tokens returns every token there was, the newest first.
func Tokens(ctx context.Context, db *pgxpool.Pool) ([]Token, error) {
	rows, _ := db.Query(ctx, `select id, name, role, created_by, created_at, expires_at, used_at, revoked_at from api_tokens order by id desc`)
	tokens, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Token])
	if err != nil {
		return nil, fmt.Errorf("list the tokens: %w", err)
	}
	return tokens, nil
}

// RevokeToken makes a token worthless from now on, and records who did. One that
// was revoked stays so. One that there is not is [ErrNoToken].
func RevokeToken(ctx context.Context, db *pgxpool.Pool, id int64, by string) error {
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		var before *time.Time
		err := tx.QueryRow(ctx, `
			update api_tokens t set revoked_at = coalesce(t.revoked_at, clock_timestamp())
			from (select id, revoked_at from api_tokens where id = $1 for update) before
			where t.id = before.id returning before.revoked_at`, id).Scan(&before)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return ErrNoToken
		case err != nil || before != nil:
			return err
		}
		return event.RecordGeneral(ctx, tx, by, "token_revoked", map[string]any{"token": id})
	})
	if err != nil {
		return fmt.Errorf("revoke token %d: %w", id, err)
	}
	return nil
}

// bearer is what a request shows as its token, if it shows one. What else there
// may be, such as a password for a proxy on the way, is not for us.
func bearer(r *http.Request) (text string, shown bool) {
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(text), strings.EqualFold(scheme, "Bearer")
}

// tokenOf finds out whose token a text is: nobody's is nil. Once a minute it notes
// that the token is used.
func (s *Server) tokenOf(ctx context.Context, text string) (*visitor, error) {
	if !strings.HasPrefix(text, tokenPrefix) {
		return nil, nil
	}
	var t Token
	var stale bool
	err := s.pool.QueryRow(ctx, `
		select id, name, role, coalesce(used_at < clock_timestamp() - interval '1 minute', true) from api_tokens
		where hash = $1 and expires_at > clock_timestamp() and revoked_at is null`, hashOf(text)).Scan(&t.ID, &t.Name, &t.Role, &stale)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for a token: %w", err)
	}
	if stale {
		if _, err := s.pool.Exec(ctx, `update api_tokens set used_at = clock_timestamp() where id = $1`, t.ID); err != nil {
			return nil, fmt.Errorf("note that token %d is used: %w", t.ID, err)
		}
	}
	return &visitor{Name: t.Actor(), Role: t.Role}, nil
}
