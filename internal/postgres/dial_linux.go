package postgres

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// giveUpAfter makes the kernel break a connection if the peer does not acknowledge sent data within
// d, see TCP_USER_TIMEOUT in tcp(7). Without it the kernel repeats the data for a quarter of an
// hour.
func giveUpAfter(d time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		if network == "unix" {
			return nil
		}
		var setting error
		err := c.Control(func(fd uintptr) {
			setting = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		})
		if err != nil {
			return err
		}
		return os.NewSyscallError("setsockopt", setting)
	}
}
