package invitation

import (
	"time"
)

// Preview says what is known of the people of a draft.
type Preview struct {
	Known
	AskedClerk bool       `json:"asked_clerk"` // false: only our own rows were searched
	Problem    string     `json:"problem"`     // why Clerk was not read although it should have been
	BegunAt    time.Time  `json:"begun_at"`    // when the last look-up began
	LookedAt   *time.Time `json:"looked_at"`   // when the counts were found; nil: not yet, and all counts are zero
}

// Looking reports whether a look-up is under way.
func (p *Preview) Looking() bool { return p.LookedAt == nil || p.LookedAt.Before(p.BegunAt) }

// ToInvite returns how many people of a draft would be invited. waiting is the number of its
// undecided rows. A nil Preview excludes nobody.
func (p *Preview) ToInvite(waiting int, on OnDuplicate) int {
	if p == nil {
		return waiting
	}
	return max(0, waiting-p.Skipped(on))
}

// Addressee is a person that a file names.
type Addressee struct {
	Row   int // number in the file
	Email string
	Key   string
}

// Known counts the people of a file that something is known about. Each person counts only in the
// first field that applies.
type Known struct {
	Registered int `json:"registered"` // users at Clerk: skipped
	Invited    int `json:"invited"`    // invited by an earlier batch, and that invitation may stand: skipped
	Pending    int `json:"pending"`    // invited by somebody else: skipped
	Lapsed     int `json:"lapsed"`     // invited by an earlier batch, revoked or expired since: invited again
}

// Skipped returns how many of these people are not invited. With [Resend] only users are skipped.
func (k Known) Skipped(on OnDuplicate) int {
	if on == Resend {
		return k.Registered
	}
	return k.Registered + k.Invited + k.Pending
}
