package web

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/mattn/go-shellwords"

	"bulkinvite/internal/must"
)

// curl makes a request of an example's words, as curl would. Of its flags it knows
// those that the examples have.
func (s *script) curl(words []string, files map[string]string) *http.Request {
	s.t.Helper()
	var at, method, kind string
	var body bytes.Buffer
	header := http.Header{}
	fileOf := func(name string) string {
		text, ok := files[strings.TrimPrefix(name, "@")]
		if !ok || !strings.HasPrefix(name, "@") {
			s.t.Fatalf("there is no file %s", name)
		}
		return text
	}
	for i := 1; i < len(words); i++ {
		if !strings.HasPrefix(words[i], "-") {
			at = words[i]
			continue
		}
		flag, value := words[i], ""
		if flag != "-N" { // the others have a value
			if i++; i == len(words) {
				s.t.Fatalf("%s has no value", flag)
			}
			value = words[i]
		}
		switch flag {
		case "-N", "-o":
		case "-X":
			method = value
		case "-H":
			name, text, _ := strings.Cut(value, ": ")
			header.Add(name, text)
		case "-d":
			kind = "application/x-www-form-urlencoded"
			body.WriteString(value)
		case "--data-binary":
			kind = "application/x-www-form-urlencoded"
			body.WriteString(fileOf(value))
		case "-F":
			field, name, _ := strings.Cut(value, "=")
			form := multipart.NewWriter(&body)
			part, err := form.CreateFormFile(field, path.Base(strings.TrimPrefix(name, "@")))
			must.OK(s.t, err)
			_, _ = io.WriteString(part, fileOf(name))
			must.OK(s.t, form.Close())
			kind = form.FormDataContentType()
		default:
			s.t.Fatalf("the test knows no %s of curl", flag)
		}
	}
	if method == "" {
		method = map[bool]string{true: http.MethodPost, false: http.MethodGet}[kind != ""]
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, at, &body)
	must.OK(s.t, err)
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	for name := range header {
		r.Header[name] = header[name]
	}
	return r
}

// TestAPIDocument does what docs/api.md says, line by line and in its order, with
// the numbers that it has. Each example does what it is there for.
func TestAPIDocument(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Real = true })
	s := b.script(Operator)
	text, err := os.ReadFile("../../docs/api.md")
	must.OK(t, err)
	var hires strings.Builder
	hires.WriteString("Name,E-Mail,Work Address\n")
	for row := range 4912 {
		switch {
		case row == 0:
			hires.WriteString("Jane,jane@home.example,jane@example.com\n")
		case row < 4812:
			fmt.Fprintf(&hires, "P,p%[1]d@home.example,p%[1]d@example.com\n", row)
		default:
			fmt.Fprintf(&hires, "P,nobody,nobody %d\n", row)
		}
	}
	files := map[string]string{"hires.csv": hires.String(), "interns.csv": "Work Address,Mail\ni@example.com,x@example.org\n"}
	for name, first := range map[string]int{"batches": 12, "uploads": 7, "sweeps": 2} {
		b.exec(fmt.Sprintf(`alter sequence %s_id_seq restart with %d`, name, first))
	}
	id := b.server.cfg.Instance.ID
	// What happens in the world before a line, where it takes more than the page says.
	before := map[string]func(){
		"/batches/12/pause": func() {
			b.exec(`update results set outcome = case when row_number <= 4804 then 'invited' when row_number <= 4810 then 'rejected' else 'failed' end, decided_at = now(), invited_at = now(),
				status = case when row_number <= 4803 then 'pending' when row_number = 4804 then 'accepted' end, clerk_invitation_id = case when row_number <= 4804 then 'inv_' || row_number end where batch_id = 12 and outcome is null`)
		},
		"/drift?kind=gone": func() {
			b.exec(`insert into reconciles (instance_id, worker_id, started_by, finished_at, complete) values ($1, 'w', 'bulkinvite', now(), true)`, id)
			b.sweep(60)
			b.exec(`insert into sweeps (instance_id, kind, started_by, apply, held, threshold, scanned, stale) values ($1, 'sweep', 'maria', true, true, 20, 30, 25)`, id)
		},
	}
	shell := &shellwords.Parser{ParseEnv: true, Getenv: func(name string) string {
		value, ok := map[string]string{"TOKEN": s.token, "URL": b.url}[name]
		if !ok {
			t.Errorf("nothing says what %s is", name)
		}
		return value
	}}
	done := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "curl ") {
			continue
		}
		words, err := shell.Parse(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		r := s.curl(words, files)
		at := strings.TrimPrefix(r.URL.RequestURI(), apiRoot)
		if happens := before[at]; happens != nil {
			happens()
			delete(before, at)
		}
		_, pattern := b.server.api.mux.Handler(r)
		done[pattern] = true
		if strings.HasSuffix(r.URL.Path, "/live") {
			s.first(r)
			continue
		}
		want := http.StatusOK
		if pattern == "POST "+apiRoot+"/batches" {
			want = http.StatusCreated
		}
		a := s.send(r)
		if a.status != want {
			t.Fatalf("%s: %d, want %d\n%.2000s", line, a.status, want, a.body)
		}
		if length := len(strings.TrimSpace(a.body)); length < 3 && pattern != "GET "+apiRoot+"/drift" && pattern != "GET "+apiRoot+"/schedules" {
			t.Errorf("%s: there is nothing to see: %s", line, a.body)
		}
	}
	for at := range before {
		t.Errorf("there is no example of %s", at)
	}
	for pattern := range b.server.api.roles {
		if !done[pattern] {
			t.Errorf("there is no example of %s", pattern)
		}
	}
	// They were about the batch that they name.
	for sql, want := range map[string]int{
		`select count(*) from batches where id in (12, 13)`:                                                           2,
		`select count(*) from results where batch_id = 12`:                                                            4912,
		`select count(*) from results where batch_id = 13 and email = 'i@example.com'`:                                1,
		`select count(*) from batches where id = 12 and canary = 5 and state = 'cancelled'`:                           1,
		`select count(*) from batches where id = 13 and options->>'redirect_url' like 'https://app.%'`:                1,
		`select count(*) from sweeps where id = 2 and kind = 'undo' and batch_id = 12 and stale = 4803`:               1,
		`select count(*) from sweeps where id = 4 and finished_at is not null`:                                        1,
		`select count(*) from sweeps where id = 3 and allowed_by = 'token:hr-operator'`:                               1,
		`select count(*) from results where batch_id = 12 and outcome = 'cancelled'`:                                  8, // 2 failed and 6 rejected ones were retried
		`select count(*) from uploads where id = 7 and idempotency_key = 'hires-2026-11-23' and actor like 'token:%'`: 1,
	} {
		if n := b.count(sql); n != want {
			t.Errorf("%d, want %d: %s", n, want, sql)
		}
	}
}

// first reads the beginning of a stream, and leaves it.
func (s *script) first(r *http.Request) {
	s.t.Helper()
	answer, err := s.http.Do(r)
	must.OK(s.t, err)
	defer answer.Body.Close() // it is only read
	start := make([]byte, len("data: {"))
	if _, err := io.ReadFull(answer.Body, start); err != nil || answer.StatusCode != http.StatusOK || string(start) != "data: {" {
		s.t.Errorf("%s: %d, %v, %q", r.URL.Path, answer.StatusCode, err, start)
	}
}
