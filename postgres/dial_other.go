//go:build !linux

package postgres

import (
	"syscall"
	"time"
)

// giveUpAfter is there on Linux alone; elsewhere keepalives find an idle connection
// that is dead.
func giveUpAfter(time.Duration) func(network, address string, c syscall.RawConn) error { return nil }
