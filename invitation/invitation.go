// Package invitation is the domain: batches of people, one result for each row
// of each file, and the attempts and reads that prove how each of them ended.
//
// Three things are kept apart. A row's [Outcome] says how it ended and is
// final. Its [Status] says where the invitation stands at Clerk now. And the
// ledger (attempts, reads, sightings) says why we believe either. [Next] is the
// only place that turns what is known into what is done; it is a pure function,
// and workers, recovery and the plan all go through it.
//
// The [Store] holds the SQL. It decides nothing by itself.
package invitation

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Outcome says how a row ended. The empty Outcome is a row that is undecided.
type Outcome string

// The outcomes that a row can have; results.outcome holds these words.
const (
	Invited           Outcome = "invited"            // an attempt of this row made an invitation at Clerk
	AlreadyInvited    Outcome = "already_invited"    // another invitation of this person stands; nobody was mailed for this row
	AlreadyRegistered Outcome = "already_registered" // the person is a user at Clerk
	Invalid           Outcome = "invalid"            // our own check found the row unfit to send
	Rejected          Outcome = "rejected"           // Clerk refused the person
	DuplicateRow      Outcome = "duplicate_row"      // an earlier row of the same file names the same person
	Failed            Outcome = "failed"             // given up after transient answers for a day, or a refusal that nobody can explain; retry opens it again
	Cancelled         Outcome = "cancelled"          // somebody stopped it before anything was sent
)

// Outcomes lists every outcome in the order in which reports show them.
var Outcomes = []Outcome{Invited, AlreadyInvited, AlreadyRegistered, Invalid, Rejected, DuplicateRow, Failed, Cancelled}

// Valid reports whether o is one of the outcomes.
func (o Outcome) Valid() bool { return slices.Contains(Outcomes, o) }

// Status says where an invitation stands at Clerk, in Clerk's words.
type Status string

// The statuses that Clerk's API knows, and Deleted.
const (
	Pending  Status = "pending"
	Accepted Status = "accepted"
	Revoked  Status = "revoked"
	Expired  Status = "expired"
	Deleted  Status = "gone" // deleted at Clerk: reads by its id, in every status, do not show it
)

// Statuses are all of them, in the order in which people are told.
var Statuses = []Status{Pending, Accepted, Revoked, Expired, Deleted}

// AtClerk reports whether s is a status that Clerk tells.
func (s Status) AtClerk() bool { return s != Deleted && slices.Contains(Statuses, s) }

// State says what may happen to a batch.
type State string

// The states of a batch; batches.state holds these words.
const (
	Draft          State = "draft"     // imported, not started: nobody is asked for
	Running        State = "running"   // its waiting rows are worked
	Paused         State = "paused"    // nothing new is sent until it is resumed
	StateCancelled State = "cancelled" // stopped for good
	Done           State = "done"      // every row is decided
)

// Over reports whether nothing more is sent in it, unless somebody retries.
func (s State) Over() bool { return s == Done || s == StateCancelled }

// Pauser is who or what paused a batch; batches.paused_by holds these words.
type Pauser string

// What pauses a batch.
const (
	ByPerson  Pauser = "person"  // somebody said so
	ByCanary  Pauser = "canary"  // its first people were asked for, and somebody should look
	ByBreaker Pauser = "breaker" // too many people were rejected or failed
	ByClerk   Pauser = "clerk"   // Clerk refuses every invitation: a quota, a setting
	ByZone    Pauser = "zone"    // PostgreSQL does not know the time zone of its hours
)

// Options are what goes to Clerk with each invitation of a batch, unless a row
// says otherwise. Zero fields are not sent, so that Clerk's defaults hold.
type Options struct {
	RedirectURL   string `json:"redirect_url,omitempty"`
	ExpiresInDays int    `json:"expires_in_days,omitempty"` // 1 to 365; Clerk's default is 30
	Template      string `json:"template,omitempty"`        // Clerk's template_slug
}

// OnDuplicate says what becomes of people who have a pending invitation;
// batches.on_duplicate holds these words.
type OnDuplicate string

// What is done about duplicates.
const (
	Skip   OnDuplicate = "skip"   // they are left alone; the empty OnDuplicate too
	Resend OnDuplicate = "resend" // it is revoked, and they are invited again
)

// DefaultCooldown is how long nobody is invited again who just was.
const DefaultCooldown = 3 * 24 * time.Hour

// DefaultPriority leaves room on both sides.
const DefaultPriority = 2

// Batch is a file that somebody sent.
type Batch struct {
	ID          int64
	InstanceID  int64
	FileName    string
	FileSHA256  [32]byte
	FileBytes   int64
	Encoding    string
	Delimiter   string
	Columns     []string
	Actor       string
	Options     Options
	Priority    int // 1 (first) to 4 (last)
	Preflight   bool
	Duplicates  OnDuplicate
	Cooldown    time.Duration // for Resend; 0: DefaultCooldown
	ResendOf    int64         // the batch whose people this one invites again; 0: it is no resend
	Corrects    RowID         // the row that this batch sets right; zero: none
	LinksFile   string        // where the links go; empty: Clerk mails the invitations
	State       State
	Reason      string        // why it stands where it does, where the program put it there
	PausedBy    Pauser        // empty: it is not paused
	StartAt     time.Time     // nothing is sent before; zero: at once
	Hours       Hours         // when invitations are sent; zero: at any time
	RevokeAfter time.Duration // how old a pending invitation of it may get; 0: as old as the sweep says
	Canary      int           // how many people are invited first; 0: no canary
	Rows        int
	Blank       int
	Confirmed   bool // somebody has confirmed what sending it takes, and nothing has changed since
	CreatedAt   time.Time
	StartedAt   time.Time // zero: not started
	FinishedAt  time.Time // zero: not finished
}

// Hours are hours of the day in a time zone: from From, up to and without To;
// 22 to 6 is the night. The zero Hours are all hours.
type Hours struct {
	From, To int    // 0 to 24
	TZ       string // an IANA name
}

// IsZero reports whether h is all hours.
func (h Hours) IsZero() bool { return h == Hours{} }

// multirange gives PostgreSQL's form of the hours; NULL for all.
func (h Hours) multirange() *string {
	s := fmt.Sprintf("{[%d,%d)}", h.From, h.To)
	if h.From > h.To {
		s = fmt.Sprintf("{[%d,24),[0,%d)}", h.From, h.To)
	}
	if h.IsZero() {
		return nil
	}
	return &s
}

// RowID names a row: its batch and its place in the file.
type RowID struct {
	Batch int64 `json:"batch"`
	Row   int   `json:"row"`
}

// Row is what the decision core must know of a row; the store loads it.
type Row struct {
	RowID
	Key          string
	Outcome      Outcome
	BatchState   State
	BatchStarted time.Time
	Resumed      time.Time // when the batch was last started, resumed or retried
	Priority     int
	Preflight    bool
	NotBefore    time.Time
	Since        time.Time // when the first transient answer of the current run of tries came
	Tries        int
	LastError    string
	Alone        bool
	Resend       bool          // whoever has a pending invitation is invited again, and that one revoked
	Repeat       bool          // its batch invites the people of another batch again, and nobody else
	Cooldown     time.Duration // for Resend
	Owed         bool          // an invitation was revoked for this row, or is being revoked, and its own is yet to come
	Links        bool          // its link must be in the batch's file: an invitation without it is revoked and made again
	Withdrawn    bool          // a sweep has taken it away: nobody is asked for it any more

	Email          string
	Options        Options
	PublicMetadata json.RawMessage
}
