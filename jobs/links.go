package jobs

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/files"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/lease"
	"bulkinvite/internal/ledger"
)

// Links is the file that gets the links of a batch whose invitations Clerk does not mail. A link is
// on disk before its row is recorded as invited, and it is stored nowhere else.
type Links struct {
	Batch int64

	held *lease.Lease
	mu   sync.Mutex
	file *os.File
}

// linksHeader is the first line of the file.
var linksHeader = []string{"row", "email", "invitation", "link"}

// ErrLinksShared says that users other than its owner may read the file of links.
var ErrLinksShared = errors.New("others may read the file of links")

// OpenLinks opens the file of a batch's links for appending, or creates it with mode 0600. A person
// whose first link was lost may have two lines in it; the last one counts. Lines are written only
// while held, the lease of [HoldLinks], is held. OpenLinks fails with [ErrLinksShared] if other
// users may read the file.
func OpenLinks(path string, batch int64, held *lease.Lease) (_ *Links, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the file of links: %w", err)
	}
	l := &Links{Batch: batch, held: held, file: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the file of links: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, ErrLinksShared
	}
	if info.Size() == 0 {
		return l, errors.Join(l.write([][]string{linksHeader}), files.SyncDir(filepath.Dir(path)))
	}
	// A process that was killed may have left an incomplete line.
	end := make([]byte, 1)
	if _, err := f.ReadAt(end, info.Size()-1); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the file of links: %w", err)
	}
	if end[0] != '\n' {
		return l, l.append("\n")
	}
	return l, nil
}

// CheckLinks returns the error that [OpenLinks] would return for the path, before a batch exists.
// It leaves no new file behind.
func CheckLinks(path string) error {
	_, err := os.Lstat(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open the file of links: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = ErrLinksShared
	}
	if fresh {
		err = errors.Join(err, os.Remove(path))
	}
	return errors.Join(err, f.Close())
}

// Close closes the file.
func (l *Links) Close() error { return l.file.Close() }

// write appends lines and returns when they are on disk.
func (l *Links) write(lines [][]string) error {
	var text strings.Builder
	if err := csv.NewWriter(&text).WriteAll(lines); err != nil {
		return fmt.Errorf("write links: %w", err)
	}
	return l.append(text.String())
}

func (l *Links) append(text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.file.WriteString(text); err != nil {
		return fmt.Errorf("write links: %w", err)
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("write links: %w", err)
	}
	return nil
}

// guard begins a transaction that records answers, and returns until when lines may be written in
// it. No process can take the lease before the transaction ends. The server ends a transaction that
// stands still for a [lease.TTL].
func (l *Links) guard(ctx context.Context, tx pgx.Tx) (until time.Time, err error) {
	if l == nil {
		return until, nil
	}
	began := time.Now()
	return began.Add(lease.TTL * 3 / 4), l.held.Guard(ctx, tx)
}

// taken returns a channel that is closed once another process writes the links. Without a file of
// links it returns nil, which blocks forever.
func (l *Links) taken() <-chan struct{} {
	if l == nil {
		return nil
	}
	return l.held.Taken()
}

// errLinksLate says that the process stood still before it wrote a line. The answer is then
// recorded again.
var errLinksLate = errors.New("write links: the process stood still; it is tried again")

// keep writes the links of an answer that is about to be recorded. It writes them once, and not
// after until. Without a file of links it does nothing.
func (l *Links) keep(t *ticket, said ledger.Reply, until time.Time) error {
	if l == nil || t.linked {
		return nil
	}
	var lines [][]string
	for _, p := range t.People {
		if s := said.People[p.Key]; s.Answer == invitation.AnswerCreated && s.Code != noLink {
			lines = append(lines, []string{strconv.Itoa(p.Row), t.cases[p.Key].Email, s.InvitationID, t.links[p.Key].Reveal()})
		}
	}
	if len(lines) == 0 {
		return nil
	}
	if !time.Now().Before(until) {
		return errLinksLate
	}
	if err := l.write(lines); err != nil {
		return err
	}
	t.linked = true
	return nil
}

// ErrLinksHeld says that another process works on a batch whose links go to a file.
var ErrLinksHeld = errors.New("another process writes the links of this batch")

// HoldLinks takes the lease that keeps other processes from working on a batch whose links go to a
// file. They can take it after it was released, or after this process has not renewed it for
// [lease.TTL]. HoldLinks waits for the lease of a killed process to expire. It fails with
// [ErrLinksHeld] if another process renews the lease.
func HoldLinks(ctx context.Context, pool *pgxpool.Pool, instance, batch int64) (*lease.Lease, error) {
	fault := func(err error) (*lease.Lease, error) {
		return nil, fmt.Errorf("hold the links of batch %d: %w", batch, err)
	}
	name, holder := fmt.Sprintf("links %d", batch), processID()
	var first time.Time
	for {
		held, err := lease.Take(ctx, pool, instance, name, holder)
		if err != nil {
			return fault(err)
		}
		if held != nil {
			return held, nil
		}
		until, err := lease.Until(ctx, pool, instance, name)
		if err != nil {
			return fault(err)
		}
		if first.IsZero() {
			first = until
		}
		if until.After(first) { // it was renewed: its holder lives
			return fault(ErrLinksHeld)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return fault(err)
		}
	}
}
