package browsertest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/clerk/sandbox/sandboxtest"
	"bulkinvite/internal/must"
)

// axe is axe-core, which finds what keeps people with disabilities from using a
// page: https://github.com/dequelabs/axe-core, under the licence beside it.
//
//go:embed testdata/axe-4.14.1.min.js
var axe string

// TestPages opens each page as a person with work under way finds it. None may
// have a serious fault of accessibility, in light or dark, move for those who
// want no motion, or be wider than a narrow phone. With -update it takes the
// pictures in docs/pages.
func TestPages(t *testing.T) {
	t.Parallel()
	clerk := sandboxtest.New(t, sandbox.Config{Acceptance: sandbox.Acceptance{Fraction: 0.6}})
	s := newSite(t, "--clerk-url="+clerk.URL)
	s.serve("--work")
	p := s.tab()
	p.still()
	p.open("/login")
	p.inspect("login")
	p.fill("Name", "maria")
	p.fill("Password", "wrong")
	p.expect("status of 401")
	p.press("Sign in")
	p.sees("do not belong together")
	p.inspect("login-refused")
	p.fill("Name", "maria")
	p.fill("Password", password)
	p.press("Sign in")
	p.at("/")
	p.inspect("batches-empty")

	p.attach(s.file("minutes.csv", "Agenda,Owner\nBudget,Maria\n"))
	p.sees("Upload another file")
	p.inspect("upload-refused")
	p.open("/")
	done := p.send(s.file("interns-november.csv", people("intern", 31)), 31)
	p.state("done")
	s.call("reconcile")
	p.open(done)
	p.until(`/\d accepted/.test(document.body.innerText)`)
	p.inspect("batch-done")
	p.press("1")
	p.sees("One invitation sent")
	p.inspect("row")
	p.open("/")
	running := p.send(s.file("hires-germany.csv", people("hire", 480)), 480)
	p.sees("0 of 25 left", "0 of 100 left") // 31 of the 350 people that they let through are done
	p.until(`/3\d\d of 480 decided/.test(document.body.innerText)`)
	p.open(running) // without the word that it was started
	p.inspect("batch")
	p.open("/")
	p.attach(filepath.Join("..", "..", "..", "examples", "messy.csv"))
	p.batch()
	p.sees("Clerk was asked")
	p.inspect("draft")

	p.open(running + "/rows?outcome=undecided")
	p.inspect("rows")
	p.open(running + "/rows?q=nobody")
	p.inspect("rows-none")
	p.open("/people?q=h")
	p.inspect("people")
	p.expect("status of 404")
	p.open("/batches/99")
	p.inspect("error")

	// The rest are those that the rail leads to, without River's page of jobs.
	p.open("/")
	rail := eval[[]string](p, `[...document.querySelectorAll("header nav a")].map((a) => new URL(a.href).pathname).filter((path) => path !== "/river/")`)
	if !slices.Contains(rail, "/events") || !slices.Contains(rail, "/budget") {
		t.Errorf("the rail leads to %v", rail)
	}
	for _, path := range rail {
		p.open(path)
		name := strings.Trim(strings.ReplaceAll(path, "/", "-"), "-")
		switch name {
		case "":
			name = "batches"
		case "people":
			name = "people-empty"
		}
		p.inspect(name)
	}
}

// send uploads a file and invites everybody in it, and returns the path of the
// batch.
func (p *tab) send(path string, n int) string {
	p.t.Helper()
	p.attach(path)
	id := p.batch()
	p.fill("This sends real e-mail", fmt.Sprint(n))
	p.press(fmt.Sprintf("Invite %d people", n))
	return "/batches/" + id
}

// people is a file of people with names that are made of two lists.
func people(kind string, n int) string {
	first := []string{"Amara", "Jonas", "Priya", "Sofia", "Daniel", "Linh", "Tomás", "Grace", "Oliver", "Fatima", "Lukas", "Elena", "Mei"}
	last := []string{"Okafor", "Lindqvist", "Raman", "Marchetti", "O'Connor", "Nguyen", "Novák", "Mensah", "Hughes", "Zahra", "Brandt"}
	teams := []string{"Engineering", "Design", "Finance", "Support", "Sales"}
	var text strings.Builder
	text.WriteString("Name,Work e-mail,Team\n")
	for i := range n {
		fmt.Fprintf(&text, "%s %s,%s.%03d@example.com,%s\n", first[i%len(first)], last[i%len(last)], kind, i+1, teams[i%len(teams)])
	}
	return text.String()
}

