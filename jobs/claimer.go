package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/clerk"
	"bulkinvite/invitation"
	"bulkinvite/ratelimit"
)

// ticket is a claimed request that is committed to the ledger and may be sent.
type ticket struct {
	invitation.Claimed
	deadline time.Time // on this process' clock, taken before the claim's transaction began
	probe    bool
	revoke   invitation.Person           // whose invitation is revoked first, to make room; zero: nobody's
	revoking int64                       // that attempt
	revoked  time.Time                   // when it was started: attempts.started_at
	cases    map[string]*invitation.Case // by key
	links    map[string]clerk.Link       // of those just made without a mail, by key
	linked   bool                        // they are in their file
}

// granted is what a job that asked for a request gets.
type granted struct {
	ticket *ticket
	closed time.Time // no request before this time; zero: nothing waits
	err    error
}

// claimer hands requests to the jobs that ask for them. One goroutine opens
// attempts for all jobs that wait at a moment in one transaction: the bucket's
// lock is taken once for many.
type claimer struct {
	w    *Worker
	asks chan chan granted
	done chan string // a request of this bucket was answered

	opened  int // requests, by this process
	analyze int // after how many of them the ledger's statistics are refreshed

	readAgain time.Time // reads failed: no claim waits for one before this time
	failures  int       // in a row

	mu  sync.Mutex
	out map[string]int // requests under way by bucket
}

func newClaimer(w *Worker) *claimer {
	return &claimer{w: w, asks: make(chan chan granted), done: make(chan string, maxWorkers), out: map[string]int{}, analyze: 500}
}

// claim waits for a request to send.
func (c *claimer) claim(ctx context.Context) granted {
	reply := make(chan granted, 1)
	select {
	case c.asks <- reply:
		return <-reply
	case <-ctx.Done():
		return granted{err: ctx.Err()}
	}
}

// ended notes that a request is no longer under way.
func (c *claimer) ended(bucket string) {
	c.mu.Lock()
	c.out[bucket]--
	c.mu.Unlock()
	select {
	case c.done <- bucket:
	default:
	}
}

// room says how many more requests of a bucket this process may have claimed or
// under way.
func (c *claimer) room(bucket string, limit ratelimit.Limit) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	most := inFlight
	if limit.None {
		most = 2 * c.w.cfg.workers()
	}
	return max(0, most-c.out[bucket])
}

// run serves the jobs until ctx is done; then it turns away who still asks.
func (c *claimer) run(ctx context.Context) {
	var waiting []chan granted
	answerAll := func(g granted) {
		for _, r := range waiting {
			r <- g
		}
		waiting = waiting[:0]
	}
	for {
		if len(waiting) == 0 {
			select {
			case r := <-c.asks:
				waiting = append(waiting, r)
			case <-ctx.Done():
				c.turnAway()
				return
			}
		}
		for more := true; more; {
			select {
			case r := <-c.asks:
				waiting = append(waiting, r)
			default:
				more = false
			}
		}
		if until, closed := c.w.gate.closed(); closed {
			answerAll(granted{closed: until})
			continue
		}
		r, err := c.round(ctx, len(waiting))
		switch {
		case err != nil:
			answerAll(granted{closed: c.w.gate.trouble(err)})
		case len(r.tickets) > 0:
			for i, t := range r.tickets {
				waiting[i] <- granted{ticket: t}
			}
			waiting = append(waiting[:0], waiting[len(r.tickets):]...)
		case r.again:
		case r.full:
			c.pause(ctx, c.w.cfg.RequestTimeout)
		case r.unread > 0:
			until := time.Now().Add(r.unread)
			c.w.gate.close(until, "reading Clerk fails")
			answerAll(granted{closed: until})
		case r.opens > 0 && r.opens < time.Second:
			c.pause(ctx, r.opens)
		case r.opens > 0:
			until := time.Now().Add(r.opens)
			c.w.gate.close(until, noBudget)
			answerAll(granted{closed: until})
		default:
			answerAll(granted{})
		}
		if ctx.Err() != nil {
			answerAll(granted{err: ctx.Err()})
		}
	}
}

