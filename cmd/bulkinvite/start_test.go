//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
)

// said is what somebody says when they start a draft.
type said struct {
	number      int  // of people; 0: none
	undelivered bool // though Clerk would not deliver all mails
}

// front is a way to start a draft: a command, the page, the API.
type front struct {
	name  string
	start func(draft int, s said) (ok bool, why string)
}

// fronts are all three ways, at a server that goes on.
func fronts(t *testing.T, b *bench, serve *serving) []front {
	t.Helper()
	browser, ask := signIn(t, serve)
	return []front{
		{"command", func(draft int, s said) (bool, string) {
			args := []string{"start", strconv.Itoa(draft)}
			if s.undelivered {
				args = append(args, "--allow-undelivered")
			}
			if s.number == 0 {
				o := b.run(append(args, "--json")...)
				if o.exit == exitOK {
					return true, ""
				}
				return false, decode[errorDocument](t, o.want(t, exitHeld)).Error.Message
			}
			exit, text := b.sit(func(term *terminal) {
				term.answer("Type the number of people to invite them: ", strconv.Itoa(s.number))
			}, args...)
			if exit != exitOK && exit != exitHeld {
				t.Errorf("start ended with %d: %s", exit, text)
			}
			return exit == exitOK, text
		}},
		{"page", func(draft int, s said) (bool, string) {
			form := url.Values{}
			if s.number != 0 {
				form.Set("people", strconv.Itoa(s.number))
			}
			if s.undelivered {
				form.Set("undelivered", "yes")
			}
			to := fmt.Sprintf("%s/batches/%d/start", serve.base, draft)
			status, text := ask(browser.PostForm(to, form)) // the process is ended
			if status != http.StatusSeeOther && status != http.StatusConflict {
				t.Errorf("the page answers %d: %s", status, text)
			}
			return status == http.StatusSeeOther, text
		}},
		{"API", func(draft int, s said) (bool, string) {
			body := fmt.Sprintf(`{"allow_undelivered":%t}`, s.undelivered)
			if s.number != 0 {
				body = fmt.Sprintf(`{"people":%d,"allow_undelivered":%t}`, s.number, s.undelivered)
			}
			status, text := serve.ask(http.MethodPost, fmt.Sprintf("/api/v1/batches/%d/start", draft), "application/json", body)
			if status != http.StatusOK && status != http.StatusConflict {
				t.Errorf("the API answers %d: %s", status, text)
			}
			return status == http.StatusOK, text
		}},
	}
}

// drafts makes drafts of files that no two are the same.
type drafts struct {
	*serving
	n int
}

func (d *drafts) people(n int) string {
	d.n++
	return strings.ReplaceAll(people(n), "person", fmt.Sprintf("p%d-", d.n))
}

// upload makes a draft of n people by the API: nobody has confirmed anything.
func (d *drafts) upload(n int) int {
	d.t.Helper()
	status, text := d.ask(http.MethodPost, "/api/v1/batches", "text/csv", d.people(n))
	var made struct{ Batch int }
	if err := json.Unmarshal([]byte(text), &made); status != http.StatusCreated || err != nil || made.Batch == 0 {
		d.t.Fatalf("upload: %d %s", status, text)
	}
	return made.Batch
}

// imported makes a draft of n people by import --draft, which has somebody confirm it.
func (d *drafts) imported(n int) int {
	d.t.Helper()
	file := d.file(fmt.Sprintf("draft%d.csv", d.n), d.people(n))
	o := d.run("import", "--draft", "--yes", "--json", file).want(d.t, exitOK)
	return int(decode[document](d.t, o).Batch)
}

