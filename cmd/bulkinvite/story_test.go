package main

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"regexp"
	"strings"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/must"
)

// TestStoryInOneZone: a story has its times in one zone and names it once; on the
// page every time is an element that the browser writes in the reader's zone.
func TestStoryInOneZone(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Config{})
	s.Tell("invitations", `["jane@example.com"]`)
	b := newBench(t, "CLERK_API_URL="+s.url, "CLERK_SECRET_KEY=sk_live_zone", "TZ=Asia/Kathmandu")
	b.run("send", "--yes", b.file("hires.csv", "email\njane@example.com\n")).want(t, exitOK)
	said := b.run("why", "jane@example.com").want(t, exitOK).out
	if strings.Count(said, "Asia/Kathmandu") != 1 || !strings.Contains(said, ", created ") {
		t.Errorf("why says\n%s", said)
	}

	serve := b.serve()
	defer serve.stop()
	jar, err := cookiejar.New(nil)
	must.OK(t, err)
	browser := &http.Client{Jar: jar}
	pages := []string{serve.link, serve.base + "/people?email=jane@example.com", serve.base + "/batches/1/rows/1"}
	for _, path := range pages {
		answer, err := browser.Get(path) // the process is ended below
		must.OK(t, err)
		body, err := io.ReadAll(answer.Body)
		if err != nil || answer.Body.Close() != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v", path, answer.StatusCode, err)
		}
		if path == serve.link {
			continue
		}
		_, story, _ := strings.Cut(string(body), "<main")
		named := strings.Count(story, `<span class="zone">Asia/Kathmandu</span>`)
		if named != 1 || !strings.Contains(story, ", created <time datetime=") {
			t.Errorf("%s does not name the zone once, or when the invitation was made:\n%s", path, story)
		}
		bare := regexp.MustCompile(`(?s)<time .*?</time>`).ReplaceAllString(story, "")
		if at := regexp.MustCompile(`\d\d:\d\d`).FindString(bare); at != "" {
			t.Errorf("%s has %s in a zone that the browser does not change:\n%s", path, at, story)
		}
	}
}
