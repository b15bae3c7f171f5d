package web

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/internal/revocation"
)

// deeds are what can be done to a batch, in the words of the API's document.
var deeds = []struct{ action, summary, description string }{
	{"pause", "Pause a batch", "What is under way at Clerk comes to its end and is recorded. Nothing else is sent before it is resumed."},
	{"resume", "Let a paused batch go on", "Whoever or whatever paused it."},
	{"cancel", "Stop a batch for good, also a draft", "Who was invited stays invited. It is not resumed."},
	{"discard", "Discard a draft", "The same, of a draft alone: a batch that somebody has started meanwhile is left alone, and answers 409."},
}

// batchOperations are those on batches that are there.
func (a *api) batchOperations() {
	type batchesInput struct {
		Paging
		After int64 `query:"after" minimum:"1" doc:"Only batches older than this one: the last of the page before."`
	}
	register(a, Auditor, huma.Operation{OperationID: "list-batches", Method: http.MethodGet, Path: "/batches", Tags: []string{"Batches"},
		Summary: "List the batches, the newest first", Description: "The same as `bulkinvite batches --json`, in pages. The counts of a large batch that runs may be some seconds old: the Age of GET /batches/{batch} says how old its own are."},
		func(ctx context.Context, in *batchesInput) (*many[report.BatchLine], error) {
			found, err := a.batchLines(ctx, in.After, in.Limit+1)
			return list(ctx, found, in.Limit, func(last report.BatchLine) any { return last.Batch }), err
		})
	register(a, Auditor, huma.Operation{OperationID: "get-batch", Method: http.MethodGet, Path: "/batches/{batch}", Tags: []string{"Batches"},
		Summary: "See where a batch stands", Description: "The same as `bulkinvite status BATCH --json`. Every row is counted: `rows` is the sum of `outcomes` and `undecided`. The rows of a batch of 5,000 and more are not counted each time: `Age` says how many seconds ago they were. Its state is always that of now."},
		func(ctx context.Context, in *BatchPath) (*agedDocument, error) {
			d, err := a.document(ctx, in.Batch)
			return &agedDocument{int(a.now().Sub(d.at).Seconds()), d.Document}, err
		})
	for _, d := range deeds {
		reply(a, Operator, huma.Operation{OperationID: d.action + "-batch", Method: http.MethodPost, Path: "/batches/{batch}/" + d.action, Tags: []string{"Batches"},
			Summary: d.summary, Description: d.description},
			func(ctx context.Context, in *BatchPath) (*report.Document, error) {
				return a.changed(ctx, in.Batch, a.do(ctx, in.Batch, d.action, exchangeOf(ctx).who))
			})
	}
	type retryInput struct {
		BatchPath
		Rejected bool `query:"rejected" doc:"Take up the rejected rows too, where an allow list or a plan at Clerk has changed since."`
	}
	reply(a, Operator, huma.Operation{OperationID: "retry-batch", Method: http.MethodPost, Path: "/batches/{batch}/retry", Tags: []string{"Batches"},
		Summary: "Take up the failed rows of a batch", Description: "What a row had until then stays on record."},
		func(ctx context.Context, in *retryInput) (*report.Document, error) {
			action := "retry"
			if in.Rejected {
				action = "retry-rejected"
			}
			return a.changed(ctx, in.Batch, a.do(ctx, in.Batch, action, exchangeOf(ctx).who))
		})
	type undoInput struct {
		BatchPath
		Body undoBody
	}
	reply(a, Operator, huma.Operation{OperationID: "undo-batch", Method: http.MethodPost, Path: "/batches/{batch}/undo", Tags: []string{"Batches"},
		Summary: "Take a batch back", Description: "Cancels what is left of it, and revokes each invitation that it sent and nobody has accepted. Resends of the batch and corrections of its rows are undone with it; invitations that other files or programs made for the same people stay. Workers do that; the answer is the sweep to watch, as `bulkinvite undo BATCH --json` prints it."},
		func(ctx context.Context, in *undoInput) (*revocation.Sweep, error) {
			return a.undoBatch(ctx, in.Batch, &in.Body.Invitations, exchangeOf(ctx).who)
		})
	reply(a, Auditor, huma.Operation{OperationID: "get-undo", Method: http.MethodGet, Path: "/batches/{batch}/undo", Tags: []string{"Batches"},
		Summary: "See what taking a batch back means, or how far that is"},
		ofBatch(a, func(ctx context.Context, b *invitation.Batch, _ BatchPath) (*undoState, error) {
			t, err := report.Tally(ctx, a.pool, b.ID)
			if err != nil {
				return nil, err
			}
			if t.Statuses, err = revocation.CountSent(ctx, a.pool, b.ID); err != nil {
				return nil, err
			}
			return a.undoing(ctx, b, t)
		}))
	reply(a, Auditor, huma.Operation{OperationID: "get-course", Method: http.MethodGet, Path: "/batches/{batch}/course", Tags: []string{"Batches"},
		Summary: "See how a batch went over time", Description: "What the picture on its page shows. The counts of a large batch may be some seconds old."},
		ofBatch(a, func(ctx context.Context, b *invitation.Batch, _ BatchPath) (*course, error) {
			c, err := a.courseOf(ctx, b)
			if err != nil {
				return nil, err
			}
			d := &course{Steps: []report.Step{}}
			if !c.From.IsZero() {
				d.From, d.To, d.Steps = &c.From, &c.To, c.Steps
			}
			d.LastHour, err = report.InvitedLately(ctx, a.pool, b, time.Hour)
			return d, err
		}))
	register(a, Auditor, huma.Operation{OperationID: "watch-batch", Method: http.MethodGet, Path: "/batches/{batch}/live", Tags: []string{"Batches"},
		Summary:     "Watch a batch",
		Description: "Server-sent events, without names: the data of each is a document as GET /batches/{batch} gives it. The first comes at once, the next when it has changed, a second later at the earliest. The stream ends when the server stops, or the token does: connect again. A user may have 32 at a time.",
		Responses:   streams("text/event-stream", "Documents, one an event.", anyText)},
		ofBatch(a, func(ctx context.Context, b *invitation.Batch, _ BatchPath) (*huma.StreamResponse, error) {
			return streamed(a.watch(exchangeOf(ctx), watched{b.ID, true}))
		}))
}

// agedDocument is where a batch stands, as it was counted a while ago.
type agedDocument struct {
	Age  int `header:"Age" doc:"How many seconds ago the rows were counted (RFC 9111)."`
	Body report.Document
}

// undoBody confirms an undo.
type undoBody struct {
	Invitations int `json:"invitations" minimum:"0" doc:"How many invitations are to be revoked: those of the batch, of its resends and of corrections of its rows that are pending. With another number nothing happens."`
}

// course is how a batch went.
type course struct {
	From     *time.Time    `json:"from" doc:"The first invitation; null: nobody was invited."`
	To       *time.Time    `json:"to"`
	Steps    []report.Step `json:"steps" doc:"What there was in all at the end of each part of that time; the parts are of one length. An acceptance counts from when it was read."`
	LastHour int           `json:"last_hour" doc:"People invited in the last hour."`
}

// streamed answers with what send writes.
func streamed(send func(), err error) (*huma.StreamResponse, error) {
	return &huma.StreamResponse{Body: func(huma.Context) { send() }}, err
}

// streams describes an answer that is written as it is read.
func streams(contentType, description string, schema *huma.Schema) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: description, Content: map[string]*huma.MediaType{contentType: {Schema: schema}}}}
}

var anyText = &huma.Schema{Type: huma.TypeString}
