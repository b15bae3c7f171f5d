package web

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
)

const messy = "Name;E-Mail-Adresse;Zweite\n" +
	"Jane;jane@example.com;jane2@example.com\n" +
	"Tom;tom(at)example.com;tom@example.com\n" +
	"Ana;ana@example.com;\n" +
	"Jane;JANE@example.com;\n"

// TestUploadToStart goes the whole way: nothing is sent before the start, and
// starting twice is starting once.
func TestUploadToStart(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	page := w.draft("hires.csv", messy).want(http.StatusOK)
	page.says("Invite 2 people", "1 row can't be sent", "there is no @", "the same address again", `<option value="email" selected>e-mail address</option>`)
	if !strings.HasPrefix(page.location, "/batches/1") {
		t.Fatalf("the upload leads to %s", page.location)
	}
	if jobs, chunks := b.count(`select count(*) from river_job`), b.count(`select count(*) from upload_chunks`); jobs != 0 || chunks != 1 {
		t.Errorf("a draft has %d jobs and %d pieces of its file", jobs, chunks)
	}
	form := url.Values{"redirect_url": {"https://app.example.com/in"}, "expires_in_days": {"14"}, "priority": {"1"}, "canary": {"1"}}
	w.post("/batches/1/start", form).want(http.StatusSeeOther)
	if a := w.post("/batches/1/start", form).want(http.StatusSeeOther); a.location != "/batches/1?done=start" {
		t.Errorf("the second start leads to %s", a.location)
	}
	if jobs, started := b.count(`select count(*) from river_job`), b.count(`select count(*) from events where action = 'started' and actor = 'olga'`); jobs != 2 || started != 1 {
		t.Errorf("%d jobs, %d starts", jobs, started)
	}
	batch, err := batch.Batch(t.Context(), b.server.pool, 1)
	if err != nil || batch.State != invitation.Running || batch.Options != (invitation.Options{RedirectURL: "https://app.example.com/in", ExpiresInDays: 14}) || batch.Priority != 1 || batch.Canary != 1 {
		t.Errorf("%+v, %v", batch, err)
	}
	w.get("/batches/1").want(http.StatusOK).says("No worker runs", "Pause", "Cancel the rest")
	w.post("/uploads/1", url.Values{"column": {"Name", "E-Mail-Adresse", "Zweite"}, "meaning": {"", "", "email"}}).want(http.StatusConflict).says("started or cancelled already")
	for _, step := range []struct {
		action, state string
	}{{"pause", "paused"}, {"resume", "running"}, {"cancel", "cancelled"}} {
		w.post("/batches/1/"+step.action, nil).want(http.StatusSeeOther)
		w.get("/batches/1").want(http.StatusOK).says(step.state)
		w.post("/batches/1/"+step.action, nil).want(http.StatusConflict)
	}
	if err := b.server.tidy(t.Context()); err != nil || b.count(`select count(*) from upload_chunks`) != 0 {
		t.Errorf("the file is kept: %v", err)
	}
}

// TestMendMapping reads the same upload with another column, as the same batch.
func TestMendMapping(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("hires.csv", messy).want(http.StatusOK)
	columns := []string{"Name", "E-Mail-Adresse", "Zweite"}
	a := w.again("/uploads/1", url.Values{"column": columns, "meaning": {"metadata", "", "email"}})
	a.want(http.StatusOK).says("Invite 2 people", `<option value="metadata" selected>`)
	if n := b.count(`select count(*) from results where batch_id = 1 and email = 'jane2@example.com' and public_metadata = '{"Name": "Jane"}'`); n != 1 {
		t.Error("the row is as it was")
	}
	if n := b.count(`select count(*) from results`); n != 4 {
		t.Errorf("%d rows", n)
	}
	for _, meanings := range [][]string{{"email", "email", ""}, {"", "", ""}, {"", "boss", ""}, {"email"}} {
		w.post("/uploads/1", url.Values{"column": columns, "meaning": meanings}).want(http.StatusUnprocessableEntity)
	}
}

