package web

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/internal/words"
)

// streamLimit is how many answers of a kind a user may be sent at a time by one server,
// by the user's name.
type streamLimit struct {
	most         int
	says, remedy string // what a user is told who has that many
	mu           sync.Mutex
	open         map[string]int
}

// A download holds a page of rows in memory, and no connection to the database; a live
// page holds neither, but its batch is looked at once a second.
const (
	maxDownloads = 4
	maxLive      = 32
	streamRetry  = 10 * time.Second // what a client that has too many is told to wait
)

// begin counts one more for a user, or refuses it with 429 and Retry-After; end, which
// is to be called once, counts it off.
func (l *streamLimit) begin(w http.ResponseWriter, user string) (end func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[user] >= l.most {
		w.Header().Set("Retry-After", strconv.Itoa(int(streamRetry.Seconds())))
		return nil, refuse(http.StatusTooManyRequests, l.remedy, l.says, l.most)
	}
	l.open[user]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.open[user]--; l.open[user] == 0 {
			delete(l.open, user)
		}
	}, nil
}

// download begins one of its user's downloads, which send then writes as it is read. If
// that fails half way, the connection is cut: nothing else tells that it is not all.
func (s *Server) download(e *exchange, contentType string, write func(io.Writer) error) (send func(), err error) {
	end, err := s.downloads.begin(e.w, e.who.Name)
	return func() {
		defer end()
		e.w.Header().Set("Content-Type", contentType)
		out := bufio.NewWriterSize(patient{e.w}, 64<<10)
		err := write(out)
		if err == nil {
			err = out.Flush()
		}
		if err != nil {
			s.log.Warn("a download was cut off", "path", e.r.URL.Path, "error", err)
			panic(http.ErrAbortHandler)
		}
	}, err
}

// patient puts the deadline off with everything that is written.
type patient struct{ w http.ResponseWriter }

// Write writes on.
func (p patient) Write(b []byte) (int, error) {
	extend(p.w, patience)
	return p.w.Write(b)
}

// sheet is a kind of file of a batch's rows.
type sheet struct {
	name, contentType string
	only              invitation.Outcome // the rows that ended so; empty: those that are asked for
	write             func(io.Writer, []string, func(func(*report.Result) error) error) error
}

const csvType = "text/csv; charset=utf-8"

var (
	resultsJSON = sheet{"results", jsonType, "", report.ResultsJSON}
	resultsCSV  = sheet{"results", csvType, "", report.ResultsCSV}
	problemsCSV = sheet{"problems", csvType, invitation.Invalid, report.ProblemsCSV}
)

// sheet is the download of the rows of a batch that ended so, or of all.
func (s *Server) sheet(e *exchange, b *invitation.Batch, f sheet, only invitation.Outcome) (send func(), err error) {
	columns := b.Columns // the header's: a ragged row stays ragged when it is uploaded again
	if f.only == "" {
		if columns, err = report.Columns(e.r.Context(), s.pool, b.ID); err != nil {
			return nil, err
		}
	}
	return s.download(e, f.contentType, func(out io.Writer) error {
		return f.write(out, columns, func(yield func(*report.Result) error) error {
			return report.Results(e.r.Context(), s.pool, b.ID, cmp.Or(f.only, only), yield)
		})
	})
}

// sheetFile is the page's download of such a file.
func (s *Server) sheetFile(f sheet) batchHandler {
	return func(w http.ResponseWriter, r *http.Request, who *visitor, b *invitation.Batch) error {
		only := cmp.Or(f.only, invitation.Outcome(r.URL.Query().Get("outcome")))
		if _, known := words.Outcomes[only]; only != "" && !known {
			return refuse(http.StatusUnprocessableEntity, "", "There is no outcome %q.", only)
		}
		send, err := s.sheet(&exchange{w, r, who}, b, f, only)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="batch-%d-%s.csv"`, b.ID, f.name))
		send()
		return nil
	}
}
