package browsertest

import (
	"context"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// mark leaves a mark on the page, which is gone once the page is loaded anew.
var mark = chromedp.Evaluate[chromedp.Void]("window.marked = true")

// back goes back, as by the browser's button. A page that the browser kept is
// not loaded again, so that there is nothing to wait for.
var back = chromedp.Evaluate[chromedp.Void]("history.back()")

// await has eval wait for what a promise comes to.
var await = chromedp.EvalAwaitPromise

// navigate goes to any page.
func navigate(url string) chromedp.Action[chromedp.Void] { return chromedp.Navigate(url) }

// drop drops a file at a point of the page.
func (p *tab) drop(x, y float64, path string) {
	p.t.Helper()
	p.do(func(ctx context.Context, t *chromedp.Target) (none chromedp.Void, err error) {
		data := &input.DragData{Items: []*input.DragDataItem{}, Files: []string{path}, DragOperationsMask: 1}
		for _, step := range []input.DispatchDragEventType{input.DispatchDragEventTypeDragEnter, input.DispatchDragEventTypeDragOver, input.DispatchDragEventTypeDrop} {
			if _, err = cdp.Call(ctx, t, input.DispatchDragEvent, input.DispatchDragEventParams{Type: step, X: x, Y: y, Data: data}); err != nil {
				return none, err
			}
		}
		return none, nil
	})
}

// withoutScript lets no page run its scripts.
func (p *tab) withoutScript() {
	p.t.Helper()
	call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
}

// fits fails the test where the page is wider than a narrow phone: then all of
// it would move from side to side.
func (p *tab) fits(name string) {
	p.t.Helper()
	p.size(320, 640)
	if width := eval[int](p, "document.documentElement.scrollWidth"); width > 320 {
		wide := eval[[]string](p, `[...document.querySelectorAll("body *")].filter((e) => !e.closest(".wide") && e.getBoundingClientRect().right > 321).map((e) => e.outerHTML.slice(0, 120)).slice(0, 5)`)
		p.t.Errorf("%s is %d pixels wide on a screen of 320: %q", name, width, wide)
	}
	p.size(1280, 900)
}
