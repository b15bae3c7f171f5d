package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/importer"
	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/words"
)

// upload is a file on its way to being a batch.
type upload struct {
	ID       int64
	Actor    string
	FileName string
	Bytes    int64
	Options  reading
	Received *time.Time
	Checked  *time.Time
	Batch    *int64
	Summary  *importer.Summary
	Failure  *failure
}

// reading is how an upload's file is to be read.
type reading struct {
	columnsBody
	Again bool       `json:"again,omitempty"` // though the same file is a batch already
	Draft url.Values `json:"draft,omitempty"` // the options that its batch begins with, as the draft's form has them
}

// importer is the same as the importer takes it.
func (o reading) importer() importer.Options {
	return importer.Options{Map: o.Map, RevokeOn: o.RevokeOn, Delimiter: o.Delimiter, Encoding: o.Encoding}
}

// isText reports whether the database can hold it.
func (o reading) isText() bool {
	for name, column := range o.Map {
		if !isText(name) || !isText(column) {
			return false
		}
	}
	return isText(o.RevokeOn) && isText(o.Delimiter) && isText(o.Encoding)
}

// failure is why a file can't be made a batch, or be read again as the draft that it is.
type failure struct {
	What   string   `json:"what"`
	Remedy string   `json:"remedy,omitempty"`
	Batch  int64    `json:"batch,omitempty"` // the batch that the same file is already
	Found  []string `json:"found,omitempty"` // the columns to choose among: see [importer.FileError]
}

func (f *failure) Error() string { return f.What }

const uploadColumns = `id, actor, file_name, bytes, options, received_at, checked_at, batch_id, summary, failure`

func scanUpload(row pgx.Row) (*upload, error) {
	var u upload
	err := row.Scan(&u.ID, &u.Actor, &u.FileName, &u.Bytes, &u.Options, &u.Received, &u.Checked, &u.Batch, &u.Summary, &u.Failure)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errNoUpload
	}
	if err != nil {
		return nil, fmt.Errorf("read an upload: %w", err)
	}
	return &u, nil
}

var errNoUpload = refuse(http.StatusNotFound, "The list of batches has what became of it.", "There is no such upload, or it is over.")

func (s *Server) upload(ctx context.Context, id int64) (*upload, error) {
	return scanUpload(s.pool.QueryRow(ctx, `select `+uploadColumns+` from uploads where id = $1 and instance_id = $2`, id, s.cfg.Instance.ID))
}

// uploadOf returns the upload that a batch was made of, or nil.
func (s *Server) uploadOf(ctx context.Context, batch int64) (*upload, error) {
	u, err := scanUpload(s.pool.QueryRow(ctx, `select `+uploadColumns+` from uploads where batch_id = $1`, batch))
	if errors.Is(err, errNoUpload) {
		return nil, nil
	}
	return u, err
}

// chunkBytes is how much of a file is kept in one row.
const chunkBytes = 1 << 20

// receive keeps a file as it comes. One that is cut off leaves nothing. A key
// that was used before gives the upload that it was used for: see [Server.sent].
func (s *Server) receive(
	ctx context.Context, body io.Reader, actor, name string, o reading, key string, more func(),
) (u *upload, err error) {
	name = fileName(name)
	if u, err = s.begin(ctx, actor, name, o, key); err != nil {
		return nil, err
	}
	if u == nil {
		return s.sent(ctx, body, actor, name, o, key, more)
	}
	id := u.ID // u is nil where this fails
	defer func() {
		if err != nil {
			// The request's context may be over: that is why it failed.
			within, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
			defer cancel()
			_, gone := s.pool.Exec(within, `delete from uploads where id = $1`, id)
			err = errors.Join(err, gone)
		}
	}()
	var sum []byte
	if u.Bytes, sum, err = s.chunked(body, func(number int, chunk []byte) error {
		more()
		return s.keep(ctx, id, number, chunk)
	}); err != nil {
		return nil, err
	}
	err = s.pool.QueryRow(ctx, `
		update uploads set bytes = $2, sha256 = $3, received_at = clock_timestamp() where id = $1 returning received_at`,
		u.ID, u.Bytes, sum).Scan(&u.Received)
	if err != nil {
		return nil, fmt.Errorf("keep upload %d: %w", u.ID, err)
	}
	s.log.Info("upload received", "upload", u.ID, "bytes", u.Bytes)
	return u, nil
}

// silent is how long an upload may be without a byte before it is taken for dead:
// its request would have ended long before.
const silent = 2 * patience

