package proof

import (
	"context"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/invitation"
)

// CertifyBefore makes the certificate of a batch as it was made before
// certificates covered reads.
func CertifyBefore(ctx context.Context, tx pgx.Tx, batch int64) error {
	return certify(ctx, tx, batch, formatAttempts)
}

// VerifyIn is [Verify] in a transaction that a test takes back.
func VerifyIn(ctx context.Context, tx pgx.Tx, batch int64, head *invitation.Hash) (*Verification, error) {
	v := &Verification{Batch: batch, Given: head}
	return v, v.run(ctx, tx)
}
