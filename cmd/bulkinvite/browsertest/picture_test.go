package browsertest

import (
	"bytes"
	"cmp"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/page"

	"bulkinvite/internal/must"
)

// pictures is where the pictures of the pages are.
var pictures = filepath.Join("..", "..", "..", "docs", "pages")

const (
	tallest     = 1200      // pixels of a page that a picture shows
	largestFile = 150 << 10 // bytes
)

// picture writes docs/pages/NAME-WIDTH.png: the page as far as it goes, but not
// endlessly.
func (p *tab) picture(name string, width, height int64) {
	p.t.Helper()
	p.size(width, height)
	p.size(width, min(tallest, max(height, eval[int64](p, "document.documentElement.scrollHeight"))))
	p.until(`document.activeElement.blur() === undefined`) // no caret that blinks
	shot := call(p, page.CaptureScreenshot, page.CaptureScreenshotParams{})
	small, err := shrink(shot.Data)
	must.OK(p.t, err)
	if len(small) > largestFile {
		p.t.Errorf("%s at %d: %d bytes", name, width, len(small))
	}
	must.OK(p.t, os.MkdirAll(pictures, 0o755))
	must.OK(p.t, os.WriteFile(filepath.Join(pictures, fmt.Sprintf("%s-%d.png", name, width)), small, 0o644))
}

// shrink writes a picture with at most 256 colours. Of colours that are nearly
// the same it keeps the most frequent one; a rare one that is like no other stays.
func shrink(text []byte) ([]byte, error) {
	from, err := png.Decode(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	box := from.Bounds()
	count := map[color.RGBA]int{}
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(from.At(x, y)).(color.RGBA) }
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			count[at(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)))
	})
	var palette color.Palette
	alike := map[color.RGBA]bool{}
	for _, c := range colours {
		if like := (color.RGBA{c.R >> 5, c.G >> 5, c.B >> 5, 0}); len(palette) < 32 || len(palette) < 256 && !alike[like] {
			alike[like] = true
			palette = append(palette, c)
		}
	}
	nearest := map[color.RGBA]uint8{}
	for _, c := range colours {
		nearest[c] = uint8(palette.Index(c))
	}
	to := image.NewPaletted(box, palette)
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			to.SetColorIndex(x, y, nearest[at(x, y)])
		}
	}
	var out bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, to)
	return out.Bytes(), err
}

// TestPictures holds the pictures in docs/pages to their size: whoever clones the
// repository gets them all.
func TestPictures(t *testing.T) {
	t.Parallel()
	if *update {
		t.Log("they are being taken anew")
		return
	}
	files, err := filepath.Glob(filepath.Join(pictures, "*.png"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d pictures in %s: make pages takes them (%v)", len(files), pictures, err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		must.OK(t, err)
		if info.Size() > largestFile {
			t.Errorf("%s has %d bytes", file, info.Size())
		}
	}
}
