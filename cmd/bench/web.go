package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"bulkinvite/cmd/internal/rig"
	"bulkinvite/web"
)

// webLines are those of the page, in the order in which they run.
var webLines = []line{
	{"million", "a batch of 1,000,000 rows: the list, its page, filters and searches answer within 100 ms; 1 and 200 pages that watch", showMillion},
}

const (
	webRows   = 1_000_000
	webAsks   = 100 // requests of each kind, after the first
	webWithin = 100 * time.Millisecond
	watchTime = 30 * time.Second
	watchCPU  = 1.0 // percent of a core
	watching  = 200
	watchSees = 30 * time.Second
)

// showMillion measures what the pages of a large batch take.
func showMillion(ctx context.Context, s *show) error {
	return s.on(ctx, conditions{mode: "sliding", window: time.Hour}, func(st *stage) error {
		if err := st.million(ctx, webRows); err != nil {
			return err
		}
		page, err := st.serve(ctx)
		if err != nil {
			return err
		}
		return errors.Join(s.ask(ctx, page), s.watchOne(ctx, st, page), s.watchMany(ctx, st, page))
	})
}

// million makes a batch of a million rows, or as many, that runs, most of them
// decided, as if workers had been at it for months; it is batch 2, beside a small
// one.
func (s *stage) million(ctx context.Context, rows int) error {
	if err := s.importFile(ctx, crowd("small", 3)); err != nil {
		return err
	}
	for _, statement := range []string{
		`insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state, rows, started_at, judged_from)
		 select instance_id, 'million.csv', '\x00', 1, 'UTF-8', ',', '{email,name}', actor, 'running', ` + fmt.Sprint(rows) + `, now() - interval '60 days', now() from batches where id = 1`,
		// Of each hundred rows 60 were invited, of whom every third has accepted.
		`insert into results (batch_id, row_number, instance_id, line, original, email, key, outcome, reason, duplicate_of, clerk_invitation_id, status, status_at, invited_at, decided_at)
		 select 2, n, 1, n + 1, array[e, 'Somebody'], e, e, o,
		        case o when 'invalid' then (array['no_at', 'no_dot_domain', 'missing_email'])[1 + n % 3] when 'rejected' then 'form_param_format_invalid' end, case o when 'duplicate_row' then 1 end,
		        case when o = 'invited' then 'inv_' || n end,
		        case when o = 'invited' then case when n % 10000 = 7 then 'revoked' when n % 3 = 0 then 'accepted' else 'pending' end end, case when o = 'invited' then at end, case when o = 'invited' then at end, case when o is not null then at end
		 from (select n, 'p' || lpad(n::text, 7, '0') || '@example.com' as e, now() - interval '60 days' + n * interval '5 seconds' as at,
		              case when n % 100 < 60 then 'invited' when n % 100 < 63 then 'already_registered' when n % 100 < 65 then 'invalid' when n % 100 = 65 then 'duplicate_row' when n % 10000 = 66 then 'rejected' end as o
		       from generate_series(1, ` + fmt.Sprint(rows) + `) n) r`,
		`vacuum analyze`, // as PostgreSQL does by itself after such an import
	} {
		if _, err := s.pool.Exec(ctx, statement); err != nil {
			return fmt.Errorf("make a batch of %s rows: %w", grouped(rows), err)
		}
	}
	return nil
}

// webPage is a server that somebody is signed in to.
type webPage struct {
	server *rig.Process
	url    string
	http   *http.Client
}

// serve starts the page and signs in to it.
func (s *stage) serve(ctx context.Context) (*webPage, error) {
	p, err := openPage(ctx, s.bench.Binary, s.env, filepath.Join(s.dir, "serve.log"), s.limits()...)
	if err == nil {
		s.workers = append(s.workers, p.server) // the stage ends it
	}
	return p, err
}

