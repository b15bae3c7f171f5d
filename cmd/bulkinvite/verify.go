package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/proof"
)

type verifyCmd struct {
	Batch int64            `arg:"" help:"The batch's number; bulkinvite batches lists them."`
	Head  *invitation.Hash `placeholder:"HASH" help:"The certificate's head, as the report of the batch's end gave it. Default: what the database has."`
}

// Help is shown before the flags.
func (verifyCmd) Help() string {
	return `Examples:

    bulkinvite verify 12 --head 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef
    bulkinvite verify 12 --json

Works the batch's hash chain out again, over its file's hash, its rows, the attempts made for them and the reads that prove their outcomes, and says where they are not what they were when the batch ended. Without --head the database vouches for itself: that finds what was changed, but not who has made the chain anew too. Keep the heads of reports elsewhere. The head of an end before a retry holds as well. Exit status 0; 3 if something differs; 4 if the batch has no certificate yet; 2 if there is no such batch.`
}

// Run verifies a batch.
func (c *verifyCmd) Run(ctx context.Context, p *program, pool *pgxpool.Pool) error {
	v, err := proof.Verify(ctx, pool, c.Batch, c.Head)
	switch {
	case errors.Is(err, proof.ErrNoCertificate):
		return &failure{exit: exitHeld, code: "no_certificate", err: err,
			remedy: fmt.Sprintf("it is made when the last row is decided, by a worker (bulkinvite work); bulkinvite status %d says where it stands", c.Batch)}
	case err != nil:
		return noBatch(err)
	}
	return troubled(p.show(v, verificationText(v)), !v.Holds)
}

func verificationText(v *proof.Verification) string {
	var b strings.Builder
	c := v.Certificate
	is := "is not"
	if v.Holds {
		is = "is"
	}
	fmt.Fprintf(&b, "Batch %d %s as it was when it ended, %s\n", v.Batch, is, momentSeconds(c.MadeAt))
	fmt.Fprintf(&b, "\nCertificate %d: %s and %s of attempts\nHead %s\n", c.Number, counted(c.Rows, "row", "rows"), counted(c.Attempts, "record", "records"), c.Head)
	if c.Format == 1 {
		b.WriteString("It was made before certificates covered the reads that prove outcomes\n")
	}
	if len(v.Differences) > 0 {
		b.WriteString("\n")
	}
	for _, d := range v.Differences {
		b.WriteString("  " + differenceText(d) + "\n")
	}
	if v.Given == nil {
		b.WriteString("\nThe database vouches for itself here: --head with the hash of the report finds a chain that was made anew\n")
	}
	return b.String()
}

func differenceText(d proof.Difference) string {
	switch d.What {
	case proof.DiffersHead:
		return "no certificate of the batch has the head that was given: the chain was made anew, or the head is another batch's"
	case proof.DiffersRows:
		return fmt.Sprintf("among rows %d to %d, one or more were changed, removed or added", d.From, d.To)
	case proof.DiffersAttempts:
		return "one or more attempts were changed, removed or added"
	case proof.DiffersReads:
		return "one or more reads of Clerk that prove outcomes were changed, removed or added"
	case proof.DiffersSightings:
		return "what reads of Clerk showed of people whose outcomes they prove was changed, removed or added"
	case proof.DiffersAdded:
		return fmt.Sprintf("attempts %d to %d were added after the batch had ended", d.From, d.To)
	}
	return "the batch itself (its file's hash and size, its rows, who sent it), or the certificate, was changed"
}
