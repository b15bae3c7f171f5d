package invitation

import (
	"errors"
	"fmt"
)

// Instance is a Clerk instance that this database has talked to.
type Instance struct {
	ID          int64
	ClerkID     string // ins_… or "sandbox"
	Environment string // production, development or sandbox
}

// TwoInstancesError says that the database has two instances for one key: the one that Clerk names,
// and one that an earlier version made under the key's fingerprint. Neither has the files, people
// and budgets of the other.
type TwoInstancesError struct {
	ClerkID  string // ins_…
	Former   string // "key:" and the fingerprint of the key
	FormerID int64  // number of the former instance
}

// Error names both instances.
func (e *TwoInstancesError) Error() string {
	return fmt.Sprintf("this database has the key's instance twice, as %s and as %s (number %d), "+
		"each with files, people and budgets that the other does not know", e.ClerkID, e.Former, e.FormerID)
}

// ErrNoBatch says that no batch has this number.
var ErrNoBatch = errors.New("no such batch")
