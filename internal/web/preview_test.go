package web

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/must"
)

// stand is a stand-in for Clerk; before each request it waits for the gate, if
// there is one.
func stand(t *testing.T, cfg sandbox.Config, gate <-chan struct{}) func(*Config) {
	t.Helper()
	s, err := sandbox.New(cfg)
	must.OK(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gate != nil {
			<-gate
		}
		s.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	api, err := clerk.New(clerk.Config{Key: "sk_live_test", URL: server.URL + "/v1"})
	must.OK(t, err)
	return func(c *Config) { c.Clerk, c.RequestTimeout, c.Real = api, time.Minute, true }
}

// lookedUp waits until a draft's people are looked up, and returns its card.
func (w *browser) lookedUp(batch string) answer {
	w.t.Helper()
	var a answer
	w.until("its people are looked up", func() bool {
		r := w.request(http.MethodGet, batch+"/plan", nil)
		r.Header.Set("HX-Request", "true")
		r.Header.Set("HX-Target", "div#plan")
		a = w.do(r).want(http.StatusOK)
		return !strings.Contains(a.body, "hx-get")
	})
	return a
}

const four = "email\nuser@example.com\npending@example.com\nnew@gmial.com\ninfo@example.com\n"

// TestPreview: the page is there before Clerk has answered; then it tells who is
// skipped, and the number that is typed is that of those who are left.
func TestPreview(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	b := setup(t, stand(t, sandbox.Config{Users: []string{"User@example.com"}, Invitations: []string{"pending@example.com"}}, gate))
	w := b.as("olga")
	w.draft("hires.csv", four).want(http.StatusOK).says("Looking up who is a user", "Invite 4 people", "Type the number of people: 4")
	close(gate)
	card := w.lookedUp("/batches/1").says("already users, skipped", "already invited, skipped", "Clerk was asked", "Invite 2 people", "Type the number of people: 2",
		"<bdi>new@gmial.com</bdi>: did you mean gmail.com?", "line 5", "a mailbox that several people read", "It takes 2 single requests")
	if strings.Contains(card.body, "<html") {
		t.Error("the card is a whole page")
	}
	w.get("/batches/1/plan").want(http.StatusSeeOther)
	w.post("/batches/1/start", url.Values{"people": {"4"}}).want(http.StatusConflict).says("not the number of people: 2")
	w.post("/batches/1/start", url.Values{"people": {"2"}}).want(http.StatusSeeOther)
	w.get("/batches/1/plan").want(http.StatusSeeOther)
}

// TestPreviewOnce: however often a draft is looked at, its people are looked up
// once, until its file is read in another way.
func TestPreviewOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, stand(t, sandbox.Config{Users: []string{"jane2@example.com"}}, nil))
	w := b.as("olga")
	w.draft("hires.csv", messy).want(http.StatusOK)
	w.lookedUp("/batches/1").says("Invite 2 people")
	begun := b.count(`select (extract(epoch from begun_at) * 1e6)::bigint from previews`)
	w.get("/batches/1").want(http.StatusOK)
	if again := b.count(`select (extract(epoch from begun_at) * 1e6)::bigint from previews`); again != begun {
		t.Error("people were looked up again")
	}
	w.again("/uploads/1", url.Values{"column": {"Name", "E-Mail-Adresse", "Zweite"}, "meaning": {"", "", "email"}})
	w.lookedUp("/batches/1").says("already users, skipped", "Invite 1 person")
	b.exec(`update previews set begun_at = begun_at - interval '11 minutes', looked_at = looked_at - interval '11 minutes'`)
	w.get("/batches/1").want(http.StatusOK).says("Invite 1 person")
	w.lookedUp("/batches/1").says("Invite 1 person")
	if n := b.count(`select count(*) from previews where begun_at > now() - interval '1 minute'`); n != 1 {
		t.Error("after ten minutes people were not looked up again")
	}
}

// TestPreviewWithoutClerk: where Clerk does not answer, the card says so, and
// tells what our own rows do.
func TestPreviewWithoutClerk(t *testing.T) {
	t.Parallel()
	b := setup(t, stand(t, sandbox.Config{Key: "sk_live_another"}, nil))
	w := b.as("olga")
	w.draft("first.csv", "email\nnew@gmial.com\n").want(http.StatusOK)
	w.post("/batches/1/start", url.Values{"people": {"1"}}).want(http.StatusSeeOther)
	b.exec(`update results set outcome = 'invited', status = 'pending', clerk_invitation_id = 'inv_1', invited_at = now(), decided_at = now()`)
	w.draft("hires.csv", four).want(http.StatusOK)
	w.lookedUp("/batches/2").says("Clerk does not answer what it knows of people", "invited by an earlier batch, skipped", "Invite 3 people")
}
