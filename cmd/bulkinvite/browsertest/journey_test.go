package browsertest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding/charmap"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/clerk/sandbox/sandboxtest"
	"bulkinvite/internal/must"
)

// messy is a file as people have it: Excel's semicolons and Windows-1252, a
// title over the header, two columns of addresses, a faulty row, somebody twice,
// and twelve people to invite.
func messy(t *testing.T) string {
	t.Helper()
	lines := []string{
		"Neue Kolleginnen und Kollegen zum 1. Dezember;;;",
		"Name;E-Mail;Dienstlich;Eintritt",
		"Jürgen Müller;juergen@example.org;juergen.mueller@example.com;01.12.2026",
		"Zoë Weiß;zoe@example.org;zoe.weiss(at)example.com;01.12.2026",
		"Jürgen Müller;jm@example.org;Juergen.Mueller@example.com;01.12.2026",
	}
	for i := range 11 {
		lines = append(lines, fmt.Sprintf("Person %d;p%d@example.org;person.%d@example.com;01.12.2026", i, i, i))
	}
	text, err := charmap.Windows1252.NewEncoder().String(strings.Join(lines, "\r\n") + "\r\n")
	must.OK(t, err)
	return text
}

// TestChooseEncoding: where the bytes of a file fit several encodings, a person
// chooses by how the names read.
func TestChooseEncoding(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--sandbox")
	s.serve()
	p := s.as("maria")
	p.attach(s.file("zoe.csv", "Name,Email\nZo\xeb,zoe@example.com\n"))
	p.sees("The file doesn't say in which encoding it is", "Windows-1257: Zoė")
	p.inspect("draft-encoding")
	p.press("Windows-1257: Zoė")
	p.until(`!document.body.innerText.includes("in which encoding")`)
	p.sees("Windows-1257", "Zoė", "1 to invite")
}

// TestUploadToDone goes the whole way with mail that reaches people: nothing is
// sent before somebody has seen the plan and typed the number, the page shows
// what another process does as it happens, and everybody gets one mail.
func TestUploadToDone(t *testing.T) {
	t.Parallel()
	clerk := sandboxtest.New(t, sandbox.Config{})
	// The first worker may invite four people, and then waits for an hour.
	s := newSite(t, "--clerk-url="+clerk.URL, "--limit-bulk=off", "--limit-create=4/1h")
	s.serve()
	p := s.as("maria")
	p.attach(s.file("hires.csv", messy(t)))

	// Two columns hold addresses: somebody has to say which. They take the wrong one.
	p.sees("Which column holds the addresses to invite?", "juergen@example.org", "juergen.mueller@example.com")
	p.lacks("Jürgen Müller")
	p.inspect("upload-choice")
	p.tick("E-Mail")
	p.press("Take this column")
	id := p.batch()
	p.sees("Windows-1252", "Jürgen Müller", "Invite 14 people")
	p.lacks("can't be sent")
	p.choose("What Dienstlich is", "e-mail address")
	p.sees("Invite 12 people", "1 row can't be sent", "there is no @", "the same address again", "Type the number of people")
	if bad := eval[[]string](p, `[...document.querySelectorAll(".file td.bad")].map((e) => e.innerText)`); len(bad) != 1 || !strings.HasPrefix(bad[0], "zoe.weiss(at)example.com") || !strings.Contains(bad[0], "there is no @") {
		t.Errorf("of the first rows these cells are shown as faulty: %q", bad)
	}
	if sent := len(clerk.Mailbox().Addresses); sent != 0 {
		t.Fatalf("%d mails went out before the start", sent)
	}
	p.press("4")
	p.sees("zoe.weiss(at)example.com", "Row 2")
	p.do(back)

	// An option that can't be is refused where it stands.
	p.expect("status of 422")
	p.press("Options")
	p.fill("Where the invitation leads", "app.example.com\t")
	p.sees("it must be a web address, an app's link or a path")
	p.fill("Where the invitation leads", "https://app.example.com/welcome\t")
	p.until(`!document.body.innerText.includes("must be a web address")`)

	// The number is typed, and the right one.
	p.expect("status of 409")
	p.fill("This sends real e-mail", "14")
	p.press("Invite 12 people")
	p.sees("not the number of people: 12")
	if sent := len(clerk.Mailbox().Addresses); sent != 0 {
		t.Fatalf("%d mails went out with the wrong number", sent)
	}
	p.open("/batches/" + id)
	p.fill("This sends real e-mail", "12")
	p.press("Invite 12 people")
	p.sees("running", "2 of 14 decided", "No worker runs")

	// The page goes on by itself: it is never loaded while the batch runs.
	p.do(mark)
	worker := s.launch("work")
	p.sees("6 of 14 decided", "0 of 4 left")
	p.until("window.marked")
	s.stop(worker)
	s.flags[2] = "--limit-create=100/1h"
	s.launch("work")
	p.sees("14 of 14 decided")
	p.state("done")

	var doubled []string
	mails := clerk.Mailbox().Addresses
	for address, n := range mails {
		if n != 1 {
			doubled = append(doubled, address)
		}
	}
	if len(mails) != 12 || mails["juergen.mueller@example.com"] != 1 || doubled != nil {
		t.Errorf("mails went to %d addresses, more than one to %v: %v", len(mails), doubled, slices.Sorted(maps.Keys(mails)))
	}
	lookInto(t, p, id)
}

