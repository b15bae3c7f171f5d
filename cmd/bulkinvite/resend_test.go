package main

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// swift are settings under which an unknown answer is settled within seconds.
var swift = []string{"--settle", "300ms", "--request-timeout", "1s", "--recover-after", "2s", "--limit-create", "1000/1s", "--limit-bulk", "1000/1s"}

// newSwift is a bench whose program works on a stand-in without limits.
func newSwift(t *testing.T) (*bench, *stand) {
	t.Helper()
	free := sandbox.Limit{N: -1}
	s := newStand(t, sandbox.Config{Limits: sandbox.Limits{Create: free, Bulk: free, General: free}})
	return newBench(t, "CLERK_SECRET_KEY=sk_live_swift", "CLERK_API_URL="+s.url), s
}

func (b *bench) swift(args ...string) outcome {
	b.t.Helper()
	return b.run(append(args, swift...)...)
}

// doors are the invitations of the stand-in by address and status.
func (s *stand) doors(t *testing.T) map[string]map[string]int {
	t.Helper()
	var all []struct{ Email, Status string }
	s.Ask("invitations", &all)
	doors := map[string]map[string]int{}
	for _, one := range all {
		if doors[one.Email] == nil {
			doors[one.Email] = map[string]int{}
		}
		doors[one.Email][one.Status]++
	}
	return doors
}

// pending is the id of the pending invitation of each address.
func (s *stand) pending(t *testing.T) map[string]string {
	t.Helper()
	var all []struct{ ID, Email, Status string }
	s.Ask("invitations", &all)
	ids := map[string]string{}
	for _, one := range all {
		if one.Status == "pending" {
			ids[one.Email] = one.ID
		}
	}
	return ids
}

// dump writes everything that the tables hold.
func (b *bench) dump(to io.Writer) {
	b.t.Helper()
	conn, err := pgx.Connect(b.t.Context(), b.url)
	must.OK(b.t, err)
	defer conn.Close(b.t.Context()) //nolint:errcheck // it was only read
	rows, _ := conn.Query(b.t.Context(), `select table_name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE'`)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must.OK(b.t, err)
	for _, table := range tables {
		if _, err := conn.PgConn().CopyTo(b.t.Context(), to, "copy "+pgx.Identifier{table}.Sanitize()+" to stdout"); err != nil {
			b.t.Fatal(err)
		}
	}
}

// tell calls one of the stand-in's own calls.
func TestResend(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	b.swift("send", "--yes", "--json", b.file("people.csv", people(6))).want(t, exitOK)
	s.Tell("accept", `{"addresses":["person1@example.com"]}`)
	young := b.swift("resend", "1", "--yes").want(t, exitOK)
	expect.Text(t, young.out, "6  pending for less than 7 d")
	b.swift("resend", "1", "--pending-for", "1ms").want(t, exitHeld)
	again := decode[document](t, b.swift("resend", "1", "--pending-for", "1ms", "--yes", "--json").want(t, exitOK))
	again.addsUp(t)
	if again.Batch != 2 || again.Outcomes["invited"] != 5 || again.Outcomes["already_registered"] != 1 {
		t.Errorf("%+v", again)
	}
	mails, doors := s.mailbox(t), s.doors(t)
	for address, n := range mails.Addresses {
		want := 2
		if address == "person1@example.com" {
			want = 1
		} else if doors[address]["pending"] != 1 {
			t.Errorf("%s has %v at Clerk", address, doors[address])
		}
		if n != want {
			t.Errorf("%s got %d mails, want %d", address, n, want)
		}
	}
	cool := b.swift("resend", "1", "--pending-for", "1ms", "--yes").want(t, exitOK)
	expect.Text(t, cool.out, "5  invited again lately")
	b.swift("resend", "7", "--yes").want(t, exitUsage)
	why := b.swift("why", "person2@example.com").want(t, exitOK)
	expect.Text(t, why.out, "which invites batch 1 again", "revoked invitation", "2 invitations sent, as many e-mails")
}