// TestChooseEncoding: Zoë in Windows-1252 is Zoė in Windows-1257, and the page shows both.
func TestChooseEncoding(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("hires.csv", "email,name\na@x.com,Zo\xeb\n").want(http.StatusOK).says("How do the names read right?", "Zoë", "Zoė")
	if kept := b.count(`select count(*) from uploads where summary::text like '%Zo%'`); kept != 0 {
		t.Error("a name is kept beside the rows")
	}
	w.post("/uploads/1", url.Values{"encoding": {"Windows-1257"}}).want(http.StatusSeeOther)
	page := w.get("/batches/1").want(http.StatusOK)
	page.says("Windows-1257", "Zoė")
	if strings.Contains(page.body, "How do the names read right?") {
		t.Error("the page asks again for what was chosen")
	}
}

// TestTypedNumber: of real mail the number of people is typed.
func TestTypedNumber(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Real = true })
	w := b.as("olga")
	w.draft("hires.csv", messy).want(http.StatusOK).says("Type the number of people: 2")
	for _, typed := range []string{"", "3", "many", "4812"} {
		w.post("/batches/1/start", url.Values{"people": {typed}}).want(http.StatusConflict).says("not the number of people: 2")
	}
	w.post("/batches/1/start", url.Values{"people": {" 2 "}}).want(http.StatusSeeOther)
}

// TestTwoStarters: of two people who start one draft at once, one does.
func TestTwoStarters(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.as("olga").draft("hires.csv", messy).want(http.StatusOK)
	var all sync.WaitGroup
	for range 4 {
		w := b.as("olga")
		all.Go(func() { w.post("/batches/1/start", nil) })
	}
	all.Wait()
	if jobs, started := b.count(`select count(*) from river_job`), b.count(`select count(*) from events where action = 'started'`); jobs != 2 || started != 1 {
		t.Errorf("%d jobs for 2 people, %d starts", jobs, started)
	}
}

