package main

import (
	"fmt"
	"image/color"
	"math"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// The colours stay apart for the colour-blind (Okabe and Ito, "Color Universal
// Design"), and the dashes without any colour.
var strokes = []struct {
	color  color.RGBA
	dashes []vg.Length
}{
	{color.RGBA{0xD5, 0x5E, 0x00, 0xFF}, nil},
	{color.RGBA{0xE6, 0x9F, 0x00, 0xFF}, []vg.Length{vg.Points(8), vg.Points(2)}},
	{color.RGBA{0x00, 0x72, 0xB2, 0xFF}, nil},
	{color.RGBA{0x00, 0x9E, 0x73, 0xFF}, []vg.Length{vg.Points(5), vg.Points(5)}},
}

// draw writes the picture: people invited over time, a line for each contender,
// beside the most that the limits allow.
func (b race) draw(results [][]measured, file string) error {
	p := plot.New()
	p.Title.Text = "People invited over time"
	p.X.Label.Text = fmt.Sprintf("windows of %s, each an hour at Clerk", b.window)
	p.Y.Label.Text = "people invited"
	p.X.Max, p.Y.Min = float64(b.windows), 0
	p.X.Tick.Marker = plot.ConstantTicks(b.ticks(1, b.windows))
	p.Y.Tick.Marker = plot.ConstantTicks(b.ticks(perWindow, b.windows*perWindow))
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.Padding = vg.Points(3)
	p.Add(plotter.NewGrid())
	limit, err := plotter.NewLine(b.ceiling())
	if err != nil {
		return fmt.Errorf("draw the limit: %w", err)
	}
	limit.StepStyle, limit.Width, limit.Color = plotter.PostStep, vg.Points(5), color.Gray{0xD0}
	p.Add(limit)
	p.Legend.Add("the limit", limit)
	for i, c := range contenders {
		line, err := plotter.NewLine(b.points(typical(results[i]).curve))
		if err != nil {
			return fmt.Errorf("draw %s: %w", c.name, err)
		}
		line.StepStyle, line.Width = plotter.PostStep, vg.Points(1.5)
		line.Color, line.Dashes = strokes[i].color, strokes[i].dashes
		p.Add(line)
		p.Legend.Add(c.name, line)
	}
	return p.Save(24*vg.Centimeter, 14*vg.Centimeter, file)
}

func (b race) ticks(step, end int) []plot.Tick {
	var ticks []plot.Tick
	for v := 0; v <= end; v += step {
		ticks = append(ticks, plot.Tick{Value: float64(v), Label: grouped(v)})
	}
	return ticks
}

// ceiling is the most that can be invited: all that a window allows at its
// beginning.
func (b race) ceiling() plotter.XYs {
	points := plotter.XYs{{X: 0, Y: 0}}
	for i := range b.windows {
		points = append(points, plotter.XY{X: float64(i), Y: float64((i + 1) * perWindow)})
	}
	return append(points, plotter.XY{X: float64(b.windows), Y: float64(b.windows * perWindow)})
}

// points is the number of people over time, to the 2,000th part of the
// picture's width.
func (b race) points(curve []time.Duration) plotter.XYs {
	points := plotter.XYs{{X: 0, Y: 0}}
	for i, at := range curve {
		x := float64(at) / float64(b.window)
		if last := &points[len(points)-1]; i > 0 && x-last.X < float64(b.windows)/2000 {
			last.Y = float64(i + 1)
			continue
		}
		points = append(points, plotter.XY{X: x, Y: float64(i + 1)})
	}
	return append(points, plotter.XY{X: float64(b.windows), Y: float64(len(curve))})
}

// curve is how something grows.
type curve struct {
	name   string
	points plotter.XYs
}

// drawing is a picture of curves.
type drawing struct {
	title, x, y string
	log         bool  // both axes are logarithmic
	ticks       []int // of an x that is not
	curves      []curve
}

// The font is plot's for the whole process, so it is set before any picture is
// drawn: two may be drawn at once.
func init() { plot.DefaultFont.Variant = "Sans" }

// svg draws it. The background is white, so that it can be read on any page.
func (d drawing) svg() (string, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = d.title, d.x, d.y
	p.Legend.Top, p.Legend.Left, p.Legend.Padding = true, true, vg.Points(3)
	p.Add(plotter.NewGrid())
	for i, c := range d.curves {
		line, dots, err := plotter.NewLinePoints(c.points)
		if err != nil {
			return "", fmt.Errorf("draw %s: %w", c.name, err)
		}
		stroke := strokes[i%len(strokes)]
		line.Width, line.Color, line.Dashes, dots.Color = vg.Points(1.5), stroke.color, stroke.dashes, stroke.color
		p.Add(line, dots)
		p.Legend.Add(c.name, line)
	}
	p.Y.Min = 0
	if d.log {
		for _, axis := range []*plot.Axis{&p.X, &p.Y} {
			axis.Scale, axis.Tick.Marker = plot.LogScale{}, decades{}
		}
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = d.decades()
		p.X.Max *= 1.2 // room for half of the last number
	} else {
		var ticks []plot.Tick
		for _, v := range d.ticks {
			ticks = append(ticks, plot.Tick{Value: float64(v), Label: grouped(v)})
		}
		p.X.Tick.Marker = plot.ConstantTicks(ticks)
		p.Y.Max *= 1.25 // room for the legend
	}
	var out strings.Builder
	canvas, err := p.WriterTo(18*vg.Centimeter, 11*vg.Centimeter, "svg")
	if err == nil {
		_, err = canvas.WriteTo(&out)
	}
	if err != nil {
		return "", fmt.Errorf("draw %q: %w", d.title, err)
	}
	return out.String(), nil
}

// decades are the powers of ten around all points.
func (d drawing) decades() (left, right, bottom, top float64) {
	left, bottom = math.Inf(1), math.Inf(1)
	for _, c := range d.curves {
		for _, p := range c.points {
			left, right, bottom, top = min(left, p.X), max(right, p.X), min(bottom, p.Y), max(top, p.Y)
		}
	}
	down := func(v float64) float64 { return math.Pow10(int(math.Floor(math.Log10(v)))) }
	up := func(v float64) float64 { return math.Pow10(int(math.Ceil(math.Log10(v)))) }
	return down(left), up(right), down(bottom), up(top)
}

// decades marks the powers of ten, with their numbers, and what lies between.
type decades struct{}

// Ticks lists the marks of an axis.
func (decades) Ticks(from, to float64) []plot.Tick {
	var ticks []plot.Tick
	for v := math.Pow10(int(math.Floor(math.Log10(from)))); v <= to; v *= 10 {
		label := fmt.Sprintf("%g", v)
		if v >= 1000 {
			label = grouped(int(v))
		}
		ticks = append(ticks, plot.Tick{Value: v, Label: label})
		for m := 2.0; m < 10 && m*v <= to; m++ {
			ticks = append(ticks, plot.Tick{Value: m * v})
		}
	}
	return ticks
}
