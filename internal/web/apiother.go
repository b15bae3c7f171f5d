package web

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"bulkinvite/importer"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/report"
	"bulkinvite/internal/revocation"
	"bulkinvite/ratelimit"
)

// otherOperations are those on people, sweeps, drift, the budget and events.
func (a *api) otherOperations() {
	a.peopleOperations()
	a.sweepOperations()
	type driftInput struct {
		Kind ledger.DriftKind `query:"kind" enum:"unexplained,gone,pending_again" doc:"Only drift of this kind."`
	}
	register(a, Auditor, huma.Operation{OperationID: "list-drift", Method: http.MethodGet, Path: "/drift", Tags: []string{"Clerk"},
		Summary: "List where Clerk and our rows tell different stories", Description: "The same as `bulkinvite drift --json`, as the last reconciling found it, the newest first, streamed. A user may have 4 downloads at a time.",
		Responses: streams(jsonType, "The drift that stands.", &huma.Schema{Type: huma.TypeArray, Items: schemaOf[report.Drift](a.huma)})},
		func(ctx context.Context, in *driftInput) (*huma.StreamResponse, error) {
			return streamed(a.download(exchangeOf(ctx), jsonType, func(out io.Writer) error {
				return report.JSONArray(out, func(add func(any) error) error {
					return report.EachDrift(ctx, a.pool, report.DriftFilter{Kind: in.Kind}, func(d *report.Drift) error { return add(d) })
				})
			}))
		})
	reply(a, Auditor, huma.Operation{OperationID: "get-reconcile", Method: http.MethodGet, Path: "/reconcile", Tags: []string{"Clerk"},
		Summary: "See when Clerk was last held against our rows", Description: "Of the instance that the server speaks for; 404 where it never was."},
		func(ctx context.Context, _ *struct{}) (*reconcile, error) {
			last, err := report.LastReconcile(ctx, a.pool, a.cfg.Instance.ID)
			if err != nil {
				return nil, err
			}
			if last == nil {
				return nil, refuse(http.StatusNotFound, "Workers do it every 15 minutes, bulkinvite reconcile does it now.", "Clerk was not held against the rows yet.")
			}
			return &reconcile{last, last.StartedBy, last.StartedAt, last.Error}, nil
		})
	reply(a, Auditor, huma.Operation{OperationID: "get-budget", Method: http.MethodGet, Path: "/budget", Tags: []string{"Clerk"},
		Summary: "See what Clerk's limits have left", Description: "Of the instance that the server speaks for."},
		func(ctx context.Context, _ *struct{}) (*budget, error) { return a.budget(ctx) })
	type eventsInput struct {
		Paging
		After int64 `query:"after" minimum:"1" doc:"Only events older than this one: the last of the page before."`
		Batch int64 `query:"batch" minimum:"1" doc:"Only what was done to this batch."`
	}
	register(a, Auditor, huma.Operation{OperationID: "list-events", Method: http.MethodGet, Path: "/events", Tags: []string{"Events"},
		Summary: "List who did what, the newest first"},
		func(ctx context.Context, in *eventsInput) (*many[report.Event], error) {
			found, err := report.Events(ctx, a.pool, in.Batch, in.After, in.Limit+1)
			return list(ctx, found, in.Limit, func(last report.Event) any { return last.ID }), err
		})
}

