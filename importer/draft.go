package importer

import (
	"context"
	"io"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/erased"
	"bulkinvite/internal/invitation"
)

// Draft is a file on its way to being a draft.
type Draft struct {
	// Batch has what is known before the file is read: the instance, the name, who sends it, and the options. With an
	// ID it is a draft whose file is read again. With a FileSHA256 the file must be the one that has it.
	invitation.Batch
	Read  Options // how the file is read
	Again bool    // a batch of the same file that is over is no reason to refuse it
	// IncludeErased invites also people who were erased. Otherwise their rows end
	// as cancelled, and nothing is kept of what the file says of them.
	IncludeErased bool
}

// CreateDraft makes a draft of a file in tx, a new one or the same read in another way. It is the way to a draft for
// commands, the page and the API. Errors: [FileError], [ErrChanged], [batch.SameFileError], and of a draft that
// is read again those of [batch.EmptyDraft].
func CreateDraft(ctx context.Context, tx pgx.Tx, r io.Reader, d *Draft) (*Summary, error) {
	var err error
	if d.ID == 0 {
		if d.Columns == nil {
			d.Columns = []string{}
		}
		d.ID, err = batch.CreateBatch(ctx, tx, d.Batch)
	} else if err = erased.ShareErasures(ctx, tx); err == nil {
		// In this order: an erasure may hold what a start of the draft waits for.
		err = batch.EmptyDraft(ctx, tx, d.ID)
	}
	if err != nil {
		return nil, err
	}
	s, err := importFile(ctx, tx, r, d)
	if err != nil {
		return nil, err
	}
	if err := batch.LockFile(ctx, tx, d.InstanceID, s.SHA256); err != nil {
		return nil, err
	}
	earlier, err := batch.BatchByFile(ctx, tx, d.InstanceID, s.SHA256, d.ID, d.Again)
	if err != nil {
		return nil, err
	}
	if earlier != nil {
		return nil, &batch.SameFileError{Batch: earlier}
	}
	d.FileSHA256, d.FileBytes, d.Rows, d.Blank = s.SHA256, s.Bytes, s.Rows, s.Blank
	d.Encoding, d.Delimiter, d.Columns = s.Encoding, s.Delimiter, s.Columns.Found
	return s, batch.DescribeDraft(ctx, tx, &d.Batch)
}