// begin records that a file comes, or returns nil where the actor has used its
// key before. An upload that died with its server gives its key up.
func (s *Server) begin(ctx context.Context, actor, name string, o reading, key string) (*upload, error) {
	if key != "" {
		_, err := s.pool.Exec(ctx, `delete from uploads where actor = $1 and idempotency_key = $2 and received_at is null and came_at < clock_timestamp() - $3::interval`, actor, key, silent)
		if err != nil {
			return nil, fmt.Errorf("look for an upload that died: %w", err)
		}
	}
	u, err := scanUpload(s.pool.QueryRow(ctx, `
		insert into uploads (instance_id, actor, file_name, options, sent, idempotency_key) values ($1, $2, $3, $4, $4, nullif($5, ''))
		on conflict (actor, idempotency_key) where idempotency_key is not null do nothing
		returning `+uploadColumns, s.cfg.Instance.ID, actor, name, o, key))
	if errors.Is(err, errNoUpload) {
		return nil, nil
	}
	return u, err
}

var (
	errKeyBusy  = refuse(http.StatusConflict, "Wait for its answer, or send this again in a while.", "Another request with this Idempotency-Key is under way.")
	errKeyTaken = refuse(http.StatusUnprocessableEntity, "Take a new key for it.", "This Idempotency-Key was used for another file, or with other options.")
)

// sent finds the upload that a key was used for, if it was of the same file with
// the same options: the file is read for that, and not kept.
func (s *Server) sent(ctx context.Context, body io.Reader, actor, name string, o reading, key string, more func()) (*upload, error) {
	_, sum, err := s.chunked(body, func(int, []byte) error { more(); return nil })
	if err != nil {
		return nil, err
	}
	var id int64
	var busy, same bool
	err = s.pool.QueryRow(ctx, `
		select id, received_at is null, coalesce(instance_id = $3 and file_name = $4 and sent = $5::jsonb and sha256 = $6, false)
		from uploads where actor = $1 and idempotency_key = $2`, actor, key, s.cfg.Instance.ID, name, o, sum).Scan(&id, &busy, &same)
	switch {
	case errors.Is(err, pgx.ErrNoRows) || err == nil && busy:
		return nil, errKeyBusy // it was cut off just now, or is still coming
	case err != nil:
		return nil, fmt.Errorf("look for the upload of a key: %w", err)
	case !same:
		return nil, errKeyTaken
	}
	return s.upload(ctx, id)
}

// chunked reads a file piece by piece, and returns how much it was, and its SHA-256.
func (s *Server) chunked(
	body io.Reader, take func(number int, chunk []byte) error,
) (total int64, sum []byte, err error) {
	hash := sha256.New()
	var chunk bytes.Buffer
	for number := 0; ; number++ {
		chunk.Reset()
		// Unlike io.ReadFull it tells a file that ends from one that is cut off.
		n, err := chunk.ReadFrom(io.TeeReader(io.LimitReader(body, chunkBytes), hash))
		if err != nil {
			return 0, nil, errCutOff
		}
		if total += n; total > s.cfg.MaxUpload {
			return 0, nil, refuse(http.StatusRequestEntityTooLarge, "Split it.", "The file is larger than %d bytes.", s.cfg.MaxUpload)
		}
		if n > 0 {
			if err := take(number, chunk.Bytes()); err != nil {
				return 0, nil, err
			}
		}
		if n < chunkBytes {
			return total, hash.Sum(nil), nil
		}
	}
}

// DefaultUploadQuota is how many bytes the files of drafts may take: as many as the
// largest file that is read.
const DefaultUploadQuota = importer.DefaultFileBytes

// keep writes a piece of a file, unless it would take the files that are kept over
// the quota. Files that nobody needs any more then make room first. Files that come at
// the same moment may pass the quota by a piece each.
func (s *Server) keep(ctx context.Context, id int64, number int, chunk []byte) error {
	const within = `
		with piece as (
			insert into upload_chunks (upload_id, number, data)
			select $1, $2, $3 where (select coalesce(sum(octet_length(data)), 0) from upload_chunks) + $4 <= $5
			returning upload_id)
		update uploads set bytes = bytes + $4, came_at = clock_timestamp() from piece where id = upload_id`
	args := []any{id, number, chunk, len(chunk), s.cfg.UploadQuota}
	done, err := s.pool.Exec(ctx, within, args...)
	if err == nil && done.RowsAffected() == 0 {
		if _, err = s.pool.Exec(ctx, deleteNeedless); err == nil {
			done, err = s.pool.Exec(ctx, within, args...)
		}
	}
	if err != nil {
		return fmt.Errorf("keep upload %d: %w", id, err)
	}
	if done.RowsAffected() == 0 {
		return refuse(http.StatusInsufficientStorage,
			"Start or discard drafts that you don't need, then send it again. Who runs the server can raise --upload-quota.",
			"The files that drafts keep would take more than %s.", words.Bytes(s.cfg.UploadQuota))
	}
	return nil
}

