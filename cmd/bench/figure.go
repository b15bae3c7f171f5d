package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"bulkinvite/cmd/internal/rig"
)

// figure is something of ours, measured beside what limits it.
type figure struct {
	work   string
	ours   []float64 // in the order of the runs
	beside string    // what the limit is
	limit  []float64 // measured in the same runs, one beside each of ours; or one for all
	unit   unit
	least  float64 // what ours must be of the limit; 0: it need not be so much
	most   float64 // what ours may be of the limit; 0: it may be more
}

// ratio is what ours is of the limit: the median of those within a run, so that
// what else the machine did then met both.
func (f figure) ratio() float64 {
	if len(f.limit) != len(f.ours) {
		return median(f.ours) / median(f.limit)
	}
	var ratios []float64
	for i := range f.ours {
		ratios = append(ratios, f.ours[i]/f.limit[i])
	}
	return median(ratios)
}

// met tells whether the ratio is what it should be.
func (f figure) met() bool {
	r := f.ratio()
	return r >= f.least && (f.most == 0 || r <= f.most)
}

// cells are the figure's line in a table. The ratio is rounded to our
// disadvantage, so that one that falls short never looks as if it did not.
func (f figure) cells() []string {
	target, rounded := "", math.Round(100*f.ratio())/100
	switch {
	case f.least > 0:
		target, rounded = fmt.Sprintf("at least %.2f", f.least), math.Floor(100*f.ratio()+tiny)/100
	case f.most > 0:
		target, rounded = fmt.Sprintf("at most %.2f", f.most), math.Ceil(100*f.ratio()-tiny)/100
	}
	met := "yes"
	switch {
	case target == "":
		met = ""
	case !f.met():
		met = "**no**"
	}
	return []string{f.work, spread(f.ours, f.unit), f.beside + ": " + spread(f.limit, f.unit), fmt.Sprintf("%.2f", rounded), target, met}
}

// tiny is what a product with 100 may be off.
const tiny = 1e-9

// unit is how numbers are written.
type unit struct {
	number func(float64) string
	name   string
}

func (u unit) write(v float64) string { return u.number(v) + u.name }

// spread writes the median of the runs, and the least and the most of them.
func spread(runs []float64, u unit) string {
	text := u.write(median(runs))
	if low, high := u.number(slices.Min(runs)), u.number(slices.Max(runs)); low != high {
		text += " (" + low + " to " + high + ")"
	}
	return text
}

// figureTable is the table of figures.
func figureTable(figures []figure) string {
	rows := [][]string{{"work", "ours", "limit beside it", "ratio", "target", "met"}, {"---", "--:", "---", "--:", "--:", "---"}}
	for _, f := range figures {
		rows = append(rows, f.cells())
	}
	return table(rows)
}

// missed are the works whose figure is not what it should be.
func missed(figures []figure) []string {
	var works []string
	for _, f := range figures {
		if !f.met() {
			works = append(works, f.work)
		}
	}
	return works
}

// median is the middle one, or the lower of the two in the middle.
func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// percentile is what so many of a hundred values do not go beyond.
func percentile[T cmp.Ordered](values []T, of int) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, (len(sorted)*of+99)/100-1)]
}

// across gives one number of every run.
func across[R, N any](runs []R, of func(R) N) []N {
	values := make([]N, len(runs))
	for i, r := range runs {
		values[i] = of(r)
	}
	return values
}

// The units that figures are written in.
var (
	plain          = unit{plainly, ""}
	inBytes        = unit{plainly, " bytes"}
	inSeconds      = unit{decimals(2), " s"}
	inMilliseconds = unit{decimals(1), " ms"}
	inMebibytes    = unit{func(v float64) string { return plainly(v / (1 << 20)) }, " MiB"}
)

func perSecond(what string) unit { return unit{plainly, " " + what + "/s"} }

func plainly(v float64) string { return grouped(int(math.Round(v))) }

func decimals(n int) func(float64) string {
	return func(v float64) string { return fmt.Sprintf("%.*f", n, v) }
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// grouped writes a number as a person reads it: 3,500.
func grouped(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}

func table(rows [][]string) string {
	var out strings.Builder
	rig.WriteTable(&out, rows)
	return out.String()
}