// A process that is killed while Clerk revokes leaves nobody without a door, and
// nobody gets a third mail.
func TestResendKilledBetweenTheHalves(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]string{
		"the revocation is done, its answer under way": `[{"call":"revoke","kind":"slow","after":true,"delay":"30s"}]`,
		"the create is done, its answer under way":     `[{"call":"create","kind":"slow","after":true,"delay":"30s"}]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, s := newSwift(t)
			b.swift("send", "--yes", "--json", b.file("people.csv", people(6))).want(t, exitOK)
			s.Tell("faults", fault)
			args := append([]string{"resend", "1", "--pending-for", "1ms", "--yes", "--json"}, swift...)
			for kill := range 2 {
				c := b.command(args...)
				c.Stderr = &bytes.Buffer{}
				must.OK(t, c.Start())
				for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
					revoked := 0
					for _, d := range s.doors(t) {
						revoked += d["revoked"]
					}
					if revoked > kill {
						break
					}
					if time.Since(began) > 2*time.Minute {
						t.Fatal("nothing was revoked")
					}
				}
				must.OK(t, c.Process.Kill())
				_ = c.Wait() // killed
			}
			s.Tell("faults", `[]`)
			again := decode[document](t, b.run(args...).want(t, exitOK))
			if again.Batch != 2 || again.Outcomes["invited"] != 6 {
				t.Errorf("%+v", again)
			}
			for address, d := range s.doors(t) {
				if d["pending"] != 1 || d["revoked"] != 1 {
					t.Errorf("%s has %v at Clerk", address, d)
				}
			}
			for address, n := range s.mailbox(t).Addresses {
				if n != 2 {
					t.Errorf("%s got %d mails, want 2", address, n)
				}
			}
		})
	}
}

func TestUndo(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	b.swift("send", "--yes", "--json", b.file("people.csv", people(9))).want(t, exitOK)
	b.swift("send", "--yes", "--json", b.file("others.csv", "email\nother@example.com\n")).want(t, exitOK)
	s.Tell("accept", `{"addresses":["person1@example.com"]}`)
	b.swift("undo", "1").want(t, exitHeld)
	if d := s.doors(t)["person2@example.com"]; d["pending"] != 1 {
		t.Errorf("an undo that nobody confirmed left %v", d)
	}
	type sweep struct {
		Kind                   string
		Stale, Revoked, Failed int
		Skipped                map[string]int
	}
	undone := decode[sweep](t, b.swift("undo", "1", "--yes", "--json").want(t, exitOK))
	if undone.Kind != "undo" || undone.Revoked != 8 || undone.Skipped["accepted"] != 1 {
		t.Errorf("%+v", undone)
	}
	for address, d := range s.doors(t) {
		want := "revoked"
		switch address {
		case "person1@example.com":
			want = "accepted"
		case "other@example.com":
			want = "pending"
		}
		if d[want] != 1 {
			t.Errorf("%s has %v at Clerk, want it %s", address, d, want)
		}
	}
	if again := decode[sweep](t, b.swift("undo", "1", "--yes", "--json").want(t, exitOK)); again.Revoked != 0 {
		t.Errorf("a second undo revoked %d", again.Revoked)
	}
}

// An undo of a batch that is under way cancels what waits, and waits for what is
// at Clerk before it revokes.
func TestUndoUnderWay(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	b.swift("import", "--yes", b.file("people.csv", people(40))).want(t, exitOK)
	s.Tell("faults", `[{"call":"create","kind":"slow","after":true,"delay":"30s"}]`)
	c := b.command(append([]string{"work", "--limit-bulk", "off"}, swift[:len(swift)-2]...)...)
	must.OK(t, c.Start())
	for began := time.Now(); len(s.doors(t)) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 2*time.Minute {
			t.Fatal("nobody was invited")
		}
	}
	must.OK(t, c.Process.Kill())
	_ = c.Wait() // killed
	s.Tell("faults", `[]`)
	b.swift("undo", "1", "--yes").want(t, exitOK)
	for address, d := range s.doors(t) {
		if d["pending"] != 0 {
			t.Errorf("%s has %v at Clerk", address, d)
		}
	}
	left := decode[document](t, b.run("status", "1", "--json").want(t, exitOK))
	if left.Undecided != 0 || left.Outcomes["cancelled"] == 0 || left.Outcomes["invited"] != len(s.doors(t)) {
		t.Errorf("%+v", left)
	}
}

func TestCorrect(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	b.swift("send", "--yes", "--json", b.file("people.csv", "email\njane@gmial.com\nkim@example.com\nlee@exmaple.com\n")).want(t, exitOK)
	b.swift("correct", "1", "1", "--email", "jane@gmail.com").want(t, exitHeld)
	b.swift("correct", "1", "1", "--email", "JANE@gmial.com", "--yes").want(t, exitUsage)
	b.swift("correct", "1", "9", "--email", "jane@gmail.com", "--yes").want(t, exitUsage)
	b.swift("correct", "1", "1", "--email", "jane", "--yes").want(t, exitUsage)
	done := decode[document](t, b.swift("correct", "1", "1", "--email", "jane@gmail.com", "--yes", "--json").want(t, exitOK))
	if done.Batch != 2 || done.Rows != 1 || done.Outcomes["invited"] != 1 {
		t.Errorf("%+v", done)
	}
	if again := decode[document](t, b.swift("correct", "1", "1", "--email", "jane@gmail.com", "--yes", "--json").want(t, exitOK)); again.Batch != 2 {
		t.Errorf("given again it is batch %d", again.Batch)
	}
	b.swift("correct", "1", "1", "--email", "june@gmail.com", "--yes").want(t, exitHeld)
	doors, mails := s.doors(t), s.mailbox(t).Addresses
	if doors["jane@gmial.com"]["revoked"] != 1 || doors["jane@gmail.com"]["pending"] != 1 || mails["jane@gmail.com"] != 1 || doors["kim@example.com"]["pending"] != 1 {
		t.Errorf("at Clerk %v, mails %v", doors, mails)
	}
	for _, address := range []string{"jane@gmial.com", "jane@gmail.com"} {
		why := b.swift("why", address).want(t, exitOK)
		expect.Text(t, why.out, "row 1 of people.csv (batch 1), uploaded by", "batch 2 sets row 1 of batch 1 right", "revoked invitation", "2 invitations sent")
	}
	expect.NoText(t, b.swift("why", "kim@example.com", "--json").want(t, exitOK).out, "corrected", "sweep_started")
	// An accepted one can't be taken back; the right address is invited all the same once that is confirmed.
	s.Tell("accept", `{"addresses":["lee@exmaple.com"]}`)
	b.swift("reconcile").want(t, exitOK)
	asked := b.swift("correct", "1", "3", "--email", "lee@example.com").want(t, exitHeld)
	expect.Text(t, asked.err, "ACCEPTED")
	b.swift("correct", "1", "3", "--email", "lee@example.com", "--yes").want(t, exitOK)
	if d := s.doors(t); d["lee@exmaple.com"]["accepted"] != 1 || d["lee@example.com"]["pending"] != 1 {
		t.Errorf("at Clerk %v", d)
	}
}

// A row that waits is given up, and its right address invited in its place.
func TestCorrectWaiting(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	b.swift("import", "--yes", "--start-at", "2099-01-01 08:00", b.file("people.csv", "email\njane@gmial.com\nkim@example.com\n")).want(t, exitOK)
	b.swift("correct", "1", "1", "--email", "jane@gmail.com", "--yes").want(t, exitOK)
	if mails := s.mailbox(t).Addresses; len(mails) != 1 || mails["jane@gmail.com"] != 1 {
		t.Errorf("mails %v, want one to the right address", mails)
	}
	if left := decode[document](t, b.run("status", "1", "--json").want(t, exitOK)); left.Outcomes["cancelled"] != 1 || left.Undecided != 1 {
		t.Errorf("%+v", left)
	}
}
