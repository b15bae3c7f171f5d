//go:build linux

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// frontEnd is a front end that changes batches: the command, the page, or the API.
type frontEnd struct {
	name string
	// do reports whether the front end did it. why is all that it said. invitations is the number
	// that confirms an undo on the page and in the API.
	do func(action string, batch, invitations int) (ok bool, why string)
}

// signIn returns a browser that is signed in at a server, and a function that reads an answer.
func signIn(t *testing.T, serve *serving) (browser *http.Client, ask func(*http.Response, error) (int, string)) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	must.OK(t, err)
	browser = &http.Client{Jar: jar}
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	ask = func(answer *http.Response, err error) (int, string) {
		t.Helper()
		must.OK(t, err)
		body, err := io.ReadAll(answer.Body)
		must.OK(t, err)
		must.OK(t, answer.Body.Close())
		return answer.StatusCode, string(body)
	}
	ask(browser.Get(serve.link))
	return browser, ask
}

// frontEnds returns all three front ends.
func frontEnds(t *testing.T, b *bench, serve *serving) []frontEnd {
	t.Helper()
	browser, ask := signIn(t, serve)
	return []frontEnd{
		{"command", func(action string, batch, _ int) (bool, string) {
			if action == "discard" { // the command that cancels a batch also discards a draft
				action = "cancel"
			}
			o := b.run(action, strconv.Itoa(batch), "--yes", "--json", "--actor", "olga")
			if o.exit != exitOK && o.exit != exitHeld && o.exit != exitUsage {
				t.Errorf("%s ended with %d: %s%s", action, o.exit, o.out, o.err)
			}
			return o.exit == exitOK, o.out
		}},
		{"page", func(action string, batch, invitations int) (bool, string) {
			to := fmt.Sprintf("%s/batches/%d/%s", serve.base, batch, action)
			status, text := ask(browser.PostForm(to, url.Values{"invitations": {strconv.Itoa(invitations)}}))
			if status != http.StatusSeeOther && status != http.StatusConflict && status != http.StatusNotFound {
				t.Errorf("%s: the page answers %d: %s", action, status, text)
			}
			return status == http.StatusSeeOther, text
		}},
		{"API", func(action string, batch, invitations int) (bool, string) {
			body := ""
			if action == "undo" {
				body = fmt.Sprintf(`{"invitations":%d}`, invitations)
			}
			path := fmt.Sprintf("/api/v1/batches/%d/%s", batch, action)
			status, text := serve.ask(http.MethodPost, path, "application/json", body)
			if status != http.StatusOK && status != http.StatusConflict && status != http.StatusNotFound {
				t.Errorf("%s: the API answers %d: %s", action, status, text)
			}
			return status == http.StatusOK, text
		}},
	}
}

// plantBatch inserts a batch without rows.
func plantBatch(t *testing.T, pool *pgxpool.Pool, state string) int {
	t.Helper()
	return must.Read[int](t, pool, `
		insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state,
		                     state_reason, paused_by, started_at)
		select min(id), 'planted.csv', '\x00', 1, 'UTF-8', ',', '{email}', 'maria', $1,
		       case when $1 = 'paused' then 'asked to' end, case when $1 = 'paused' then 'person' end,
		       case when $1 <> 'draft' then now() end
		from instances returning id`, state)
}

// TestOneStateForAll: command, page and API allow the same actions in the same states, and say the
// same of a state that does not allow one. All of them resume a batch that a person paused.
func TestOneStateForAll(t *testing.T) {
	t.Parallel()
	b, _ := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_states")
	serve := b.serve()
	defer serve.stop()
	pool := open(t, b.url)
	all := frontEnds(t, b, serve)
	for _, c := range []struct {
		action, past string
		in           []string // the states that allow it
		to           string   // the state after it; empty: the state stays
	}{
		{"pause", "paused", []string{"running"}, "paused"},
		{"resume", "resumed", []string{"paused"}, "running"},
		{"cancel", "cancelled", []string{"draft", "running", "paused"}, "cancelled"},
		{"discard", "discarded", []string{"draft"}, "cancelled"},
		{"retry", "retried", []string{"running", "done"}, ""},
		{"start", "started", []string{"draft"}, "done"}, // it has no rows
	} {
		for _, state := range []string{"draft", "running", "paused", "cancelled", "done"} {
			for _, w := range all {
				if w.name == "command" && c.action == "discard" && state != "draft" {
					continue // the command cancels instead
				}
				if w.name == "page" && c.action == "start" && state != "draft" && state != "cancelled" {
					continue // somebody pressed the button twice: the page shows the batch
				}
				id := plantBatch(t, pool, state)
				ok, why := w.do(c.action, id, 0)
				if want := slices.Contains(c.in, state); ok != want {
					t.Errorf("%s: %s of a batch that is %s: %t, want %t: %s", w.name, c.action, state, ok, want, why)
				}
				wantState := state
				if ok && c.to != "" {
					wantState = c.to
				}
				what := fmt.Sprintf("%s: state after %s of a batch that was %s", w.name, c.action, state)
				expect.Equal(t, what, must.Read[string](t, pool, `select state from batches where id = $1`, id), wantState)
				if !ok {
					expect.Text(t, strings.ReplaceAll(why, "&#39;", "'"),
						fmt.Sprintf("atch %d is %s", id, state), "it can't be "+c.past)
				}
			}
		}
		for _, w := range all {
			if ok, why := w.do(c.action, 9999, 0); ok || !strings.Contains(why, "no") {
				t.Errorf("%s: %s of no batch: %t, %s", w.name, c.action, ok, why)
			}
		}
	}
}

