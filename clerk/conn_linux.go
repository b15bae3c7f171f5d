package clerk

import (
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// giveUpAfter makes the kernel drop what the peer has not acknowledged within d.
// It holds where nobody is left to close the connection, in a process that was
// stopped or killed while the network was away: tcp(7) would have the kernel
// repeat the request for minutes.
func giveUpAfter(c *net.TCPConn, d time.Duration) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var setting error
	err = raw.Control(func(fd uintptr) {
		// Zero would mean the system's default.
		setting = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(max(d.Milliseconds(), 1)))
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("setsockopt", setting)
}
