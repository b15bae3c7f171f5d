package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"riverqueue.com/riverui"

	"bulkinvite/internal/event"
)

// riverPrefix is where River's own page of jobs and queues stands.
const riverPrefix = "/river"

// riverPolicy is what River's page needs beyond our own policy, for its paths
// alone: it sets styles from its script, and its sheet has images within.
var riverPolicy = strings.NewReplacer("style-src 'self'", "style-src 'self' 'unsafe-inline'", "img-src 'self'", "img-src 'self' data:").Replace(policy)

// newRiver makes River's page, which works no jobs. It hides their arguments,
// which are ids.
func (s *Server) newRiver() (*riverui.Handler, error) {
	client, err := river.NewClient(riverpgxv5.New(s.pool), &river.Config{Logger: s.log})
	if err != nil {
		return nil, fmt.Errorf("make a client for the page of jobs: %w", err)
	}
	h, err := riverui.NewHandler(&riverui.HandlerOpts{Endpoints: riverui.NewEndpoints(client, nil), JobListHideArgsByDefault: true, Logger: s.log, Prefix: riverPrefix})
	if err != nil {
		return nil, fmt.Errorf("make the page of jobs: %w", err)
	}
	return h, nil
}

// riverPage serves River's page. What somebody changes there is recorded as
// theirs before it is done.
func (s *Server) riverPage(w http.ResponseWriter, r *http.Request, who *visitor) error {
	w.Header().Set("Content-Security-Policy", riverPolicy)
	if strings.HasPrefix(r.URL.Path, riverPrefix+"/assets/") { // their names change with their content
		w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
	}
	if n, err := strconv.Atoi(r.URL.Query().Get("limit")); err == nil && n == 0 {
		// River takes 0 for valid and panics; it refuses everything else that it can't use.
		return refuse(http.StatusBadRequest, "Take 1 to 1000.", "A page of River's lists can't have 0 entries.")
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		if err != nil {
			return err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if err := s.recordRiver(r, body, who); err != nil {
			return err
		}
	}
	s.river.ServeHTTP(w, r)
	return nil
}

// recordRiver notes a change on River's page: POST /api/jobs/delete is the
// action river_jobs_delete, with the numbers of the jobs.
func (s *Server) recordRiver(r *http.Request, body []byte, who *visitor) error {
	path := strings.Trim(strings.TrimPrefix(r.URL.Path, riverPrefix+"/api"), "/")
	details := map[string]any{}
	action := "river_" + strings.ReplaceAll(path, "/", "_")
	if of, rest, found := strings.Cut(path, "/"); found && of == "queues" {
		queue, verb, _ := strings.Cut(rest, "/")
		details["queue"] = queue
		action = strings.TrimSuffix("river_queues_"+verb, "_")
	}
	var asked struct {
		IDs []json.Number `json:"ids"`
	}
	if json.Unmarshal(body, &asked) == nil && len(asked.IDs) > 0 {
		details["jobs"] = asked.IDs
	}
	return pgx.BeginFunc(r.Context(), s.pool, func(tx pgx.Tx) error {
		return event.RecordGeneral(r.Context(), tx, who.Name, action, details)
	})
}