func (a *api) peopleOperations() {
	type peopleInput struct {
		Paging
		Search string `query:"q" required:"true" minLength:"1" maxLength:"320" doc:"The beginning of an address."`
		After  string `query:"after" maxLength:"320" doc:"Only people after this one: the key of the last of the page before."`
	}
	register(a, Auditor, huma.Operation{OperationID: "find-people", Method: http.MethodGet, Path: "/people", Tags: []string{"People"},
		Summary: "Find people in all batches", Description: "One line a person, by address, with the last row that names them."},
		func(ctx context.Context, in *peopleInput) (*many[report.PersonLine], error) {
			found, err := report.People(ctx, a.pool, in.Search, in.After, in.Limit+1)
			return list(ctx, found, in.Limit, func(last report.PersonLine) any { return last.Key }), err
		})
	type personPath struct {
		Email string `path:"email" maxLength:"320" doc:"The address, in any spelling."`
	}
	reply(a, Auditor, huma.Operation{OperationID: "get-person", Method: http.MethodGet, Path: "/people/{email}", Tags: []string{"People"},
		Summary:     "Read one person's whole story",
		Description: "The same as `bulkinvite why EMAIL --json`: every row, attempt, answer, read and event, with ids."},
		func(ctx context.Context, in *personPath) (*report.Story, error) {
			return a.storyOf(ctx, in.Email)
		})
}

// storyOf tells the story of the person with an address.
func (a *api) storyOf(ctx context.Context, address string) (*report.Story, error) {
	key, problem := importer.Person(address)
	if problem != "" {
		return nil, refuse(http.StatusUnprocessableEntity, "Write it as name@example.com.", "What is given as an address is none (%s).", problem)
	}
	story, err := report.Why(ctx, a.pool, key)
	if err != nil {
		return nil, err
	}
	if len(story.Rows)+len(story.Attempts) == 0 {
		return nil, refuse(http.StatusNotFound, "See that the address is spelt as in the file.", "Nobody by that address is in any file.")
	}
	return story, nil
}

// SweepPath is a sweep in an operation's path.
type SweepPath struct {
	Sweep int64 `path:"sweep" minimum:"1" doc:"The sweep's number."`
}

func (a *api) sweepOperations() {
	type sweepsInput struct {
		Paging
		After int64 `query:"after" minimum:"1" doc:"Only sweeps older than this one: the last of the page before."`
		Batch int64 `query:"batch" minimum:"1" doc:"Only those that take this batch back, or set it right."`
		Held  bool  `query:"held" doc:"Only those that wait for a person."`
	}
	register(a, Auditor, huma.Operation{OperationID: "list-sweeps", Method: http.MethodGet, Path: "/sweeps", Tags: []string{"Sweeps"},
		Summary: "List the sweeps, the newest first", Description: "The same as `bulkinvite sweep --list --json`, in pages."},
		func(ctx context.Context, in *sweepsInput) (*many[*revocation.Sweep], error) {
			found, err := revocation.Sweeps(ctx, a.pool, revocation.SweepFilter{Batch: in.Batch, Held: in.Held, Before: in.After, Limit: in.Limit + 1})
			return list(ctx, found, in.Limit, func(last *revocation.Sweep) any { return last.ID }), err
		})
	reply(a, Auditor, huma.Operation{OperationID: "get-sweep", Method: http.MethodGet, Path: "/sweeps/{sweep}", Tags: []string{"Sweeps"},
		Summary: "See what a sweep has done"},
		func(ctx context.Context, in *SweepPath) (*revocation.Sweep, error) {
			return revocation.ReadSweep(ctx, a.pool, in.Sweep)
		})
	type revocationsInput struct {
		SweepPath
		Paging
		After string `query:"after" maxLength:"200" doc:"Only invitations after this one: the clerk_invitation_id of the last of the page before."`
	}
	register(a, Auditor, huma.Operation{OperationID: "list-revocations", Method: http.MethodGet, Path: "/sweeps/{sweep}/revocations", Tags: []string{"Sweeps"},
		Summary: "List the invitations of a sweep, and what came of each", Description: "By Clerk's ids. A dry run has none."},
		func(ctx context.Context, in *revocationsInput) (*many[revocation.RevocationLine], error) {
			if _, err := revocation.ReadSweep(ctx, a.pool, in.Sweep); err != nil {
				return nil, err
			}
			found, err := revocation.Revocations(ctx, a.pool, in.Sweep, in.After, in.Limit+1)
			return list(ctx, found, in.Limit, func(last revocation.RevocationLine) any { return last.ClerkInvitationID }), err
		})
	reply(a, Auditor, huma.Operation{OperationID: "list-schedules", Method: http.MethodGet, Path: "/schedules", Tags: []string{"Sweeps"},
		Summary: "See when workers sweep next", Description: "By each schedule that workers were started with."},
		func(ctx context.Context, _ *struct{}) ([]schedule, error) { return a.nights(ctx) })
	for _, d := range []struct{ action, summary string }{
		{"allow", "Let a held sweep revoke what it found"},
		{"stop", "End a sweep that is held or goes on; what is not revoked stays"},
	} {
		reply(a, Operator, huma.Operation{OperationID: d.action + "-sweep", Method: http.MethodPost, Path: "/sweeps/{sweep}/" + d.action, Tags: []string{"Sweeps"}, Summary: d.summary},
			func(ctx context.Context, in *SweepPath) (*revocation.Sweep, error) {
				return a.changeSweep(ctx, in.Sweep, d.action, exchangeOf(ctx).who)
			})
	}
}

