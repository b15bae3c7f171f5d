package postgres_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"bulkinvite/postgres"
)

// deafServer is a server whose kernel, once deafen is called, drops every packet of its
// connections, like a network that loses everything.
func deafServer(t *testing.T) (address string, deafen func()) {
	t.Helper()
	config := net.ListenConfig{KeepAlive: -1} // its kernel sends nothing by itself
	config.SetMultipathTCP(false)             // multipath sockets take no filter
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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
			if err != nil {
				t.Fatal(err)
			}
			// Unacknowledged data would be sent again, which would show that the server is alive.
			for unsent := 1; unsent > 0; time.Sleep(time.Millisecond) {
				var asking error
				err := raw.Control(func(fd uintptr) { unsent, asking = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
				if err := errors.Join(err, asking); err != nil {
					t.Fatal(err)
				}
			}
			nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
			var setting error
			err = raw.Control(func(fd uintptr) {
				setting = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing})
			})
			if err := errors.Join(err, setting); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestConnectionsToADeadServerBreak checks that a connection breaks within half a minute on a
// network that loses every packet, during a statement and while it waits for a notification.
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
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			conn, err := pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Release()
			deafen()
			ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
			defer cancel()
			began := time.Now()
			if err := use(ctx, conn.Conn()); err == nil || ctx.Err() != nil {
				t.Errorf("after %s: %v", time.Since(began).Round(time.Second), err)
			}
		})
	}
}
