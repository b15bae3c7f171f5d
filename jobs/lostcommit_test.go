package jobs

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/must"
)

// lostCommit is a connection to PostgreSQL that loses the answer to one commit: of the first
// transaction with a statement that contains a text.
type lostCommit struct {
	net.Conn
	text  string
	armed *atomic.Bool // no commit was lost yet
	await func()       // returns when the commit is done
	found bool         // a statement contained the text
}

func (c *lostCommit) Write(p []byte) (int, error) {
	c.found = c.found || bytes.Contains(p, []byte(c.text))
	n, err := c.Conn.Write(p)
	if err == nil && c.found && bytes.Contains(p, []byte("commit\x00")) && c.armed.CompareAndSwap(true, false) {
		c.await()
		_ = c.Close() // it is over in any case
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// TestReconcileKeepsReadsOfALostCommit loses the answer to the commit by which a reconcile learns a
// status. The read that showed the status stays: it is the evidence.
func TestReconcileKeepsReadsOfALostCommit(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	ids := b.plant(sandbox.Seed{Email: "joined@example.com", Status: "accepted"})
	b.has("invited", "pending", ids)
	config := b.pool.Config()
	dial := config.ConnConfig.DialFunc
	armed := new(atomic.Bool)
	armed.Store(true)
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		return &lostCommit{Conn: c, text: "set status = m.status", armed: armed, await: func() {
			b.await("the status is learned", func() bool {
				return b.count(`select count(*) from results where status = 'accepted'`) == 1
			})
		}}, err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	must.OK(t, err)
	defer pool.Close()
	w, err := New(pool, b.worker(Config{}).api, Config{Instance: b.instance, Settle: quick.Settle})
	must.OK(t, err)
	_, err = w.Reconcile(t.Context(), "maria")
	must.OK(t, err)
	if armed.Load() {
		t.Fatal("no commit was lost")
	}
	b.is("1", `select count(*) from results r join reads on reads.id = r.status_read_id`)
}
