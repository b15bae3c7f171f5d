package clerk

import (
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// giveUpAfter makes the kernel drop what the peer has not acknowledged within d. This works even if
// no process closes the connection, because it was stopped or killed while the network was down. By
// default the kernel would repeat the request for minutes, see tcp(7).
func giveUpAfter(c *net.TCPConn, d time.Duration) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var setting error
	err = raw.Control(func(fd uintptr) {
		// Zero would select the system's default.
		setting = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(max(d.Milliseconds(), 1)))
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("setsockopt", setting)
}
