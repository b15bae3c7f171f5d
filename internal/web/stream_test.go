package web

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres"
)

// auditors are so many users who may only look.
func auditors(t *testing.T, n int) []User {
	t.Helper()
	var all []User
	for i := range n {
		u, err := newUser(fmt.Sprintf("auditor%d", i), Auditor, password, 4)
		must.OK(t, err)
		all = append(all, u)
	}
	return all
}

// large makes batch 1, of so many rows of 12 kB each.
func (b *bench) large(rows int) {
	b.t.Helper()
	b.exec(`insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state, rows)
		values ($1, 'a.csv', '', 1, 'UTF-8', ',', '{email,notes}', 'test', 'running', $2)`, b.server.cfg.Instance.ID, rows)
	b.exec(`insert into results (batch_id, row_number, instance_id, line, original, email, key)
		select 1, n, $1::bigint, n + 1, array['p' || n || '@example.com', repeat('x', 12000)], 'p' || n || '@example.com', 'p' || n || '@example.com'
		from generate_series(1, $2) n`, b.server.cfg.Instance.ID, rows)
}

// download asks for a path and reads the status of the answer, and nothing behind it.
func (w *browser) download(path string) (*http.Response, net.Conn) {
	w.t.Helper()
	at, err := url.Parse(w.url + path)
	must.OK(w.t, err)
	conn, err := net.Dial("tcp", at.Host)
	must.OK(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	r := w.request(http.MethodGet, path, nil)
	for _, cookie := range w.http.Jar.Cookies(at) {
		r.AddCookie(cookie)
	}
	must.OK(w.t, r.Write(conn))
	must.OK(w.t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	response, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		w.t.Errorf("%s was not begun: %v", path, err)
		return nil, conn
	}
	return response, conn
}

// TestSlowDownloads: twenty clients that take nothing of what they asked for leave
// the server, which has four connections to the database, at the service of others.
func TestSlowDownloads(t *testing.T) {
	t.Parallel()
	const clients = 20
	b := setup(t, func(cfg *Config) { cfg.Users = append(auditors(t, clients), users...) })
	b.large(2000)
	b.exec(`insert into drift (instance_id, kind, clerk_invitation_id, key, first_seen, last_seen)
		select $1, 'unexplained', 'inv_' || n, repeat('x', 12000), now(), now() from generate_series(1, 2000) n`, b.server.cfg.Instance.ID)
	b.four()
	paths := []string{"/batches/1/results.csv", "/api/v1/batches/1/results", "/api/v1/drift", "/api/v1/batches/1/results.csv", "/api/v1/batches/1/live"}
	begun := make(chan int, clients)
	for i := range clients {
		w := b.as(fmt.Sprintf("auditor%d", i))
		go func() {
			response, _ := w.download(paths[i%len(paths)])
			if response == nil {
				begun <- 0
				return
			}
			begun <- response.StatusCode
		}()
	}
	for range clients {
		if status := <-begun; status != http.StatusOK {
			t.Errorf("a download was answered with %d", status)
		}
	}
	w := b.as("alex")
	form := url.Values{"name": {"olga"}, "password": {password}}.Encode()
	for path, body := range map[string]string{"/login": form, "/healthz": "", "/readyz": "", "/batches/1": ""} {
		took, status := time.Hour, 0
		for range 3 { // the machine may be busy with something else
			began := time.Now()
			status = w.within(5*time.Second, path, body)
			took = min(took, time.Since(began))
		}
		if took > time.Second || status != http.StatusOK && status != http.StatusSeeOther {
			t.Errorf("%s: %d after %s", path, status, took)
		}
	}
}

// four has the server go on with four connections to the database.
func (b *bench) four() {
	b.t.Helper()
	four, err := postgres.Open(b.t.Context(), b.pool.Config().ConnString()+"&pool_max_conns=4")
	must.OK(b.t, err)
	b.t.Cleanup(four.Close)
	server, err := New(four, b.server.cfg)
	must.OK(b.t, err)
	b.serve(server)
}

// within asks for a path, by POST where there is a body, and returns the status of
// the whole answer; 0: it did not come in time.
func (w *browser) within(limit time.Duration, path, body string) int {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()
	r := w.request(http.MethodGet, path, nil)
	if body != "" {
		r = w.request(http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := w.http.Do(r.WithContext(ctx))
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return 0
	}
	return response.StatusCode
}

// TestDownloadsOfOneUser: the fifth download of a user is refused while four are
// under way, and only theirs. When one of them is at its end, another may begin.
func TestDownloadsOfOneUser(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	const rows = 1000
	b.large(rows)
	alex := b.as("alex")
	response, first := alex.download("/api/v1/batches/1/results")
	for _, path := range []string{"/batches/1/results.csv", "/api/v1/batches/1/results.csv", "/api/v1/batches/1/results"} {
		alex.download(path)
	}
	for _, path := range []string{"/api/v1/batches/1/results", "/api/v1/batches/1/problems.csv", "/api/v1/drift"} {
		a := alex.get(path).want(http.StatusTooManyRequests).says("4 downloads under way", "Wait until one of them ends")
		if a.header.Get("Retry-After") != "10" || a.header.Get("Content-Type") != problemType {
			t.Errorf("%s: %v", path, a.header)
		}
	}
	a := alex.get("/batches/1/results.csv").want(http.StatusTooManyRequests).says("4 downloads under way")
	if a.header.Get("Retry-After") != "10" || a.header.Get("Content-Disposition") != "" {
		t.Errorf("the page's download: %v", a.header)
	}
	alex.get("/api/v1/batches/1/rows?limit=1").want(http.StatusOK)
	b.as("olga").get("/api/v1/drift").want(http.StatusOK)

	// A row is decided in the middle of the slow one, which has every row all the same.
	b.exec(`update results set outcome = 'rejected', decided_at = now() where row_number % 2 = 0`)
	must.OK(t, first.SetReadDeadline(time.Now().Add(time.Minute)))
	var got []struct {
		Row int `json:"bulkinvite_row"`
	}
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil || len(got) != rows {
		t.Fatalf("%d rows, %v", len(got), err)
	}
	for i, row := range got {
		if row.Row != i+1 {
			t.Fatalf("row %d came as number %d", row.Row, i+1)
		}
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	b.until("there is room for another download", func() bool { return alex.get("/api/v1/drift").status == http.StatusOK })
}

// TestLivePagesOfOneUser: nobody watches without end.
func TestLivePagesOfOneUser(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.large(1)
	alex := b.as("alex")
	for range maxLive {
		if response, _ := alex.download("/batches/1/live"); response == nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%v", response)
		}
	}
	a := alex.get("/api/v1/batches/1/live").want(http.StatusTooManyRequests).says("You watch 32 batches")
	if a.header.Get("Retry-After") == "" || a.header.Get("Content-Type") != problemType {
		t.Errorf("%v", a.header)
	}
}
