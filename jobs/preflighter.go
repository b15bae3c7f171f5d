package jobs

import (
	"cmp"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"bulkinvite/internal/ledger"
)

// readAhead is how many rows a process reads ahead of its claims: enough for two windows of Clerk's
// default limits. readers is the number of parallel requests, few enough to be polite.
const (
	readAhead   = 800
	readers     = 4
	surveyLimit = 1000
)

// preflighter makes the reads that guard claims.
type preflighter struct {
	*process
	reader   *reader
	measured *measured
}

// putOff makes the rows of people back off, as after a transient answer to an invitation, because
// Clerk does not say whether they are users.
func (p *preflighter) putOff(ctx context.Context, people []unanswered) error {
	if len(people) == 0 {
		return nil
	}
	// Lock rows in their order, as other transactions that lock several rows do.
	slices.SortFunc(people, func(a, b unanswered) int {
		return cmp.Or(cmp.Compare(a.Batch, b.Batch), cmp.Compare(a.Row, b.Row))
	})
	return pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		for _, one := range people {
			freed, err := ledger.PutOff(ctx, tx, p.cfg.Instance.ID, one.RowID, one.key, one.code, p.cfg.backoff)
			if err != nil {
				return err
			}
			if err := free(ctx, tx, p.cfg.Instance.ID, freed); err != nil {
				return err
			}
			p.log.Warn("Clerk does not say whether somebody is a user",
				"batch", one.Batch, "row", one.Row, "code", one.code)
		}
		return nil
	})
}

// read makes the reads that the next claims rely on: all pending invitations, the invitations
// of any status made since the batches began, and which of the people next in line are users. With
// alone it includes people who must go alone. ever is for a survey, for which any read since the
// batch began is recent enough.
func (p *preflighter) read(ctx context.Context, alone, ever bool) (err error) {
	held, err := p.take(ctx, "preflight")
	if err != nil {
		return err
	}
	if held == nil { // another process reads, and its reads count here too
		return sleep(ctx, p.cfg.paced(50*time.Millisecond))
	}
	defer func() { err = held.Explain(err); held.Release() }()
	ctx = held.Context()
	ctx, span := tracer.Start(ctx, "preflight")
	defer func() { endSpan(span, err) }()
	n := readAhead
	if ever {
		n = surveyLimit
	}
	if err := ledger.SeeBatches(ctx, p.pool, p.cfg.Instance.ID); err != nil {
		return err
	}
	ids, err := p.picker.Peek(ctx, p.cfg.Instance.ID, n, alone)
	if err != nil {
		return err
	}
	cases, err := p.reader.load(ctx, ids)
	if err != nil {
		return err
	}
	var unread []*ledger.Case
	lists := false
	var also time.Time // start of the earliest batch without preflight that needs the lists
	for _, c := range cases {
		wanted := c.Next().Lists
		if ever { // any read since the batch began is recent enough
			c.Fresh = math.MaxInt64
		}
		noUsers, noLists := c.Missing(c.Row)
		if lists = lists || wanted; !c.Preflight {
			if wanted && (also.IsZero() || c.BatchStarted.Before(also)) {
				also = c.BatchStarted
			}
			continue
		}
		lists = lists || noLists
		if noUsers {
			unread = append(unread, c)
		}
	}
	if lists {
		if err := p.lists(ctx, also); err != nil {
			return err
		}
	}
	span.SetAttributes(spanPeople.Int(len(unread)))
	// Shuffle, so that a person who blocks the others of a chunk is with different people next
	// time.
	rand.Shuffle(len(unread), func(i, j int) { unread[i], unread[j] = unread[j], unread[i] })
	var mu sync.Mutex
	var left []unanswered
	group, reading := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for chunk := range questions(unread, func(c *ledger.Case) string { return c.Email }) {
		group.Go(func() error {
			more, err := p.reader.users(reading, chunk)
			mu.Lock()
			defer mu.Unlock()
			left = append(left, more...)
			return err
		})
	}
	err = group.Wait()
	return errors.Join(err, p.putOff(ctx, left))
}

// lists makes the three passes that guard claims. They go back to the start of the earliest batch
// with preflight, or to also if that is earlier. A zero also is ignored.
func (p *preflighter) lists(ctx context.Context, also time.Time) error {
	defer func(began time.Time) {
		if took := time.Since(began); took > p.cfg.fresh/2 && ctx.Err() == nil {
			p.log.Warn("reading the lists of invitations is slow, and nobody is invited meanwhile",
				"took", took.Round(time.Millisecond))
		}
	}(time.Now())
	if _, err := p.reader.pass(ctx, ledger.ReadPending, time.Time{}); err != nil {
		return err
	}
	start, err := ledger.Starts(ctx, p.pool, p.cfg.Instance.ID)
	if err == nil && !also.IsZero() && (start.IsZero() || also.Before(start)) {
		start = also
	}
	if err != nil || start.IsZero() {
		return err
	}
	back := start.Add(-p.measured.rules(p.cfg).Slack - 10*time.Second)
	if _, err := p.reader.pass(ctx, ledger.ReadAll, back); err != nil {
		return err
	}
	_, err = p.reader.pass(ctx, ledger.ReadRevoked, back)
	return err
}
