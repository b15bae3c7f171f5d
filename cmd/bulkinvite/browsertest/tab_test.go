package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// tab is somebody's browser, with cookies of its own. What goes wrong in it that
// no test expects fails the test at its end: an error in the console, such as a
// breach of the Content-Security-Policy, an exception, or a dialog.
type tab struct {
	t      *testing.T
	ctx    context.Context
	site   *site
	mu     sync.Mutex
	faults []string
	bear   []string // parts of faults that the test expects
}

// tab opens a browser in which nobody has signed in.
func (s *site) tab() *tab {
	s.t.Helper()
	ctx, cancel := chromedp.NewContext(shared.browser, chromedp.WithNewBrowserContext())
	p := &tab{t: s.t, ctx: ctx, site: s}
	s.t.Cleanup(func() {
		p.close()
		cancel()
	})
	must.OK(s.t, chromedp.Listen(ctx, p.note))
	p.size(1280, 900)
	call(p, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "UTC"})
	call(p, emulation.SetLocaleOverride, emulation.SetLocaleOverrideParams{Locale: "en-GB"})
	p.media("light")
	return p
}

// as is a browser that somebody has signed in with.
func (s *site) as(name string) *tab {
	s.t.Helper()
	p := s.tab()
	p.open("/login")
	p.fill("Name", name)
	p.fill("Password", password)
	p.press("Sign in")
	p.at("/")
	return p
}

// note keeps what went wrong in the page. It is called for each event, in order.
func (p *tab) note(event any) {
	var fault string
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			fault = fmt.Sprintf("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		// A stream that ends since its page is left is such an error too; where a
		// server can't be reached, the browser's log has that besides.
		left := len(e.Args) > 0 && strings.Contains(string(e.Args[0].Value), "htmx:error: Failed to fetch")
		if e.Type == runtime.ConsoleAPICalledTypeError && !left {
			fault = "console.error:"
			for _, arg := range e.Args {
				fault += " " + string(arg.Value) + arg.Description
			}
		}
	case *runtime.EventExceptionThrown:
		fault = "exception: " + e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			fault += " " + e.ExceptionDetails.Exception.Description
		}
	case *page.EventJavascriptDialogOpening:
		fault = "a dialog: " + e.Message
		go func() { // the fault is noted, whatever becomes of the dialog
			accept := page.HandleJavaScriptDialogParams{Accept: true}
			_, _ = chromedp.Call(p.ctx, page.HandleJavaScriptDialog, accept)
		}()
	}
	if fault != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.faults = append(p.faults, fault)
	}
}

// expect lets faults pass that hold one of these texts.
func (p *tab) expect(texts ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bear = append(p.bear, texts...)
}

// unexpected is what went wrong so far and was not expected.
func (p *tab) unexpected() []string {
	p.t.Helper()
	eval[int](p, "1") // what happened before the answer has been noted by then
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.faults), func(fault string) bool {
		return slices.ContainsFunc(p.bear, func(text string) bool { return strings.Contains(fault, text) })
	})
}

// close ends the test of a tab: with what went wrong in it, and where a test
// failed with what it showed last.
func (p *tab) close() {
	if faults := p.unexpected(); len(faults) > 0 {
		p.t.Errorf("at %s the page had errors:\n%s", eval[string](p, "location.href"), strings.Join(faults, "\n"))
	}
	if p.t.Failed() {
		p.t.Logf("the page at the end, %s:\n%s", eval[string](p, "location.href"), p.text())
	}
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	must.OK(p.t, chromedp.Do(ctx, steps...))
}

// call sends the browser a command for the tab.
func call[P, R any](p *tab, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	answer, err := chromedp.Call(ctx, command, params)
	must.OK(p.t, err)
	return answer
}

// try evaluates a script's expression. It fails where the page is just leaving.
func try[T any](p *tab, js string, options ...chromedp.EvaluateOption) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](js, options...))
}

// eval is try until it does not fail.
func eval[T any](p *tab, js string, options ...chromedp.EvaluateOption) T {
	p.t.Helper()
	var value T
	var err error
	p.wait(func() bool {
		value, err = try[T](p, js, options...)
		return err == nil
	}, func() string { return fmt.Sprintf("%s: %v", js, err) })
	return value
}

// wait waits for a condition; what says what is the matter when it never comes.
func (p *tab) wait(condition func() bool, what func() string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatal(what())
		}
	}
}

// until waits until an expression is true on the page.
func (p *tab) until(js string) {
	p.t.Helper()
	var err error
	p.wait(func() bool {
		var ok bool
		ok, err = try[bool](p, "!!("+js+")")
		return ok && err == nil
	}, func() string { return fmt.Sprintf("never true: %s (%v)", js, err) })
}

// quote writes a text as a script has it.
func quote(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string
	}
	return string(b)
}

// text is what the page shows, with single spaces.
func (p *tab) text() string { return eval[string](p, shown) }

const shown = `document.body.innerText.replace(/\s+/g, " ")`

// sees waits until the page shows texts.
func (p *tab) sees(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		p.wait(func() bool {
			now, err := try[string](p, shown)
			return err == nil && strings.Contains(now, text)
		}, func() string { return fmt.Sprintf("%s never shows %q", p.path(), text) })
	}
}

// lacks fails the test where the page shows one of the texts.
func (p *tab) lacks(texts ...string) {
	p.t.Helper()
	now := p.text()
	expect.NoText(p.t, now, texts...)
}

// path is where the tab is.
func (p *tab) path() string { return eval[string](p, "location.pathname") }

// open goes to a page, as by the address line.
func (p *tab) open(path string) {
	p.t.Helper()
	p.do(chromedp.Navigate(p.site.url(path)))
}

