package invitation

import (
	"bulkinvite/ratelimit"
)

// Limits are the limits that a fleet keeps.
type Limits struct {
	Create, Bulk, General ratelimit.Limit
}