// deleteNeedless deletes the files of batches that are no drafts any more.
const deleteNeedless = `
	delete from upload_chunks c using uploads u, batches b
	where u.id = c.upload_id and b.id = u.batch_id and b.state <> 'draft'`

// fileName is a file's name without a directory, of a bearable length.
func fileName(name string) string {
	name = strings.NewReplacer("\\", "/", "\x00", "").Replace(strings.ToValidUTF8(name, "�"))
	if name = path.Base(name); name == "." || name == "/" {
		return "upload.csv"
	}
	for len(name) > 200 {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return name
}

// chunks reads an upload's file.
type chunks struct {
	ctx  context.Context
	pool *pgxpool.Pool
	id   int64
	next int
	rest []byte
	done *atomic.Int64 // bytes read so far
}

// Read reads on.
func (c *chunks) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		err := c.pool.QueryRow(c.ctx, `select data from upload_chunks where upload_id = $1 and number = $2`, c.id, c.next).Scan(&c.rest)
		if errors.Is(err, pgx.ErrNoRows) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, fmt.Errorf("read upload %d: %w", c.id, err)
		}
		c.next++
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	c.done.Add(int64(n))
	return n, nil
}

// checks are the files that this process is reading now.
type checks struct {
	mu    sync.Mutex
	all   map[int64]*checking
	turns chan struct{} // each of them needs a second connection now and then: one must be left
}

// MinConns is how many connections a server needs: a file is read on one while its
// rows are written on another.
const MinConns = 2

// checksAtOnce is how many files a process reads at a time, at most.
const checksAtOnce = 2

// checking is a file that is being read.
type checking struct {
	done atomic.Int64  // bytes
	over chan struct{} // closed when it is read
}

// await waits until it is read, but no longer than a while or the request.
func (c *checking) await(ctx context.Context, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	select {
	case <-c.over:
	case <-ctx.Done():
	}
}

// check has a file read in the background, if it waits for that, and returns
// how far that is; nil: nothing is read here. It goes on when the request is
// over.
func (s *Server) check(u *upload) *checking {
	if u.Received == nil || u.Checked != nil {
		return nil
	}
	s.checks.mu.Lock()
	defer s.checks.mu.Unlock()
	if c := s.checks.all[u.ID]; c != nil || s.life.Err() != nil {
		return c
	}
	c := &checking{over: make(chan struct{})}
	s.checks.all[u.ID] = c
	s.work.Go(func() {
		if err := s.makeDraft(s.life, u.ID, c); err != nil && s.life.Err() == nil {
			s.log.Error("an upload could not be checked", "upload", u.ID, "error", err)
		}
		if u.Batch != nil {
			s.tallies.forget(*u.Batch) // it was read in another way
			s.documents.forget(*u.Batch)
		}
		s.checks.mu.Lock()
		delete(s.checks.all, u.ID)
		s.checks.mu.Unlock()
		close(c.over)
	})
	return c
}

const (
	// maxChecks is how many checks of an upload may come to no end.
	maxChecks = 2
	// checkGap keeps two servers from beginning the same check, between the moment
	// when it is counted and the one when its row is locked.
	checkGap = 5 * time.Second
)

// beginCheck counts a check before it begins, so that one that ends the process is
// counted too. It returns 0 where another process is at it.
func (s *Server) beginCheck(ctx context.Context, id int64) (checks int, err error) {
	err = s.pool.QueryRow(ctx, `
		update uploads set checks = checks + 1, check_at = clock_timestamp()
		where id = (select id from uploads where id = $1 and checked_at is null and (check_at is null or check_at < clock_timestamp() - $2::interval) for update skip locked)
		returning checks`, id, checkGap).Scan(&checks)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("begin the check of upload %d: %w", id, err)
	}
	return checks, nil
}

// makeDraft reads an upload when it is its turn and makes it a draft, or records why
// it can't be one. A server that stops waits for no turn.
func (s *Server) makeDraft(ctx context.Context, id int64, c *checking) error {
	select {
	case s.checks.turns <- struct{}{}:
		defer func() { <-s.checks.turns }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return nil // no check was begun
	}
	checks, err := s.beginCheck(ctx, id)
	if err != nil || checks == 0 {
		return err
	}
	if checks > maxChecks {
		return s.recordFailure(ctx, id, checks, &failure{
			What:   fmt.Sprintf("The server ended or was stopped %d times while it read this file.", maxChecks),
			Remedy: "Save the sheet as CSV (UTF-8), or split the file, and upload that. If the server was only restarted, upload the file again.",
		})
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		u, err := scanUpload(tx.QueryRow(ctx, `select `+uploadColumns+` from uploads where id = $1 and checked_at is null for update skip locked`, id))
		if err != nil {
			return err
		}
		return s.importUpload(ctx, tx, u, c)
	})
	var failed *failure
	switch {
	case errors.Is(err, errNoUpload): // another process reads it, or has waited for it
		return nil
	case errors.As(err, &failed):
		return s.recordFailure(ctx, id, 0, failed)
	case err == nil || ctx.Err() != nil:
		return err
	}
	return errors.Join(err, s.recordFailure(ctx, id, 0, &failure{What: "It could not be read just now.", Remedy: "Nothing was kept of this try. Upload it again; if it stays so, the server's log says why."}))
}

