package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// proxy forwards connections to PostgreSQL or to the sandbox. It can also break, stall or silently
// drop them.
type proxy struct {
	listener net.Listener
	network  string
	address  string

	mu    sync.Mutex
	flows *sync.Cond // signals a change of state
	state string     // open, lost (connections break, none is made), silent (nothing passes), swallowed (see swallow)
	err   error      // why the kernel could not drop packets
	conns map[net.Conn]struct{}
	all   sync.WaitGroup
}

const (
	open      = "open"
	lost      = "lost"
	silent    = "silent"
	swallowed = "swallowed"
)

// openProxy listens on loopback and forwards connections to an address.
func openProxy(network, address string) (*proxy, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // MPTCP sockets take no filter
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
			return // the listener is closed
		}
		p.all.Go(func() { p.serve(in) })
	}
}

// serve forwards one connection in both directions.
func (p *proxy) serve(in net.Conn) {
	defer in.Close() // a broken connection is what this is for
	if !p.enter(in) {
		return
	}
	defer p.leave(in)
	out, err := net.Dial(p.network, p.address)
	if err != nil {
		return
	}
	defer out.Close() // likewise
	if !p.enter(out) {
		return
	}
	defer p.leave(out)
	var both sync.WaitGroup
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(gated{to, p}, from) // both directions end, whatever the error
		_, _ = to.Close(), from.Close()
	}
	both.Go(func() { pass(out, in) })
	pass(in, out)
	both.Wait()
}

// enter registers a connection. It returns false if the proxy accepts none now.
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

// set changes the state of the proxy.
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
			_ = c.Close() // breaking it is the intention
		}
	}
	p.flows.Broadcast()
}

// failed returns why packets could not be dropped, or nil.
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

// gated is a connection that receives nothing while the proxy is silent.
type gated struct {
	net.Conn
	p *proxy
}

func (g gated) Write(b []byte) (int, error) {
	g.p.mu.Lock()
	gone := false
	for g.p.state == silent || g.p.state == swallowed {
		// Packets that were acknowledged before the network failed must not arrive minutes later.
		gone = gone || g.p.state == swallowed
		g.p.flows.Wait()
	}
	g.p.mu.Unlock()
	if gone {
		return 0, io.ErrClosedPipe
	}
	return g.Conn.Write(b)
}
