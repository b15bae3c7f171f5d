// Package erased says which people were erased. It computes the keyed hashes that stand in place of
// their data, so that a person who was erased is recognized and not invited again.
package erased

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/invitation"
)

// ErrErased says that a person was erased and must not be invited.
var ErrErased = errors.New("the person was erased")

// Removed reports whether a key is a replacement: an erasure or a purge has put it in place of a
// person's own key.
func Removed(key string) bool { return strings.HasPrefix(key, "erased:") }

// Person returns the replacement of a key: "erased:" and the keyed hash of the key. The same person
// always has the same replacement, so what remains still tells people apart. The replacement of a
// replacement is itself.
func (h *Hasher) Person(key string) string {
	if Removed(key) {
		return key
	}
	mac := h.Private(Pointers([]string{"person", key}))
	return "erased:" + hex.EncodeToString(mac[:])
}

// Former maps the keys that a purge would have put in place of these keys to these keys. It returns
// an empty map if nobody was ever erased or purged.
func Former(ctx context.Context, q db.Queryer, keys []string) (map[string]string, error) {
	var any bool
	if err := q.QueryRow(ctx, `select exists (select from erasures)`).Scan(&any); err != nil {
		return nil, fmt.Errorf("look whether anybody was erased: %w", err)
	}
	if !any {
		return nil, nil
	}
	h, err := NewHasher(ctx, q)
	if err != nil {
		return nil, err
	}
	of := make(map[string]string, len(keys))
	for _, key := range keys {
		of[h.Person(key)] = key
	}
	return of, nil
}

// PurgedAs returns the replacement of a key if a purge has emptied rows of the person. It returns
// "" if there are no such rows, or if the person was erased: then nothing is reported about them.
func PurgedAs(ctx context.Context, q db.Queryer, key string) (string, error) {
	of, err := Former(ctx, q, []string{key})
	if err != nil {
		return "", err
	}
	for hash := range of {
		var told bool
		err := q.QueryRow(ctx, `select `+Purged+` from (values ($1)) r (key)`, hash).Scan(&told)
		if err != nil {
			return "", fmt.Errorf("look whether a person was purged: %w", err)
		}
		if told {
			return hash, nil
		}
	}
	return "", nil
}

// Purged says that r.key is the replacement of a person in rows that a purge emptied, and that the
// person was never erased.
const Purged = `(exists (
		select from results p join erasures e on e.id = p.erased_by and e.kind = 'purge' where p.key = r.key)
	and not exists (select from erased_people p where p.hash = r.key))`

// LockErasures makes the transaction wait for imports and other erasures, and makes them wait for
// the transaction. An erasure calls it first, before it locks anything that claims need, because an
// import may take minutes.
//
// The lock is the row of hash_key. Nothing else locks it, and only a login that may write it can.
func LockErasures(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `select from hash_key for update`); err != nil {
		return fmt.Errorf("wait for imports and erasures: %w", err)
	}
	return nil
}

// ShareErasures waits for an erasure that is under way and lets no other begin until the
// transaction ends. Every transaction that imports people calls it first.
func ShareErasures(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `select from hash_key for share`); err != nil {
		return fmt.Errorf("wait for erasures: %w", err)
	}
	return nil
}

// Erased has the people who were erased, for imports. A nil Erased has none.
type Erased struct {
	hasher *Hasher
	by     map[string]int64 // erasure by replacement key
}

// LoadErased returns the people who were erased and must not be invited, or nil if there are none.
// No erasure can begin until the transaction ends.
func LoadErased(ctx context.Context, tx pgx.Tx) (*Erased, error) {
	if err := ShareErasures(ctx, tx); err != nil {
		return nil, err
	}
	e := &Erased{by: map[string]int64{}}
	rows, _ := tx.Query(ctx, `select hash, erasure_id from erased_people where lifted_by is null`)
	var hash string
	var erasure int64
	_, err := pgx.ForEachRow(rows, []any{&hash, &erasure}, func() error { e.by[hash] = erasure; return nil })
	if err != nil {
		return nil, fmt.Errorf("list who was erased: %w", err)
	}
	if len(e.by) == 0 {
		return nil, nil
	}
	e.hasher, err = NewHasher(ctx, tx)
	return e, err
}

// ErasedRow has what a row of an erased person gets instead of the file's values.
type ErasedRow struct {
	Key     string          // the replacement of the person's key
	By      int64           // erasures.id
	Private invitation.Hash // keyed hash of the file's values
}

// Row returns the values for a row of an erased person, or nil if the person was not erased. cells
// are the file's values, in any order.
func (e *Erased) Row(key string, cells []string) *ErasedRow {
	if e == nil || key == "" {
		return nil
	}
	hash := e.hasher.Person(key)
	by, ok := e.by[hash]
	if !ok {
		return nil
	}
	return &ErasedRow{Key: hash, By: by, Private: e.hasher.Private(Pointers(append([]string{key}, cells...)))}
}

// Lift allows the given erased people to be invited again, because the sender of the batch asked
// for it. people are replacements of keys.
func (e *Erased) Lift(ctx context.Context, tx pgx.Tx, batch int64, people []string) error {
	_, err := tx.Exec(ctx, `update erased_people set lifted_by = $1 where hash = any($2) and lifted_by is null`, batch, people)
	if err != nil {
		return fmt.Errorf("include %d people who were erased: %w", len(people), err)
	}
	return nil
}

// Withheld reports whether one of these people was rescinded from a draft whose file was read again
// since. Nothing else may be known of such a person, if the file does not name them any more.
func Withheld(ctx context.Context, pool *pgxpool.Pool, keys []string) (yes bool, err error) {
	err = pool.QueryRow(ctx, `select exists (select from draft_withdrawals where key = any($1))`, keys).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("look who is kept out of drafts: %w", err)
	}
	return yes, nil
}
