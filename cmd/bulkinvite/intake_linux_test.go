package main

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/must"
)

// made counts the batches, rows and jobs in a database.
func made(t *testing.T, b *bench) (n int) {
	t.Helper()
	err := open(t, b.url).QueryRow(t.Context(), `select (select count(*) from batches) + (select count(*) from results) +
		(select count(*) from river_job where kind = 'invite') + (select count(*) from events)`).Scan(&n)
	must.OK(t, err)
	return n
}

// TestUnconfirmedLeavesNothing: a file of send or import that nobody confirmed is as if it had never been, also
// where the program is killed at the question: it can be sent without --again.
func TestUnconfirmedLeavesNothing(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_unconfirmed")
	file := b.file("people.csv", people(3))
	const question = "Type the number of people to invite them: "
	for _, command := range [][]string{{"send"}, {"import"}, {"import", "--draft"}} {
		args := append(command, file)
		exit, text := b.sit(func(term *terminal) { term.answer(question, "4") }, args...)
		if n := made(t, b); exit != exitHeld || n != 0 {
			t.Errorf("%v, not confirmed, ended with %d and made %d things: %s", command, exit, n, text)
		}
		exit, text = b.sit(func(term *terminal) {
			term.await(question)
			must.OK(t, term.process.Kill())
		}, args...)
		if n := made(t, b); exit != -1 || n != 0 {
			t.Errorf("%v, killed at its question, ended with %d and made %d things: %s", command, exit, n, text)
		}
	}
	if exit, text := b.sit(func(term *terminal) { term.answer(question, "3") }, "send", file); exit != exitOK {
		t.Errorf("sent again it ends with %d: %s", exit, text)
	}
	s.mailed(t, 3)
}

// TestCheckedBeforeAnythingIsWritten: neither a bad key nor a bad file leaves anything behind, and import --draft
// leaves its draft.
func TestCheckedBeforeAnythingIsWritten(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Config{Key: "sk_test_right"})
	b := newBench(t, "CLERK_API_URL="+s.url)
	good, bad := b.file("people.csv", people(2)), b.file("bad.csv", "Name,Abteilung\nJane,IT\n")
	for _, command := range [][]string{{"send", "--yes"}, {"import", "--yes"}, {"import", "--yes", "--draft"}} {
		for _, one := range []struct {
			key, file string
			exit      int
		}{{"sk_test_wrong", good, exitFailed}, {"sk_test_right", bad, exitUsage}} {
			mine := *b
			mine.env = append(b.env[:len(b.env):len(b.env)], "CLERK_SECRET_KEY="+one.key)
			mine.run(append(command, one.file)...).want(t, one.exit)
			instances := must.Read[int](t, open(t, b.url), `select count(*) from instances`)
			if n := made(t, b); n+instances != 0 {
				t.Errorf("%v of %s with %s made %d things, and %d instances", command, one.file, one.key, n, instances)
			}
		}
	}
	b.env = append(b.env, "CLERK_SECRET_KEY=sk_test_right")
	d := decode[document](t, b.run("import", "--yes", "--draft", "--json", good).want(t, exitOK))
	if d.State != "draft" || d.Rows != 2 {
		t.Errorf("%+v", d)
	}
}

// given is a file, and what is said with it.
type given struct {
	text        string
	options     map[string]string // as the API has them
	again       bool
	undelivered bool
}

// way is a way in: it gives a file and starts what comes of it, and reports whether that was refused.
type way struct {
	name string
	give func(t *testing.T, b *bench, g given) (ok bool, why string)
}

// command is a way in by send or import.
func command(name string) way {
	files := 0
	return way{name, func(t *testing.T, b *bench, g given) (bool, string) {
		files++
		args := []string{name, "--yes", b.file(fmt.Sprintf("%d.csv", files), g.text)}
		for option, value := range g.options {
			if days, ok := strings.CutSuffix(option, "_days"); ok && days == "revoke_after" {
				option, value = days, value+"d"
			}
			args = append(args, "--"+strings.ReplaceAll(option, "_", "-")+"="+value)
		}
		if g.again {
			args = append(args, "--again")
		}
		if g.undelivered {
			args = append(args, "--allow-undelivered")
		}
		o := b.run(args...)
		if o.exit != exitOK && o.exit != exitHeld && o.exit != exitUsage {
			t.Errorf("%s ends with %d: %s", name, o.exit, o.err)
		}
		return o.exit == exitOK, o.err
	}}
}

