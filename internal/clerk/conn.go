package clerk

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

var (
	errDeadline = errors.New("the deadline has passed")
	errReplay   = errors.New("the request was already written on another connection")
)

// exchange is one request and its result. All of its bytes reach the network through write, which
// keeps two promises: nothing is written after the deadline, and never on a second connection.
type exchange struct {
	ctx      context.Context
	deadline time.Time
	now      func() time.Time
	people   int // how many people the call is for

	// answered is set once the whole answer was read. The connection may then be closed normally.
	answered atomic.Bool

	mu      sync.Mutex
	wire    *conn // the connection of the first byte; nil: none was written
	lost    bool  // the connection can't be watched, so nothing is proven
	refused error // why a write was refused

	status  int // 0: no answer
	header  http.Header
	body    []byte
	bodyErr error
}

type exchangeKey struct{}

// newExchange returns an exchange and the context that its request must carry.
func newExchange(ctx context.Context, now func() time.Time) (*exchange, context.Context) {
	x := &exchange{now: now}
	x.deadline, _ = ctx.Deadline()
	x.ctx = httptrace.WithClientTrace(context.WithValue(ctx, exchangeKey{}, x), &httptrace.ClientTrace{GotConn: x.gotConn})
	return x, x.ctx
}

func (x *exchange) gotConn(info httptrace.GotConnInfo) {
	inner := info.Conn
	for {
		t, ok := inner.(*tls.Conn)
		if !ok {
			break
		}
		inner = t.NetConn()
	}
	c, ok := inner.(*conn)
	if !ok {
		x.mu.Lock()
		x.lost = true
		x.mu.Unlock()
		return
	}
	c.current.Store(x)
}

// outcome reports whether a byte of the request may have reached the network, and the error that
// ended it. An error of write takes precedence over the transport's, which may only say that the
// connection ended.
func (x *exchange) outcome(err error) (sent bool, cause error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.refused != nil {
		err = x.refused
	}
	return x.wire != nil || x.lost, err
}

// barred returns the reason why nothing may be written any more, or nil. It compares the deadline
// with the monotonic clock and with the wall clock: the monotonic clock stands still while a
// machine is suspended, and a wall clock can be set back.
func (x *exchange) barred() error {
	if err := x.ctx.Err(); err != nil {
		return err
	}
	if x.deadline.IsZero() {
		return nil
	}
	now := x.now()
	if !now.Before(x.deadline) || !now.Round(0).Before(x.deadline.Round(0)) {
		return errDeadline
	}
	return nil
}

// write holds the lock during the system call, so that outcome is exact as soon as the transport
// has returned.
func (x *exchange) write(c *conn, p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.wire != nil && x.wire != c {
		return 0, errReplay
	}
	if x.refused = x.barred(); x.refused != nil {
		return 0, x.refused
	}
	if err := x.limit(c); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if n > 0 {
		x.wire = c
	}
	return n, err
}

// limit bounds how long the kernel tries to deliver what is written next. It sets the bound once,
// before the first byte.
func (x *exchange) limit(c *conn) error {
	t, ok := c.Conn.(*net.TCPConn)
	if !ok || x.wire != nil || x.deadline.IsZero() {
		return nil
	}
	return giveUpAfter(t, x.deadline.Sub(x.now()))
}

// conn is a connection whose writes belong to the exchange that holds it. HTTP/1.1 has one exchange
// at a time. The TLS handshake and a proxy's CONNECT come before the first exchange and contain
// nothing of a request.
type conn struct {
	net.Conn
	current atomic.Pointer[exchange]
}

func (c *conn) Write(p []byte) (int, error) {
	x := c.current.Load()
	if x == nil || x.answered.Load() {
		return c.Conn.Write(p)
	}
	// After an error the transport closes the connection. What TLS would send on closing is refused
	// too.
	return x.write(c, p)
}

// Close discards what the kernel has not delivered yet, unless the answer was read. Otherwise the
// kernel would deliver the request after the deadline, once the network is back, although a process
// may have read meanwhile that Clerk has no such invitation.
func (c *conn) Close() error {
	var linger error
	if x := c.current.Load(); x != nil && !x.answered.Load() {
		if t, ok := c.Conn.(*net.TCPConn); ok {
			linger = t.SetLinger(0)
		}
	}
	if err := c.Conn.Close(); err != nil {
		return err
	}
	return linger
}
