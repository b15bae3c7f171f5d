package main

import (
	"strconv"
	"testing"

	"bulkinvite/internal/expect"
)

// TestSmallPool: nothing but a server takes a second connection while it has one, so
// that a pool of one is enough; a server says what it needs.
func TestSmallPool(t *testing.T) {
	t.Parallel()
	for n := range 2 {
		t.Run(strconv.Itoa(n+1), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.env = append(b.env, "DATABASE_URL="+b.url+"&pool_max_conns="+strconv.Itoa(n+1))
			file := b.file("people.csv", people(60))
			done := decode[document](t, b.run("send", "--sandbox", "--yes", "--json", file).want(t, exitOK))
			if done.Outcomes["invited"] != 60 {
				t.Errorf("%+v", done)
			}
			b.run("reconcile", "--sandbox").want(t, exitOK)
			b.run("resend", "1", "--sandbox", "--yes", "--pending-for", "1ms", "--cooldown", "1ms").want(t, exitOK)
			b.run("undo", "2", "--sandbox", "--yes").want(t, exitOK)
			if n == 0 {
				o := b.run("serve", "--sandbox", "--listen", "127.0.0.1:0").want(t, exitUsage)
				expect.Text(t, o.out+o.err, "pool_max_conns=2")
			}
		})
	}
}