// page is the way in by the browser's forms.
func page(serve *serving) way {
	jar, err := cookiejar.New(nil)
	must.OK(serve.t, err)
	browser := &http.Client{Jar: jar}
	read := func(answer *http.Response, err error) (status int, at, text string) {
		serve.t.Helper()
		must.OK(serve.t, err)
		body, err := io.ReadAll(answer.Body)
		if err != nil || answer.Body.Close() != nil {
			serve.t.Fatal(err)
		}
		return answer.StatusCode, answer.Request.URL.Path, string(body)
	}
	get := func(to string) (int, string, string) { return read(browser.Get(to)) } // the process is ended
	post := func(to string, form url.Values) (int, string, string) {
		return read(browser.PostForm(serve.base+to, form)) // the process is ended
	}
	get(serve.link)
	return way{"page", func(t *testing.T, _ *bench, g given) (bool, string) {
		var form bytes.Buffer
		parts := multipart.NewWriter(&form)
		part, err := parts.CreateFormFile("file", "people.csv")
		if err == nil {
			_, err = io.WriteString(part, g.text)
		}
		if err != nil || parts.Close() != nil {
			t.Fatal(err)
		}
		to, kind := serve.base+"/uploads", parts.FormDataContentType()
		_, at, text := read(browser.Post(to, kind, &form)) // the process is ended
		checked := func() {
			for strings.Contains(text, `id="checking"`) {
				time.Sleep(50 * time.Millisecond)
				_, at, text = get(serve.base + at)
			}
		}
		checked()
		if g.again && strings.HasPrefix(at, "/uploads/") {
			_, at, text = post(at, url.Values{"again": {"yes"}})
			checked()
		}
		if strings.HasPrefix(at, "/uploads/") || !strings.Contains(text, `id="confirm"`) {
			return false, text
		}
		start := url.Values{}
		for option, value := range g.options {
			start.Set(option, value)
		}
		if g.undelivered {
			start.Set("undelivered", "yes")
		}
		status, _, text := post(at+"/start", start)
		if status == http.StatusOK {
			return true, text
		}
		// What was refused is discarded, as commands leave nothing of it.
		post(at+"/discard", nil)
		return false, text
	}}
}

// TestOneIntakeForAll: how many mails a development instance may send, which file counts as sent before, and which
// options can't be, is the same for send, import and the page.
func TestOneIntakeForAll(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"send", "import", "page"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStand(t, sandbox.Config{Limits: sandbox.Limits{Create: sandbox.Limit{N: -1}, Bulk: sandbox.Limit{N: -1}}})
			b := newBench(t, "CLERK_API_URL="+s.url, "CLERK_SECRET_KEY=sk_test_intake",
				"BULKINVITE_LIMIT_CREATE=none", "BULKINVITE_LIMIT_BULK=none")
			w := command(name)
			if name == "page" {
				serve := b.serve()
				defer serve.stop()
				w = page(serve)
			}
			files := 0
			file := func(n int) string {
				files++
				return strings.ReplaceAll(people(n), "person", fmt.Sprintf("p%d-", files))
			}
			first := file(2)
			with := func(option, value string) given {
				return given{text: file(1), options: map[string]string{option: value}}
			}
			for _, step := range []struct {
				what string
				given
				want bool
				says string
			}{
				{"a redirect URL of 2,049 bytes", with("redirect_url", "/"+strings.Repeat("x", 2048)), false, "is too long"},
				{"a redirect URL that leads nowhere", with("redirect_url", "welcome"), false, "link or a path"},
				{"366 days", with("expires_in_days", "366"), false, "366"},
				{"priority 5", with("priority", "5"), false, "must be 1 to 4"},
				{"no priority", with("priority", "0"), false, "must be 1 to 4"},
				{"another on_duplicate", with("on_duplicate", "twice"), false, "skip"},
				{"revoked after more than a hundred years", with("revoke_after_days", "36501"), false, "days"},
				{"the first file, with the most that options may be", given{text: first, options: map[string]string{
					"redirect_url": "/" + strings.Repeat("x", 2047), "expires_in_days": "365", "priority": "4",
					"canary": "2", "revoke_after_days": "36500"}}, true, ""},
				{"101 people in a month", given{text: file(99)}, false, "100 mails a month"},
				{"as many, and that is fine", given{text: file(99), undelivered: true}, true, ""},
				{"the first file once more", given{text: first, undelivered: true}, false, "already"},
				{"the first file once more, and that is fine", given{text: first, undelivered: true, again: true}, true, ""},
			} {
				ok, why := w.give(t, b, step.given)
				if ok != step.want || !ok && !strings.Contains(why, step.says) {
					t.Errorf("%s: started %t, want %t with %q:\n%s", step.what, ok, step.want, step.says, why)
				}
				if name != "send" && ok {
					ok, why := w.give(t, b, given{text: step.text, again: true, undelivered: true})
					if ok || !strings.Contains(why, "atch ") {
						t.Errorf("%s: it is sent a second time while it runs: %t\n%s", step.what, ok, why)
					}
					b.run("work", "--until-idle").want(t, exitOK)
				}
			}
			s.mailed(t, 101)
		})
	}
}
