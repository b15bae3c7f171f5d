//go:build !linux

package clerk

import (
	"net"
	"time"
)

// giveUpAfter does nothing: only Linux has this socket option.
func giveUpAfter(*net.TCPConn, time.Duration) error { return nil }