// recordFailure ends a check. checks is how many of them came to no end.
func (s *Server) recordFailure(ctx context.Context, id int64, checks int, f *failure) error {
	_, err := s.pool.Exec(ctx, `update uploads set failure = $2, checks = $3, checked_at = clock_timestamp() where id = $1`, id, f, checks)
	if err != nil {
		return fmt.Errorf("record why upload %d is no batch: %w", id, err)
	}
	return nil
}

// importUpload makes an upload a draft in tx, a new one or, where it was read in
// another way before, the same. Where that can't be, the error is a [failure].
func (s *Server) importUpload(ctx context.Context, tx pgx.Tx, u *upload, c *checking) error {
	d := &importer.Draft{Read: u.Options.importer(), Again: u.Options.Again,
		Batch: invitation.Batch{InstanceID: s.cfg.Instance.ID, FileName: u.FileName, Actor: u.Actor,
			Priority: invitation.DefaultPriority, Preflight: true}}
	if err := s.readOptions(&d.Batch, u.Options.Draft); err != nil {
		return err
	}
	if u.Batch != nil {
		d.ID = *u.Batch
	}
	found, err := importer.CreateDraft(ctx, tx, &chunks{ctx: ctx, pool: s.pool, id: u.ID, done: &c.done}, d)
	if err != nil {
		return draftFailure(d.ID, err)
	}
	for i := range found.EncodingGuesses {
		found.EncodingGuesses[i].Sample = []string{} // no cell of a row is kept beside the rows
	}
	_, err = tx.Exec(ctx, `update uploads
		set batch_id = $2, summary = $3, failure = null, checks = 0, checked_at = clock_timestamp()
		where id = $1`, u.ID, d.ID, found)
	if err != nil {
		return fmt.Errorf("record upload %d: %w", u.ID, err)
	}
	return nil
}

// draftFailure puts an error of a check into a [failure], where it says what is wrong with
// the file or the draft.
func draftFailure(id int64, err error) error {
	var state *batch.StateError
	var same *batch.SameFileError
	var fault *importer.FileError
	switch {
	case errors.As(err, &state):
		return &failure{What: upperFirst(state.Error()) + ".", Batch: id}
	case errors.Is(err, batch.ErrCorrectedDraft):
		return &failure{
			What:   fmt.Sprintf("The file of batch %d can't be read in another way: a row of it was corrected.", id),
			Remedy: "The draft is as it was: start it so. To change its columns, discard it and upload the file again.",
		}
	case errors.As(err, &fault):
		f := &failure{What: upperFirst(fault.Error()) + ".", Remedy: fault.Remedy(), Found: fault.Columns}
		if len(f.Found) > 0 {
			f.Remedy = "" // it names a flag; the page has a menu
		}
		return f
	case errors.As(err, &same):
		f := &failure{Batch: same.Batch.ID, What: upperFirst(same.Error()) + "."}
		if same.Batch.State.Over() {
			f.Remedy = "Send it once more all the same? People who were invited are still not mailed twice."
		}
		return f
	}
	return err
}

// janitor deletes what uploads leave behind: files whose batch is no draft any
// more, and those that were never received or never became a batch.
func (s *Server) janitor() {
	tick := time.NewTicker(10 * time.Minute)
	defer tick.Stop()
	for {
		if err := s.tidy(s.life); err != nil && s.life.Err() == nil {
			s.log.Warn("tidy uploads and sessions", "error", err)
		}
		select {
		case <-s.life.Done():
			return
		case <-tick.C:
		}
	}
}

// abandoned is how long an upload that became no batch is kept.
const abandoned = 24 * time.Hour

func (s *Server) tidy(ctx context.Context) error {
	for _, chore := range []struct {
		what, sql string
		args      []any
	}{
		{"files whose batches are under way", deleteNeedless, nil},
		{"uploads that were given up", `delete from uploads where batch_id is null and begun_at < clock_timestamp() - $1::interval`, []any{abandoned}},
		{"sessions that have ended", `delete from web_sessions where used_at < clock_timestamp() - $1::interval or created_at < clock_timestamp() - $2::interval`, []any{sessionIdle, sessionLife}},
	} {
		if _, err := s.pool.Exec(ctx, chore.sql, chore.args...); err != nil {
			return fmt.Errorf("delete %s: %w", chore.what, err)
		}
	}
	return nil
}
