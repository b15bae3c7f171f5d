package main

import (
	"fmt"
	"testing"
	"time"

	"bulkinvite/importer"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/ratelimit"
)

func ptr[T any](v T) *T { return &v }

// at is a moment of the stories below, in the tests' own zone.
func at(clock string) time.Time {
	t, err := time.ParseInLocation(time.DateTime, "2026-11-22 "+clock, time.Local)
	if err != nil {
		panic(err)
	}
	return t
}

func TestPlanText(t *testing.T) {
	t.Parallel()
	pl := &plan{
		input: &input{name: "hires.csv"},
		summary: &importer.Summary{Rows: 4912, Valid: 4834, Invalid: 8, DuplicateRow: 9, Blank: 2, Encoding: "Windows-1252", Delimiter: ";",
			Columns:  importer.Columns{Mapped: map[string]string{"email": "E-Mail-Adresse"}},
			Warnings: make([]importer.Problem, 3)},
		warnings: []warning{{212, "jane@gmial.com", "did you mean gmail.com?"}, {907, "info@example.com", "looks like a mailbox that several people read"}},
		known:    invitation.Known{Invited: 22, Lapsed: 3},
	}
	limits := invitation.Limits{Create: ratelimit.DefaultCreate, Bulk: ratelimit.DefaultBulk}
	pl.work(at("20:39:00"), 2, nil, report.Budget{Limits: limits})
	golden(t, "plan-terminal", pl.text("production instance ins_7f3a (live key)", at("20:39:00"), display{}))
}

func TestReportText(t *testing.T) {
	t.Parallel()
	golden(t, "report-done", reportText(&report.Report{
		Batch: 12, State: invitation.Done, Rows: 4912, FinishedAt: ptr(at("20:11:00")), Seconds: 46980, Environment: "production",
		Outcomes: invitation.Counts{invitation.Invited: 4803, invitation.AlreadyInvited: 22, invitation.AlreadyRegistered: 63, invitation.DuplicateRow: 9, invitation.Invalid: 8, invitation.Rejected: 7},
		Requests: report.Requests{Bulk: 350, Create: 1312, Read: 812},
	}, display{}))
	golden(t, "report-paused", reportText(&report.Report{
		Batch: 13, State: invitation.Paused, Rows: 5, Undecided: 3, Environment: "development", StateReason: ptr("user_quota_exceeded"),
		Outcomes: invitation.Counts{invitation.Invited: 2}, Requests: report.Requests{Create: 2, Read: 1, Revoke: 1}, RateLimited: 1,
	}, display{}))
	golden(t, "report-running", reportText(&report.Report{
		Batch: 14, State: invitation.Running, Rows: 3, Undecided: 3, Environment: "sandbox", ETA: ptr(at("21:00:00")), Outcomes: invitation.Counts{},
	}, display{}))
}

// TestStoryText tells of a request whose answer was lost, and of one of which
// nothing is known yet.
func TestStoryText(t *testing.T) {
	t.Parallel()
	row := report.StoryRow{ImportedAt: at("20:11:02")}
	row.BatchID, row.RowNumber, row.FileName, row.Actor, row.Environment = 12, 212, "hires.csv", "maria", "production"
	lost := report.StoryAttempt{AttemptID: 481, InstanceID: 1, Call: "bulk", Others: 9, StartedAt: at("20:11:40"), ErrorCode: ptr("connection_closed")}
	open := &report.Story{Key: "jane@example.com", Rows: []report.StoryRow{row}, Attempts: []report.StoryAttempt{lost},
		Summary: []report.StorySum{{InstanceID: 1, Environment: "production", Open: 1, AttemptIDs: []int64{481}}}}
	open.Attempts[0].Open = true
	golden(t, "why-open", storyText(open, "Europe/Berlin"))

	row.Outcome, row.DecidedAt, row.ReadID, row.ClerkInvitationID = ptr(invitation.Invited), ptr(at("20:11:57")), ptr(int64(7)), ptr("inv_2xYz")
	row.Status, row.StatusAt = ptr(invitation.Accepted), ptr(at("21:30:12"))
	lost.AnsweredAt, lost.Resolution = ptr(at("20:11:41")), ptr("ours")
	golden(t, "why-lost", storyText(&report.Story{
		Key: "jane@example.com", Rows: []report.StoryRow{row}, Attempts: []report.StoryAttempt{lost},
		Sightings: []report.StorySighting{{InstanceID: 1, Kind: "invitation", ClerkID: "inv_2xYz", Status: ptr("pending"), CreatedAt: ptr(at("20:11:40")), FirstSeen: at("20:11:56"), LastRead: 7}},
		Summary:   []report.StorySum{{InstanceID: 1, Environment: "production", Sent: []string{"inv_2xYz"}, AttemptIDs: []int64{481}}},
	}, "Europe/Berlin"))
}