// lookInto filters and searches the rows of TestUploadToDone, reads a story, and
// downloads the results.
func lookInto(t *testing.T, p *tab, id string) {
	p.choose("Outcome", "invalid")
	p.until(`document.querySelectorAll("#rows tbody tr").length === 1`)
	p.sees("there is no @")
	p.choose("Outcome", "all")
	p.until(`document.querySelectorAll("#rows tbody tr").length === 14`)
	p.fill("Search", "person.1")
	p.until(`document.querySelectorAll("#rows tbody tr").length === 2`) // person.1 and person.10
	p.fill("Search", "nobody")
	p.sees("No row is like that.")
	p.fill("Search", "juergen.mueller@")
	p.until(`document.querySelectorAll("#rows tbody tr").length === 2`)
	p.sees("same as row 1")
	p.press("1")
	p.at("/batches/" + id + "/rows/1")
	p.sees("hires.csv", "asked Clerk", "invited", "One invitation sent, one e-mail.", "01.12.2026", "Dienstlich")

	p.open("/batches/" + id)
	got := p.download(func() { p.press("Download results") })
	if want := p.site.call("results", id, "--format=csv"); got != want {
		t.Errorf("the page's results are\n%s\nthe command's are\n%s", got, want)
	}
}

// TestPauseAndCancel holds one batch and takes it up, and cancels another while
// it runs: who was invited stays invited.
func TestPauseAndCancel(t *testing.T) {
	t.Parallel()
	s := rehearsal(t, "--limit-bulk=off", "--limit-create=3/1h")
	p := s.as("maria")
	start := func(name string, people int) {
		p.open("/")
		var text strings.Builder
		text.WriteString("email\n")
		for i := range people {
			fmt.Fprintf(&text, "%s.%d@example.com\n", name, i)
		}
		p.attach(s.file(name+".csv", text.String()))
		p.batch()
		p.press(fmt.Sprintf("Invite %d people", people))
	}
	start("first", 5)
	p.sees("3 of 5 decided")
	p.press("Pause")
	p.sees("Paused by a person", "Paused. What was under way at Clerk comes to its end.")
	p.press("Go on")
	p.sees("It goes on.", "running")
	first := p.path()

	start("second", 4)
	p.sees("0 of 4 decided")
	p.press("Cancel…")
	p.sees("4 people are then not invited.")
	p.press("Cancel the rest")
	p.sees("cancelled", "4 of 4 decided")
	p.state("cancelled")
	p.choose("Outcome", "cancelled")
	p.until(`document.querySelectorAll("#rows tbody tr").length === 4`)
	p.lacks("Go on", "Pause")

	p.open(first)
	p.sees("3 of 5 decided")
	p.press("Cancel…")
	p.press("Cancel the rest")
	p.sees("5 of 5 decided", "3 invited", "2 cancelled")
	p.open("/events")
	for _, did := range []string{"started", "paused", "resumed", "cancelled"} {
		p.sees("maria " + did)
	}
}

// TestServerRestart: the page of a batch outlives its server, and shows what
// happened meanwhile; who was signed in still is.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	clerk := sandboxtest.New(t, sandbox.Config{})
	s := newSite(t, "--clerk-url="+clerk.URL)
	s.serve()
	p := s.as("maria")
	p.attach(s.file("hires.csv", "email\na@example.com\nb@example.com\n"))
	id := p.batch()
	p.fill("This sends real e-mail", "2")
	p.press("Invite 2 people")
	p.sees("0 of 2 decided")
	p.do(mark)
	p.expect("net::ERR_", "htmx:sse:error") // while it is away
	s.stop(s.server)
	s.call("work", "--until-idle")
	p.sees("The connection is lost", "0 of 2 decided")
	p.until("window.marked")
	s.serve()
	p.sees("2 of 2 decided")
	p.state("done")
	p.lacks("The connection is lost")
	p.open("/batches/" + id)
	p.sees("maria · operator")
}

// TestDrop drops a file onto the page, in place of choosing it.
func TestDrop(t *testing.T) {
	t.Parallel()
	s := rehearsal(t)
	p := s.as("maria")
	x, y := p.point(`document.getElementById("upload")`)
	p.drop(x, y, s.file("hires.csv", "email\na@example.com\n"))
	p.batch()
	p.sees("hires.csv", "Invite 1 person")
	p.press("Discard this draft")
	p.sees("cancelled")
}

// TestWithoutScript uploads, reads the list and downloads with no script at all.
func TestWithoutScript(t *testing.T) {
	t.Parallel()
	s := rehearsal(t)
	p := s.tab()
	p.withoutScript()
	p.open("/login")
	p.fill("Name", "maria")
	p.fill("Password", password)
	p.press("Sign in")
	p.at("/")
	p.attach(s.file("hires.csv", "email\na@example.com\nb@example.com\n"))
	p.press("Check it")
	// Without script nothing looks again by itself.
	p.wait(func() bool {
		if strings.HasPrefix(p.path(), "/batches/") {
			return true
		}
		if strings.HasPrefix(p.path(), "/uploads/") {
			p.open(p.path())
		}
		return false
	}, func() string { return "the upload is never checked" })
	id := p.batch()
	p.press("Invite 2 people")
	p.until(`document.readyState === "complete" && location.search === "?done=start"`)
	p.wait(func() bool {
		p.open("/batches/" + id)
		return eval[bool](p, `!!document.querySelector("[data-state=done]")`)
	}, func() string { return "the batch never ends" })
	p.choose("Outcome", "invalid")
	p.press("Show")
	p.sees("No row is like that.")
	p.open("/")
	p.sees("hires.csv", "done")
	p.press(id)
	got := p.download(func() { p.press("Download results") })
	if want := s.call("results", id, "--format=csv"); got != want {
		t.Errorf("the page's results are\n%s\nthe command's are\n%s", got, want)
	}
}
