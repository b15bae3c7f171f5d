package ratelimit

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
)

// TestCountReadsOneWindow checks that counting a bucket reads the attempts of one window, and not
// the whole ledger: each part of the query searches an index by time.
func TestCountReadsOneWindow(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	rows, _ := pool.Query(t.Context(), `explain `+weighing, 1, Create, time.Hour)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must.OK(t, err)
	plan := strings.Join(lines, "\n")
	for _, search := range []string{"(COALESCE(answered_at, deadline) > ", "(deadline > "} {
		if !strings.Contains(plan, search) || strings.Contains(plan, "Filter: "+search) {
			t.Errorf("no index is searched by %s…:\n%s", search, plan)
		}
	}
}
