package files_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"bulkinvite/internal/files"
)

func TestSyncDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := files.SyncDir(dir); err != nil {
		t.Error(err)
	}
	if err := files.SyncDir(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}
