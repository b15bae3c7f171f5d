package words

import (
	"fmt"

	"bulkinvite/internal/report"
)

// Unknown says, in sentences of their own, what is not known of a batch, what that
// means, and what will change it. It returns nothing where all is known.
func Unknown(u *report.Unknown) []string {
	if u == nil {
		return nil
	}
	lines := []string{
		fmt.Sprintf("The answer to what Clerk was asked for %s is lost, the first since %s", Counted(u.Rows, "row", "rows"), MomentSeconds(u.Since)),
		"Only reading Clerk tells whether they were invited; until then they stay undecided, and nobody is asked for twice",
	}
	switch {
	case u.LastRead != nil:
		said := "no answer"
		if u.LastRead.HTTPStatus != nil {
			said = fmt.Sprint(*u.LastRead.HTTPStatus)
		}
		if code := or(u.LastRead.ErrorCode); code != "" {
			said += " " + code
		}
		return append(lines, fmt.Sprintf("Reading Clerk fails, last at %s (%s); once it answers, a worker that runs settles them", MomentSeconds(u.LastRead.At), said))
	case u.Workers == 0:
		return append(lines, "No worker runs that could read Clerk: start one with bulkinvite work")
	}
	return append(lines, "A worker runs, and reads as soon as what the request did must show")
}