// TestStoryOfUnknown tells every step of requests whose answers were lost: asked,
// lost, read, not there, asked again.
func TestStoryOfUnknown(t *testing.T) {
	t.Parallel()
	row := report.StoryRow{ImportedAt: at("20:11:02")}
	row.BatchID, row.RowNumber, row.FileName, row.Actor, row.Environment = 12, 212, "hires.csv", "maria", "production"
	row.Outcome, row.DecidedAt, row.AttemptID, row.ClerkInvitationID = ptr(invitation.Invited), ptr(at("20:13:01")), ptr(int64(490)), ptr("inv_2xYz")
	attempt := func(a report.StoryAttempt) report.StoryAttempt {
		a.InstanceID, a.BatchID, a.RowNumber = 1, ptr(int64(12)), ptr(212)
		return a
	}
	golden(t, "why-unknown", storyText(&report.Story{
		Key: "jane@example.com", Rows: []report.StoryRow{row},
		Attempts: []report.StoryAttempt{
			attempt(report.StoryAttempt{AttemptID: 481, Call: "bulk", Others: 9, StartedAt: at("20:11:40"), AnsweredAt: ptr(at("20:11:41")), ErrorCode: ptr("connection_closed"),
				ClosedAt: ptr(at("20:11:57")), Resolution: ptr("not_there"), SettledBy: ptr(int64(77))}),
			attempt(report.StoryAttempt{AttemptID: 485, Call: "bulk", Others: 9, StartedAt: at("20:11:58"), Deadline: at("20:12:18"),
				ClosedAt: ptr(at("20:12:34")), Resolution: ptr("not_there"), SettledBy: ptr(int64(79))}),
			attempt(report.StoryAttempt{AttemptID: 488, Call: "create", StartedAt: at("20:12:36"), AnsweredAt: ptr(at("20:12:37")), HTTPStatus: ptr(500), ErrorCode: ptr("internal_clerk_error"),
				ClosedAt: ptr(at("20:12:53")), Resolution: ptr("not_there"), SettledBy: ptr(int64(81))}),
			attempt(report.StoryAttempt{AttemptID: 490, Call: "create", StartedAt: at("20:13:00"), AnsweredAt: ptr(at("20:13:01")), HTTPStatus: ptr(200),
				ClosedAt: ptr(at("20:13:01")), Resolution: ptr("answered"), Answer: ptr("created"), ClerkInvitationID: ptr("inv_2xYz")}),
		},
		Summary: []report.StorySum{{InstanceID: 1, Environment: "production", Sent: []string{"inv_2xYz"}, AttemptIDs: []int64{481, 485, 488, 490}}},
	}, "Europe/Berlin"))
}

// TestReportOfUnknown says in words what is not known, and what keeps it so.
func TestReportOfUnknown(t *testing.T) {
	t.Parallel()
	text := ""
	for _, u := range []*report.Unknown{
		{Rows: 3, Since: at("20:11:40"), Workers: 1, LastRead: &report.FailedRead{At: at("20:31:02"), HTTPStatus: ptr(503), ErrorCode: ptr("internal_clerk_error")}},
		{Rows: 1, Since: at("20:11:40")},
		{Rows: 1, Since: at("20:11:40"), Workers: 2},
	} {
		text += reportText(&report.Report{Batch: 15, State: invitation.Running, Rows: 4, Undecided: 4, Environment: "production", Outcomes: invitation.Counts{}, Unknown: u}, display{}) + "\n"
	}
	golden(t, "report-unknown", text)
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234"} {
		expect.Equal(t, fmt.Sprintf("thousands(%d)", n), thousands(n), want)
	}
	for d, want := range map[time.Duration]string{
		266 * time.Millisecond: "266 ms", 1900 * time.Millisecond: "1.9 s", 42 * time.Second: "42 s", 150 * time.Second: "2 m 30 s",
		13*time.Hour + 2*time.Minute: "13 h 2 m", time.Hour: "1 h", 50 * time.Hour: "2 d 2 h",
	} {
		expect.Equal(t, fmt.Sprintf("span(%s)", d), span(d), want)
	}
	for cell, want := range map[string]string{"": "", "Jane": "Jane", "=1+1": "'=1+1", "+49": "'+49", "-1": "'-1", "@x": "'@x", "\tx": "'\tx", "\rx": "'\rx", "a=b": "a=b"} {
		expect.Equal(t, fmt.Sprintf("spreadsheetSafe(%q)", cell), spreadsheetSafe(cell), want)
	}
	expect.Equal(t, "plain", plain("a\x1b[31mb\u202ec"), "a�[31mb�c")
}

func TestUnder(t *testing.T) {
	t.Parallel()
	lines := []string{"next window in 1 h · single 0 of 2", "3 single requests, done 14:56"}
	for _, test := range []struct {
		lines   []string
		columns int
		want    string
	}{
		{lines, 120, "         next window in 1 h · single 0 of 2\n         3 single requests, done 14:56        Ctrl-C leaves\n"},
		{lines, 79, "next window in 1 h · single 0 of 2\n3 single requests, done 14:56        Ctrl-C leaves\n"},
		{lines, 40, "next window in 1 h · single 0 of 2\n3 single requests, done 14:56\nCtrl-C leaves\n"},
		{lines, 20, "next window in 1 h …\n3 single requests, …\nCtrl-C leaves\n"},
		{[]string{"名前名前名前"}, 10, "名前名前…\nCtrl-C le…\n"}, // a wide character takes two columns, and is not cut in two
		{[]string{"名前名前名前"}, 11, "名前名前名…\nCtrl-C lea…\n"},
		{[]string{"any"}, 1, "…\n…\n"},
		{[]string{"any"}, 0, ""},
	} {
		if got := under(test.lines, "Ctrl-C leaves", test.columns); got != test.want {
			t.Errorf("%d columns: %q, want %q", test.columns, got, test.want)
		}
	}
}
