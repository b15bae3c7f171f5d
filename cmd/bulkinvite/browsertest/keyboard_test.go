package browsertest

import (
	"testing"

	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// TestKeyboard goes from signing in to a batch that runs with no mouse, and sees
// at each step where it is.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	s := rehearsal(t)
	p := s.tab()
	p.open("/login")
	p.until(`document.activeElement.name === "name"`)
	p.do(chromedp.KeyEvent("maria\t" + password + "\r"))
	p.at("/")
	p.do(chromedp.KeyEvent(kb.Tab))
	expect.Equal(t, "the first stop", eval[string](p, "document.activeElement.innerText"), "To the content")

	// The list of files to choose from is the system's: the browser hands over what
	// was chosen there.
	call(p, page.SetInterceptFileChooserDialog, page.SetInterceptFileChooserDialogParams{Enabled: true})
	chooser := chromedp.Events(p.ctx, page.FileChooserOpened)
	p.tabTo(`e.type === "file"`)
	p.do(chromedp.KeyEvent(" "))
	for e, err := range chooser {
		must.OK(t, err)
		call(p, dom.SetFileInputFiles, dom.SetFileInputFilesParams{Files: []string{s.file("hires.csv", "email\na@example.com\nb@example.com\n")}, BackendNodeID: e.BackendNodeID})
		break
	}
	id := p.batch()
	p.until(`document.readyState === "complete"`)
	p.tabTo(`e.innerText === "Options"`)
	p.do(chromedp.KeyEvent(" "))
	p.tabTo(`e.name === "redirect_url"`)
	p.do(chromedp.KeyEvent("https://app.example.com/welcome"))
	p.tabTo(`e.innerText === "Invite 2 people"`)
	p.do(chromedp.KeyEvent("\r"))
	p.sees("2 of 2 decided")
	p.state("done")
	p.at("/batches/" + id)
	p.tabTo(`e.name === "outcome"`)
	p.do(chromedp.KeyEvent("invalid"))
	p.sees("No row is like that.")
	p.tabTo(`e.innerText === "Show all"`)
	p.do(chromedp.KeyEvent("\r"))
	p.sees("a@example.com")
	p.tabTo(`e.innerText === "Sign out"`)
	p.do(chromedp.KeyEvent("\r"))
	p.at("/login")
}

// tabTo presses Tab until a condition holds for e, what has the focus. Whatever
// has it on the way must be seen to have it.
func (p *tab) tabTo(condition string) {
	p.t.Helper()
	for range 200 {
		p.do(chromedp.KeyEvent(kb.Tab))
		if lost := eval[string](p, `((e) => {
			if (e === document.body) return "";
			const style = getComputedStyle(e), box = e.getBoundingClientRect();
			if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) return "has no outline: " + e.outerHTML.slice(0, 100);
			if (box.bottom < 0 || box.top > innerHeight) return "is out of view: " + e.outerHTML.slice(0, 100);
			return "";
		})(document.activeElement)`); lost != "" {
			p.t.Errorf("%s: what has the focus %s", p.path(), lost)
		}
		if eval[bool](p, "((e) => "+condition+")(document.activeElement)") {
			return
		}
	}
	p.t.Fatalf("%s: Tab never reaches %s", p.path(), condition)
}
