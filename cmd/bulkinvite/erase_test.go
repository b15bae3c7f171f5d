package main

import (
	"slices"
	"strings"
	"testing"

	"bulkinvite/clerk/sandbox"
	"bulkinvite/invitation"
)

func TestEraseCommand(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Config{})
	b := newBench(t, "CLERK_API_URL="+s.url, "CLERK_SECRET_KEY=sk_live_erase", "BULKINVITE_SETTLE=1ms")
	batch := decode[invitation.Report](t, b.run("send", "--yes", "--json", b.file("all.csv", listOf(0, 4))).want(t, exitOK))
	if batch.Certificate == nil {
		t.Fatal("the batch has ended without a certificate")
	}
	head := batch.Certificate.Head.String()
	b.run("erase", "nobody@example.com", "--json").want(t, exitUsage)

	kept := decode[erasureDocument](t, b.run("erase", "P000@Example.com", "--json", "--actor", "maria").want(t, exitOK))
	if kept.ID != 1 || kept.Rows != 1 || kept.Pending != 1 || kept.Revoked != 0 || !slices.Equal(kept.Batches, []int64{1}) {
		t.Errorf("%+v", kept)
	}
	gone := decode[erasureDocument](t, b.run("erase", "p001@example.com", "--revoke", "--json").want(t, exitOK))
	if gone.Rows != 1 || gone.Revoked != 1 || gone.Pending != 0 {
		t.Errorf("%+v", gone)
	}
	if open := s.openTo(t); !slices.Equal(open, []string{"p000@example.com", "p002@example.com", "p003@example.com"}) {
		t.Errorf("open at Clerk: %v", open)
	}
	b.run("why", "p000@example.com").want(t, exitUsage)
	b.run("verify", "1", "--head", head).want(t, exitOK)
	for _, format := range []string{"table", "csv", "json"} {
		if o := b.run("results", "1", "--format", format).want(t, exitOK); strings.Contains(o.out, "p000@") || strings.Contains(o.out, "p001@") || !strings.Contains(o.out, "p002@") {
			t.Errorf("results as %s: %s", format, o.out)
		}
	}

	// A later file does not invite them, and what it says of them is not kept, unless it is sent so.
	later := b.file("later.csv", listOf(1, 2)+"new@example.com\n")
	again := decode[invitation.Report](t, b.run("send", "--yes", "--json", later).want(t, exitOK))
	if again.Outcomes["cancelled"] != 1 || again.Outcomes["invited"] != 1 {
		t.Errorf("%+v", again.Outcomes)
	}
	rows := decode[[]map[string]any](t, b.run("audit", "--batch", "2", "--outcome", "cancelled", "--json").want(t, exitOK))
	if len(rows) != 1 || rows[0]["reason"] != "erased" || rows[0]["email"] != nil {
		t.Errorf("%v", rows)
	}
	back := decode[invitation.Report](t, b.run("send", "--yes", "--json", "--again", "--include-erased", later).want(t, exitOK))
	if back.Outcomes["invited"] != 1 || back.Outcomes["already_invited"] != 1 {
		t.Errorf("%+v", back.Outcomes)
	}
	b.run("why", "p001@example.com").want(t, exitOK)

	b.run("purge", "--older-than", "1h", "--json").want(t, exitOK) // nothing is as old
	b.run("purge", "--older-than", "0d").want(t, exitUsage)
}

func TestPurgeCommand(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.run("send", "--sandbox", "--yes", b.file("all.csv", listOf(0, 4))).want(t, exitOK)
	b.run("purge", "--older-than", "1ms").want(t, exitHeld)
	done := decode[purgeDocument](t, b.run("purge", "--older-than", "1ms", "--yes", "--json").want(t, exitOK))
	if done.Erasure != 1 || done.Rows != 4 || !slices.Equal(done.Batches, []int64{1}) {
		t.Errorf("%+v", done)
	}
	b.run("why", "p000@example.com").want(t, exitUsage)
	b.run("verify", "1").want(t, exitOK)
	if d := decode[purgeDocument](t, b.run("purge", "--older-than", "1ms", "--json").want(t, exitOK)); d.Erasure != 0 || d.Rows != 0 {
		t.Errorf("once more: %+v", d)
	}
}