// TestOneConsentForAll: nobody is invited before a person has confirmed a plan, and
// what that takes is the same for the command, the page and the API.
func TestOneConsentForAll(t *testing.T) {
	t.Parallel()
	t.Run("production", func(t *testing.T) {
		t.Parallel()
		b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_consent")
		serve := b.serve()
		defer serve.stop()
		d := &drafts{serving: serve}
		want := 0
		for _, f := range fronts(t, b, serve) {
			draft := d.upload(3)
			for _, wrong := range []said{{}, {number: 4}, {undelivered: true}} {
				if ok, why := f.start(draft, wrong); ok || !strings.Contains(why, "3") {
					t.Errorf("%s: an upload of 3 is started (%t) by %+v: %s", f.name, ok, wrong, why)
				}
			}
			if ok, why := f.start(draft, said{number: 3}); !ok {
				t.Errorf("%s: an upload of 3 is not started by 3: %s", f.name, why)
			}
			confirmed := d.imported(2)
			if ok, why := f.start(confirmed, said{}); !ok {
				t.Errorf("%s: what was confirmed by import --draft is asked for once more: %s", f.name, why)
			}
			changed := d.imported(2)
			options := fmt.Sprintf("/api/v1/batches/%d/options", changed)
			status, text := serve.ask(http.MethodPatch, options, "application/json", `{"redirect_url":"https://example.com"}`)
			if status != http.StatusOK {
				t.Fatalf("change of a draft: %d %s", status, text)
			}
			if ok, why := f.start(changed, said{}); ok || !strings.Contains(why, "2") {
				t.Errorf("%s: a draft that was changed after it was confirmed is started (%t): %s", f.name, ok, why)
			}
			if ok, why := f.start(changed, said{number: 2}); !ok {
				t.Errorf("%s: it is not started by 2 either: %s", f.name, why)
			}
			want += 7
		}
		b.run("start", strconv.Itoa(d.upload(3)), "--yes").want(t, exitOK) // --yes confirms, as everywhere
		b.run("work", "--until-idle").want(t, exitOK)
		if m := s.mailbox(t); m.Mails != want+3 || len(m.Doubled) > 0 {
			t.Errorf("%d mails, want %d; doubled: %v", m.Mails, want+3, m.Doubled)
		}
	})
	t.Run("development", func(t *testing.T) {
		t.Parallel()
		b, _ := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_test_consent")
		serve := b.serve()
		defer serve.stop()
		d := &drafts{serving: serve}
		for _, f := range fronts(t, b, serve) {
			large := d.upload(101)
			if f.name == "command" {
				// A terminal is asked yes or no; elsewhere the button and the call are that yes.
				small := d.upload(1)
				if ok, why := f.start(small, said{}); ok || !strings.Contains(why, "confirmed") {
					t.Errorf("start off a terminal, without --yes (%t): %s", ok, why)
				}
				for _, one := range []struct {
					answer string
					wanted int
				}{{"n", exitHeld}, {"y", exitOK}} {
					answer, wanted := one.answer, one.wanted
					answers := func(term *terminal) { term.answer("Invite 1 person? [y/N]", answer) }
					exit, text := b.sit(answers, "start", strconv.Itoa(small))
					if exit != wanted {
						t.Errorf("%q ended with %d: %s", answer, exit, text)
					}
				}
				refuses(t, b.run("start", strconv.Itoa(large), "--yes", "--json").want(t, exitHeld),
					"undelivered", "--allow-undelivered")
				b.run("start", strconv.Itoa(large), "--yes", "--allow-undelivered").want(t, exitOK)
				continue
			}
			if ok, why := f.start(large, said{}); ok || !strings.Contains(why, "100 mails") {
				t.Errorf("%s: 101 people of a development instance are started (%t): %s", f.name, ok, why)
			}
			if ok, why := f.start(large, said{undelivered: true}); !ok {
				t.Errorf("%s: they are not, though that was allowed: %s", f.name, why)
			}
		}
	})
}

// TestStartNeedsNoKey: the draft's own instance says what confirming it takes, so
// that start needs no key, and another instance's changes nothing.
func TestStartNeedsNoKey(t *testing.T) {
	t.Parallel()
	b, _ := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_own")
	serve := b.serve()
	draft := (&drafts{serving: serve}).upload(2)
	serve.stop()
	const question = "This sends real e-mail. Type the number of people to invite them: "
	for name, key := range map[string]string{"no key": "", "a test key": "sk_test_other"} {
		other := *b
		other.env = append(append([]string{}, b.env...), "CLERK_SECRET_KEY="+key)
		exit, text := other.sit(func(term *terminal) { term.answer(question, "y") }, "start", strconv.Itoa(draft))
		if exit != exitHeld {
			t.Errorf("with %s a yes starts what is real mail: %d, %s", name, exit, text)
		}
	}
	without := *b
	without.env = append(append([]string{}, b.env...), "CLERK_SECRET_KEY=")
	exit, text := without.sit(func(term *terminal) { term.answer(question, "2") }, "start", strconv.Itoa(draft))
	if exit != exitOK || !strings.Contains(text, "2  to invite") || !strings.Contains(text, "production instance") {
		t.Errorf("%d: %s", exit, text)
	}
}
