//go:build !linux

package clerk

import (
	"net"
	"time"
)

// giveUpAfter does nothing: only Linux can be told.
func giveUpAfter(*net.TCPConn, time.Duration) error { return nil }
