package web

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/must"
)

// most keeps how many rows the largest of a pool's answers had.
type most struct{ rows atomic.Int64 }

// TraceQueryStart notes nothing.
func (m *most) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd notes how many rows a statement brought.
func (m *most) TraceQueryEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	for n := data.CommandTag.RowsAffected(); ; {
		before := m.rows.Load()
		if n <= before || m.rows.CompareAndSwap(before, n) {
			return
		}
	}
}

// TestListsReadOnePage: a page of a list, however long the list is, is all that is
// read of it, at its beginning and where it goes on.
func TestListsReadOnePage(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	id := b.server.cfg.Instance.ID
	for _, sql := range []string{
		`insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state) select $1, 'a.csv', '', 1, 'UTF-8', ',', '{email}', 'olga', 'draft' from generate_series(1, 300)`,
		`insert into results (batch_id, instance_id, row_number, line, original, outcome, reason, decided_at) select 1, $1, n, n + 1, '{x}', 'invalid', 'no_at', now() from generate_series(1, 300) n`,
		`insert into results (batch_id, instance_id, row_number, line, original, email, key) select 2, $1, n, n + 1, '{x}', 'p' || n || '@example.com', 'p' || n || '@example.com' from generate_series(1, 300) n`,
		`insert into sweeps (instance_id, kind, started_by, apply, held, threshold) select $1, 'sweep', 'maria', true, true, 1 from generate_series(1, 300)`,
		`insert into revocations (sweep_id, clerk_invitation_id, instance_id, key) select 1, 'inv_' || n, $1, 'p' || n || '@example.com' from generate_series(1, 300) n`,
		`insert into events (instance_id, batch_id, actor, action) select $1, 1, 'maria', 'set' from generate_series(1, 300)`,
	} {
		b.exec(sql, id)
	}
	watched := &most{}
	cfg := b.pool.Config()
	cfg.ConnConfig.Tracer = watched
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	must.OK(t, err)
	defer pool.Close()
	server, err := New(pool, b.server.cfg)
	must.OK(t, err)
	s := b.script(Auditor)
	ask := func(path string) answer {
		r := s.request(http.MethodGet, apiRoot+path, nil)
		r.Header.Set("Authorization", "Bearer "+s.token)
		return recorded(t, server.Handler(), r)
	}
	for path, after := range map[string]string{
		"/batches?limit=2": "150", "/batches/2/rows?limit=2": "150", "/batches/1/problems?limit=2": "150", "/batches/2/rows?limit=2&q=p1": "150",
		"/people?limit=2&q=p": "p200@example.com", "/sweeps?limit=2": "150", "/sweeps?held=true&limit=2": "150", "/sweeps/1/revocations?limit=2": "inv_150", "/events?limit=2": "150", "/events?limit=2&batch=1": "150",
	} {
		for _, at := range []string{path, path + "&after=" + after} {
			watched.rows.Store(0)
			a := ask(at).want(http.StatusOK)
			if n := len(into[[]json.RawMessage](a)); n != 2 || watched.rows.Load() > 4 {
				t.Errorf("%s: %d entries, of %d rows that were read", at, n, watched.rows.Load())
			}
		}
	}
}

// recorded answers a request without a connection.
func recorded(t *testing.T, h http.Handler, r *http.Request) answer {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return answer{t: t, what: r.URL.RequestURI(), status: w.Code, header: w.Result().Header, body: w.Body.String()}
}
