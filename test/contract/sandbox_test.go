package contract_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"
)

// calls makes a call of Clerk's API at the sandbox. It returns the status, the header and the
// document of the answer.
func (k *clerk) calls(method, path, body string) (int, http.Header, any) {
	k.Helper()
	header := bearer("sk_test_x")
	header.Set("Content-Type", "application/json")
	status, answered, text := exchange(k.check, method, k.url+path, header, body)
	return status, answered, decode(k.check, text)
}

// answers makes a call that must be answered with code: "200", or a status with one of Clerk's
// codes.
func (k *clerk) answers(code, method, path, body string) any {
	k.Helper()
	status, answered, doc := k.calls(method, path, body)
	got := "200"
	if status != http.StatusOK {
		got = fmt.Sprintf("%d %v", status, at(doc, "errors[0].code"))
		k.documents().hold(method+" "+path, "", keyed(fields{"clerk_trace_id": text,
			"errors": list(keyed(fields{"message": text, "long_message": text, "code": text,
				"meta?": anything}))}), doc)
	}
	if got != code || answered.Get("Clerk-Trace-Id") == "" {
		k.Errorf("%s %s %s: %s, want %s, and a Clerk-Trace-Id: %v", method, path, body, got, code, doc)
	}
	return doc
}

var _ = promised("the sandbox as a server",
	[]string{"`bulkinvite sandbox` prints the URL for `CLERK_API_URL`, listens on 127.0.0.1:8091 (`--listen`), " +
		"takes any `sk_test_` or `sk_live_` key, and keeps the limits that the settings name."},
	func(c *check) {
		// Another program may already use the default port.
		p := (&bench{check: c, dir: c.TempDir(), env: []string{"HOME=" + c.TempDir()}}).start("sandbox")
		p.await("127.0.0.1:8091")
		if out, errs := p.wrote(); out != "http://127.0.0.1:8091/v1\n" && !strings.Contains(errs,
			"address already in use") {
			c.Errorf("%s%s", out, errs)
		}
		_ = p.Process.Kill() // an error means that it has ended

		k := c.clerk("--limit-create", "2/1h", "--limit-bulk", "1/1h", "--limit-general", "500/1h")
		for _, key := range []string{"sk_test_a", "sk_test_b", "sk_live_c"} {
			c.bench(k.env(key)...).run("reconcile").want(exitOK)
			environment := map[bool]string{true: "production", false: "development"}[strings.HasPrefix(key,
				"sk_live_")]
			if status, text := request(c, "GET", k.url+"/instance", bearer(key), ""); status != http.StatusOK ||
				!strings.Contains(text, environment) {
				c.Errorf("%s: %d %s", key, status, text)
			}
		}
		for _, key := range []string{"", "x", "pk_test_a"} {
			if status, text := request(c, "GET", k.url+"/instance", bearer(key),
				""); status != http.StatusUnauthorized {
				c.Errorf("%q: %d %s", key, status, text)
			}
		}
		k.answers("200", "POST", "/invitations", `{"email_address":"a@example.com"}`)
		k.answers("200", "POST", "/invitations", `{"email_address":"b@example.com"}`)
		k.answers("429 too_many_requests", "POST", "/invitations", `{"email_address":"c@example.com"}`)
		k.answers("200", "POST", "/invitations/bulk", `[{"email_address":"d@example.com"}]`)
		_, header, _ := k.calls("POST", "/invitations/bulk", `[{"email_address":"e@example.com"}]`)
		if header.Get("Retry-After") == "" {
			c.Error("a 429 without Retry-After")
		}
		limits := asObject(c, k.ask("GET", "/sandbox/config", "")).object(c, "limits")
		c.holds(limits, "create 2/1h, bulk 1/1h, general 500/1h")
		c.saw("sk_test_", "sk_live_", "CLERK_API_URL")
		k.end(syscall.SIGTERM).want(exitOK)
	})

