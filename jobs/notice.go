package jobs

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/riverqueue/river"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/loopback"
	"bulkinvite/internal/proof"
	"bulkinvite/internal/report"
	"bulkinvite/internal/revocation"
)

// Webhook is the receiver of notices: a batch ended or paused itself, or a sweep is held. Notices
// are signed according to the Standard Webhooks specification.
type Webhook struct {
	address string
	signer  *webhooks.Webhook
	client  *http.Client
}

// secretPrefix is the prefix of a webhook's secret.
const secretPrefix = "whsec_"

// NewWebhook returns the receiver with a URL and a shared secret, which is whsec_ and the base64 of
// 24 to 64 bytes. http:// is allowed on loopback only. Errors contain neither the URL nor the
// secret. Redirects are not followed, because a notice that is signed for one receiver must not go
// to another.
func NewWebhook(address, secret string) (*Webhook, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("the webhook's URL is none: write it as https://host/path")
	}
	if !loopback.Secure(u) {
		return nil, errors.New("the webhook's URL must be https://; http:// is for loopback only")
	}
	signer, err := webhooks.NewWebhook(secret)
	if encoded, ok := strings.CutPrefix(secret, secretPrefix); err != nil || !ok || len(encoded) < 32 || len(encoded) > 88 {
		return nil, errors.New("the webhook's secret is none: it is " + secretPrefix + " and the base64 of 24 to 64 bytes")
	}
	return &Webhook{address: address, signer: signer, client: &http.Client{
		Timeout:       15 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// NoticeArgs is a notice to send. The database inserts the job in the transaction of the event. It
// carries ids only.
type NoticeArgs struct {
	ID    string    `json:"id"`   // the same for all deliveries
	Type  string    `json:"type"` // batch.done, batch.cancelled, batch.paused or sweep.held
	At    time.Time `json:"at"`   // when the event happened
	Batch int64     `json:"batch,omitempty"`
	Sweep int64     `json:"sweep,omitempty"`
}

// Kind returns River's name of the job, "notice".
func (NoticeArgs) Kind() string { return "notice" }

func noticeQueue(instance int64) string { return fmt.Sprintf("notice_%d", instance) }

// noticeRetries are the waits between deliveries that fail, as the Standard Webhooks specification
// proposes. A job has one attempt more than there are waits.
var noticeRetries = []time.Duration{5 * time.Second, 30 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour, 24 * time.Hour}

// noticesKept is how long a notice is kept if no process delivers it because none has a webhook.
const noticesKept = 72 * time.Hour

// noticeWorker delivers notices.
type noticeWorker struct {
	river.WorkerDefaults[NoticeArgs]
	*process
	retries []time.Duration
}

// NextRetry returns when a failed delivery is tried again.
func (n *noticeWorker) NextRetry(job *river.Job[NoticeArgs]) time.Time {
	return time.Now().Add(n.retries[min(job.Attempt, len(n.retries))-1])
}

// Work delivers a notice. Any status from 200 to 299 accepts it.
func (n *noticeWorker) Work(ctx context.Context, job *river.Job[NoticeArgs]) error {
	body, err := n.body(ctx, job.Args)
	if errors.Is(err, errNoCertificate) {
		return river.JobSnooze(time.Second)
	}
	if err != nil {
		return err
	}
	if err := n.cfg.Webhook.deliver(ctx, "msg_"+job.Args.ID, body); err != nil {
		level := slog.LevelWarn
		if job.Attempt >= job.MaxAttempts {
			level = slog.LevelError // it will not be delivered
		}
		n.log.Log(ctx, level, "notice could not be delivered", "notice", job.Args.ID, "type", job.Args.Type,
			"try", job.Attempt, "tries", job.MaxAttempts, "error", err)
		return err
	}
	n.log.Info("notice delivered", "notice", job.Args.ID, "type", job.Args.Type,
		"batch", job.Args.Batch, "sweep", job.Args.Sweep)
	return nil
}

// batchNotice is what a notice says about a batch, as it is when the notice is sent.
type batchNotice struct {
	Batch       int64              `json:"batch"`
	State       invitation.State   `json:"state"`
	PausedBy    invitation.Pauser  `json:"paused_by,omitempty"`
	Reason      string             `json:"reason,omitempty"`
	Rows        int                `json:"rows"`
	Outcomes    invitation.Counts  `json:"outcomes"`
	Undecided   int                `json:"undecided"`
	FileSHA256  string             `json:"file_sha256"`
	Environment string             `json:"environment"`
	StartedAt   *time.Time         `json:"started_at"`
	FinishedAt  *time.Time         `json:"finished_at"`
	Certificate *proof.Certificate `json:"certificate"` // of the batch's end; nil: it has not ended
}

// certificatePatience is how long a notice waits for the certificate of a batch that has ended, so
// that its head is known outside the database. The certificate is made a moment after the end, or
// when the last request is resolved that also had people of another batch.
const certificatePatience = time.Hour

var errNoCertificate = errors.New("the batch has ended and has no certificate yet")

// sweepNotice is what a notice says about a sweep.
type sweepNotice struct {
	Sweep       int64                `json:"sweep"`
	Kind        revocation.SweepKind `json:"kind"`
	Scanned     int                  `json:"scanned"`
	Stale       int                  `json:"stale"`
	Threshold   int                  `json:"threshold"`
	Held        bool                 `json:"held"` // false: a person has allowed or stopped it since
	Environment string               `json:"environment"`
}

// body returns the JSON of a notice: counts, ids and times.
func (n *noticeWorker) body(ctx context.Context, args NoticeArgs) ([]byte, error) {
	var data any
	if args.Sweep != 0 {
		sw, err := revocation.ReadSweep(ctx, n.pool, args.Sweep)
		if err != nil {
			return nil, err
		}
		data = sweepNotice{sw.ID, sw.Kind, sw.Scanned, sw.Stale, sw.Threshold, sw.Held, sw.Environment}
	} else {
		r, err := report.ReadReport(ctx, n.pool, args.Batch)
		if err != nil {
			return nil, err
		}
		b, err := batch.Batch(ctx, n.pool, args.Batch)
		if err != nil {
			return nil, err
		}
		if r.FinishedAt != nil && r.Certificate == nil && r.Now.Sub(args.At) < certificatePatience {
			return nil, errNoCertificate
		}
		said := batchNotice{Certificate: r.Certificate, Batch: r.Batch, State: r.State, Rows: r.Rows, Outcomes: r.Outcomes, Undecided: r.Undecided,
			FileSHA256: hex.EncodeToString(b.FileSHA256[:]), Environment: r.Environment, StartedAt: r.StartedAt, FinishedAt: r.FinishedAt}
		// A person's own reason may contain anything, so it is not sent.
		if r.PausedBy != nil && *r.PausedBy != invitation.ByPerson {
			said.PausedBy, said.Reason = *r.PausedBy, b.Reason
		}
		data = said
	}
	body, err := json.Marshal(map[string]any{"type": args.Type, "timestamp": args.At, "data": data})
	if err != nil {
		return nil, fmt.Errorf("write notice %s: %w", args.ID, err)
	}
	return body, nil
}

// deliver sends a notice once. Its errors are stored in the job, so they contain neither the URL
// nor the receiver's response.
func (h *Webhook) deliver(ctx context.Context, id string, body []byte) error {
	now := time.Now()
	signature, err := h.signer.Sign(id, now, body)
	if err != nil {
		return fmt.Errorf("sign notice %s: %w", id, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.address, bytes.NewReader(body))
	if err != nil {
		return errors.New("send a notice: the webhook's URL is none")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(webhooks.HeaderWebhookID, id)
	r.Header.Set(webhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	r.Header.Set(webhooks.HeaderWebhookSignature, signature)
	answer, err := h.client.Do(r)
	if err != nil {
		var quoting *url.Error
		if errors.As(err, &quoting) {
			err = quoting.Err
		}
		return fmt.Errorf("send a notice: %w", err)
	}
	defer answer.Body.Close()                                       // nothing is read of it
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection can be reused
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("send a notice: the receiver answered %d", answer.StatusCode)
	}
	return nil
}
