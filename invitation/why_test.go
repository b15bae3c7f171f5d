package invitation_test

import (
	"slices"
	"testing"
	"time"

	"bulkinvite/invitation"
)

func TestWhy(t *testing.T) {
	t.Parallel()
	r, _ := reader(t)
	s, err := r.Why(t.Context(), "jane@example.com")
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Rows) != 4 || len(s.Attempts) != 1 || len(s.LateAnswers) != 1 || len(s.Reads) != 1 || len(s.Sightings) != 1 || len(s.Events) != 2 {
		t.Errorf("%d rows, %d attempts, %d late answers, %d reads, %d sightings, %d events",
			len(s.Rows), len(s.Attempts), len(s.LateAnswers), len(s.Reads), len(s.Sightings), len(s.Events))
	}
	if a := s.Attempts[0]; a.Others != 1 || a.Open || *a.Resolution != "ours" || *a.ErrorCode != "connection_closed" {
		t.Errorf("%+v", a)
	}
	live, sandbox := s.Summary[0], s.Summary[1]
	if !slices.Equal(live.Sent, []string{"inv_1"}) || live.Open != 0 || live.Late != 0 || !slices.Equal(live.AttemptIDs, []int64{1}) {
		t.Errorf("live: %+v", live)
	}
	if len(sandbox.Sent) != 0 || sandbox.Environment != "sandbox" || len(sandbox.AttemptIDs) != 0 {
		t.Errorf("sandbox: %+v", sandbox)
	}
}

// TestWhyProvesWhatItSays: an open attempt, and one that Clerk refused, are no
// invitation.
func TestWhyProvesWhatItSays(t *testing.T) {
	t.Parallel()
	r, _ := reader(t)
	for key, open := range map[string]int{"b@example.com": 1, "max@example.com": 0} {
		s, err := r.Why(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Attempts) != 2 || len(s.Summary) != 1 || len(s.Summary[0].Sent) != 0 || s.Summary[0].Open != open {
			t.Errorf("%s: %d attempts, %+v", key, len(s.Attempts), s.Summary)
		}
	}
	s, err := r.Why(t.Context(), "stranger@example.com")
	if err != nil || len(s.Rows)+len(s.Attempts)+len(s.Summary) != 0 {
		t.Errorf("a stranger: %+v, %v", s, err)
	}
}

// TestWhyNamesTheRead: of a request that a read showed to have made nothing, the
// story names that read; not one that began too early, or reached not far enough.
func TestWhyNamesTheRead(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	batch := l.batch("jane", "joe")
	id := l.attempt(single(person(batch, 1, "jane")))
	second := l.attempt(single(person(batch, 2, "joe")))
	early := l.read("w", invitation.ReadAll, invitation.ReadEnd{})
	l.exec(`update attempts set started_at = clock_timestamp() - interval '40 s', deadline = clock_timestamp() - interval '20 s' where id = any($1)`, []int64{id, second})
	l.exec(`update reads set begun_at = begun_at - interval '30 s', pass_begun_at = pass_begun_at - interval '30 s' where id = $1`, early.ID)
	l.settle(closes(row(batch, 2), "joe", invitation.ClosedNotThere)) // which nothing does
	proof := l.read("w", invitation.ReadAll, invitation.ReadEnd{})
	l.read("w", invitation.ReadAll, invitation.ReadEnd{Reached: time.Now()})
	l.settle(closes(row(batch, 1), "jane", invitation.ClosedNotThere))
	l.read("w", invitation.ReadAll, invitation.ReadEnd{})
	s, err := invitation.NewReader(l.pool).Why(t.Context(), key("jane"))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Attempts) != 1 || s.Attempts[0].SettledBy == nil || *s.Attempts[0].SettledBy != proof.ID || len(s.Reads) != 1 || s.Reads[0].ReadID != proof.ID {
		t.Errorf("attempts %+v and reads %+v, want read %d", s.Attempts, s.Reads, proof.ID)
	}
	if s, err = invitation.NewReader(l.pool).Why(t.Context(), key("joe")); err != nil || s.Attempts[0].SettledBy != nil {
		t.Errorf("attempts %+v, want none settled by a read: %v", s.Attempts, err)
	}
}