var _ = promised("the sandbox answers as Clerk",
	[]string{"It has every call of [clerk.md](clerk.md) but those of organizations, with their errors. `--switch " +
		"NAME=VALUE` settles what Clerk's documentation leaves open, `--fault JSON` breaks requests, `--user`, " +
		"`--pending`, `--block`, `--seeds` plant people, `--accept` has people accept; `--help` has examples. " +
		"Scaled limits (`100/3.6s`) let hours pass in seconds."},
	func(c *check) {
		seeds := (&bench{check: c}).file("seeds.json",
			`{"users":["seeded@example.com"],"invitations":[{"email":"old@example.com","age":"720h","expires_in_days":1}]}`)
		k := c.clerk("--user", "user@example.com", "--pending", "pending@example.com", "--block",
			"*@blocked.example", "--seeds", seeds, "--limit-create", "100/3.6s")
		a := k.answers("200", "POST", "/invitations",
			`{"email_address":"a@example.com","redirect_url":"https://app.example.com","public_metadata":{"x":1},"expires_in_days":7}`)
		c.documents().hold("an invitation", "", keyed(fields{"object?": text, "id": matching(`inv_\w+`),
			"email_address": text, "public_metadata": anything,
			"revoked": boolean, "status": text, "url?": anything, "expires_at": anything, "created_at": integer,
			"updated_at": integer}), a)
		id := fmt.Sprint(at(a, "id"))
		k.answers("400 duplicate_record", "POST", "/invitations", `{"email_address":"a@example.com"}`)
		k.answers("400 duplicate_record", "POST", "/invitations", `{"email_address":"pending@example.com"}`)
		k.answers("422 form_identifier_exists", "POST", "/invitations", `{"email_address":"user@example.com"}`)
		k.answers("422 form_identifier_exists", "POST", "/invitations", `{"email_address":"seeded@example.com"}`)
		k.answers("403 not_allowed_access", "POST", "/invitations", `{"email_address":"x@blocked.example"}`)
		k.answers("422 form_param_format_invalid", "POST", "/invitations", `{"email_address":"nobody"}`)
		k.answers("422 form_param_missing", "POST", "/invitations", `{}`)
		k.answers("400 request_body_invalid", "POST", "/invitations", `[`)
		k.answers("200", "POST", "/invitations/bulk",
			`[{"email_address":"b@example.com"},{"email_address":"c@example.com"}]`)
		k.answers("400 duplicate_record", "POST", "/invitations/bulk",
			`[{"email_address":"d@example.com"},{"email_address":"c@example.com"}]`)
		k.answers("400 bulk_size_exceeded", "POST", "/invitations/bulk",
			"["+strings.TrimSuffix(strings.Repeat(`{"email_address":"m@example.com"},`, 11), ",")+"]")
		if list, _ := k.answers("200", "GET", "/invitations?limit=500&status=pending", "").([]any); len(list) != 4 {
			c.Errorf("%d invitations are pending, want 4: %v", len(list), list)
		}
		c.holds(k.answers("200", "GET", "/invitations?paginated=true", ""), "total_count 5")
		c.holds(k.answers("200", "GET", "/invitations?status=expired", ""), "[0].email_address old@example.com")
		k.answers("200", "POST", "/invitations/"+id+"/revoke", "")
		k.answers("400 invitation_already_revoked", "POST", "/invitations/"+id+"/revoke", "")
		k.answers("404 resource_not_found", "POST", "/invitations/inv_nobody/revoke", "")
		c.holds(k.answers("200", "GET", "/invitations?status=revoked", ""), "[0].id "+id)
		k.answers("200", "DELETE", "/invitations/"+id, "")
		if list, _ := k.answers("200", "GET", "/invitations?status=revoked", "").([]any); len(list) != 0 {
			c.Errorf("%v", list)
		}
		c.holds(k.answers("200", "GET",
			"/users?limit=10&email_address=user@example.com&email_address=nobody@example.com", ""),
			"[0].email_addresses[0].email_address user@example.com")
		c.holds(k.answers("200", "GET", "/instance", ""), "id ins_sandbox, environment_type development")
		if status, _, _ := k.calls("POST", "/organizations/org_1/invitations", "{}"); status != http.StatusNotFound {
			c.Errorf("a call of organizations: %d", status)
		}

		// With scaled limits an hour's creates are allowed again after 3.6 s. Refused requests
		// count too.
		var until time.Time
		for i := 0; ; i++ {
			if status, _, _ := k.calls("POST", "/invitations", fmt.Sprintf(`{"email_address":"p%d@example.com"}`,
				i)); status == http.StatusTooManyRequests {
				until = time.Now().Add(15 * time.Second)
				break
			}
			if i > 1000 {
				c.Fatal("100 requests in 3.6 s are no limit")
			}
		}
		for i := 0; ; i++ {
			if status, _, _ := k.calls("POST", "/invitations", fmt.Sprintf(`{"email_address":"q%d@example.com"}`,
				i)); status == http.StatusOK {
				break
			}
			if time.Now().After(until) {
				c.Fatal("the hour does not pass")
			}
			time.Sleep(50 * time.Millisecond)
		}

		k = c.clerk("--switch", "bulk=partial", "--fault",
			`{"call":"create","first":1,"kind":"status","status":503}`, "--accept", "1")
		k.answers("503 internal_clerk_error", "POST", "/invitations", `{"email_address":"a@example.com"}`)
		k.answers("200", "POST", "/invitations", `{"email_address":"a@example.com"}`)
		k.answers("422 form_param_format_invalid", "POST", "/invitations/bulk",
			`[{"email_address":"good@example.com"},{"email_address":"bad"}]`)
		for late := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			all := fmt.Sprint(k.answers("200", "GET", "/invitations?status=accepted", ""))
			if strings.Contains(all, "a@example.com") && strings.Contains(all, "good@example.com") {
				break
			}
			if time.Now().After(late) {
				c.Fatalf("nobody accepts, or the good one of a bulk call was not invited: %s", all)
			}
		}
		c.saw("--switch NAME=VALUE")
		(&bench{check: c, dir: c.TempDir(), env: []string{"HOME=" + c.TempDir()}}).run("sandbox",
			"--help").want(exitOK).says("Examples:")
	})

