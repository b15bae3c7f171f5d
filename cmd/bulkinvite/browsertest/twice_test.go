package browsertest

import (
	"testing"

	"github.com/chromedp/chromedp"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/clerk/sandbox/sandboxtest"
)

// TestTwice does things twice at the same moment: a file is sent and started, and
// a batch held, by two impatient clicks, with script and without, and one draft is
// started by two people. Each is done once, and nobody is shown an error.
func TestTwice(t *testing.T) {
	t.Parallel()
	clerk := sandboxtest.New(t, sandbox.Config{})
	s := newSite(t, "--clerk-url="+clerk.URL, "--limit-bulk=off", "--limit-create=100/1h")
	s.serve()
	count := func(question string) {
		t.Helper()
		s.until("select (" + question + ") = 1")
	}

	p := s.tab()
	p.withoutScript()
	p.open("/login")
	p.fill("Name", "maria")
	p.fill("Password", password)
	p.press("Sign in")
	p.at("/")
	p.attach(s.file("hires.csv", "email\na@example.com\nb@example.com\n"))
	p.pressTwice("Check it")
	p.wait(func() bool {
		if path := p.path(); path == "/batches/1" {
			return true
		} else if path != "/" {
			p.open(path)
		}
		return false
	}, func() string { return "the upload is never checked" })
	count(`select count(*) from batches`)
	p.fill("This sends real e-mail", "2")
	p.pressTwice("Invite 2 people")
	p.sees("running", "0 of 2 decided", "Started.")
	count(`select count(*) from events where action = 'started'`)

	// With script the second click finds a button that is off.
	p = s.as("maria")
	p.open("/batches/1")
	p.clickTwice("Pause")
	p.sees("Paused. What was under way at Clerk comes to its end.")
	p.clickTwice("Go on")
	p.sees("It goes on.")
	count(`select count(*) from events where action = 'paused'`)
	count(`select count(*) from events where action = 'resumed'`)

	// The same file once more leads to the batch that it is.
	p.open("/")
	p.attach(s.file("hires again.csv", "email\na@example.com\nb@example.com\n"))
	p.sees("This file was uploaded before: here is what became of it.")
	p.at("/batches/1")

	p.open("/")
	p.attach(s.file("more.csv", "email\nc@example.com\nd@example.com\ne@example.com\n"))
	id := p.batch()
	draft := "/batches/" + id
	other := s.as("maria")
	other.open(draft)
	for _, tab := range []*tab{p, other} {
		tab.fill("This sends real e-mail", "3")
	}
	for _, tab := range []*tab{p, other} {
		x, y := tab.point(named("Invite 3 people"))
		tab.do(chromedp.MouseClickXY(x, y))
	}
	for _, tab := range []*tab{p, other} {
		tab.sees("Started.", "0 of 3 decided")
		tab.at(draft)
	}
	count(`select count(*) from events where action = 'started' and batch_id = ` + id)
	s.launch("work")
	for _, tab := range []*tab{p, other} {
		tab.sees("3 of 3 decided")
	}
	if mails := clerk.Mailbox().Addresses; len(mails) != 5 {
		t.Errorf("mails went to %v", mails)
	} else {
		for address, n := range mails {
			if n != 1 {
				t.Errorf("%s got %d mails", address, n)
			}
		}
	}
}

// pressTwice clicks twice before anything has come of the first.
func (p *tab) pressTwice(name string) {
	p.t.Helper()
	x, y := p.point(named(name))
	p.do(chromedp.MouseClickXY(x, y), chromedp.MouseClickXY(x, y))
}

// clickTwice is pressTwice by the page's own clock: the second click comes while
// the answer to the first is awaited, however fast that is.
func (p *tab) clickTwice(name string) {
	p.t.Helper()
	p.point(named(name))
	p.do(chromedp.Evaluate[chromedp.Void](`((button) => { button.click(); setTimeout(() => button.click(), 1); })(` + named(name) + `)`))
}
