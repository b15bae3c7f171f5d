// Package words has the texts for people that the command line and the page share, so that both say
// the same. Only cmd and web import it. It may import importer, report and the packages below them.
// Start reading at [Outcomes].
package words

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/ratelimit"
)

// sandbox is the environment of the stand-in inside the program.
const sandbox = "sandbox"

// Thousands writes a number with a comma every three digits.
func Thousands(n int) string { return humanize.Comma(int64(n)) }

// Counted writes a number with the word for what it counts.
func Counted(n int, one, many string) string {
	return Thousands(n) + " " + english.PluralWord(n, one, many)
}

// Requests counts requests, leaving out a kind that there is none of.
func Requests(bulk, create int) string {
	switch {
	case bulk == 0:
		return Counted(create, "single request", "single requests")
	case create == 0:
		return Counted(bulk, "bulk request", "bulk requests")
	}
	return fmt.Sprintf("%s bulk and %s", Thousands(bulk), Counted(create, "single request", "single requests"))
}

// Span writes a length of time in its two largest units: 13 h 2 m.
func Span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Round(100*time.Millisecond).Seconds(), 'f', -1, 64) + " s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Round(time.Second).Seconds()))
	case d < time.Hour:
		return two(int(d/time.Minute), "m", int(d%time.Minute/time.Second), "s")
	case d < 24*time.Hour:
		return two(int(d/time.Hour), "h", int(d%time.Hour/time.Minute), "m")
	}
	return two(int(d/(24*time.Hour)), "d", int(d%(24*time.Hour)/time.Hour), "h")
}

func two(a int, unitA string, b int, unitB string) string {
	if b == 0 {
		return fmt.Sprintf("%d %s", a, unitA)
	}
	return fmt.Sprintf("%d %s %d %s", a, unitA, b, unitB)
}

// Bytes writes a size in the largest unit that it fills, in two digits: 1.5 MiB, 8 GiB.
func Bytes(n int64) string { return strings.Replace(humanize.IBytes(uint64(n)), ".0 ", " ", 1) }

// Moment writes a time in the user's zone, to the minute.
func Moment(t time.Time) string { return t.Local().Format(day(t) + ", 15:04") }

// Now tells which year is the current one, whose times have no year. Tests with fixed times set it.
var Now = time.Now

// day is the layout of a time's day: with the year unless it is the current one.
func day(t time.Time) string {
	if t.Local().Year() == Now().Local().Year() {
		return "Mon 2 Jan"
	}
	return "Mon 2 Jan 2006"
}

// Zone names the zone in which [Moment] writes times.
func Zone() string {
	if name := time.Local.String(); name != "Local" {
		return name
	}
	return "this machine's zone, now UTC" + time.Now().Format("-07:00")
}

// MomentSeconds writes a time in the user's zone, to the second.
func MomentSeconds(t time.Time) string { return t.Local().Format(day(t) + " 15:04:05") }

// Plain takes out of a text what would move a terminal's cursor or change its
// colours: file names and cells are other people's.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '�'
		}
		return r
	}, s)
}

// Calls names the buckets as a person reads them.
var Calls = map[string]string{ratelimit.Create: "single requests", ratelimit.Bulk: "bulk requests", ratelimit.GeneralCall: "reads and revocations"}

// Differing heads the list of live workers that were given different limits.
const Differing = "Workers were given different limits. Each of them keeps the strictest:"

// Outcomes names each outcome as a person reads it.
var Outcomes = map[invitation.Outcome]string{
	invitation.Invited:           "invited",
	invitation.AlreadyInvited:    "already invited",
	invitation.AlreadyRegistered: "already registered",
	invitation.DuplicateRow:      "same row again",
	invitation.Invalid:           "invalid",
	invitation.Rejected:          "rejected by Clerk",
	invitation.Failed:            "failed",
	invitation.Cancelled:         "cancelled",
}

// Order is the order of outcomes in a report: what went well first.
var Order = []invitation.Outcome{
	invitation.Invited, invitation.AlreadyInvited, invitation.AlreadyRegistered, invitation.DuplicateRow,
	invitation.Invalid, invitation.Rejected, invitation.Failed, invitation.Cancelled,
}

// or returns what p points at as text, or nothing.
func or[T any](p *T) string {
	if p == nil {
		return ""
	}
	return report.CellText(*p)
}