// raw sends bytes and returns the status line of the answer.
func (k *clerk) raw(request string) string {
	k.Helper()
	conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(k.url, "http://"), "/v1"))
	if err != nil {
		k.Fatal(err)
	}
	defer conn.Close() // it was only read
	if _, err := conn.Write([]byte(request)); err != nil {
		k.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		k.Fatal(err)
	}
	k.trace.add(request + line)
	return line
}

var _ = promised("the sandbox answers programs and no pages",
	[]string{"The server answers programs, not browsers' pages: a request with an `Origin` header gets 403, and " +
		"so does one whose `Host` is neither `localhost` nor a loopback address (a request without `Host` is " +
		"answered)."},
	func(c *check) {
		k := c.clerk()
		for header, want := range map[string]string{
			"": "200", "Host: localhost\r\n": "200", "Host: localhost:8091\r\n": "200",
			"Host: 127.0.0.1:1\r\n": "200", "Host: [::1]:80\r\n": "200",
			"Host: evil.example\r\n": "403", "Host: localhost.evil.example\r\n": "403", "Host: 192.0.2.1\r\n": "403",
			"Host: localhost\r\nOrigin: https://evil.example\r\n": "403",
			"Host: localhost\r\nOrigin: null\r\n":                 "403", "Origin: http://127.0.0.1\r\n": "403",
		} {
			for _, path := range []string{"/sandbox/mailbox", "/v1/instance"} {
				line := k.raw("GET " + path + " HTTP/1.0\r\nAuthorization: Bearer sk_test_x\r\n" + header + "\r\n")
				if got := strings.Fields(line)[1]; got != want {
					c.Errorf("%s with %q: %s, want %s", path, header, got, want)
				}
			}
		}
	})

