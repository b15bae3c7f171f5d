package invitation_test

import (
	"slices"
	"testing"
	"time"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/ratelimit"
)

func limit(t *testing.T, s string) ratelimit.Limit {
	t.Helper()
	l, err := ratelimit.Parse(s)
	must.OK(t, err)
	return l
}

// use is a limit on which n requests weigh for so long.
func use(n int, d time.Duration) invitation.Use {
	return invitation.Use{Busy: slices.Repeat([]time.Duration{d}, n)}
}

func TestMakePlan(t *testing.T) {
	t.Parallel()
	hour := 3603600 * time.Millisecond // an hour and its margin
	hours := func(n int) float64 { return (time.Duration(n) * hour).Seconds() }
	for _, tt := range []struct {
		name         string
		people       int
		create, bulk string
		spent        invitation.Spent
		want         invitation.Plan
		atOnce, each int
	}{
		{name: "nobody", people: 0, create: "100/1h", bulk: "25/1h", want: invitation.Plan{}},
		{name: "one", people: 1, create: "100/1h", bulk: "25/1h", want: invitation.Plan{ToSend: 1, Create: 1, Windows: 1}, atOnce: 1, each: 350},
		{name: "nine go as singles", people: 9, create: "100/1h", bulk: "25/1h", want: invitation.Plan{ToSend: 9, Create: 9, Windows: 1}, atOnce: 9, each: 350},
		{name: "seventeen", people: 17, create: "100/1h", bulk: "25/1h", want: invitation.Plan{ToSend: 17, Bulk: 1, Create: 7, Windows: 1}, atOnce: 17, each: 350},
		{name: "a whole window", people: 350, create: "100/1h", bulk: "25/1h", want: invitation.Plan{ToSend: 350, Bulk: 25, Create: 100, Windows: 1}, atOnce: 350, each: 350},
		{name: "one more", people: 351, create: "100/1h", bulk: "25/1h", want: invitation.Plan{ToSend: 351, Bulk: 25, Create: 101, Windows: 2, Seconds: hours(1)}, atOnce: 350, each: 350},
		{name: "many windows", people: 4812, create: "100/1h", bulk: "25/1h", want: invitation.Plan{ToSend: 4812, Bulk: 350, Create: 1312, Windows: 14, Seconds: hours(13)}, atOnce: 350, each: 350},
		{name: "bulk off", people: 250, create: "100/1h", bulk: "off", want: invitation.Plan{ToSend: 250, Create: 250, Windows: 3, Seconds: hours(2)}, atOnce: 100, each: 100},
		{name: "singles off", people: 251, create: "off", bulk: "25/1h", want: invitation.Plan{ToSend: 251, Bulk: 26, Windows: 2, Seconds: hours(1)}, atOnce: 250, each: 250},
		{name: "singles off, a few", people: 3, create: "off", bulk: "25/1h", want: invitation.Plan{ToSend: 3, Bulk: 1, Windows: 1}, atOnce: 3, each: 250},
		{name: "no limits", people: 5003, create: "none", bulk: "none", want: invitation.Plan{ToSend: 5003, Bulk: 500, Create: 3, Windows: 1}, atOnce: 5003},
		{name: "no limit on singles", people: 300, create: "none", bulk: "25/1h", want: invitation.Plan{ToSend: 300, Bulk: 25, Create: 50, Windows: 1}, atOnce: 300, each: 250},
		{name: "windows of two lengths", people: 50, create: "10/1m", bulk: "1/1h",
			want: invitation.Plan{ToSend: 50, Bulk: 1, Create: 40, Windows: 1, Seconds: (3 * 60060 * time.Millisecond).Seconds()}, atOnce: 20, each: 610},
		{name: "short windows have a margin of 5 ms", people: 21, create: "10/1s", bulk: "off",
			want: invitation.Plan{ToSend: 21, Create: 21, Windows: 3, Seconds: 2.01}, atOnce: 10, each: 10},
		{name: "half is spent", people: 350, create: "100/1h", bulk: "25/1h",
			spent: invitation.Spent{Create: use(50, 10*time.Minute), Bulk: use(25, 20*time.Minute)},
			want:  invitation.Plan{ToSend: 350, Bulk: 25, Create: 100, Windows: 1, Seconds: 1200}, atOnce: 50, each: 350},
		{name: "all is spent", people: 10, create: "10/1h", bulk: "off",
			spent: invitation.Spent{Create: use(10, 30*time.Minute)},
			want:  invitation.Plan{ToSend: 10, Create: 10, Windows: 1, Seconds: 1800}, atOnce: 10, each: 10},
		{name: "a limit that was higher", people: 2, create: "2/1h", bulk: "off",
			spent: invitation.Spent{Create: invitation.Use{Busy: []time.Duration{4 * time.Minute, time.Minute, 3 * time.Minute, 2 * time.Minute}}},
			want:  invitation.Plan{ToSend: 2, Create: 2, Windows: 1, Seconds: 240}, atOnce: 1, each: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := invitation.MakePlan(time.Now(), invitation.Load{People: tt.people}, nil, limit(t, tt.create), limit(t, tt.bulk), tt.spent)
			if got.AtOnce != tt.atOnce || got.Each != tt.each {
				t.Errorf("at once %d, each %d; want %d, %d", got.AtOnce, got.Each, tt.atOnce, tt.each)
			}
			got.AtOnce, got.Each, got.Window, got.First = 0, 0, 0, 0
			expect.Equal(t, "plan", got, tt.want)
		})
	}
}

