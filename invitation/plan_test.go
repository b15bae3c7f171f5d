package invitation_test

import (
	"testing"
	"time"

	"bulkinvite/invitation"
	"bulkinvite/ratelimit"
)

func limit(t *testing.T, s string) ratelimit.Limit {
	t.Helper()
	l, err := ratelimit.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestMakePlan(t *testing.T) {
	t.Parallel()
	hour := 3603600 * time.Millisecond // an hour and its margin
	hours := func(n int) float64 { return (time.Duration(n) * hour).Seconds() }
	ages := func(n int, d time.Duration) []time.Duration {
		all := make([]time.Duration, n)
		for i := range all {
			all[i] = d
		}
		return all
	}
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
			spent: invitation.Spent{Create: ages(50, 10*time.Minute), Bulk: ages(25, 20*time.Minute)},
			want:  invitation.Plan{ToSend: 350, Bulk: 25, Create: 100, Windows: 1, Seconds: 1200}, atOnce: 50, each: 350},
		{name: "all is spent", people: 10, create: "10/1h", bulk: "off",
			spent: invitation.Spent{Create: ages(10, 30*time.Minute)},
			want:  invitation.Plan{ToSend: 10, Create: 10, Windows: 1, Seconds: 1800}, atOnce: 0, each: 10},
		{name: "a limit that was higher", people: 2, create: "2/1h", bulk: "off",
			spent: invitation.Spent{Create: []time.Duration{4 * time.Minute, time.Minute, 3 * time.Minute, 2 * time.Minute}},
			want:  invitation.Plan{ToSend: 2, Create: 2, Windows: 1, Seconds: 240}, atOnce: 0, each: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := invitation.MakePlan(tt.people, limit(t, tt.create), limit(t, tt.bulk), tt.spent)
			if got.AtOnce != tt.atOnce || got.Each != tt.each {
				t.Errorf("at once %d, each %d; want %d, %d", got.AtOnce, got.Each, tt.atOnce, tt.each)
			}
			got.AtOnce, got.Each, got.Window = 0, 0, 0
			if got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// TestMakePlanKeepsLimits checks against a plain count that no window holds
// more people than its limits allow, and that nobody waits without need.
func TestMakePlanKeepsLimits(t *testing.T) {
	t.Parallel()
	create, bulk := limit(t, "3/10s"), limit(t, "2/10s")
	for people := 1; people < 200; people++ {
		p := invitation.MakePlan(people, create, bulk, invitation.Spent{})
		windows := (people + 22) / 23 // 2 bulk calls of ten and 3 singles each
		if p.Windows != windows {
			t.Fatalf("%d people: %d windows, want %d", people, p.Windows, windows)
		}
		if carried := p.Create + 10*p.Bulk; carried < people || p.Create > 3*windows || p.Bulk > 2*windows {
			t.Fatalf("%d people: %+v", people, p)
		}
	}
}