// budget is what the limits have left.
type budget struct {
	Environment string        `json:"environment"` // production, development or sandbox
	At          time.Time     `json:"at"`
	Workers     int           `json:"workers" doc:"Processes that work for the instance now; with none nothing is sent."`
	Limits      []limitBudget `json:"limits"`

	Differing []report.WorkerLimits `json:"differing_limits" doc:"The live workers, if their limits differ."`
}

// limitBudget is one limit. What it does not have is null.
type limitBudget struct {
	Bucket       string          `json:"bucket"` // bulk, create or general
	Limit        ratelimit.Limit `json:"limit" doc:"N/DURATION, the strictest of the server's and live workers'."`
	Free         *int            `json:"free" doc:"How many requests may be made now; null: any number."`
	NextAt       *time.Time      `json:"next_at" doc:"When the first request that weighs returns."`
	FullAt       *time.Time      `json:"full_at" doc:"When all have."`
	FrozenUntil  *time.Time      `json:"frozen_until" doc:"Nothing is sent before: Clerk answered 429."`
	FrozenReason *string         `json:"frozen_reason"`
	Returns      []returns       `json:"returns" doc:"When each request that weighs returns."`
	Ceiling      *int            `json:"ceiling" doc:"Always null: earlier versions told here what Clerk seemed to allow."`
}

// returns is when requests, one or a block of them, weigh on their limit no more.
type returns struct {
	At       time.Time `json:"at"`
	Requests int       `json:"requests"`
}

// reconcile is the last reconciling, as `bulkinvite reconcile --json` prints
// it, and when that was.
type reconcile struct {
	*ledger.Reconcile
	StartedBy string    `json:"started_by"`
	StartedAt time.Time `json:"started_at"`
	Error     string    `json:"error" doc:"Why it did not read everything."`
}

func (s *Server) budget(ctx context.Context) (*budget, error) {
	b, all, err := s.allUsages(ctx)
	if err != nil {
		return nil, err
	}
	d := &budget{Environment: s.cfg.Instance.Environment, At: b.Now, Workers: len(b.Workers), Differing: b.Differing()}
	for _, u := range all {
		l := limitBudget{Bucket: u.Name, Limit: u.Limit, NextAt: timeOrNil(u.Next), FullAt: timeOrNil(u.Full),
			FrozenUntil: timeOrNil(u.Frozen), Returns: []returns{}}
		if !u.Limit.None {
			l.Free = &u.Free
		}
		if l.FrozenUntil != nil {
			l.FrozenReason = &u.Why
		}
		for _, w := range u.Weighing {
			l.Returns = append(l.Returns, returns{b.Now.Add(w.Weighs), w.Tokens})
		}
		d.Limits = append(d.Limits, l)
	}
	return d, nil
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
