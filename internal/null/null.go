// Package null converts times between Go, where the zero time means none, and SQL, where NULL does.
// It imports nothing of the program.
package null

import "time"

// Time returns nil for the zero time.
func Time(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Value returns the zero time for nil.
func Value(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
