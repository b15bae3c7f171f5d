// Package invitation is the domain: batches of people, one result for each row of each file, and
// the attempts and reads that prove how each row ended.
//
// It separates three things. A row's [Outcome] says how the row ended, and is final. Its [Status]
// says where the invitation stands at Clerk now. The ledger (attempts, reads, sightings) says why
// both are believed. Only [Next] turns what is known into what is done next. It is a pure function,
// and workers, recovery and the plan all use it.
//
// The package contains no SQL and may import only ratelimit. Packages ledger, batch, revocation, proof
// and report have the SQL. Start reading at [Next] in next.go; plan.go forecasts, option.go validates
// the options of a batch.
package invitation

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Outcome says how a row ended. The empty Outcome means undecided.
type Outcome string

// The outcomes of a row, as results.outcome stores them.
const (
	Invited           Outcome = "invited"            // an attempt of this row made an invitation at Clerk
	AlreadyInvited    Outcome = "already_invited"    // another invitation of the person stands; nobody was mailed
	AlreadyRegistered Outcome = "already_registered" // the person is a user at Clerk
	Invalid           Outcome = "invalid"            // the importer found that the row cannot be sent
	Rejected          Outcome = "rejected"           // Clerk refused the person
	DuplicateRow      Outcome = "duplicate_row"      // an earlier row of the same file names the same person
	Failed            Outcome = "failed"             // given up after a day, or an unexplained refusal; retry opens it
	Cancelled         Outcome = "cancelled"          // somebody stopped it before anything was sent
)

// Outcomes lists every outcome in the order of reports.
var Outcomes = []Outcome{Invited, AlreadyInvited, AlreadyRegistered, Invalid, Rejected, DuplicateRow, Failed, Cancelled}

// Valid reports whether o is one of the outcomes.
func (o Outcome) Valid() bool { return slices.Contains(Outcomes, o) }

// Status says where an invitation stands at Clerk. The names are Clerk's, except [Deleted].
type Status string

// Clerk's statuses, and Deleted.
const (
	Pending  Status = "pending"
	Accepted Status = "accepted"
	Revoked  Status = "revoked"
	Expired  Status = "expired"
	Deleted  Status = "gone" // deleted at Clerk: reads by its id, of every status, do not show it
)

// Statuses lists every status in the order of reports.
var Statuses = []Status{Pending, Accepted, Revoked, Expired, Deleted}

// AtClerk reports whether s is one of Clerk's own statuses.
func (s Status) AtClerk() bool { return s != Deleted && slices.Contains(Statuses, s) }

// State says what may happen to a batch.
type State string

// The states of a batch, as batches.state stores them.
const (
	Draft          State = "draft"     // imported, not started: nothing is sent
	Running        State = "running"   // workers send its waiting rows
	Paused         State = "paused"    // nothing new is sent until it is resumed
	StateCancelled State = "cancelled" // stopped for good
	Done           State = "done"      // every row is decided
)

// Over reports whether the batch sends nothing more unless somebody retries it.
func (s State) Over() bool { return s == Done || s == StateCancelled }

// Pauser says who or what paused a batch. batches.paused_by stores it.
type Pauser string

// The pausers.
const (
	ByPerson  Pauser = "person"  // a person paused it
	ByCanary  Pauser = "canary"  // the trial was sent, and a person should check it
	ByBreaker Pauser = "breaker" // too many people were rejected or failed
	ByClerk   Pauser = "clerk"   // Clerk refuses every invitation, for example because of a quota or a setting
	ByZone    Pauser = "zone"    // PostgreSQL does not know the time zone of the batch's hours
)

// Options are the fields that Clerk gets with each invitation of a batch, unless a row has its own.
// Zero fields are not sent, so Clerk's defaults apply.
type Options struct {
	RedirectURL   string `json:"redirect_url,omitempty"`
	ExpiresInDays int    `json:"expires_in_days,omitempty"` // 1 to 365; Clerk's default is 30
	Template      string `json:"template,omitempty"`        // Clerk's template_slug
}

// OnDuplicate says what happens to people who have a pending invitation. batches.on_duplicate
// stores it.
type OnDuplicate string

// The values of [OnDuplicate].
const (
	Skip   OnDuplicate = "skip"   // leave them alone; the empty OnDuplicate means the same
	Resend OnDuplicate = "resend" // revoke the pending invitation and invite them again
)

// DefaultCooldown is how long a person is not sent another invitation after a resend.
const DefaultCooldown = 3 * 24 * time.Hour

// DefaultPriority is between 1 (first) and 4 (last), so that batches can go before and after it.
const DefaultPriority = 2

// Batch is one file that somebody sent, with its options.
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
	Cooldown    time.Duration // for Resend; 0 means DefaultCooldown
	ResendOf    int64         // the batch whose people this batch invites again; 0: not a resend
	Corrects    RowID         // the row that this batch corrects; zero: not a correction
	LinksFile   string        // the file that gets the links; empty: Clerk mails the invitations
	State       State
	Reason      string        // why it is in this state, if the program put it there
	PausedBy    Pauser        // empty: not paused
	StartAt     time.Time     // nothing is sent before; zero: no start time
	Hours       Hours         // when invitations are sent; zero: at any time
	RevokeAfter time.Duration // the age at which its pending invitations are stale; 0: the sweep's own age
	Canary      int           // how many people are in the trial; 0: no trial
	Rows        int
	Blank       int
	Confirmed   bool // a person confirmed the plan, and nothing has changed since
	CreatedAt   time.Time
	StartedAt   time.Time // zero: not started
	FinishedAt  time.Time // zero: not finished
}

// Hours are hours of the day in a time zone, from From until To. To itself is not included. 22 to 6
// is the night. The zero Hours mean all hours.
type Hours struct {
	From, To int    // 0 to 24
	TZ       string // IANA name
}

// IsZero reports whether h means all hours.
func (h Hours) IsZero() bool { return h == Hours{} }

// Multirange returns the hours in PostgreSQL's form, or NULL for all hours.
func (h Hours) Multirange() *string {
	s := fmt.Sprintf("{[%d,%d)}", h.From, h.To)
	if h.From > h.To {
		s = fmt.Sprintf("{[%d,24),[0,%d)}", h.From, h.To)
	}
	if h.IsZero() {
		return nil
	}
	return &s
}

// RowID identifies a row by its batch and its number in the file.
type RowID struct {
	Batch int64 `json:"batch"`
	Row   int   `json:"row"`
}

// Row is what [Next] must know about a row. Package ledger loads it.
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
	Since        time.Time // the first transient answer of the current series of tries
	Tries        int
	LastError    string
	Alone        bool
	Resend       bool          // a pending invitation of the person is revoked, and they are invited again
	Repeat       bool          // its batch is a resend: it invites only people of another batch
	Cooldown     time.Duration // for Resend
	Owed         bool          // an invitation was or is being revoked for this row, and its own does not exist yet
	Links        bool          // its link must be in the batch's file, or the invitation is made again
	Withdrawn    bool          // a sweep has taken the row away: nothing more is sent for it

	Email          string
	Options        Options
	PublicMetadata json.RawMessage
}

// Split returns the batches and the row numbers of ids, as two arrays for unnest in SQL.
func Split(ids []RowID) (batches []int64, numbers []int32) {
	for _, id := range ids {
		batches, numbers = append(batches, id.Batch), append(numbers, int32(id.Row))
	}
	return batches, numbers
}
