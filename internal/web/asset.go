package web

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"reflect"
	"strings"
	"sync"
	"time"

	"bulkinvite/importer"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/revocation"
	"bulkinvite/internal/words"
)

//go:embed static templates
var files embed.FS

// asset is a static file, compressed once.
type asset struct {
	kind, tag   string
	text, small []byte
}

type assetServer map[string]asset

// assets are the static files by name. Pages name them with their hash, so that
// browsers may keep them for ever.
var assets = sync.OnceValue(func() assetServer {
	all := assetServer{}
	names, _ := fs.Glob(files, "static/*") // the pattern is good
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			panic(err) // embedded
		}
		var small bytes.Buffer
		z, _ := gzip.NewWriterLevel(&small, gzip.BestCompression) // a constant level
		_, _ = z.Write(text)
		_ = z.Close() // into memory
		sum := sha256.Sum256(text)
		kind := cmp.Or(mime.TypeByExtension(path.Ext(name)), "text/plain; charset=utf-8")
		all[path.Base(name)] = asset{kind, hex.EncodeToString(sum[:6]), text, small.Bytes()}
	}
	return all
})

// ServeHTTP serves a file.
func (a assetServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	file, ok := a[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", file.kind)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache")
	if r.URL.RawQuery == file.tag {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	text := file.text
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		text = file.small
	}
	h.Set("Etag", `"`+file.tag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
}

// pages are the templates, each with the frame around it. Reading them takes as long
// as the rest of a command's start, and only a server needs them.
var pages = sync.OnceValue(func() map[string]*template.Template {
	all := map[string]*template.Template{}
	shared := template.Must(template.New("").Funcs(functions).ParseFS(files, "templates/frame.html", "templates/part-*.html"))
	names, _ := fs.Glob(files, "templates/*.html") // the pattern is good
	for _, name := range names {
		page := strings.TrimSuffix(path.Base(name), ".html")
		if page != "frame" && !strings.HasPrefix(page, "part-") {
			all[page] = template.Must(template.Must(shared.Clone()).ParseFS(files, name))
		}
	}
	return all
})

// functions are what templates can do besides showing.
var functions = template.FuncMap{
	"asset":    func(name string) string { return "/static/" + name + "?" + assets()[name].tag },
	"n":        words.Thousands,
	"typeOf":   typeOf,
	"counted":  words.Counted,
	"bar":      barOf,
	"pace":     pace,
	"days":     wholeDays,
	"details":  detailWords,
	"requests": words.Requests,
	"moment":   shownTime,
	"zone":     words.Zone,
	"text":     shownText,
	"outcome":  func(o invitation.Outcome) string { return words.Outcomes[o] },
	"reason": func(code *string) string {
		if remedy := importer.Remedy(*code); remedy != *code {
			return remedy
		}
		return words.Plain(words.Reason(*code))
	},
	"percent":   percent,
	"of":        func(c invitation.Counts, o string) int { return c[invitation.Outcome(o)] },
	"bytes":     words.Bytes,
	"differing": func() string { return words.Differing },
	"call":      func(bucket string) string { return words.Calls[bucket] },
	"outcomes":  func() []invitation.Outcome { return words.Order },
	"statuses": func() []invitation.Status {
		return invitation.Statuses
	},
	"status":       words.Status,
	"sweepState":   func(sw *revocation.Sweep) string { return words.SweepStates[sw.State()] },
	"sweepReason":  func(code *string) string { return words.Plain(words.SweepReason(*code)) },
	"sweepReasons": func() [][2]string { return words.SweepReasons },
	"sum": func(of map[string]int) (n int) {
		for _, m := range of {
			n += m
		}
		return n
	},
	"span":      words.Span,
	"driftKind": func(k ledger.DriftKind) string { return words.DriftKinds[k] },
	"driftKinds": func() []ledger.DriftKind {
		return []ledger.DriftKind{ledger.Unexplained, ledger.Gone, ledger.PendingAgain}
	},
	"trouble":    func() []string { return []string{"failed", "rejected", "invalid"} },
	"priorities": func() []int { return []int{1, 2, 3, 4} },
}

// shownTime writes a time, or a dash, so that the page's script can put it into
// the reader's own zone.
func shownTime(t any) template.HTML {
	var at time.Time
	switch t := t.(type) {
	case time.Time:
		at = t
	case *time.Time:
		if t != nil {
			at = *t
		}
	}
	if at.IsZero() {
		return "–"
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time>`, at.UTC().Format(time.RFC3339), template.HTMLEscapeString(words.Moment(at))))
}

// shownText writes a value, or what a pointer points at, without what would turn a line
// around or make it invisible.
func shownText(v any) string {
	at := reflect.Indirect(reflect.ValueOf(v))
	if !at.IsValid() {
		return ""
	}
	text := fmt.Sprint(at)
	if _, ok := v.(*revocation.Revoking); ok {
		text = strings.ReplaceAll(text, "_", " ")
	}
	return words.Plain(text)
}

// percent writes a share, without calling something nothing or almost all all.
func percent(part, of int) string {
	if of == 0 {
		return "–"
	}
	p := 100 * float64(part) / float64(of)
	switch {
	case part > 0 && p < 1:
		return "under 1 %"
	case part < of && p > 99:
		return "over 99 %"
	}
	return fmt.Sprintf("%.0f %%", p)
}
