package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/expect"
)

// What depends on the clock in a recording, and what stands there instead.
var clockTexts = []struct {
	was *regexp.Regexp
	is  string
}{
	{regexp.MustCompile(`5\d m [1-5]\d s`), "59 m 59 s"},
	{regexp.MustCompile(`   5\d…`), "   59…"}, // cut off by the terminal's width
	// Where the line is wrapped depends on how long the day is.
	{regexp.MustCompile(`last at[^(]*\n[^(]*\(1 h\)`), "last at Mon\r\n            30 Nov, 15:00 (1 h)"},
	{regexp.MustCompile(`[A-Z][a-z]{2} \d{1,2} [A-Z][a-z]{2}( \d{4})?, \d\d:\d\d`), "Mon 30 Nov, 15:00"},
}

// TestRecordSendThatWaits records what a person sees while send waits for the
// next hour of Clerk's limits, at terminals of three widths. A recording is the
// whole terminal, from the start of the command.
func TestRecordSendThatWaits(t *testing.T) {
	t.Parallel()
	for _, columns := range []int{40, 80, 120} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "LC_ALL=C.UTF-8", "NO_COLOR=1")
			shown := &screen{columns: columns}
			exit, text := b.sitAt(columns, func(term *terminal) {
				text := term.waiting()
				for _, clock := range clockTexts {
					text = clock.was.ReplaceAllString(text, clock.is)
				}
				shown.write(t, text)
				expect.OK(t, term.process.Signal(os.Interrupt))
			}, "send", "--sandbox", "--yes", b.file("hires.csv", people(480)))
			if exit != exitInterrupted {
				t.Fatalf("exit status %d:\n%s", exit, text)
			}
			golden(t, fmt.Sprintf("send-waits-%d", columns), shown.text())
		})
	}
}

// waiting returns what a terminal has shown once the batch waits for the next
// hour, up to a drawing with minutes and seconds of two digits: shorter ones move
// what is beside them.
func (term *terminal) waiting() string {
	term.t.Helper()
	waits := regexp.MustCompile(`350 of 480 .*   5\d(…| m [1-5]\d s left)\s+next window in 5\d m [1-5]\d s`)
	late := time.After(90 * time.Second)
	for {
		drawings := strings.SplitAfter(term.text(), "\x1b[J")
		for i, drawing := range drawings[:len(drawings)-1] {
			if waits.MatchString(drawing) {
				whole := strings.Join(drawings[:i+1], "")
				return whole[:strings.LastIndex(whole, "\x1b[")] // without what clears it
			}
		}
		select {
		case <-term.more:
		case <-late:
			term.t.Fatalf("it never waited for the next hour:\n%s", term.text())
		}
	}
}
