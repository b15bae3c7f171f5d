//go:build !linux

package postgres

import (
	"syscall"
	"time"
)

// giveUpAfter does nothing: only Linux has the option. On other systems, keepalives find idle
// connections that are dead.
func giveUpAfter(time.Duration) func(network, address string, c syscall.RawConn) error { return nil }