func TestRefusedUploads(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.MaxUpload = 3 << 20 })
	w := b.as("olga")
	w.upload("big.csv", "email\n"+strings.Repeat("a@example.com\n", 300_000)).want(http.StatusRequestEntityTooLarge).says("larger than 3145728 bytes")
	w.upload("", "email\n").want(http.StatusUnprocessableEntity)
	if n := b.count(`select count(*) from uploads`); n != 0 {
		t.Errorf("%d uploads are left", n)
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty.csv": {"", "the file is empty"},
		"x.pdf":     {"%PDF-1.7 ...", "PDF document"},
		"none.csv":  {"Name,Abteilung\nJane,R\n", "o e-mail column"},
		"quote.csv": {"email\n\"a@example.com\n", ""},
	} {
		a := w.draft(name, c.text).want(http.StatusOK)
		if !strings.Contains(strings.ToLower(a.body), strings.ToLower(c.want)) {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	if n := b.count(`select count(*) from batches where file_name <> 'quote.csv'`); n != 0 {
		t.Errorf("%d batches were made of what is no file of people", n)
	}
}

// TestBrokenForms: a form that is none, one that ends early, and one without its
// file get a clear word and leave nothing.
func TestBrokenForms(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	const part = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"hires.csv\"\r\n\r\n"
	for name, c := range map[string]struct {
		kind, body string
		status     int
		says       string
	}{
		"no form":        {"text/csv", "email\na@example.com\n", http.StatusUnsupportedMediaType, "no form with a file"},
		"no boundary":    {"multipart/form-data", part, http.StatusUnsupportedMediaType, "no form with a file"},
		"ends in a file": {"multipart/form-data; boundary=x", part + "email\na@example.com\n", http.StatusBadRequest, "cut off half way"},
		"ends in a head": {"multipart/form-data; boundary=x", part[:30], http.StatusUnprocessableEntity, "no file in the form"},
		"empty":          {"multipart/form-data; boundary=x", "--x--\r\n", http.StatusUnprocessableEntity, "no file in the form"},
	} {
		r := w.request(http.MethodPost, "/uploads", strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.kind)
		if a := w.do(r); a.status != c.status || !strings.Contains(a.body, c.says) {
			t.Errorf("%s: %d, want %d that says %q:\n%s", name, a.status, c.status, c.says, a.body)
		}
	}
	if n := b.count(`select (select count(*) from uploads) + (select count(*) from upload_chunks)`); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

// TestUploadTwiceAtOnce: of a form that is sent twice one batch is made.
func TestUploadTwiceAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	var all sync.WaitGroup
	for range 3 {
		w := b.as("olga")
		all.Go(func() { w.draft("hires.csv", messy) })
	}
	all.Wait()
	if batches, rows := b.count(`select count(*) from batches`), b.count(`select count(*) from results`); batches != 1 || rows != 4 {
		t.Errorf("%d batches with %d rows", batches, rows)
	}
}

// TestCutOffUpload: the connection breaks half way, and nothing is left.
func TestCutOffUpload(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	address, _ := url.Parse(b.url)
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", address.Host)
	must.OK(t, err)
	cookie := w.http.Jar.Cookies(address)[0]
	body := "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"hires.csv\"\r\n\r\nemail\n" + strings.Repeat("a@example.com\n", 200_000)
	_, err = fmt.Fprintf(conn, "POST /uploads HTTP/1.1\r\nHost: %s\r\nCookie: %s=%s\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n%s", address.Host, cookie.Name, cookie.Value, 2*len(body), body)
	must.OK(t, err)
	must.OK(t, conn.(*net.TCPConn).CloseWrite())
	answer, _ := io.ReadAll(conn)
	if !strings.Contains(string(answer), "400 Bad Request") {
		t.Errorf("%.200s", answer)
	}
	if n := b.count(`select (select count(*) from uploads) + (select count(*) from upload_chunks)`); n != 0 {
		t.Errorf("%d rows are left of it", n)
	}
	w.draft("hires.csv", "email\na@example.com\n").want(http.StatusOK).says("Invite 1 person")
}

// TestSameFile: a file that is a batch already leads there; one that is over may
// be sent once more, if somebody says so.
func TestSameFile(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("hires.csv", messy).want(http.StatusOK)
	if a := w.draft("copy.csv", messy).want(http.StatusOK); a.location != "/batches/1?done=same" {
		t.Errorf("the same file leads to %s", a.location)
	}
	b.exec(`update results set outcome = 'rejected', decided_at = now() where outcome is null`)
	b.exec(`update batches set state = 'done', started_at = now()`)
	w.draft("copy.csv", messy).want(http.StatusOK).says("This file is batch 1 already (done)", "Check it once more")
	a := w.again("/uploads/3", url.Values{"again": {"yes"}})
	a.want(http.StatusOK).says("Invite 2 people")
	if n := b.count(`select count(*) from batches`); n != 2 {
		t.Errorf("%d batches", n)
	}
	// A draft that is discarded is as if it had never been.
	w.post(strings.Split(a.location, "?")[0]+"/discard", nil).want(http.StatusSeeOther)
	w.draft("copy.csv", messy).want(http.StatusOK).says("This file is batch 1 already")
	// A newer batch that is over does not hide an older one that runs, as after a retry.
	b.exec(`update batches set state = 'done', started_at = now() where id <> 1`)
	b.exec(`update batches set state = 'running' where id = 1`)
	w.draft("copy.csv", messy).want(http.StatusOK)
	w.again("/uploads/5", url.Values{"again": {"yes"}}).want(http.StatusOK)
	if n := b.count(`select count(*) from batches`); n != 2 {
		t.Errorf("%d batches, want 2: one of the same file runs", n)
	}
}

// TestCheckOutlivesServer: what was received is checked by the next server, if
// the first ended before.
func TestCheckOutlivesServer(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	u, err := b.server.receive(context.Background(), strings.NewReader(messy), "olga", "../../hires.csv", reading{}, "", func() {})
	if err != nil || u.FileName != "hires.csv" {
		t.Fatalf("%+v, %v", u, err)
	}
	w := b.as("olga")
	a := w.follow(w.get(fmt.Sprintf("/uploads/%d", u.ID)))
	for range 100 {
		if strings.Contains(a.body, "Invite 2 people") {
			return
		}
		a = w.follow(w.get(fmt.Sprintf("/uploads/%d", u.ID)))
	}
	t.Errorf("it is never checked:\n%s", a.body)
}