var _ = promised("the sandbox's own calls",
	[]string{
		"Its own calls need no key:",
		"| `GET /sandbox/mailbox` | how many mails each address got |",
		"| `GET /sandbox/stats`, `/sandbox/requests` | what was asked, and the fullest windows |",
		"| `GET`, `POST /sandbox/invitations`; `POST /sandbox/users`, `/sandbox/accept` | everything there is; " +
			"plants more; has people accept |",
		"| `GET`, `POST /sandbox/config`; `GET`, `POST`, `DELETE /sandbox/faults` | limits, switches and faults " +
			"while it runs |",
	},
	func(c *check) {
		k := c.clerk()
		d := c.documents()
		k.answers("200", "POST", "/invitations", `{"email_address":"a@example.com"}`)
		mailbox := k.ask("GET", "/sandbox/mailbox", "")
		d.hold("mailbox", "", keyed(fields{"mails": integer, "addresses": counts, "doubled": list(text)}), mailbox)
		if fmt.Sprint(mailbox) != "map[addresses:map[a@example.com:1] doubled:[] mails:1]" {
			c.Errorf("mailbox %v", mailbox)
		}
		stats := k.ask("GET", "/sandbox/stats", "")
		window := keyed(fields{"limit": text, "window": text, "requests": integer})
		d.hold("stats", "", keyed(fields{"requests": anything, "largest": keyed(fields{"create": window,
			"bulk": window, "general": window}), "invitations": integer, "users": integer}), stats)
		c.holds(stats, "invitations 1, users 0, requests.create.200 1, largest.create.requests 1, "+
			"largest.bulk.requests 0")
		d.hold("requests", "", list(keyed(fields{"n": integer, "at": timestamp, "call": text, "trace_id": text,
			"status": integer, "emails?": list(text)})), k.ask("GET", "/sandbox/requests", ""))

		c.holds(k.ask("POST", "/sandbox/invitations", `["planted@example.com"]`), "invitations 1, users 0")
		c.holds(k.ask("POST", "/sandbox/users", `["user@example.com"]`), "invitations 0, users 1")
		c.holds(k.ask("POST", "/sandbox/accept", `{"addresses":["planted@example.com"]}`), "accepted 1")
		all := k.ask("GET", "/sandbox/invitations", "")
		d.hold("invitations", "", list(keyed(fields{"id": text, "email": text, "status": text, "mailed": boolean,
			"created_at": timestamp, "public_metadata?": anything})), all)
		c.holds(all, "[0].email a@example.com, [0].status pending, [0].mailed true, [1].email "+
			"planted@example.com, [1].status accepted, [1].mailed false")
		k.answers("422 form_identifier_exists", "POST", "/invitations", `{"email_address":"user@example.com"}`)

		c.holds(k.ask("POST", "/sandbox/config", `{"limits":{"create":"1/1h"},"switches":{"bulk":"partial"}}`),
			"limits.create 1/1h, switches.bulk partial")
		c.holds(k.ask("GET", "/sandbox/config", ""), "limits.create 1/1h, switches.bulk partial")
		k.answers("429 too_many_requests", "POST", "/invitations", `{"email_address":"b@example.com"}`)
		c.holds(k.ask("POST", "/sandbox/faults", `[{"call":"instance","kind":"status","status":503}]`),
			"[0].status 503")
		c.holds(k.ask("GET", "/sandbox/faults", ""), "[0].call instance")
		k.answers("503 internal_clerk_error", "GET", "/instance", "")
		if left := k.ask("DELETE", "/sandbox/faults", ""); fmt.Sprint(left) != "[]" {
			c.Errorf("faults %v", left)
		}
		k.answers("200", "GET", "/instance", "")
	})

var _ = promised("the sandbox's state",
	[]string{"`--sandbox` uses the same state file, so that the server shows afterwards what a rehearsal mailed. " +
		"The file has one user at a time."},
	func(c *check) {
		b := c.bench()
		b.run("send", "--sandbox", "--yes", b.people("a@example.com", "b@example.com")).want(exitOK)
		k := c.clerk("--data-dir", b.dir)
		if got := k.mails(); len(got) != 2 || got["a@example.com"] != 1 {
			c.Errorf("mails %v", got)
		}
		b.run("send", "--sandbox", "--yes", "--json", b.people("c@example.com")).refused(exitFailed, "sandbox_in_use")
		b.run("sandbox", "--listen", "127.0.0.1:0", "--json").refused(exitFailed, "sandbox_in_use")
		k.end(syscall.SIGTERM).want(exitOK)
		b.run("send", "--sandbox", "--yes", b.people("c@example.com")).want(exitOK)
		if left := slices.Sorted(func(yield func(string) bool) {
			for address := range c.clerk("--data-dir", b.dir).mails() {
				yield(address)
			}
		}); len(left) != 3 {
			c.Errorf("mails %v", left)
		}
	})
