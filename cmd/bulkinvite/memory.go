package main

import (
	"context"
	"net"
	"sync"
)

// memoryListener gives connections to this process alone: there is no port that
// another user of the machine or a browser could open.
type memoryListener struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// dial opens a connection. It fails with net.ErrClosed once the listener is closed.
func (l *memoryListener) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.accept <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept returns the next connection.
func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and dial. Connections that are open stay open.
func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr names no address of a network.
func (l *memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "memory"} }