// pause waits until a request of this process is answered, at most d.
func (c *claimer) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.done:
	case <-t.C:
	case <-ctx.Done():
	}
}

// turnAway answers who asks after the end, until nobody can any more.
func (c *claimer) turnAway() {
	for {
		select {
		case r := <-c.asks:
			r <- granted{err: context.Canceled}
		case <-c.w.claimsOver():
			return
		}
	}
}

// round is what came of one claim transaction.
type round struct {
	tickets  []*ticket
	verdicts []invitation.Verdict // of rows that needed no request
	alone    bool                 // rows were picked that must go alone
	unread   time.Duration        // reads that a claim needs fail: how long until they are tried again
	again    bool                 // something was decided or read: ask again at once
	full     bool                 // there is budget, but enough of this process' requests are under way
	opens    time.Duration        // no budget: how long until some can be free
}

// oft begins the transactions that go on all the time. See [invitation.KeptPlans].
var oft = pgx.TxOptions{BeginQuery: "begin; " + invitation.KeptPlans}

// errRead says that a claim needs a read first. It rolls the claim back.
var errRead = errors.New("people must be read first")

// round reserves, picks and claims for want jobs.
func (c *claimer) round(ctx context.Context, want int) (round, error) {
	// A stop lets a claim that has begun come to its end, lest an attempt is
	// committed that nobody sends.
	claiming, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	c.keepPlans(claiming)
	var r round
	failpoint("before_reserve")
	began := time.Now()
	err := pgx.BeginTxFunc(claiming, c.w.pool, oft, func(tx pgx.Tx) (err error) {
		r, err = c.claimIn(claiming, tx, want)
		return err
	})
	switch {
	case errors.Is(err, errNothing):
		return r, nil
	case errors.Is(err, errRead):
		return round{again: true}, c.read(ctx, r.alone)
	case errors.Is(err, invitation.ErrDeclaredDead):
		return round{again: true}, c.w.register(claiming)
	case err != nil:
		return round{}, fmt.Errorf("claim: %w", err)
	}
	c.tell(r.verdicts)
	if len(r.tickets) > 0 {
		failpoint("after_reserve")
	}
	c.opened += len(r.tickets)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range r.tickets {
		t.deadline = began.Add(c.w.cfg.RequestTimeout)
		c.out[t.Bucket]++
	}
	return r, nil
}

// keepPlans has PostgreSQL look at the ledger anew each time it has grown
// fourfold. A connection keeps the plans that it made when the tables were all but
// empty, which read them whole; autovacuum looks once a minute, and by then there
// may be a hundred thousand rows.
func (c *claimer) keepPlans(ctx context.Context) {
	if c.opened < c.analyze {
		return
	}
	c.analyze = 4 * c.opened
	var grown bool // since another process looked
	err := c.w.pool.QueryRow(ctx, `select n_mod_since_analyze > n_live_tup / 2 from pg_stat_user_tables where relid = 'attempts'::regclass`).Scan(&grown)
	if err == nil && !grown {
		return
	}
	if _, err := c.w.pool.Exec(ctx, `analyze (skip_locked) attempts, attempt_people`); err != nil {
		c.w.log.Warn("refresh the statistics of the ledger", "error", err)
	}
}