// inspect looks for faults of the page that the tab shows and, if so asked,
// takes pictures of it for a desk and for a phone.
func (p *tab) inspect(name string) {
	p.t.Helper()
	p.until(`document.readyState === "complete"`)
	p.axe(name, "light", "{}")
	p.media("dark")
	p.axe(name, "dark", `{ runOnly: ["color-contrast"] }`)
	p.media("light")
	if moving := eval[[]string](p, `[...document.querySelectorAll("*")].filter((e) => {
		const s = getComputedStyle(e);
		return [s.transitionDuration, s.animationDuration].some((d) => d.split(", ").some((d) => parseFloat(d) > 0));
	}).map((e) => e.outerHTML.slice(0, 100))`); len(moving) > 0 {
		p.t.Errorf("%s moves for those who want no motion: %q", name, moving)
	}
	p.fits(name)
	p.photograph(name)
}

// photograph takes the pictures of the page that the tab shows, if so asked.
func (p *tab) photograph(name string) {
	p.t.Helper()
	if !*update {
		return
	}
	p.picture(name, 1280, 800)
	p.picture(name, 360, 740)
	p.size(1280, 900)
}

// axe runs axe-core on the page and reports faults that are serious or
// critical, as axe calls them.
func (p *tab) axe(name, scheme, options string) {
	p.t.Helper()
	var found struct {
		Passes     int
		Violations []struct {
			ID, Impact, Help string
			Nodes            []struct{ HTML, Summary string }
		}
	}
	p.do(chromedp.Evaluate[chromedp.Void](axe))
	answer := eval[string](p, `axe.run(document, `+options+`).then((r) => JSON.stringify({
		passes: r.passes.length,
		violations: r.violations.map((v) => ({ id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map((n) => ({ html: n.html.slice(0, 200), summary: n.failureSummary })) })),
	}))`, await)
	must.OK(p.t, json.Unmarshal([]byte(answer), &found))
	if found.Passes == 0 {
		p.t.Errorf("%s, %s: axe has looked at nothing", name, scheme)
	}
	for _, v := range found.Violations {
		if v.Impact == "serious" || v.Impact == "critical" {
			p.t.Errorf("%s, %s: %s: %s (%s): %+v", name, scheme, v.Impact, v.Help, v.ID, v.Nodes)
		} else {
			p.t.Logf("%s, %s: %s: %s (%s): %+v", name, scheme, v.Impact, v.Help, v.ID, v.Nodes)
		}
	}
}

// TestAxeFinds proves that a page with faults would fail [TestPages].
func TestAxeFinds(t *testing.T) {
	t.Parallel()
	s := rehearsal(t)
	p := s.tab()
	p.open("/login")
	p.do(chromedp.Evaluate[chromedp.Void](axe), chromedp.Evaluate[chromedp.Void](`document.querySelector("main").insertAdjacentHTML("beforeend", "<img src='data:,'><input><p class='pale'>pale</p>")`),
		chromedp.Evaluate[chromedp.Void](`document.querySelector(".pale").attributeStyleMap.set("color", "#eee")`))
	p.expect("data:,")
	ids := eval[[]string](p, `axe.run().then((r) => r.violations.map((v) => v.id))`, await)
	for _, want := range []string{"image-alt", "label", "color-contrast"} {
		if !slices.Contains(ids, want) {
			t.Errorf("axe finds %v, not %s", ids, want)
		}
	}
}

// still makes the tab write all times as if it were a certain evening, so that
// the pictures of one day look like those of another.
func (p *tab) still() {
	p.t.Helper()
	call(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `(() => {
		const evening = Date.UTC(2026, 10, 23, 20, 11), minute = 60_000;
		const moved = (at) => new Date(evening + Math.max(0, Math.round((at - Date.now()) / minute)) * minute);
		const format = Object.getOwnPropertyDescriptor(Intl.DateTimeFormat.prototype, "format").get;
		Object.defineProperty(Intl.DateTimeFormat.prototype, "format", { get() {
			const real = format.call(this);
			return (at) => real(moved(at));
		} });
	})()`})
}
