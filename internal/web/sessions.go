package web

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/event"
)

// Session is somebody's sign-in to the page, as the database keeps it.
type Session struct {
	ID        int64     `json:"session"`
	User      string    `json:"user"` // the actor of what they do
	Role      Role      `json:"role"` // when they signed in
	Via       string    `json:"via"`  // password, link or openid
	CreatedAt time.Time `json:"created_at"`
	UsedAt    time.Time `json:"used_at"` // to the minute
	EndsAt    time.Time `json:"ends_at"` // if it is not used again
}

// Sessions returns the sessions that have neither expired nor been ended, the
// newest first. A server's configuration may refuse some of them: see [New].
func Sessions(ctx context.Context, db *pgxpool.Pool) ([]Session, error) {
	rows, _ := db.Query(ctx, `
		select id, user_name, role, via, created_at, used_at, least(used_at + $1::interval, created_at + $2::interval) from web_sessions
		where used_at > clock_timestamp() - $1::interval and created_at > clock_timestamp() - $2::interval order by id desc`, sessionIdle, sessionLife)
	sessions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Session])
	if err != nil {
		return nil, fmt.Errorf("list the sessions: %w", err)
	}
	return sessions, nil
}

// Ending says which sessions [EndSessions] ends: exactly one of its fields is set.
type Ending struct {
	ID   int64  // one session
	User string // all sessions of a user
	All  bool
}

// ErrNoSession says that there is no session of that number.
var ErrNoSession = errors.New("no such session")

// EndSessions ends sessions and records who did. It returns their numbers, which may
// be none, but for a number that no session has: that is [ErrNoSession]. The next
// request of an ended session is refused at every server.
func EndSessions(ctx context.Context, db *pgxpool.Pool, which Ending, by string) ([]int64, error) {
	ended := []int64{}
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `delete from web_sessions where $3 or id = nullif($1::bigint, 0) or user_name = nullif($2::text, '') returning id`,
			which.ID, which.User, which.All)
		var err error
		if ended, err = pgx.AppendRows(ended, rows, pgx.RowTo[int64]); err != nil {
			return err
		}
		if len(ended) == 0 {
			return nil
		}
		return event.RecordGeneral(ctx, tx, by, "sessions_ended", map[string]any{"sessions": ended})
	})
	if err != nil {
		return nil, fmt.Errorf("end sessions: %w", err)
	}
	if which.ID != 0 && len(ended) == 0 {
		return nil, fmt.Errorf("end session %d: %w", which.ID, ErrNoSession)
	}
	return ended, nil
}
