package importer

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
)

// TestCreateDraft: a draft holds what was found of its file. Of one that is refused nothing stays: a file that is
// a batch already, and one that is not the one that was checked.
func TestCreateDraft(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	instance, err := batch.EnsureInstance(t.Context(), pool, "ins_test", "development")
	must.OK(t, err)
	create := func(text string, d Draft) (*invitation.Batch, error) {
		t.Helper()
		d.InstanceID, d.FileName, d.Actor = instance.ID, "people.csv", "olga"
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := CreateDraft(t.Context(), tx, strings.NewReader(text), &d)
			return err
		})
		if err != nil {
			return nil, err
		}
		return batch.Batch(t.Context(), pool, d.ID)
	}
	const text = "name,email,private\nJane,jane@x.com,jane@y.com\n,,\nJoe,joe@x.com,joe@y.com\n"
	b, err := create(text, Draft{})
	if err != nil || b.State != invitation.Draft || b.Rows != 2 || b.Blank != 1 || b.FileBytes != int64(len(text)) ||
		b.FileSHA256 == [32]byte{} || b.Encoding != "UTF-8" || b.Delimiter != "," || len(b.Columns) != 3 {
		t.Fatalf("%+v, %v", b, err)
	}
	refused := func(again, want bool) {
		t.Helper()
		var same *batch.SameFileError
		_, err := create(text, Draft{Again: again, Batch: invitation.Batch{FileSHA256: b.FileSHA256}})
		if errors.As(err, &same) != want || want && same.Batch.ID != b.ID {
			t.Errorf("the same file, again %t: %v", again, err)
		}
	}
	refused(false, true)
	refused(true, true) // it is not over
	_, err = create("email\na@x.com\n", Draft{Batch: invitation.Batch{FileSHA256: b.FileSHA256}})
	if !errors.Is(err, ErrChanged) {
		t.Errorf("another file than the one that was checked: %v", err)
	}
	if n := count(t, pool); n != 2 {
		t.Errorf("%d rows are left of files that were refused", n-2)
	}
	read, err := create(text, Draft{Batch: invitation.Batch{ID: b.ID}, Read: Options{Map: map[string]string{"email": "private"}}})
	if err != nil || read.ID != b.ID || read.Rows != 2 || count(t, pool) != 2 {
		t.Errorf("read again: %+v, %v", read, err)
	}
	if private := must.Read[int](t, pool, `select count(*) from results where email like '%@y.com'`); private != 2 {
		t.Errorf("%d rows are read in the other way", private)
	}
	must.Exec(t, pool, `update results set outcome = 'rejected', decided_at = now()`)
	must.Exec(t, pool, `update batches set state = 'done', started_at = now()`)
	refused(false, true)
	refused(true, false)
}
