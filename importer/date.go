package importer

import (
	"regexp"
	"strings"
	"time"
)

// dates are the ways in which a day is written. A month by its name is clear; so is a
// year that stands first, and the dots that are written between day, month and year.
var dates = []string{
	"2006-1-2", "2006/1/2", "2006.1.2", "2.1.2006", "2-1-2006", "1-2-2006", "2/1/2006", "1/2/2006",
	"2 Jan 2006", "2 January 2006", "2-Jan-2006", "2. January 2006", "2. Jan 2006",
	"Jan 2, 2006", "January 2, 2006", "Jan 2 2006", "January 2 2006",
}

// timeOfDay is what programs write behind a date that has none.
var timeOfDay = regexp.MustCompile(`[T ]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp][Mm]|Z|[+-]\d{2}:?\d{2})?$`)

// date reads a day, and fails where it could be another one too: 3/4/2026 is March or
// April. An empty cell is the zero day. A time of day behind it is left out.
func date(cell string) (day time.Time, ok bool) {
	if cell == "" {
		return day, true // as in each row of a file without such a column
	}
	text := timeOfDay.ReplaceAllString(strings.TrimFunc(cell, isSpace), "")
	if text == "" {
		return day, blankCell(cell)
	}
	for _, layout := range dates {
		read, err := time.Parse(layout, text)
		switch {
		case err != nil:
		case ok && !read.Equal(day):
			return time.Time{}, false
		default:
			day, ok = read, true
		}
	}
	return day, ok && sensible(day)
}

// sensible keeps out years that are slips of the keyboard.
func sensible(day time.Time) bool { return day.Year() >= 1990 && day.Year() < 2200 }
