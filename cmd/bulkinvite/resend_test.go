package main

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bulkinvite/clerk/sandbox"
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
	if err := json.Unmarshal(askStand(t, s.server, "/sandbox/invitations"), &all); err != nil {
		t.Fatal(err)
	}
	doors := map[string]map[string]int{}
	for _, one := range all {
		if doors[one.Email] == nil {
			doors[one.Email] = map[string]int{}
		}
		doors[one.Email][one.Status]++
	}
	return doors
}

// tell calls one of the stand-in's own calls.
func (s *stand) tell(t *testing.T, path, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.server.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", path, strings.NewReader(body)))
	if w.Code != 200 {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
}

func TestResend(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	b.swift("send", "--yes", "--json", b.file("people.csv", people(6))).want(t, exitOK)
	s.tell(t, "/sandbox/accept", `{"addresses":["person1@example.com"]}`)
	young := b.swift("resend", "1", "--yes").want(t, exitOK)
	if !strings.Contains(young.out, "6  pending for less than 7 d") {
		t.Errorf("a resend of young invitations says: %s", young.out)
	}
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
	if !strings.Contains(cool.out, "5  invited again lately") {
		t.Errorf("a second resend says: %s", cool.out)
	}
	b.swift("resend", "7", "--yes").want(t, exitUsage)
	why := b.swift("why", "person2@example.com").want(t, exitOK)
	for _, words := range []string{"which invites batch 1 again", "revoked invitation", "2 invitations sent, as many e-mails"} {
		if !strings.Contains(why.out, words) {
			t.Errorf("why does not say %q:\n%s", words, why.out)
		}
	}
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
			s.tell(t, "/sandbox/faults", fault)
			args := append([]string{"resend", "1", "--pending-for", "1ms", "--yes", "--json"}, swift...)
			for kill := range 2 {
				c := b.command(args...)
				c.Stderr = &bytes.Buffer{}
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
					revoked := 0
					for _, d := range s.doors(t) {
						revoked += d["revoked"]
					}
					if revoked > kill {
						break
					}
					if time.Since(began) > 30*time.Second {
						t.Fatal("nothing was revoked")
					}
				}
				if err := c.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = c.Wait() // killed
			}
			s.tell(t, "/sandbox/faults", `[]`)
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
