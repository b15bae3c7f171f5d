package invitation

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// LoadZone is [time.LoadLocation], except that it rejects "" and "Local", which are not time zones.
func LoadZone(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, errors.New("no time zone")
	}
	return time.LoadLocation(name)
}

// ParseStart reads when a batch starts: a time with an offset, a time in the zone of now, or a time
// of day, which is the next one after now. Empty text returns the zero time, which means at once.
// Errors continue a sentence that begins with the text: "8 is no time: …".
func ParseStart(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02T15:04:05"} {
		t, err := time.ParseInLocation(layout, text, now.Location())
		if err != nil {
			continue
		}
		if t.Format(layout) != text {
			return t, errors.New("is left out by the clocks, which are put forward over it")
		}
		return t, nil
	}
	if t, err := time.Parse("15:04", text); err == nil {
		next := time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, now.Location())
		if !next.After(now) {
			next = time.Date(now.Year(), now.Month(), now.Day()+1, t.Hour(), t.Minute(), 0, 0, now.Location())
		}
		return next, nil
	}
	return time.Time{}, errors.New(`is no time: write 2026-11-24T08:00:00+01:00, or "2026-11-24 08:00", or 08:00`)
}

var hoursForm = regexp.MustCompile(`^(\d{1,2})-(\d{1,2})$`)

// ParseHours reads hours of the day, such as 8-18. It does not set their time zone. Errors continue
// a sentence that begins with the text.
func ParseHours(text string) (Hours, error) {
	if text == "" {
		return Hours{}, nil
	}
	bad := errors.New("are no hours: write two of the day from 0 to 24, such as 8-18, or 22-6 for the night")
	m := hoursForm.FindStringSubmatch(text)
	if m == nil {
		return Hours{}, bad
	}
	from, err := strconv.Atoi(m[1])
	if err != nil {
		return Hours{}, bad
	}
	to, err := strconv.Atoi(m[2])
	if err != nil || from > 23 || to > 24 || from == to {
		return Hours{}, bad
	}
	if from == 0 && to == 24 {
		return Hours{}, nil
	}
	return Hours{From: from, To: to}, nil
}

// String returns the hours in the form that [ParseHours] reads.
func (h Hours) String() string {
	if h.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d-%d", h.From, h.To)
}
