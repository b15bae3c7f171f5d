package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/ratelimit"
)

// The secret of the specification's own example.
const noticeSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// receiver takes notices, but for the first few, and checks each by the
// specification's own library.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	refuse int // how many more are refused
	ids    []string
	bodies []string
}

func newReceiver(t *testing.T, refuse int) *receiver {
	t.Helper()
	library, err := webhooks.NewWebhook(noticeSecret)
	must.OK(t, err)
	r := &receiver{refuse: refuse}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		body, err := io.ReadAll(q.Body)
		expect.OK(t, errors.Join(err, library.Verify(body, q.Header)))
		r.ids = append(r.ids, q.Header.Get("webhook-id"))
		r.bodies = append(r.bodies, string(body))
		if r.refuse--; r.refuse >= 0 {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// got waits until n notices came, and returns them.
func (r *receiver) got(t *testing.T, n int) (ids, bodies []string) {
	t.Helper()
	for range 600 {
		r.mu.Lock()
		if len(r.ids) >= n {
			ids, bodies = slices.Clone(r.ids), slices.Clone(r.bodies)
			r.mu.Unlock()
			return ids, bodies
		}
		r.mu.Unlock()
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%d notices have not come", n)
	return nil, nil
}

func (r *receiver) webhook(t *testing.T) *Webhook {
	t.Helper()
	h, err := NewWebhook(r.URL+"/planted-path", noticeSecret)
	must.OK(t, err)
	return h
}

// work runs a worker with a webhook until the test ends.
func (b *bundle) notify(t *testing.T, h *Webhook) {
	t.Helper()
	none := ratelimit.Limit{None: true}
	w := b.worker(Config{Create: none, Bulk: none, Settle: 50 * time.Millisecond, Webhook: h, retries: []time.Duration{10 * time.Millisecond}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx, nil) }()
	t.Cleanup(func() {
		cancel()
		expect.OK(t, <-ended)
	})
}

// TestNoticeOfTheEnd: a receiver that fails twice gets the notice of a batch that
// ended a third time, under the same id, and nobody's address is in it.
func TestNoticeOfTheEnd(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	r := newReceiver(t, 2)
	id := b.batch(3, func(i int) string { return "planted" + string(rune('a'+i)) + "@example.com" })
	b.notify(t, r.webhook(t))
	ids, bodies := r.got(t, 3)
	if ids[0] != ids[1] || ids[1] != ids[2] || !strings.HasPrefix(ids[0], "msg_") || bodies[0] != bodies[2] {
		t.Errorf("the three deliveries differ: %q %q", ids, bodies)
	}
	var said struct {
		Type      string
		Timestamp time.Time
		Data      struct {
			batchNotice
			Certificate struct{ Head string } `json:"certificate"`
		}
	}
	must.OK(t, json.Unmarshal([]byte(bodies[2]), &said))
	if d := said.Data; said.Type != "batch.done" || d.Batch != id || d.State != invitation.Done || d.Rows != 3 || d.Outcomes[invitation.Invited] != 3 ||
		len(d.FileSHA256) != 64 || time.Since(said.Timestamp) > time.Minute || d.FinishedAt == nil ||
		b.count(`select count(*) from certificates where batch_id = $1 and encode(head, 'hex') = $2`, id, d.Certificate.Head) != 1 {
		t.Errorf("it says %s", bodies[2])
	}
	expect.NoText(t, bodies[2], "planted", "people.csv")
	b.counts(0, "jobs that hold an address or the webhook's URL",
		`select count(*) from river_job where kind = 'notice' and (args::text || coalesce(errors::text, '')) like '%planted%'`)
}

// TestNoticesComeWithWhatTheyTellOf: one is in the transaction that ends, pauses
// or holds; a person's own pause makes none, and neither does what was rolled back.
func TestNoticesComeWithWhatTheyTellOf(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	notices := func() (types []string) {
		t.Helper()
		rows, _ := b.pool.Query(t.Context(), `select args->>'type' from river_job where kind = 'notice' and queue = 'notice_' || $1::bigint order by id`, b.instance.ID)
		types, err := pgx.CollectRows(rows, pgx.RowTo[string])
		must.OK(t, err)
		return types
	}
	id := b.batch(2, func(i int) string { return string(rune('a'+i)) + "@example.com" })
	b2 := b.read(id)
	rolledBack := errors.New("no")
	err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		if _, err := batch.PauseInstance(t.Context(), tx, b.instance.ID, "user_quota_exceeded"); err != nil {
			return err
		}
		return rolledBack
	})
	if !errors.Is(err, rolledBack) || len(notices()) != 0 {
		t.Errorf("%v; %q after what was rolled back", err, notices())
	}
	for _, step := range []struct {
		name string
		do   func() error
		want []string
	}{
		{"a person pauses", func() error { return Pause(t.Context(), b.pool, b2, "maria") }, nil},
		{"and resumes", func() error { return Resume(t.Context(), b.pool, b2, "maria") }, nil},
		{"Clerk refuses", func() error { return b.worker(Config{}).pause(t.Context(), "user_quota_exceeded") }, []string{"batch.paused"}},
		{"a person gives up", func() error { return Cancel(t.Context(), b.pool, b2, "maria") }, []string{"batch.paused", "batch.cancelled"}},
		{"a sweep is held", func() error {
			_, err := b.pool.Exec(t.Context(), `insert into sweeps (instance_id, kind, started_by, apply, held) values ($1, 'sweep', 'nightly sweep', true, true), ($1, 'sweep', 'maria', true, false)`, b.instance.ID)
			return err
		}, []string{"batch.paused", "batch.cancelled", "sweep.held"}},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := notices(); !slices.Equal(got, step.want) {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
	r := newReceiver(t, 0)
	b.notify(t, r.webhook(t))
	_, bodies := r.got(t, 3)
	slices.Sort(bodies) // they go at the same time
	for i, want := range []string{`"type":"batch.cancelled"`, `"state":"cancelled"`, `"scanned":0`} {
		if !strings.Contains(bodies[i], want) && !strings.Contains(strings.Join(bodies, ""), want) {
			t.Errorf("no notice says %s: %q", want, bodies)
		}
	}
}

// TestNoticesDontPileUp: where nobody has a webhook they are kept for three days.
func TestNoticesDontPileUp(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	w := b.worker(Config{})
	must.Exec(t, b.pool, `
		insert into river_job (args, kind, max_attempts, queue, attempt, created_at)
		select '{}', 'notice', 12, 'notice_' || $1::bigint, tried, now() - age::interval from (values (0, '71 hours'), (0, '73 hours'), (11, '73 hours')) v(tried, age)`, b.instance.ID)
	must.OK(t, w.keeper.forgetNotices(t.Context()))
	if n := b.count(`select count(*) from river_job where kind = 'notice' and (attempt > 0 or created_at > now() - interval '72 hours')`); n != 2 || b.count(`select count(*) from river_job where kind = 'notice'`) != 2 {
		t.Errorf("%d of those are left that should be, or another one", n)
	}
}

// TestSignature is the example of the Standard Webhooks specification.
func TestSignature(t *testing.T) {
	t.Parallel()
	h, err := NewWebhook("https://example.com/hook", noticeSecret)
	must.OK(t, err)
	got, err := h.signer.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

func TestNewWebhookRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{"", noticeSecret}, {"hook.example.com", noticeSecret}, {"http://hook.example.com/planted", noticeSecret}, {"ftp://localhost/planted", noticeSecret},
		{"https://hook.example.com", ""}, {"https://hook.example.com", "whsec_planted"}, {"https://hook.example.com", strings.TrimPrefix(noticeSecret, "whsec_")},
	} {
		if h, err := NewWebhook(c[0], c[1]); err == nil {
			t.Errorf("%q is taken: %v", c, h)
		} else if strings.Contains(err.Error(), "planted") {
			t.Errorf("the error repeats what was given: %v", err)
		}
	}
	if _, err := NewWebhook("http://127.0.0.1:8080/", noticeSecret); err != nil {
		t.Error(err)
	}
}
