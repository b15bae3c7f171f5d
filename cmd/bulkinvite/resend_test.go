package main

import (
	"bytes"
	"testing"
	"time"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

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
			expect.Text(t, b.run("why", "person2@example.com").want(t, exitOK).out,
				"which invites batch 1 again", "revoked invitation", "2 invitations sent, as many e-mails")
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

func TestCorrect(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	b.swift("send", "--yes", "--json", b.file("people.csv", "email\njane@gmial.com\nkim@example.com\n")).want(t, exitOK)
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
		expect.Text(t, why.out,
			"row 1 of people.csv (batch 1), uploaded by", "batch 2 sets row 1 of batch 1 right", "revoked invitation", "2 invitations sent")
	}
	expect.NoText(t, b.swift("why", "kim@example.com", "--json").want(t, exitOK).out, "corrected", "sweep_started")
}
