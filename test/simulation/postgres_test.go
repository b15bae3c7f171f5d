package simulation

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// toPostgres is a worker's connection to PostgreSQL. It parses what the worker sends, to find
// commits.
type toPostgres struct {
	net.Conn
	n *node

	started bool   // the first message, which has no type, has passed
	rest    []byte // start of a message that is not complete yet
	names   map[string]string
	inTx    bool
	does    string // kind of the transaction, or of the statement outside of one
	noting  bool   // the transaction has begun to record an answer
	execute bool   // an Execute message came since the last Sync
	guard   *guard // lease guard in the bytes that are about to be sent
	lost    bool   // the transaction's guard came after another process had taken the lease

	mu    sync.Mutex
	ended error // set once the connection is cut
}

func (c *toPostgres) Close() error {
	c.n.forget(c)
	return c.Conn.Close()
}

func (c *toPostgres) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if gone := errors.Join(c.n.gate(), c.over()); gone != nil {
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *toPostgres) over() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// cut ends the connection.
func (c *toPostgres) cut() error {
	c.mu.Lock()
	c.ended = io.ErrUnexpectedEOF
	c.mu.Unlock()
	_ = c.Conn.Close() // it is cut, whatever the error
	return io.ErrUnexpectedEOF
}

func (c *toPostgres) Write(p []byte) (int, error) {
	if err := c.n.gate(); err != nil {
		return 0, err
	}
	if err := c.over(); err != nil {
		return 0, err
	}
	for _, e := range c.events(p) {
		if done, err := c.meet(e, p); done {
			return len(p), err
		}
	}
	if c.guard != nil {
		c.lost = c.n.r.taken(*c.guard)
		c.guard = nil
	}
	return c.Conn.Write(p)
}

// guard is the check of a transaction that its process still holds a lease. It comes before writes
// that only the holder may do.
type guard struct {
	task, holder string
	term         int64
}

// firstOfRecord is the first statement that records an answer. If a worker stands still before it,
// others settle the attempt meanwhile.
const firstOfRecord = "first of record"

// Kinds of faults between a worker and PostgreSQL.
const (
	fDelay       = "delayed"
	fCut         = "cut before it came"
	fLost        = "answer lost after it was done"
	fDieBefore   = "killed before it came"
	fDieAfter    = "killed after it was done"
	fStandBefore = "stood still before it came"
	fStandAfter  = "stood still after it was done"
)

// meet applies the fault of an event. It returns true if the bytes are sent already or will never
// be sent.
func (c *toPostgres) meet(e string, p []byte) (bool, error) {
	r := c.n.r
	nth := r.fate.nth("postgres", c.n.worker, c.n.life, e)
	dice := r.fate.at("postgres", c.n.worker, c.n.life, e, nth)
	likely := r.world.toPostgres
	if !strings.HasPrefix(e, "commit") {
		likely /= 8
	}
	guarded := e == "within guard" // the guard of writes that only the holder of a lease may do
	late := e == firstOfRecord
	switch {
	case guarded, late:
		likely = 2 * r.world.toPostgres
	case e == "commit claim":
		likely *= 2
	case e == "commit revocation": // there are few of them
		likely *= 6
	}
	if nth >= 40 || r.calm() || dice.Float64() >= likely {
		return false, nil
	}
	fault := pick(dice, []weighted[string]{{fDelay, 2}, {fCut, 2}, {fLost, 4}})
	if dice.Float64() < r.world.harm {
		fault = pick(dice, []weighted[string]{{fDieBefore, 1}, {fDieAfter, 2}, {fStandBefore, 1}, {fStandAfter, 2}})
	}
	if guarded || late { // the worker stands still until others have taken the lease or settled the attempt
		fault = fStandBefore
	}
	if !c.n.mortal() && (fault == fDieBefore || fault == fDieAfter) {
		fault = fLost
	}
	r.note(c.n, "%s %d: %s", e, nth, fault)
	r.rare.count(e + ": " + fault)
	switch fault {
	case fDelay:
		time.Sleep(between(dice, time.Millisecond, 3*second))
		return false, nil
	case fCut:
		return true, c.cut()
	case fLost:
		c.pass(p)
		return true, c.cut()
	case fDieBefore:
		c.n.die()
		return true, errDead
	case fDieAfter:
		c.pass(p)
		c.n.die()
		return true, errDead
	case fStandBefore:
		d := standing(dice)
		switch {
		case guarded:
			d = between(dice, 6*second, 12*second)
		case late:
			d = requestTimeout + settleTime + between(dice, 2*second, 8*second)
		}
		c.n.stand(d)
		if err := c.n.gate(); err != nil {
			return true, err
		}
		return false, nil
	}
	n, err := c.Conn.Write(p)
	c.n.stand(standing(dice))
	return n == len(p) || err != nil, err
}

