package importer

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Dates are taken only where there is one way to read them. A month by its name
// is clear; so is a year that stands first, and the dots that are written between
// day, month and year. Slashes are not: 3/4/2026 is March or April.
var (
	yearFirst = regexp.MustCompile(`^(\d{4})([-/.])(\d{1,2})([-/.])(\d{1,2})$`)
	yearLast  = regexp.MustCompile(`^(\d{1,2})([-/.])(\d{1,2})([-/.])(\d{4})$`)
	byName    = []string{"2 Jan 2006", "2 January 2006", "2-Jan-2006", "2. January 2006", "2. Jan 2006", "Jan 2, 2006", "January 2, 2006", "Jan 2 2006", "January 2 2006"}
	// timeOfDay is what programs write behind a date that has none.
	timeOfDay = regexp.MustCompile(`[T ]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp][Mm]|Z|[+-]\d{2}:?\d{2})?$`)
)

// date reads a day, and fails where it could be another one too. An empty cell
// is the zero day. A time of day behind it is left out.
func date(cell string) (day time.Time, ok bool) {
	if cell == "" {
		return day, true // as in each row of a file without such a column
	}
	text := timeOfDay.ReplaceAllString(strings.TrimFunc(cell, isSpace), "")
	if text == "" {
		return day, blankCell(cell)
	}
	if m := yearFirst.FindStringSubmatch(text); m != nil && m[2] == m[4] {
		return calendar(m[1], m[3], m[5])
	}
	if m := yearLast.FindStringSubmatch(text); m != nil && m[2] == m[4] {
		a, _ := strconv.Atoi(m[1])
		b, _ := strconv.Atoi(m[3])
		switch {
		case m[2] == ".", a > 12, a == b:
			return calendar(m[5], m[3], m[1])
		case b > 12:
			return calendar(m[5], m[1], m[3])
		}
		return day, false
	}
	for _, layout := range byName {
		if day, err := time.Parse(layout, text); err == nil {
			return day, sensible(day)
		}
	}
	return day, false
}

// calendar makes a day of its numbers, and fails if there is no such day.
func calendar(year, month, day string) (time.Time, bool) {
	y, _ := strconv.Atoi(year)
	m, _ := strconv.Atoi(month)
	d, _ := strconv.Atoi(day)
	at := time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC)
	return at, at.Month() == time.Month(m) && at.Day() == d && sensible(at)
}

// sensible keeps out years that are slips of the keyboard.
func sensible(day time.Time) bool { return day.Year() >= 1990 && day.Year() < 2200 }
