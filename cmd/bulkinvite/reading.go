package main

import (
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// newBar draws a bar on the terminal between two texts. What else is said comes above it, until end
// takes it away.
func (p *program) newBar(total int64, before string, after func(decor.Statistics) string,
	options ...mpb.BarOption) (bar *mpb.Bar, end func()) {
	bars := mpb.New(mpb.WithOutput(p.errs), mpb.WithAutoRefresh(), mpb.WithRefreshRate(200*time.Millisecond))
	style := mpb.BarStyle().Lbound("").Rbound("").Filler(signs.bar).Tip(signs.tip).Padding(signs.rest)
	options = append(options, mpb.AppendDecorators(beside(after)),
		mpb.PrependDecorators(beside(func(decor.Statistics) string { return before })))
	bar = bars.New(total, style, options...)
	restore := p.logTo.divert(bars)
	return bar, func() {
		bar.Abort(true)
		bars.Wait()
		restore()
	}
}

// beside is a text before or after a bar, cut to what the terminal leaves for it.
func beside(text func(decor.Statistics) string) decor.Decorator {
	return decor.Any(func(st decor.Statistics) string { return cut(text(st), st.AvailableWidth) })
}

// pass goes back to the file's beginning. On a terminal a bar shows, by bytes, how far
// what is done with the file is, until end is called; it comes after a fifth of
// a second, so that none flashes up for a short file.
func (p *program) pass(in *input, doing string) (r io.Reader, end func(), err error) {
	r, err = in.rewind()
	if err != nil || !p.tellsSteps() {
		return r, func() {}, err
	}
	info, err := in.file.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: see how long it is: %w", plain(in.name), err)
	}
	size, began := info.Size(), time.Now()
	after := func(st decor.Statistics) string { return readText(st.Current, size, time.Since(began)) }
	// One more than there is: the last rows may be on their way when all is read.
	bar, end := p.newBar(size+1, doing+" "+plain(in.name)+" ", after, mpb.BarRemoveOnComplete())
	return bar.ProxyReader(r), end, nil
}

// readText says how much of a file is read.
func readText(done, size int64, took time.Duration) string {
	done = min(done, size)
	text := fmt.Sprintf("  %s of %s  %d %%",
		humanize.Bytes(uint64(done)), humanize.Bytes(uint64(size)), 100*done/max(1, size))
	if done > 0 && took > time.Second {
		if left := time.Duration(float64(took) * float64(size-done) / float64(done)); left >= time.Second {
			text += "   " + span(left) + " left"
		}
	}
	return text
}
