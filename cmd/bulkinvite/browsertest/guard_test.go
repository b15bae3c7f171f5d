package browsertest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"bulkinvite/internal/expect"
)

// TestAuditorCannotSend: an auditor sees everything, and finds nothing to change
// anything with; a request that is made up all the same is refused.
func TestAuditorCannotSend(t *testing.T) {
	t.Parallel()
	s := rehearsal(t)
	maria := s.as("maria")
	maria.attach(s.file("hires.csv", "email\na@example.com\nb@example.com\n"))
	id := maria.batch()

	alex := s.as("alex")
	for _, path := range []string{"/", "/batches/" + id, "/people", "/events"} {
		alex.open(path)
		alex.sees("alex · auditor")
		changes := eval[[]string](alex, `[...document.forms].filter((f) => f.method === "post").map((f) => new URL(f.action).pathname).filter((path) => path !== "/people")`)
		if len(changes) != 1 || changes[0] != "/logout" {
			t.Errorf("at %s an auditor finds forms to %v", path, changes)
		}
	}
	alex.open("/batches/" + id)
	alex.sees("hires.csv", "a@example.com")
	alex.expect("status of 403")
	for _, action := range []string{"start", "pause", "resume", "cancel", "retry"} {
		status := eval[int](alex, fmt.Sprintf(`fetch("/batches/%s/%s", { method: "POST" }).then((r) => r.status)`, id, action), await)
		expect.Equal(t, fmt.Sprintf("%s by an auditor", action), status, http.StatusForbidden)
	}
	status := eval[int](alex, `(() => {
		const form = new FormData();
		form.append("file", new File(["email\nc@example.com\n"], "more.csv"));
		return fetch("/uploads", { method: "POST", body: form }).then((r) => r.status);
	})()`, await)
	expect.Equal(t, "an auditor's upload", status, http.StatusForbidden)
	if state := s.call("status", id, "--json"); !strings.Contains(state, `"state":"draft"`) {
		t.Errorf("the batch is %s", state)
	}
	maria.press("Invite 2 people")
	maria.sees("2 of 2 decided")
}

// TestOtherOrigin opens a page of another site, which sends what the server's
// own form would, by a form and by a script. Both go with the cookie, since a
// port does not tell sites apart, and both are refused.
func TestOtherOrigin(t *testing.T) {
	t.Parallel()
	s := rehearsal(t)
	p := s.as("maria")
	p.attach(s.file("hires.csv", "email\na@example.com\n"))
	id := p.batch()
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		const form = `<!doctype html><title>Win a prize</title>` +
			`<form method="post" action="%s"><button>Win</button></form>`
		_, _ = fmt.Fprintf(w, form, s.url("/batches/"+id+"/start")) // the browser shows what is missing
	}))
	t.Cleanup(evil.Close)

	p.expect("status of 403", "CORS policy", "net::ERR_FAILED", "ERR_BLOCKED_BY")
	p.do(navigate(evil.URL))
	p.press("Win")
	p.sees("This request came from another site.")
	p.do(navigate(evil.URL))
	kind := eval[string](p, fmt.Sprintf(`fetch(%q, { method: "POST", mode: "no-cors", credentials: "include" }).then((r) => r.type, () => "refused")`, s.url("/batches/"+id+"/start")), await)
	if kind != "opaque" && kind != "refused" {
		t.Errorf("the script's request was answered: %s", kind)
	}
	for _, path := range []string{"/batches/" + id, "/batches/" + id + "/results.csv", "/batches/" + id + "/live"} {
		read := eval[string](p, fmt.Sprintf(`fetch(%q, { credentials: "include" }).then((r) => r.text(), () => "refused")`, s.url(path)), await)
		expect.Equal(t, fmt.Sprintf("another site reads %s", path), read, "refused")
	}
	if state := s.call("status", id, "--json"); !strings.Contains(state, `"state":"draft"`) {
		t.Errorf("the batch is %s", state)
	}
	// The same, by the page itself.
	p.open("/batches/" + id)
	p.press("Invite 1 person")
	p.sees("1 of 1 decided")
}

// TestSignedOut: who signs out in one tab is sent to sign in by the others, and
// comes back to where they were.
func TestSignedOut(t *testing.T) {
	t.Parallel()
	s := rehearsal(t)
	p := s.as("maria")
	p.attach(s.file("hires.csv", "email\na@example.com\n"))
	id := p.batch()
	if status := eval[int](p, `fetch("/logout", { method: "POST", redirect: "manual" }).then((r) => r.status)`, await); status != 0 {
		t.Fatalf("signing out answers %d, no redirect", status)
	}
	p.expect("status of 401")
	p.choose("Outcome", "invalid")
	p.at("/login")
	p.fill("Name", "maria")
	p.fill("Password", password)
	p.press("Sign in")
	p.at("/batches/" + id)
}

// TestHostileFile uploads a file whose name and cells try to be markup, a
// formula, and text that runs the other way: they are shown as what they are.
func TestHostileFile(t *testing.T) {
	t.Parallel()
	s := rehearsal(t)
	p := s.as("maria")
	const attack = `"><script>alert(1)</script><img src=x onerror=alert(2)>`
	cell := `"` + strings.ReplaceAll(attack, `"`, `""`) + `"`
	const turned = "Anna\u202e\u2066gpj.exe\u2069"
	long := strings.Repeat("long ", 2<<10)
	rows := "Name <b>,email," + cell + "\n" +
		cell + ",a@example.com," + turned + "\n" +
		long + ",b@example.com,=cmd|' /C calc'!A0\n" +
		turned + "," + cell + ",x\n"
	p.attach(s.file(`"><img src=x onerror=alert(3)>.csv`, rows))
	id := p.batch()
	p.sees("Name <b>", "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "1 row can't be sent")
	p.press("Invite 2 people")
	p.sees("3 of 3 decided")
	for _, path := range []string{"/", "/batches/" + id, "/batches/" + id + "/rows/1", "/batches/" + id + "/rows/2", "/batches/" + id + "/rows/3", "/events", "/people?q=" + "%22%3E%3Cscript%3E"} {
		p.open(path)
		p.until(`document.readyState === "complete"`)
		if n := eval[int](p, `document.querySelectorAll("main script, main img, main b[onerror], [onerror]").length`); n != 0 {
			t.Errorf("at %s the file's text became %d elements", path, n)
		}
		if eval[bool](p, `/[\u202a-\u202e\u2066-\u2069]/.test(document.body.innerText)`) {
			t.Errorf("%s shows marks that turn text around", path)
		}
		p.fits(path)
	}
}