// claimIn is the claim's transaction.
func (c *claimer) claimIn(ctx context.Context, tx pgx.Tx, want int) (r round, err error) {
	create, bulk, err := c.reserve(ctx, tx)
	if err != nil {
		return r, err
	}
	if create.Free == 0 && bulk.Free == 0 {
		r.opens = opening(create, bulk, c.w.cfg)
		return r, errNothing
	}
	b := budget{single: min(create.Free, c.room(ratelimit.Create, c.w.cfg.Create)), bulk: min(bulk.Free, c.room(ratelimit.Bulk, c.w.cfg.Bulk))}
	if b.single == 0 && b.bulk == 0 {
		r.full = true
		return r, errNothing
	}
	// Rows that must go alone wait for a single, and let the others pass meanwhile.
	r.alone = b.single > 0 || c.w.cfg.Create.Off
	each := 1
	if b.bulk > 0 {
		each = bulkSize
	}
	n := min(b.single+bulkSize*b.bulk, each*want, readAhead)
	p, err := c.pick(ctx, tx, n, r.alone, false)
	if err != nil {
		return r, err
	}
	r.verdicts = p.verdicts
	if p.decided > 0 && len(p.ready) < n {
		r.again = true
		return r, nil
	}
	requests := pack(p.ready, b, want, c.w.cfg.Create.Off)
	switch {
	case len(requests) > 0:
		if r.tickets, err = c.open(ctx, tx, requests, create.Probe, bulk.Probe); err == nil {
			err = c.w.dismiss(ctx, tx, r.tickets)
		}
	case p.unread:
		r.unread = max(time.Until(c.readAgain), time.Millisecond)
	case !r.alone:
		// Where nobody waits there is nothing to wait for: bulk calls are left for whoever comes.
		var lone []invitation.RowID
		if lone, err = c.w.store.Pick(ctx, tx, c.w.cfg.Instance.ID, 1, true); len(lone) > 0 {
			r.full = create.Free > 0
			r.opens = untilSingle(create)
		}
	}
	return r, err
}

// untilSingle is how long those wait who must go alone before it is looked at
// again whether others have come, who need not.
func untilSingle(create ratelimit.Bucket) time.Duration {
	return min(max(create.Opens.Sub(create.Now), 5*time.Millisecond), time.Minute)
}

// read reads what claims rely on. Should that fail, claims go on with the people
// that are read already, and it is tried again after a while, which doubles with
// each failure from one second to a minute. alone is as the claim picked them.
func (c *claimer) read(ctx context.Context, alone bool) error {
	err := c.w.preflight(ctx, alone, false)
	if err == nil {
		c.failures = 0
		return nil
	}
	if errors.Is(err, ErrUnauthorized) || ctx.Err() != nil {
		return err
	}
	var refused *refusedError
	if errors.As(err, &refused) {
		c.w.pauseFor(ctx, "Clerk refuses to be read", refused.answer)
	}
	wait := min(time.Second<<min(c.failures, 6), time.Minute)
	c.failures++
	c.readAgain = time.Now().Add(wait)
	c.w.log.Warn("reading Clerk fails", "error", err, "again_in", wait)
	return nil
}

// errNothing rolls a claim back that has nothing to commit.
var errNothing = errors.New("nothing to claim")

// reserve is the beginning of each claim: the process lives, has the file of links
// if there is one, and holds the buckets, create before bulk.
func (c *claimer) reserve(ctx context.Context, tx pgx.Tx) (create, bulk ratelimit.Bucket, err error) {
	if _, err = c.w.cfg.Links.guard(ctx, tx); err != nil {
		return create, bulk, err
	}
	if err = invitation.Alive(ctx, tx, c.w.id); err != nil {
		return create, bulk, err
	}
	if create, err = ratelimit.Reserve(ctx, tx, c.w.cfg.Instance.ID, ratelimit.Create, c.w.cfg.Create); err != nil {
		return create, bulk, err
	}
	bulk, err = ratelimit.Reserve(ctx, tx, c.w.cfg.Instance.ID, ratelimit.Bulk, c.w.cfg.Bulk)
	return create, bulk, err
}