// openPage starts a server of the page, and signs in to it. The caller ends it.
func openPage(ctx context.Context, binary string, env []string, log string, limits ...string) (_ *webPage, err error) {
	const name, password = "bench", "a password for the bench"
	user, err := web.NewUser(name, web.Operator, password)
	if err != nil {
		return nil, err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the list is not to be read before it is measured
	p := &webPage{http: &http.Client{Jar: jar, CheckRedirect: stay, Transport: &http.Transport{MaxConnsPerHost: watching + 10}}}
	args := append([]string{"serve", "--listen=127.0.0.1:0"}, limits...)
	if p.server, err = rig.Launch(ctx, binary, append(slices.Clone(env), "BULKINVITE_USERS="+user.String()), log, nil, args...); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.server.Kill())
		}
	}()
	address := regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	for p.url == "" {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
		text, err := os.ReadFile(log)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, `"serving"`) {
				p.url = address.FindString(line)
			}
		}
		select {
		case <-p.server.Over():
			return nil, fmt.Errorf("serve ended: %s", rig.Tail(log))
		default:
		}
	}
	answer, err := p.http.PostForm(p.url+"/login", url.Values{"name": {name}, "password": {password}}) //nolint:noctx // ends with the server
	if err != nil {
		return nil, err
	}
	if err := answer.Body.Close(); err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusSeeOther {
		return nil, fmt.Errorf("sign in: %s", answer.Status)
	}
	return p, nil
}

// get asks for a page, and returns how long it took to be read.
func (p *webPage) get(ctx context.Context, path string) (took time.Duration, body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return 0, "", err
	}
	began := time.Now()
	answer, err := p.http.Do(request)
	if err != nil {
		return 0, "", err
	}
	text, err := io.ReadAll(answer.Body)
	took = time.Since(began)
	if err = errors.Join(err, answer.Body.Close()); err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, answer.Status)
	}
	return took, string(text), err
}

// asked is what the pages are asked for; says must be on each, so that an empty
// page is not taken for a fast one.
var asked = []struct{ where, path, says string }{
	{"list of batches", "/", "million.csv"},
	{"page of the batch", "/batches/2", "p0000001@example.com"},
	{"rows, the last", "/batches/2/rows?after=999950", "p1000000@example.com"},
	{"outcome, common", "/batches/2/rows?outcome=invited", "p0000001@example.com"},
	{"outcome, rare", "/batches/2/rows?outcome=rejected", "p0000066@example.com"},
	{"outcome, none", "/batches/2/rows?outcome=failed", "No row is like that"},
	{"undecided", "/batches/2/rows?outcome=undecided", "p0000067@example.com"},
	{"status, rare", "/batches/2/rows?status=revoked", "p0010007@example.com"},
	{"status and outcome", "/batches/2/rows?outcome=invited&status=accepted&after=900000", "p0900003@example.com"},
	{"problems by kind", "/batches/2/problems?code=no_at", "Somebody"},
	{"search, an address", "/batches/2/rows?q=p0999999@example.com", "p0999999@example.com"},
	{"search, a few", "/batches/2/rows?q=p09999", "p0999900@example.com"},
	{"search, everybody", "/batches/2/rows?q=p", "p0000001@example.com"},
	{"search, a rare outcome", "/batches/2/rows?q=p09&outcome=rejected", "p0900066@example.com"},
	{"search, an invitation", "/batches/2/rows?q=inv_999959", "p0999959@example.com"},
	{"search, a row", "/batches/2/rows?q=777777", "p0777777@example.com"},
	{"people", "/people?q=p0999", "p0999000@example.com"},
	{"a row's story", "/batches/2/rows/500001", "p0500001@example.com"},
}