// TestOneInstanceForAll: no front end undoes a batch of another instance than its key's, and no
// server starts one. The command needs no key to start; see TestStartNeedsNoKey.
func TestOneInstanceForAll(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_instances")
	b.run("send", "--yes", b.file("two.csv", people(2))).want(t, exitOK)
	serve := b.serve()
	defer serve.stop()
	pool := open(t, b.url)
	must.Exec(t, pool, `insert into instances (clerk_id, environment) values ('ins_other', 'production')`)
	other := must.Read[int](t, pool, `
		insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state,
		                     started_at)
		select id, 'other.csv', '\x01', 1, 'UTF-8', ',', '{email}', 'maria', 'running', now()
		from instances where clerk_id = 'ins_other' returning id`)
	all := frontEnds(t, b, serve)
	for _, w := range all {
		if ok, why := w.do("undo", other, 0); ok || !strings.Contains(why, fmt.Sprintf("atch %d", other)) ||
			!strings.Contains(why, "another instance of Clerk") {
			t.Errorf("%s: undo of another instance's batch: %t, %s", w.name, ok, why)
		}
	}
	draft := must.Read[int](t, pool, `
		insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state)
		select id, 'draft.csv', '\x02', 1, 'UTF-8', ',', '{email}', 'maria', 'draft'
		from instances where clerk_id = 'ins_other' returning id`)
	for _, w := range all[1:] {
		if ok, why := w.do("start", draft, 0); ok || !strings.Contains(why, "another instance of Clerk") {
			t.Errorf("%s: start of another instance's draft: %t, %s", w.name, ok, why)
		}
	}
	refuses(t, b.run("resend", strconv.Itoa(other), "--yes", "--json").want(t, exitUsage), "other_instance", "--sandbox")
	correct := []string{"correct", strconv.Itoa(other), "1", "--email", "x@example.com", "--yes", "--json"}
	refuses(t, b.run(correct...).want(t, exitUsage), "other_instance", "--sandbox")
	missing := []string{"rescind", "--not-in", b.file("one.csv", people(1)), "--batch", strconv.Itoa(other), "--json"}
	refuses(t, b.run(missing...).want(t, exitUsage), "other_instance", "use the key of the instance")
	state := must.Read[string](t, pool, `select state from batches where id = $1`, other)
	expect.Equal(t, "state of the other batch", state, "running")
	expect.Equal(t, "sweeps", must.Read[int](t, pool, `select count(*) from sweeps where batch_id = $1`, other), 0)
	s.mailed(t, 2)
}

// TestOneUndoForAll: every front end undoes a batch by the number of its invitations, and by no
// other number.
func TestOneUndoForAll(t *testing.T) {
	t.Parallel()
	b, _ := newPair(t, sandbox.Config{Limits: noLimits}, "CLERK_SECRET_KEY=sk_live_undo")
	serve := b.serve()
	defer serve.stop()
	pool := open(t, b.url)
	undone := func(id int64) int {
		t.Helper()
		return must.Read[int](t, pool, `select count(*) from sweeps where batch_id = $1 and kind = 'undo' and apply`, id)
	}
	for i, w := range frontEnds(t, b, serve) {
		file := b.file(w.name+".csv", strings.ReplaceAll(people(2), "person", fmt.Sprintf("p%d-", i)))
		id := decode[document](t, b.run("send", "--yes", "--json", file).want(t, exitOK)).Batch
		for _, c := range []struct {
			number int
			want   bool
		}{{3, false}, {2, true}} {
			ok, why := false, ""
			if w.name == "command" {
				exit, text := b.sit(func(term *terminal) {
					term.answer("Type the number of invitations to revoke them: ", strconv.Itoa(c.number))
				}, "undo", strconv.FormatInt(id, 10))
				ok, why = exit == exitOK, text
			} else {
				ok, why = w.do("undo", int(id), c.number)
			}
			if ok != c.want || !ok && w.name != "command" && !strings.Contains(why, "2") {
				t.Errorf("%s: %d confirms an undo of 2 invitations: %t: %s", w.name, c.number, ok, why)
			}
			expect.Equal(t, w.name+": undos", undone(id), map[bool]int{true: 1}[c.want])
		}
	}
}