// opening says how long it is until one of the buckets can have budget.
func opening(create, bulk ratelimit.Bucket, cfg Config) time.Duration {
	soonest := time.Duration(-1)
	for _, b := range []struct {
		ratelimit.Bucket
		off bool
	}{{create, cfg.Create.Off}, {bulk, cfg.Bulk.Off}} {
		if d := b.Opens.Sub(b.Now); !b.off && (soonest < 0 || d < soonest) {
			soonest = d
		}
	}
	return max(soonest, time.Millisecond)
}

// picked is what became of the rows that a claim picked.
type picked struct {
	ready    []*invitation.Case   // may be asked for
	verdicts []invitation.Verdict // what was decided, to be told once it is committed
	decided  int                  // were decided, since enough is known of them, or go alone from now on
	unread   bool                 // some need a read first
}

// pick locks waiting rows and decides those of which enough is known. survey is
// for when there is no budget: rows are decided, and none needs a fresh read.
func (c *claimer) pick(ctx context.Context, tx pgx.Tx, n int, alone, survey bool) (p picked, err error) {
	ids, err := c.w.store.Pick(ctx, tx, c.w.cfg.Instance.ID, n, alone)
	if err != nil || len(ids) == 0 {
		return p, err
	}
	cases, err := c.w.store.Load(ctx, tx, c.w.cfg.Instance.ID, ids, c.w.rules(), invitation.Coverage{})
	if err != nil {
		return p, err
	}
	var verdicts []invitation.Verdict
	var lone []invitation.RowID
	said := map[string]bool{} // of whom something is decided, on which their other rows depend
	for _, one := range cases {
		switch act := one.Next(); act.Kind {
		case invitation.Decide:
			if said[one.Key] {
				continue
			}
			said[one.Key] = true
			verdicts = append(verdicts, invitation.Verdict{RowID: one.RowID, Key: one.Key, Action: act})
		case invitation.Claim:
			if act.Alone && !one.Alone {
				lone = append(lone, one.RowID)
			} else {
				p.ready = append(p.ready, one)
			}
		case invitation.Read:
			p.unread = true
		}
	}
	if p.unread && !survey && time.Now().After(c.readAgain) {
		if len(verdicts)+len(lone) == 0 {
			return p, errRead
		}
		p.ready = nil // first what is decided is committed; the next round reads
	}
	for i := range verdicts {
		verdicts[i].Close = "" // no attempt of theirs is open
	}
	if _, err := c.w.store.Settle(ctx, tx, c.w.cfg.Instance.ID, verdicts); err != nil {
		return p, err
	}
	if err := c.w.store.SetAlone(ctx, tx, lone); err != nil {
		return p, err
	}
	p.verdicts, p.decided = verdicts, len(verdicts)+len(lone)
	return p, nil
}

// tell says what was decided without a request.
func (c *claimer) tell(verdicts []invitation.Verdict) {
	for _, v := range verdicts {
		c.w.suspect.CompareAndSwap(false, v.Outcome == invitation.Failed)
		c.w.log.Debug("row decided", "batch", v.Batch, "row", v.Row, "outcome", v.Outcome, "reason", v.Reason)
	}
}