// TestMakePlanKeepsLimits checks against a plain count that no window holds
// more people than its limits allow, and that nobody waits without need.
// Of no time that PostgreSQL can tell a part is lost on the way through seconds.
func TestPlanLasts(t *testing.T) {
	t.Parallel()
	for i := range 100_000 {
		want := time.Duration(i) * 997_331 * time.Microsecond
		if got := (invitation.Plan{Seconds: want.Seconds()}).Lasts(); got != want {
			t.Fatalf("%s becomes %s", want, got)
		}
	}
}

func TestMakePlanKeepsLimits(t *testing.T) {
	t.Parallel()
	create, bulk := limit(t, "3/10s"), limit(t, "2/10s")
	for people := 1; people < 200; people++ {
		p := invitation.MakePlan(time.Now(), invitation.Load{People: people}, nil, create, bulk, invitation.Spent{})
		windows := (people + 22) / 23 // 2 bulk calls of ten and 3 singles each
		if p.Windows != windows {
			t.Fatalf("%d people: %d windows, want %d", people, p.Windows, windows)
		}
		if carried := p.Create + 10*p.Bulk; carried < people || p.Create > 3*windows || p.Bulk > 2*windows {
			t.Fatalf("%d people: %+v", people, p)
		}
	}
}

// TestMakePlanKnowsWhen plans batches that wait for a time, for others, or for
// Clerk. All with 10 singles an hour.
func TestMakePlanKnowsWhen(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	must.OK(t, err)
	at := func(text string) time.Time {
		t.Helper()
		when, err := time.ParseInLocation("2006-01-02 15:04:05", text, berlin)
		must.OK(t, err)
		return when
	}
	day := invitation.Hours{From: 8, To: 18, TZ: "Europe/Berlin"}
	night := invitation.Hours{From: 22, To: 6, TZ: "Europe/Berlin"}
	for _, tt := range []struct {
		name        string
		now         string
		own         invitation.Load
		others      []invitation.Load
		spent       invitation.Spent
		first, last string // when the first and the last request leave
		windows     int
		atOnce      int
		ahead       int
	}{
		{name: "at once", now: "2026-11-24 09:00:00", own: invitation.Load{People: 20}, first: "2026-11-24 09:00:00", last: "2026-11-24 10:00:03.6", windows: 2, atOnce: 10},
		{name: "a later start", now: "2026-11-24 09:00:00", own: invitation.Load{People: 20, StartAt: at("2026-11-25 08:00:00")},
			first: "2026-11-25 08:00:00", last: "2026-11-25 09:00:03.6", windows: 2, atOnce: 10},
		{name: "a start that is past", now: "2026-11-24 09:00:00", own: invitation.Load{People: 10, StartAt: at("2026-11-23 08:00:00")},
			first: "2026-11-24 09:00:00", last: "2026-11-24 09:00:00", windows: 1, atOnce: 10},
		{name: "before the hours", now: "2026-11-24 06:30:00", own: invitation.Load{People: 10, Hours: day}, first: "2026-11-24 08:00:00", last: "2026-11-24 08:00:00", windows: 1, atOnce: 10},
		{name: "the day ends in between", now: "2026-11-24 17:10:00", own: invitation.Load{People: 20, Hours: day},
			first: "2026-11-24 17:10:00", last: "2026-11-25 08:00:00", windows: 2, atOnce: 10},
		{name: "by night", now: "2026-11-24 12:00:00", own: invitation.Load{People: 90, Hours: night},
			first: "2026-11-24 22:00:00", last: "2026-11-25 22:00:00", windows: 9, atOnce: 10},
		{name: "the night before summer time is an hour shorter", now: "2027-03-27 22:00:00", own: invitation.Load{People: 70, Hours: night},
			first: "2027-03-27 22:00:00", last: "2027-03-28 05:00:21.6", windows: 7, atOnce: 10},
		{name: "the night after it is longer", now: "2026-10-24 22:00:00", own: invitation.Load{People: 90, Hours: night},
			first: "2026-10-24 22:00:00", last: "2026-10-25 05:00:28.8", windows: 9, atOnce: 10},
		{name: "an hour that the clocks skip", now: "2027-03-27 12:00:00", own: invitation.Load{People: 10, Hours: invitation.Hours{From: 2, To: 3, TZ: "Europe/Berlin"}},
			first: "2027-03-29 02:00:00", last: "2027-03-29 02:00:00", windows: 1, atOnce: 10},
		{name: "start and hours", now: "2026-11-24 09:00:00", own: invitation.Load{People: 10, StartAt: at("2026-11-24 20:00:00"), Hours: day},
			first: "2026-11-25 08:00:00", last: "2026-11-25 08:00:00", windows: 1, atOnce: 10},
		{name: "behind another", now: "2026-11-24 09:00:00", own: invitation.Load{Batch: 2, Priority: 2, People: 10}, others: []invitation.Load{{Batch: 1, Priority: 2, People: 15}},
			first: "2026-11-24 10:00:03.6", last: "2026-11-24 11:00:07.2", windows: 2, atOnce: 5, ahead: 15},
		{name: "a new one is the last of its priority", now: "2026-11-24 09:00:00", own: invitation.Load{Priority: 2, People: 5}, others: []invitation.Load{{Batch: 9, Priority: 2, People: 10}, {Batch: 10, Priority: 3, People: 50}},
			first: "2026-11-24 10:00:03.6", last: "2026-11-24 10:00:03.6", windows: 1, atOnce: 5, ahead: 10},
		{name: "before another", now: "2026-11-24 09:00:00", own: invitation.Load{Batch: 3, Priority: 1, People: 10}, others: []invitation.Load{{Batch: 1, Priority: 2, People: 50}},
			first: "2026-11-24 09:00:00", last: "2026-11-24 09:00:00", windows: 1, atOnce: 10},
		{name: "another stops at its canary", now: "2026-11-24 09:00:00", own: invitation.Load{Batch: 2, Priority: 2, People: 10}, others: []invitation.Load{{Batch: 1, Priority: 2, People: 500, Held: true, Canary: 5}},
			first: "2026-11-24 09:00:00", last: "2026-11-24 10:00:03.6", windows: 2, atOnce: 5, ahead: 5},
		{name: "another waits for its hours", now: "2026-11-24 07:30:00", own: invitation.Load{Batch: 2, Priority: 2, People: 20}, others: []invitation.Load{{Batch: 1, Priority: 1, People: 10, Hours: day}},
			first: "2026-11-24 07:30:00", last: "2026-11-24 09:30:07.2", windows: 2, atOnce: 10, ahead: 10},
		{name: "somebody backs off", now: "2026-11-24 09:00:00", own: invitation.Load{People: 10, NotBefore: at("2026-11-24 09:10:00")},
			first: "2026-11-24 09:00:00", last: "2026-11-24 09:10:00", windows: 1, atOnce: 10},
		{name: "frozen", now: "2026-11-24 09:00:00", own: invitation.Load{People: 10}, spent: invitation.Spent{Create: invitation.Use{Frozen: 5 * time.Minute}},
			first: "2026-11-24 09:05:00", last: "2026-11-24 09:05:00", windows: 1, atOnce: 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.own.Zone = berlin
			for i := range tt.others {
				tt.others[i].Zone = berlin
			}
			now := at(tt.now)
			p := invitation.MakePlan(now, tt.own, tt.others, limit(t, "10/1h"), limit(t, "off"), tt.spent)
			first, last := now.Add(p.First), now.Add(time.Duration(p.Seconds*float64(time.Second))).Round(time.Millisecond)
			if !first.Equal(at(tt.first)) || !last.Equal(at(tt.last)) {
				t.Errorf("from %s to %s, want %s to %s", first, last, tt.first, tt.last)
			}
			if p.Windows != tt.windows || p.AtOnce != tt.atOnce || p.Ahead != tt.ahead {
				t.Errorf("%d windows, %d at once, %d ahead; want %d, %d, %d", p.Windows, p.AtOnce, p.Ahead, tt.windows, tt.atOnce, tt.ahead)
			}
		})
	}
}
