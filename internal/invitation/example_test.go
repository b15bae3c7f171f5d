package invitation_test

import (
	"fmt"
	"time"

	"bulkinvite/internal/invitation"
)

// The answer to a create was lost. Next does not send another: Clerk is read until it is certain
// whether the first create made an invitation.
func ExampleNext() {
	start := time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)
	row := invitation.Row{
		RowID: invitation.RowID{Batch: 1, Row: 7}, Key: "jane@example.com",
		BatchState: invitation.Running, BatchStarted: start, Preflight: true,
	}
	ev := invitation.Evidence{
		Now:    start.Add(time.Minute),
		Settle: 15 * time.Second, GiveUp: 24 * time.Hour, Fresh: 10 * time.Minute,
	}
	show := func(known string) {
		act := invitation.Next(row, ev)
		fmt.Printf("%s: %s", known, act.Kind)
		if act.Outcome != "" {
			fmt.Print(" ", act.Outcome)
		}
		if !act.At.IsZero() {
			fmt.Print(", not before ", act.At.Format(time.TimeOnly))
		}
		fmt.Println()
	}
	show("nothing is known")

	ev.Coverage.Users, ev.Coverage.Invitations = start, start
	ev.Coverage.UsersEnded, ev.Coverage.InvitationsEnded = start, start
	show("reads do not show Jane")

	sent := ev.Now
	ev.Attempts = []invitation.Attempt{{ID: 31, Started: sent, Deadline: sent.Add(20 * time.Second), Open: true}}
	show("a create has no answer")

	ev.Now = sent.Add(time.Minute)
	ev.Sightings = []invitation.Sighting{{
		ID: "inv_1", Status: invitation.Pending, CreatedAt: sent.Add(time.Second),
		FirstSeen: ev.Now, LastSeen: ev.Now, ReadID: 55,
	}}
	ev.Coverage.Settled, ev.Coverage.SettledRead = sent.Add(40*time.Second), 55
	show("a read shows its invitation")
	// Output:
	// nothing is known: read
	// reads do not show Jane: claim
	// a create has no answer: read, not before 20:01:35
	// a read shows its invitation: decide invited
}
