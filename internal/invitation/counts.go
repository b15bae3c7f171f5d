package invitation

import (
	"bytes"
	"fmt"
)

// Counts has the number of rows with each outcome.
type Counts map[Outcome]int

// Sum returns the number of decided rows.
func (c Counts) Sum() int {
	n := 0
	for _, count := range c {
		n += count
	}
	return n
}

// Trouble returns how many rows need a person's attention: failed, rejected and invalid ones.
func (c Counts) Trouble() int { return c[Failed] + c[Rejected] + c[Invalid] }

// MarshalJSON writes every outcome in the order of [Outcomes], including those with no rows.
func (c Counts) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, o := range Outcomes {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%d", o, c[o])
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Tally has the counts of a batch's rows.
type Tally struct {
	Outcomes  Counts
	Undecided int
	Statuses  map[Status]int // of the invitations that the batch sent
}

// Rows returns the number of rows.
func (t Tally) Rows() int { return t.Outcomes.Sum() + t.Undecided }
