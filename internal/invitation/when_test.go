package invitation_test

import (
	"testing"
	"time"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
)

func TestParseStart(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	must.OK(t, err)
	for _, tt := range []struct {
		now, text string
		want      string // RFC 3339; empty: refused
	}{
		{"2026-11-22 20:11", "2026-11-24T08:00:00+01:00", "2026-11-24T08:00:00+01:00"},
		{"2026-11-22 20:11", "2026-11-24T08:00:00Z", "2026-11-24T09:00:00+01:00"},
		{"2026-11-22 20:11", "2026-11-24 08:00", "2026-11-24T08:00:00+01:00"},
		{"2026-11-22 20:11", "2026-07-01 08:00", "2026-07-01T08:00:00+02:00"}, // is past: at once
		{"2026-11-22 20:11", "2026-11-24T08:00", "2026-11-24T08:00:00+01:00"},
		{"2026-11-22 20:11", "2026-11-24 08:00:30", "2026-11-24T08:00:30+01:00"},
		{"2026-11-22 20:11", "21:00", "2026-11-22T21:00:00+01:00"},
		{"2026-11-22 20:11", "08:00", "2026-11-23T08:00:00+01:00"},
		{"2026-11-22 20:11", "20:11", "2026-11-23T20:11:00+01:00"},
		{"2026-12-31 20:11", "08:00", "2027-01-01T08:00:00+01:00"},
		{"2027-03-27 20:11", "08:00", "2027-03-28T08:00:00+02:00"}, // summer time begins
		{"2026-10-24 20:11", "08:00", "2026-10-25T08:00:00+01:00"}, // and ends
		{"2027-03-27 20:11", "2027-03-28 02:30", ""},               // the clocks skip it
		{"2026-11-22 20:11", "tomorrow", ""},
		{"2026-11-22 20:11", "2026-11-24", ""},
		{"2026-11-22 20:11", "25:00", ""},
		{"2026-11-22 20:11", "2026-13-24 08:00", ""},
	} {
		now, err := time.ParseInLocation("2006-01-02 15:04", tt.now, berlin)
		must.OK(t, err)
		got, err := invitation.ParseStart(tt.text, now)
		if tt.want == "" {
			if err == nil {
				t.Errorf("%s: %s, want an error", tt.text, got)
			}
			continue
		}
		if err != nil || got.In(berlin).Format(time.RFC3339) != tt.want {
			t.Errorf("%s, now %s: %s, %v; want %s", tt.text, tt.now, got.In(berlin), err, tt.want)
		}
	}
}

func TestParseHours(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]invitation.Hours{
		"": {}, "8-18": {From: 8, To: 18}, "08-18": {From: 8, To: 18}, "22-6": {From: 22, To: 6}, "0-1": {To: 1}, "18-24": {From: 18, To: 24}, "0-24": {},
	} {
		if got, err := invitation.ParseHours(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"8", "8-8", "8-25", "24-6", "8:00-18:00", "-8", "8-", "eight-ten", "8-18h"} {
		if got, err := invitation.ParseHours(text); err == nil {
			t.Errorf("%q: %+v, want an error", text, got)
		}
	}
}