// ask asks for each page some times.
func (s *show) ask(ctx context.Context, p *webPage) error {
	for _, a := range asked {
		first, body, err := p.get(ctx, a.path)
		if err != nil {
			return err
		}
		if !strings.Contains(body, a.says) {
			return fmt.Errorf("%s does not say %q", a.path, a.says)
		}
		var all []time.Duration
		for range webAsks {
			took, _, err := p.get(ctx, a.path)
			if err != nil {
				return err
			}
			all = append(all, took)
		}
		slices.Sort(all)
		half, most := all[len(all)/2], all[len(all)-1-len(all)/100]
		s.verdict(most < webWithin, a.where, "under 100 ms", fmt.Sprintf("%.1f ms, 99 of 100 within %.1f ms (the first took %.1f ms)", milliseconds(half), milliseconds(most), milliseconds(first)))
	}
	return nil
}

// watchPage watches the batch until it sees a text, and tells so.
func (p *webPage) watchPage(ctx context.Context, text string, saw chan<- error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/batches/2/live", nil)
	if err != nil {
		saw <- err
		return
	}
	answer, err := p.http.Do(request)
	if err != nil {
		saw <- err
		return
	}
	defer answer.Body.Close() //nolint:errcheck // it was only read
	lines := bufio.NewReader(answer.Body)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			saw <- fmt.Errorf("watch: %w", err)
			return
		}
		if strings.Contains(line, text) {
			saw <- nil
			return
		}
	}
}

// used is the processor time of the server, and of its connections to the
// database.
func (p *webPage) used(ctx context.Context, st *stage) (server, database time.Duration, err error) {
	if server, err = cpuTime(p.server.PID()); err != nil {
		return 0, 0, err
	}
	rows, err := st.pool.Query(ctx, `select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`)
	if err != nil {
		return 0, 0, err
	}
	var pid int
	for rows.Next() {
		if err := rows.Scan(&pid); err != nil {
			return 0, 0, err
		}
		t, err := cpuTime(pid)
		if err != nil {
			continue // it has ended meanwhile
		}
		database += t
	}
	return server, database, rows.Err()
}

// watchOne has one page watch for a while, as a row is decided each second.
func (s *show) watchOne(ctx context.Context, st *stage, p *webPage) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	saw := make(chan error, 1)
	go p.watchPage(watching, "nothing says this", saw)
	if err := pause(ctx, 5*time.Second); err != nil { // until the first look is over
		return err
	}
	server, database, err := p.used(ctx, st)
	if err != nil {
		return err
	}
	began := time.Now()
	for i := 0; time.Since(began) < watchTime; i++ {
		if _, err := st.pool.Exec(ctx, `update results set outcome = 'cancelled', decided_at = now() where batch_id = 2 and row_number = $1`, 67+100*i); err != nil {
			return err
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
	server2, database2, err := p.used(ctx, st)
	if err != nil {
		return err
	}
	of := time.Since(began).Seconds() / 100
	share := (server2 - server).Seconds() / of
	s.verdict(share < watchCPU, "one page watches, 30 s", "under 1 % of a core", fmt.Sprintf("%.2f %% (its connections to PostgreSQL, beside: %.2f %%)", share, (database2-database).Seconds()/of))
	return nil
}

// watchMany has two hundred pages watch, and changes the batch's state.
func (s *show) watchMany(ctx context.Context, st *stage, p *webPage) error {
	within, stop := context.WithTimeout(ctx, 2*time.Minute)
	defer stop()
	saw := make(chan error, watching)
	for range watching {
		go p.watchPage(within, `data-state="paused"`, saw)
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	began := time.Now()
	if _, err := st.pool.Exec(ctx, `update batches set state = 'paused', paused_by = 'person' where id = 2`); err != nil {
		return err
	}
	seen, lost := 0, ""
	for range watching {
		if err := <-saw; err != nil {
			lost = ": " + err.Error()
		} else {
			seen++
		}
	}
	took := time.Since(began)
	s.verdict(seen == watching && took < watchSees, "200 pages watch", "all see a pause in 30 s", fmt.Sprintf("%d in %.1f s%s", seen, took.Seconds(), lost))
	return nil
}
