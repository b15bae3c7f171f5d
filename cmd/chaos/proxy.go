package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// proxy passes connections on to PostgreSQL, until it is told not to.
type proxy struct {
	listener net.Listener
	network  string
	address  string

	mu    sync.Mutex
	flows *sync.Cond // its state changed
	state string     // open, lost (connections break, none is made), silent (nothing passes), swallowed (see swallow)
	err   error      // why swallowed could not be had
	conns map[net.Conn]struct{}
	all   sync.WaitGroup
}

const (
	open      = "open"
	lost      = "lost"
	silent    = "silent"
	swallowed = "swallowed"
)

// openProxy listens on loopback for connections to an address.
func openProxy(network, address string) (*proxy, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // its sockets take no filter
	listener, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, network: network, address: address, state: open, conns: map[net.Conn]struct{}{}}
	p.flows = sync.NewCond(&p.mu)
	p.all.Go(p.accept)
	return p, nil
}

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.all.Go(func() { p.serve(in) })
	}
}

// serve passes one connection on in both directions.
func (p *proxy) serve(in net.Conn) {
	defer in.Close() //nolint:errcheck // a broken connection is what this is for
	if !p.enter(in) {
		return
	}
	defer p.leave(in)
	out, err := net.Dial(p.network, p.address)
	if err != nil {
		return
	}
	defer out.Close() //nolint:errcheck // likewise
	if !p.enter(out) {
		return
	}
	defer p.leave(out)
	var both sync.WaitGroup
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(gated{to, p}, from) // however it ends, both directions end
		_, _ = to.Close(), from.Close()
	}
	both.Go(func() { pass(out, in) })
	pass(in, out)
	both.Wait()
}

// enter notes a connection; false: none is wanted.
func (p *proxy) enter(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == lost {
		return false
	}
	p.conns[c] = struct{}{}
	if p.state == swallowed {
		p.err = errors.Join(p.err, swallow(c, true))
	}
	return true
}

func (p *proxy) leave(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// set changes what it does with connections.
func (p *proxy) set(state string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.state
	p.state = state
	if yes := state == swallowed; yes || before == swallowed {
		p.err = errors.Join(p.err, swallow(p.listener, yes))
		for c := range p.conns {
			p.err = errors.Join(p.err, swallow(c, yes))
		}
	}
	if state == lost {
		for c := range p.conns {
			_ = c.Close() // it is to break
		}
	}
	p.flows.Broadcast()
}

// failed is why packets could not be swallowed; nil: they were.
func (p *proxy) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *proxy) close() error {
	p.set(lost)
	err := p.listener.Close()
	p.all.Wait()
	return errors.Join(err, p.err)
}

// gated is a connection to which nothing passes while the proxy is silent.
type gated struct {
	net.Conn
	p *proxy
}

func (g gated) Write(b []byte) (int, error) {
	g.p.mu.Lock()
	gone := false
	for g.p.state == silent || g.p.state == swallowed {
		// Packets that were acknowledged before the network failed must not come minutes later.
		gone = gone || g.p.state == swallowed
		g.p.flows.Wait()
	}
	g.p.mu.Unlock()
	if gone {
		return 0, io.ErrClosedPipe
	}
	return g.Conn.Write(b)
}
