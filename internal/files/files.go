// Package files has file operations that the standard library lacks. It imports nothing
// of the program.
package files

import (
	"errors"
	"os"
)

// SyncDir returns once the names in a directory are on the disk, so that files that were created,
// renamed or removed in it stay so after a power failure.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
