package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
)

// TestOptions sets each option of a draft, and sees the plan follow.
func TestOptions(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.now = time.Date(2026, 11, 22, 20, 11, 0, 0, time.UTC)
	w := b.as("olga")
	w.draft("hires.csv", messy).want(http.StatusOK)
	form := url.Values{
		"redirect_url": {"https://app.example.com/in"}, "expires_in_days": {"14"}, "priority": {"1"}, "canary": {"1"}, "on_duplicate": {"resend"}, "revoke_after_days": {"7"},
		"start_at": {"2036-11-24T08:00"}, "hours": {" 8 - 18 "}, "tz": {"Europe/Berlin"},
	}
	if a := w.post("/batches/1/options", form).want(http.StatusSeeOther); a.location != "/batches/1?done=options" {
		t.Errorf("it leads to %s", a.location)
	}
	got, err := batch.Batch(t.Context(), b.server.pool, 1)
	want := time.Date(2036, 11, 24, 7, 0, 0, 0, time.UTC)
	if err != nil || got.State != invitation.Draft || got.Options != (invitation.Options{RedirectURL: "https://app.example.com/in", ExpiresInDays: 14}) || got.Priority != 1 || got.Canary != 1 ||
		got.Duplicates != invitation.Resend || got.RevokeAfter != 7*24*time.Hour || !got.StartAt.Equal(want) || got.Hours != (invitation.Hours{From: 8, To: 18, TZ: "Europe/Berlin"}) {
		t.Errorf("%+v, %v", got, err)
	}
	w.get("/batches/1").want(http.StatusOK).says(`value="2036-11-24T08:00"`, `value="8-18"`, `value="Europe/Berlin"`, `value="resend" selected`, `value="7"`,
		"All of them go out <time datetime=\"2036-11-24T07:00:00Z\"", "The first 1 go alone", "Only from 8 to 18")
	if n := b.count(`select count(*) from events where action = 'set' and actor = 'olga' and details->>'hours' = '8-18'`); n != 1 {
		t.Errorf("%d events", n)
	}
	// What a form lacks stays; what is empty goes back to the default.
	w.post("/batches/1/options", url.Values{"canary": {""}, "start_at": {""}, "hours": {""}, "tz": {""}}).want(http.StatusSeeOther)
	w.post("/batches/1/start", nil).want(http.StatusSeeOther)
	if got, err = batch.Batch(t.Context(), b.server.pool, 1); err != nil || got.Canary != 0 || !got.StartAt.IsZero() || !got.Hours.IsZero() || got.Priority != 1 || got.Duplicates != invitation.Resend {
		t.Errorf("%+v, %v", got, err)
	}
	w.post("/batches/1/options", form).want(http.StatusConflict)
}

// TestOptionsByPart: a changed option brings the card alone, and a wrong one a
// word above the page.
func TestOptionsByPart(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("hires.csv", messy).want(http.StatusOK)
	ask := func(form url.Values) answer {
		r := w.request(http.MethodPost, "/batches/1/options", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("HX-Request", "true")
		r.Header.Set("HX-Target", "div#plan")
		return w.do(r)
	}
	a := ask(url.Values{"canary": {"1"}}).want(http.StatusOK).says(`<div id="plan"`, "The first 1 go alone", `<div id="confirm"`)
	if strings.Contains(a.body, "<html") {
		t.Error("the card is a whole page")
	}
	a = ask(url.Values{"canary": {"many"}}).want(http.StatusUnprocessableEntity).says(`id="trouble"`, "So many people first: &#34;many&#34; is no number")
	if strings.Contains(a.body, "<html") || a.header.Get("HX-Retarget") != "#trouble" {
		t.Errorf("%v\n%s", a.header, a.body)
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("hires.csv", messy).want(http.StatusOK)
	for want, form := range map[string]url.Values{
		"app&#39;s link or a path": {"redirect_url": {"app.example.com"}},
		"it is too long":           {"redirect_url": {"https://example.com/" + strings.Repeat("x", 2048)}},
		"it can&#39;t be 366":      {"expires_in_days": {"366"}},
		"it must be 1 to 4":        {"priority": {"5"}},
		"So many people first":     {"canary": {"-1"}},
		"must be skip or resend":   {"on_duplicate": {"twice"}},
		"Taken back after days":    {"revoke_after_days": {"soon"}},
		"Time zone":                {"start_at": {"2036-11-24T08:00"}},
		"Not before":               {"start_at": {"tomorrow"}, "tz": {"Europe/Berlin"}},
		"put forward over it":      {"start_at": {"2036-03-30T02:30"}, "tz": {"Europe/Berlin"}},
		"two of the day":           {"hours": {"8-25"}, "tz": {"Europe/Berlin"}},
		"Time zone: &#34;Mars&#34": {"hours": {"8-18"}, "tz": {"Mars"}},
	} {
		for _, path := range []string{"/batches/1/options", "/batches/1/start"} {
			w.post(path, form).want(http.StatusUnprocessableEntity).says(want)
		}
	}
	if n := b.count(`select count(*) from events where action in ('set', 'started')`); n != 0 {
		t.Errorf("%d events of options that were refused", n)
	}
}

// TestRevokeOn: a column can say the day after which an invitation is taken back.
func TestRevokeOn(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("hires.csv", "email,until\na@example.com,2036-12-31\nb@example.com,never\n").want(http.StatusOK)
	a := w.again("/uploads/1", url.Values{"column": {"email", "until"}, "meaning": {"email", "revoke_on"}})
	a.want(http.StatusOK).says(`<option value="revoke_on" selected>`, "Invite 1 person", "write the date as")
	if n := b.count(`select count(*) from results where revoke_on = '2036-12-31'`); n != 1 {
		t.Errorf("%d rows with the day", n)
	}
}

// TestStartWithUnknownZone starts with a form whose time zone PostgreSQL does not know. What is wrong with the batch
// comes first.
func TestStartWithUnknownZone(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("hires.csv", messy).want(http.StatusOK)
	w.draft("others.csv", "email\nkai@example.com\n").want(http.StatusOK)
	b.exec(`update batches set state = 'cancelled' where id = 2`)
	b.exec(`create or replace function wall_clock(zone text) returns timestamp language sql as 'select null::timestamp'`)
	form := url.Values{"hours": {"8-18"}, "tz": {"Europe/Berlin"}}
	w.post("/batches/1/start", form).want(http.StatusUnprocessableEntity).says("PostgreSQL does not know Europe/Berlin")
	w.post("/batches/2/start", form).want(http.StatusConflict)
	w.post("/batches/9/start", form).want(http.StatusNotFound)
}