// at waits until the tab has loaded a path.
func (p *tab) at(path string) {
	p.t.Helper()
	p.until(`document.readyState === "complete" && location.pathname === ` + quote(path))
}

// point waits for something on the page to be there to be seen, brings it into
// view, and says where its middle is. js finds it, or nothing.
func (p *tab) point(js string) (x, y float64) {
	p.t.Helper()
	var at []float64
	p.wait(func() bool {
		var err error
		at, err = try[[]float64](p, `(() => {
			if (document.readyState !== "complete") return [];
			const e = `+js+`;
			if (!e || e.disabled || !e.checkVisibility()) return [];
			e.scrollIntoView({ block: "center", behavior: "instant" });
			const box = e.getClientRects()[0];
			return box ? [box.x + box.width / 2, box.y + box.height / 2] : [];
		})()`)
		return err == nil && len(at) == 2
	}, func() string { return fmt.Sprintf("%s never shows %s", p.path(), js) })
	return at[0], at[1]
}

// named finds a button, a link or a summary by its words.
func named(name string) string {
	return `[...document.querySelectorAll("button, a, summary")].find((e) => e.checkVisibility() && e.innerText.replace(/\s+/g, " ").trim() === ` + quote(name) + `)`
}

// labelled finds a field by the beginning of its label.
func labelled(label string) string {
	return `[...document.querySelectorAll("input, select, textarea")].find((e) => e.checkVisibility() && [...(e.labels ?? [])].map((l) => l.textContent).concat(e.ariaLabel ?? []).some((l) => l.trim().startsWith(` + quote(label) + `)))`
}

// press clicks with the mouse on a button, a link or a summary.
func (p *tab) press(name string) {
	p.t.Helper()
	x, y := p.point(named(name))
	p.do(chromedp.MouseClickXY(x, y))
}

// fill clicks into a field and types a text in place of what is there.
func (p *tab) fill(label, text string) {
	p.t.Helper()
	p.wait(func() bool { // a page that is still being laid out may move it away
		x, y := p.point(labelled(label))
		p.do(chromedp.MouseClickXY(x, y))
		ok, err := try[bool](p, "(() => { const e = "+labelled(label)+"; e.select(); return e === document.activeElement; })()")
		return ok && err == nil
	}, func() string { return fmt.Sprintf("%s: a click never reaches %s", p.path(), label) })
	p.do(chromedp.KeyEvent(text))
}

// tick clicks on a check box or a radio button.
func (p *tab) tick(label string) {
	p.t.Helper()
	x, y := p.point(labelled(label))
	p.do(chromedp.MouseClickXY(x, y))
	p.until(labelled(label) + ".checked")
}

// choose takes an option of a menu, by its words.
func (p *tab) choose(label, option string) {
	p.t.Helper()
	p.point(labelled(label))
	ok := eval[bool](p, `(() => {
		const menu = `+labelled(label)+`, to = [...menu.options].find((o) => o.text.trim() === `+quote(option)+`);
		if (!to) return false;
		menu.value = to.value;
		setTimeout(() => ["input", "change"].forEach((name) => menu.dispatchEvent(new Event(name, { bubbles: true }))));
		return true;
	})()`)
	if !ok {
		p.t.Fatalf("%s: there is no %q in the menu %s", p.path(), option, label)
	}
}

// attach chooses a file in the field for one.
func (p *tab) attach(path string) {
	p.t.Helper()
	p.until(`document.readyState === "complete"`)
	path, err := filepath.Abs(path) // Chromium kills a page that is given another
	must.OK(p.t, err)
	p.do(chromedp.SetUploadFiles(chromedp.CSS("input[type=file]"), []string{path}))
}

// batch waits until the tab shows a batch, and returns its number.
func (p *tab) batch() string {
	p.t.Helper()
	p.until(`document.readyState === "complete" && /^\/batches\/\d+$/.test(location.pathname)`)
	return strings.TrimPrefix(p.path(), "/batches/")
}

// state waits until the batch that the tab shows is in a state, and the page,
// which is loaded anew when that changes, offers what goes with it.
func (p *tab) state(state string) {
	p.t.Helper()
	p.until(`document.readyState === "complete" && document.querySelector("[data-state=` + state + `]") && ((may) =>
		may("pause") === (` + quote(state) + ` === "running") && may("resume") === (` + quote(state) + ` === "paused")
	)((action) => !!document.querySelector("form[action$='/" + action + "']"))`)
}

// download does what begins a download, and returns the file.
func (p *tab) download(begin func()) string {
	p.t.Helper()
	dir := p.t.TempDir()
	if os.Geteuid() == 0 {
		must.OK(p.t, os.Chmod(dir, 0o755))
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	progress := chromedp.BrowserEvents(ctx, browser.DownloadProgress)
	_, err := chromedp.CallBrowser(ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorAllowAndName, BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID,
		DownloadPath: dir, EventsEnabled: new(true),
	})
	must.OK(p.t, err)
	begin()
	for e, err := range progress {
		must.OK(p.t, err)
		switch e.State {
		case browser.DownloadProgressStateCanceled:
			p.t.Fatal("the download was cut off")
		case browser.DownloadProgressStateCompleted:
			text, err := os.ReadFile(filepath.Join(dir, e.GUID))
			if os.IsNotExist(err) {
				continue // another tab's
			}
			must.OK(p.t, err)
			return string(text)
		}
	}
	p.t.Fatal("nothing is downloaded")
	return ""
}

// size makes the window as large as that, in CSS pixels.
func (p *tab) size(width, height int64) {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(width, height))
}

// media says what the person prefers: "light" or "dark", and no motion.
func (p *tab) media(scheme string) {
	p.t.Helper()
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}