// open puts the requests into the ledger, claims their people, and looks at
// their evidence once more, since an answer may have been recorded between the
// look before and the claim.
func (c *claimer) open(ctx context.Context, tx pgx.Tx, requests []invitation.Request, probeCreate, probeBulk bool) ([]*ticket, error) {
	claimed, err := c.w.store.Open(ctx, tx, c.w.cfg.Instance.ID, c.w.id, c.w.cfg.RequestTimeout, requests)
	if err != nil {
		return nil, err
	}
	var ids []invitation.RowID
	mine := map[int64]bool{}
	for _, cl := range claimed {
		mine[cl.AttemptID] = true
		for _, p := range cl.People {
			ids = append(ids, p.RowID)
		}
	}
	again, err := c.w.store.Load(ctx, tx, c.w.cfg.Instance.ID, ids, c.w.rules(), invitation.Coverage{})
	if err != nil {
		return nil, err
	}
	still := make(map[string]*invitation.Case, len(again)) // one row a person
	revokes := map[string]string{}
	for _, one := range again {
		one.Attempts = dropAttempts(one.Attempts, mine)
		if act := one.Next(); act.Kind == invitation.Claim && (act.Revoke == "" || one.Alone) {
			still[one.Key], revokes[one.Key] = one, act.Revoke
		}
	}
	claimed, err = c.w.store.Withdraw(ctx, tx, claimed, func(p invitation.Person) bool { return still[p.Key] == nil })
	if err != nil {
		return nil, err
	}
	tickets := make([]*ticket, len(claimed))
	for i, cl := range claimed {
		t := &ticket{Claimed: cl, cases: make(map[string]*invitation.Case, len(cl.People))}
		for _, p := range cl.People {
			t.cases[p.Key] = still[p.Key]
		}
		t.probe = cl.Bucket == ratelimit.Create && probeCreate || cl.Bucket == ratelimit.Bulk && probeBulk
		if t.probe {
			if err := ratelimit.Probing(ctx, tx, c.w.cfg.Instance.ID, cl.Bucket, cl.AttemptID); err != nil {
				return nil, err
			}
		}
		if p := cl.People[0]; revokes[p.Key] != "" {
			p.InvitationID = revokes[p.Key]
			t.revoke = p
			if t.revoking, t.revoked, err = c.w.store.OpenRevoke(ctx, tx, c.w.cfg.Instance.ID, cl.AttemptID, p); err != nil {
				return nil, err
			}
		}
		tickets[i] = t
	}
	return tickets, nil
}

func dropAttempts(attempts []invitation.Attempt, mine map[int64]bool) []invitation.Attempt {
	kept := attempts[:0]
	for _, a := range attempts {
		if !mine[a.ID] {
			kept = append(kept, a)
		}
	}
	return kept
}

// bulkSize is how many people Clerk takes in one bulk call.
const bulkSize = 10

// budget is how many requests may be opened.
type budget struct{ single, bulk int }

// pack divides people over requests so that the budget invites most of them: a
// full bulk call as long as there are ten people for it, then singles, and only
// when no single is left a bulk call that is not full. Rows that must go alone
// go as singles, or as a bulk call of one where singles are off.
func pack(cases []*invitation.Case, b budget, want int, singlesOff bool) []invitation.Request {
	var crowd, alone []*invitation.Case
	for _, c := range cases {
		if c.Alone {
			alone = append(alone, c)
		} else {
			crowd = append(crowd, c)
		}
	}
	var requests []invitation.Request
	add := func(call string, people []*invitation.Case) {
		r := invitation.Request{Call: call, Bucket: call}
		for _, p := range people {
			r.People = append(r.People, invitation.Person{RowID: p.RowID, Key: p.Key})
		}
		requests = append(requests, r)
	}
	for len(requests) < want {
		switch {
		case len(alone) > 0 && b.single > 0:
			add(ratelimit.Create, alone[:1])
			alone, b.single = alone[1:], b.single-1
		case len(alone) > 0 && b.bulk > 0 && singlesOff:
			add(ratelimit.Bulk, alone[:1])
			alone, b.bulk = alone[1:], b.bulk-1
		case len(crowd) >= bulkSize && b.bulk > 0:
			add(ratelimit.Bulk, crowd[:bulkSize])
			crowd, b.bulk = crowd[bulkSize:], b.bulk-1
		case len(crowd) > 0 && b.single > 0:
			add(ratelimit.Create, crowd[:1])
			crowd, b.single = crowd[1:], b.single-1
		case len(crowd) > 0 && b.bulk > 0:
			n := min(len(crowd), bulkSize)
			add(ratelimit.Bulk, crowd[:n])
			crowd, b.bulk = crowd[n:], b.bulk-1
		default:
			return requests
		}
	}
	return requests
}
