// Package files does with files what the standard library leaves to its caller.
package files

import (
	"errors"
	"os"
)

// SyncDir returns when the names in a directory are on the disk: those of files that were made, moved or removed in it.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
