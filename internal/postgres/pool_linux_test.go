package postgres_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres"
)

// deafServer is a server whose kernel, once deafen is called, drops every packet of its
// connections, like a network that loses everything.
func deafServer(t *testing.T) (address string, deafen func()) {
	t.Helper()
	config := net.ListenConfig{KeepAlive: -1} // its kernel sends nothing by itself
	config.SetMultipathTCP(false)             // multipath sockets take no filter
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must.OK(t, err)
	t.Cleanup(func() { _ = listener.Close() }) // the test is over
	accepted := make(chan *net.TCPConn, 10)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed at the end of the test
			}
			accepted <- conn.(*net.TCPConn)
			go serve(conn, "15.0", nil)
		}
	}()
	return listener.Addr().String(), func() {
		for range len(accepted) {
			raw, err := (<-accepted).SyscallConn()
			must.OK(t, err)
			// Unacknowledged data would be sent again, which would show that the server is alive.
			for unsent := 1; unsent > 0; time.Sleep(time.Millisecond) {
				var asking error
				err := raw.Control(func(fd uintptr) { unsent, asking = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
				must.OK(t, errors.Join(err, asking))
			}
			nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
			var setting error
			err = raw.Control(func(fd uintptr) {
				setting = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing})
			})
			must.OK(t, errors.Join(err, setting))
		}
	}
}

// hasten checks that the kernel breaks a connection within half a minute once every packet is lost,
// and shortens the times to at most two seconds, since it would take so long to see it.
func hasten(t *testing.T, c net.Conn) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	must.OK(t, err)
	err = raw.Control(func(f uintptr) {
		fd := int(f)
		option := func(name, short int) (was int) {
			was, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, name)
			expect.OK(t, errors.Join(err, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, name, short)))
			return was
		}
		unsent := time.Duration(option(unix.TCP_USER_TIMEOUT, 2000)) * time.Millisecond
		idle, every, tries := option(unix.TCP_KEEPIDLE, 1), option(unix.TCP_KEEPINTVL, 1), option(unix.TCP_KEEPCNT, 1)
		silent := time.Duration(idle+every*tries) * time.Second
		if unsent <= 0 || unsent > 30*time.Second || silent > 30*time.Second {
			t.Errorf("a dead server is noticed after %s of a statement, and after %s without one", unsent, silent)
		}
		alive, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		expect.OK(t, err)
		expect.Equal(t, "keepalive", alive, 1)
	})
	must.OK(t, err)
}

// TestConnectionsToADeadServerBreak checks that a connection breaks on a network that loses every
// packet, during a statement and while it waits for a notification.
func TestConnectionsToADeadServerBreak(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(context.Context, *pgx.Conn) error{
		"a statement": func(ctx context.Context, c *pgx.Conn) error {
			_, err := c.Exec(ctx, "select 1")
			return err
		},
		"nothing": func(ctx context.Context, c *pgx.Conn) error {
			_, err := c.WaitForNotification(ctx)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, deafen := deafServer(t)
			pool, err := postgres.Open(t.Context(), "postgres://jane@"+address+"/x?sslmode=disable")
			must.OK(t, err)
			defer pool.Close()
			conn, err := pool.Acquire(t.Context())
			must.OK(t, err)
			defer conn.Release()
			hasten(t, conn.Conn().PgConn().Conn())
			deafen()
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			began := time.Now()
			if err := use(ctx, conn.Conn()); err == nil || ctx.Err() != nil {
				t.Errorf("after %s: %v", time.Since(began).Round(time.Second), err)
			}
		})
	}
}
