package postgres

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// giveUpAfter makes the kernel break a connection whose peer has not acknowledged
// what was sent within d: tcp(7), TCP_USER_TIMEOUT. Without it the kernel repeats
// for a quarter of an hour.
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