// pass sends the bytes and waits until PostgreSQL has answered them.
func (c *toPostgres) pass(p []byte) {
	if _, err := c.Conn.Write(p); err != nil {
		return
	}
	// If the answer takes longer, the connection is cut before it. That is a fault too.
	if err := c.Conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return
	}
	var seen []byte
	part := make([]byte, 4096)
	for {
		n, err := c.Conn.Read(part)
		seen = append(seen, part[:n]...)
		for len(seen) >= 5 {
			size := 1 + int(binary.BigEndian.Uint32(seen[1:]))
			if seen[0] == 'Z' {
				return
			}
			if len(seen) < size {
				break
			}
			seen = seen[size:]
		}
		if err != nil {
			return
		}
	}
}

// events parses the messages that a worker sends. It returns the identities of the statements and
// commits that end with them.
func (c *toPostgres) events(p []byte) (events []string) {
	c.rest = append(c.rest, p...)
	for {
		head := 1
		if !c.started {
			head = 0
		}
		if len(c.rest) < head+4 {
			return events
		}
		size := head + int(binary.BigEndian.Uint32(c.rest[head:]))
		if len(c.rest) < size {
			return events
		}
		body := c.rest[head+4 : size]
		if !c.started {
			// An SSLRequest may come before the StartupMessage. It is always 8 bytes long.
			c.started = size != 8
		} else if e := c.message(c.rest[0], body); e != "" {
			events = append(events, e)
		}
		c.rest = c.rest[size:]
	}
}

// message parses one message of PostgreSQL's frontend protocol. It returns the event that ends with
// it, if any.
func (c *toPostgres) message(kind byte, body []byte) string {
	switch kind {
	case 'Q':
		return c.simple(strings.ToLower(strings.TrimSuffix(string(body), "\x00")))
	case 'P':
		name, rest, _ := strings.Cut(string(body), "\x00")
		text, _, _ := strings.Cut(rest, "\x00")
		if c.names == nil {
			c.names = map[string]string{}
		}
		c.names[name] = kindOf(text)
	case 'B':
		_, rest, _ := strings.Cut(string(body), "\x00")
		name, rest, _ := strings.Cut(rest, "\x00")
		c.add(c.names[name])
		if c.names[name] == "guard" {
			values := parameters(rest)
			c.guard = &guard{task: values[1], holder: values[3], term: int64(binary.BigEndian.Uint64([]byte(values[2])))}
		}
	case 'E':
		c.execute = true
	case 'S':
		ran := c.execute
		c.execute = false
		if !c.inTx && ran {
			did := c.does
			c.does = ""
			return "statement " + did
		}
		if ran {
			if c.does == "record" && !c.noting {
				c.noting = true
				return firstOfRecord
			}
			return "within " + c.does
		}
	}
	return ""
}

// parameters returns the values of a Bind message. rest is what follows the names of portal and
// statement.
func parameters(rest string) (values []string) {
	b := []byte(rest)
	b = b[2+2*binary.BigEndian.Uint16(b):] // skip the format codes
	count := binary.BigEndian.Uint16(b)
	b = b[2:]
	for range count {
		size := max(int32(binary.BigEndian.Uint32(b)), 0) // -1 stands for null
		values = append(values, string(b[4:4+size]))
		b = b[4+size:]
	}
	return values
}

func (c *toPostgres) simple(text string) string {
	switch {
	case strings.HasPrefix(text, "begin"):
		c.inTx, c.does, c.noting, c.lost = true, "", false, false
	case text == "commit":
		did := c.does
		if c.lost {
			c.n.r.wrong("worker %s writes what only the holder of a lease may, which another has taken", c.n.name())
		}
		c.inTx, c.does = false, ""
		return "commit " + did
	case strings.HasPrefix(text, "rollback"):
		c.inTx, c.does = false, ""
	}
	return ""
}

// add records that a transaction does something of a kind. The kind that comes first in kinds names
// the transaction.
func (c *toPostgres) add(kind string) {
	for _, k := range kinds {
		if c.does == k.name {
			return
		}
		if kind == k.name {
			c.does = kind
			return
		}
	}
	if c.does == "" {
		c.does = kind
	}
}

// kinds has the kinds of transactions by a part of their SQL, the most specific first.
var kinds = []struct{ name, part string }{
	{"claim", "insert into attempts"},
	{"revocation", "update revocations"},
	{"record", "a.answered_at is null and a.resolved_at is null"},
	{"settle", "update attempt_people"},
	{"state", "update batches"},
	{"decide", "update results"},
	{"freeze", "update buckets"},
	{"guard", "true) from task_leases"},
	{"lease", "task_leases"},
	{"read", " reads"},
	{"heartbeat", "workers"},
	{"budget", " leases"},
	{"river", "river_"},
}

func kindOf(text string) string {
	text = strings.Join(strings.Fields(strings.ToLower(text)), " ")
	for _, k := range kinds {
		if strings.Contains(text, k.part) {
			return k.name
		}
	}
	return "look"
}
