package main

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// newBars is where bars are drawn, and barStyle how.
func (p *program) newBars() *mpb.Progress {
	return mpb.New(mpb.WithOutput(p.errs), mpb.WithAutoRefresh(), mpb.WithRefreshRate(200*time.Millisecond))
}

func barStyle() mpb.BarStyleComposer {
	return mpb.BarStyle().Lbound("").Rbound("").Filler(signs.bar).Tip(signs.tip).Padding(signs.rest)
}

// beside is a text before or after a bar, cut to what the terminal leaves for it.
func beside(text func(decor.Statistics) string) decor.Decorator {
	return decor.Any(func(st decor.Statistics) string { return cut(text(st), st.AvailableWidth) })
}

// constantly is a text that does not change with the bar.
func constantly(text string) func(decor.Statistics) string {
	return func(decor.Statistics) string { return text }
}

// passage is one way through a file, from its beginning.
type passage struct {
	r     io.Reader
	size  int64
	began time.Time
	read  atomic.Int64
	bars  *mpb.Progress // nil: nobody looks on
	bar   *mpb.Bar
	stop  func()
}

// pass goes back to the file's beginning. On a terminal a bar shows, by bytes, how far
// what is done with the file is, until close is called; it comes after a fifth of
// a second, so that none flashes up for a short file.
func (p *program) pass(in *input, doing string) (*passage, error) {
	r, err := in.rewind()
	if err != nil {
		return nil, err
	}
	ps := &passage{r: r, began: time.Now()}
	if !p.errTTY || p.json {
		return ps, nil
	}
	info, err := in.file.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s: see how long it is: %w", plain(in.name), err)
	}
	ps.size, ps.bars = info.Size(), p.newBars()
	// One more than there is: the last rows may be on their way when all is read.
	ps.bar = ps.bars.New(ps.size+1, barStyle(),
		mpb.PrependDecorators(beside(constantly(doing+" "+plain(in.name)+" "))),
		mpb.AppendDecorators(beside(func(decor.Statistics) string { return ps.beside(time.Now()) })),
	)
	restore := p.logTo.divert(ps.bars)
	ps.stop = func() {
		ps.bar.Abort(true)
		ps.bars.Wait()
		restore()
	}
	return ps, nil
}

// Read reads from the file.
func (ps *passage) Read(b []byte) (int, error) {
	n, err := ps.r.Read(b)
	done := ps.read.Add(int64(n))
	if ps.bar != nil {
		ps.bar.SetCurrent(min(done, ps.size))
	}
	return n, err
}

// close takes the bar away.
func (ps *passage) close() {
	if ps.stop != nil {
		ps.stop()
	}
}

// beside is the text to the right of the bar.
func (ps *passage) beside(now time.Time) string {
	done, of := min(ps.read.Load(), ps.size), max(1, ps.size)
	text := fmt.Sprintf("  %s of %s  %d %%", humanize.Bytes(uint64(done)), humanize.Bytes(uint64(ps.size)), 100*done/of)
	if took := now.Sub(ps.began); done > 0 && took > time.Second {
		if left := time.Duration(float64(took) * float64(ps.size-done) / float64(done)); left >= time.Second {
			text += "   " + span(left) + " left"
		}
	}
	return text
}
