package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v6"
	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/ratelimit"
)

// ticket is a claimed request whose attempt is committed, so that it may be sent.
type ticket struct {
	ledger.Claimed
	deadline time.Time // by this process's clock, taken before the claim's transaction began
	probe    bool
	cases    map[string]*ledger.Case // by key
	links    map[string]clerk.Link   // the links of new invitations that nobody was mailed, by key
	linked   bool                    // the links are in their file
}

// granted is the reply to a job that asked for a request.
type granted struct {
	ticket *ticket
	closed time.Time // no request before this time; zero: nothing waits
	err    error
}

// claimer hands requests to the jobs that ask for them. One goroutine opens attempts for all
// waiting jobs in one transaction, so the bucket's lock is taken once for many requests.
type claimer struct {
	*process
	measured    *measured
	presence    *presence
	preflighter *preflighter
	gate        *gate
	suspect     *atomic.Bool // see [Worker]
	// pauseFor pauses the instance's batches because of an answer; see [Worker.pauseFor].
	pauseFor func(ctx context.Context, what string, a clerk.Answer, only ...int64)

	asks chan chan granted
	done chan string // a request of this bucket was answered

	readAgain time.Time                   // reads failed: claims do not wait for a read before this time
	failing   *backoff.ExponentialBackOff // the waits after consecutive failed reads
	leaving   bool                        // the process stops: only owed rows are claimed

	mu  sync.Mutex
	out map[string]int // requests under way, by bucket
}

// newClaimer returns the claimer of a worker whose other parts exist.
func newClaimer(w *Worker) *claimer {
	return &claimer{
		process: w.process, measured: w.measured, presence: w.presence, preflighter: w.preflighter, gate: w.gate,
		suspect: &w.suspect, pauseFor: w.pauseFor,
		asks: make(chan chan granted), done: make(chan string, maxWorkers), out: map[string]int{},
		failing: w.cfg.afterFailures(),
	}
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

// ended records that a request is not under way any more.
func (c *claimer) ended(bucket string) {
	c.mu.Lock()
	c.out[bucket]--
	c.mu.Unlock()
	select {
	case c.done <- bucket:
	default:
	}
}

// room returns how many more requests of a bucket this process may have claimed or under way. A
// row's own revoke belongs to the general bucket, but it counts with the creates, because a create
// follows it.
func (c *claimer) room(bucket string, limit ratelimit.Limit) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	most := inFlight
	if limit.None {
		most = c.cfg.workers()
	}
	return max(0, most-c.out[bucket]-c.out[ratelimit.GeneralCall])
}

// run serves the jobs until ctx is done. After that it serves owed rows only.
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
			}
		}
		if ctx.Err() != nil {
			c.leave(context.WithoutCancel(ctx), waiting)
			return
		}
		for more := true; more; {
			select {
			case r := <-c.asks:
				waiting = append(waiting, r)
			default:
				more = false
			}
		}
		if until, closed := c.gate.closed(); closed {
			answerAll(granted{closed: until})
			continue
		}
		r, err := c.round(ctx, len(waiting))
		switch {
		case err != nil:
			answerAll(granted{closed: c.gate.trouble(err)})
		case len(r.tickets) > 0:
			for i, t := range r.tickets {
				waiting[i] <- granted{ticket: t}
			}
			waiting = append(waiting[:0], waiting[len(r.tickets):]...)
		case r.again:
		case r.full:
			c.pause(ctx, c.cfg.RequestTimeout)
		case r.unread > 0:
			until := time.Now().Add(r.unread)
			c.gate.close(until, "reading Clerk fails")
			answerAll(granted{closed: until})
		case r.opens > 0 && r.opens < time.Second:
			c.pause(ctx, r.opens)
		case r.opens > 0:
			until := time.Now().Add(r.opens)
			c.gate.close(until, noBudget)
			answerAll(granted{closed: until})
		default:
			answerAll(granted{})
		}
	}
}

// pause waits until a request of this process is answered, but at most d.
func (c *claimer) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.done:
	case <-t.C:
	case <-ctx.Done():
	}
}

// leave answers jobs that ask after the end, until no job can ask any more. The process must not
// stop between a revoke and the create that its row is owed. So leave serves owed rows and turns
// the others away.
func (c *claimer) leave(ctx context.Context, waiting []chan granted) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.stopWithin())
	defer cancel()
	c.leaving = true
	for _, r := range waiting {
		r <- c.lastOwed(ctx)
	}
	for {
		select {
		case r := <-c.asks:
			r <- c.lastOwed(ctx)
		case <-c.over:
			return
		}
	}
}

// lastOwed claims an owed row, if one may be claimed now. It reads nothing: the reads before the
// row's revoke are recent.
func (c *claimer) lastOwed(ctx context.Context) granted {
	for range 5 { // rows that can be decided come first
		r, err := c.round(ctx, 1)
		if len(r.tickets) > 0 {
			return granted{ticket: r.tickets[0]}
		}
		if err != nil || !r.again {
			break
		}
	}
	return granted{err: context.Canceled}
}

// round is the result of one claim transaction.
type round struct {
	tickets  []*ticket
	verdicts []ledger.Verdict // of rows that needed no request
	alone    bool             // rows that must go alone were picked too
	unread   time.Duration    // reads that a claim needs fail: how long until they are tried again
	again    bool             // something was decided or read: ask again at once
	full     bool             // there is budget, but enough requests of this process are under way
	opens    time.Duration    // no budget: how long until some can be free
}

// errRead says that a claim needs a read first. It rolls back the claim.
var errRead = errors.New("people must be read first")

// round reserves, picks and claims for want jobs.
func (c *claimer) round(ctx context.Context, want int) (round, error) {
	// A stop does not interrupt a claim that has begun. Otherwise an attempt could be committed
	// that nobody sends.
	claiming, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var r round
	failpoint("before_reserve")
	began := time.Now()
	err := pgx.BeginFunc(claiming, c.pool, func(tx pgx.Tx) (err error) {
		r, err = c.claimIn(claiming, tx, want)
		return err
	})
	switch {
	case errors.Is(err, errNothing):
		return r, nil
	case errors.Is(err, errRead):
		return round{again: true}, c.read(ctx, r.alone)
	case errors.Is(err, ledger.ErrDeclaredDead):
		return round{again: true}, c.presence.register(claiming)
	case err != nil:
		return round{}, fmt.Errorf("claim: %w", err)
	}
	c.tell(r.verdicts)
	if len(r.tickets) > 0 {
		failpoint("after_reserve")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range r.tickets {
		t.deadline = began.Add(c.cfg.RequestTimeout)
		c.out[t.Bucket]++
	}
	return r, nil
}

// claimIn is the claim's transaction.
func (c *claimer) claimIn(ctx context.Context, tx pgx.Tx, want int) (r round, err error) {
	create, bulk, err := c.reserve(ctx, tx)
	if err != nil {
		return r, err
	}
	promised, err := c.gate.withhold(ctx, tx, &create, &bulk)
	if err != nil {
		return r, err
	}
	if create.Free == 0 && bulk.Free == 0 {
		r.opens = opening(create, bulk, c.cfg)
		return r, errNothing
	}
	lone := c.cfg.lone(&create, &bulk)
	b := budget{spare: lone.Free - promised, probe: lone.Probe,
		single: min(create.Free, c.room(ratelimit.Create, c.cfg.Create)),
		bulk:   min(bulk.Free, c.room(ratelimit.Bulk, c.cfg.Bulk))}
	if b.single == 0 && b.bulk == 0 {
		r.full = true
		return r, errNothing
	}
	// Rows that must go alone wait for a single. Meanwhile they let the others pass.
	r.alone = b.single > 0 || c.cfg.Create.Off
	each := 1
	if b.bulk > 0 {
		each = bulkSize
	}
	n := min(b.single+bulkSize*b.bulk, each*want, readAhead)
	if b.probe { // a row that needs no revoke is the better probe
		n = max(n, bulkSize)
	}
	p, err := c.pick(ctx, tx, n, r.alone, c.leaving)
	if err != nil {
		return r, err
	}
	r.verdicts = p.verdicts
	if p.decided > 0 && len(p.ready) < n {
		r.again = true
		return r, nil
	}
	if c.leaving {
		p.ready = slices.DeleteFunc(p.ready, func(c candidate) bool { return !c.Owed })
	}
	requests := pack(p.ready, b, want, c.cfg.Create.Off)
	switch {
	case len(requests) > 0:
		if r.tickets, err = c.open(ctx, tx, requests, create.Probe, bulk.Probe); err == nil {
			err = c.dismiss(ctx, tx, r.tickets)
		}
	case p.unread:
		r.unread = max(time.Until(c.readAgain), time.Millisecond)
	case !r.alone:
		// If no row waits, the budget of bulk calls is left for rows to come.
		var left []invitation.RowID
		if left, err = c.picker.Pick(ctx, tx, c.cfg.Instance.ID, 1, true); len(left) > 0 {
			r.full = create.Free > 0
			r.opens = untilSingle(create)
		}
	case len(p.ready) > 0: // what is left is promised to owed rows
		r.opens = c.cfg.paced(200 * time.Millisecond)
	}
	return r, err
}

// untilSingle returns how long rows that must go alone wait before the claimer checks again whether
// other rows have come.
func untilSingle(create ratelimit.Bucket) time.Duration {
	return min(max(create.Opens.Sub(create.Now), 5*time.Millisecond), time.Minute)
}

// read makes the reads that claims rely on. If a read fails, claims continue with the people that
// are read already, and the read is tried again after a wait: one second at first, doubled with
// each failure, at most one minute. alone says whether the claim picked rows that must go alone.
func (c *claimer) read(ctx context.Context, alone bool) error {
	err := c.preflighter.read(ctx, alone, false)
	if err == nil {
		c.failing.Reset()
		return nil
	}
	if errors.Is(err, ErrUnauthorized) || ctx.Err() != nil {
		return err
	}
	var refused *refusedError
	if errors.As(err, &refused) {
		c.pauseFor(ctx, "Clerk refuses to be read", refused.answer)
	}
	wait := c.failing.NextBackOff()
	c.readAgain = time.Now().Add(wait)
	c.log.Warn("reading Clerk fails", "error", err, "again_in", wait)
	return nil
}

// survey decides rows that need no budget while there is none. If few rows are left, people that
// Clerk knows already should not wait an hour for that result.
func (c *claimer) survey(ctx context.Context) error {
	undecided, telling, err := c.picker.Telling(ctx, c.cfg.Instance.ID, surveyLimit+1)
	if err != nil || telling == 0 || undecided > surveyLimit {
		return err
	}
	if err := c.preflighter.read(ctx, true, true); err != nil {
		return err
	}
	for { // each round decides one row of a person
		var p picked
		err = pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) (err error) {
			if _, _, err = c.reserve(ctx, tx); err != nil {
				return err
			}
			p, err = c.pick(ctx, tx, surveyLimit, true, true)
			return err
		})
		if err != nil || p.decided == 0 {
			return err
		}
		c.tell(p.verdicts)
		poke(c.active)
	}
}

// errNothing rolls back a claim that has nothing to commit.
var errNothing = errors.New("nothing to claim")

// reserve begins each claim. It checks that the process lives and that it holds the file of links,
// if there is one. Then it locks the buckets, create before bulk.
func (c *claimer) reserve(ctx context.Context, tx pgx.Tx) (create, bulk ratelimit.Bucket, err error) {
	if _, err = c.cfg.Links.guard(ctx, tx); err != nil {
		return create, bulk, err
	}
	if err = ledger.Alive(ctx, tx, c.id); err != nil {
		return create, bulk, err
	}
	if create, err = ratelimit.Reserve(ctx, tx, c.cfg.Instance.ID, ratelimit.Create, c.cfg.Create); err != nil {
		return create, bulk, err
	}
	bulk, err = ratelimit.Reserve(ctx, tx, c.cfg.Instance.ID, ratelimit.Bulk, c.cfg.Bulk)
	return create, bulk, err
}

// opening returns how long it takes until one of the buckets can have budget.
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

// candidate is a row that may be claimed.
type candidate struct {
	*ledger.Case
	revoke string // the invitation to revoke first; empty: none
}

// picked is the result of picking rows for a claim.
type picked struct {
	ready    []candidate      // may be claimed
	verdicts []ledger.Verdict // decisions, to be logged after the commit
	decided  int              // rows that were decided, or that go alone from now on
	unread   bool             // some rows need a read first
}

// pick locks waiting rows and decides those that enough is known of. With survey it only decides
// rows and requests no reads: there is no budget, or the process stops.
func (c *claimer) pick(ctx context.Context, tx pgx.Tx, n int, alone, survey bool) (p picked, err error) {
	ids, err := c.picker.Pick(ctx, tx, c.cfg.Instance.ID, n, alone)
	if err != nil || len(ids) == 0 {
		return p, err
	}
	cases, err := ledger.Load(ctx, tx, c.cfg.Instance.ID, ids, c.measured.rules(c.cfg), invitation.Coverage{})
	if err != nil {
		return p, err
	}
	var verdicts []ledger.Verdict
	var lone []invitation.RowID
	said := map[string]bool{} // people with a decision, on which their other rows depend
	for _, one := range cases {
		switch act := one.Next(); act.Kind {
		case invitation.Decide:
			if said[one.Key] {
				continue
			}
			said[one.Key] = true
			verdicts = append(verdicts, ledger.Verdict{RowID: one.RowID, Key: one.Key, Action: act})
		case invitation.Claim:
			if act.Alone && !one.Alone {
				lone = append(lone, one.RowID)
			} else {
				p.ready = append(p.ready, candidate{one, act.Revoke})
			}
		case invitation.Read:
			p.unread = true
		}
	}
	if p.unread && !survey && time.Now().After(c.readAgain) {
		if len(verdicts)+len(lone) == 0 {
			return p, errRead
		}
		p.ready = nil // commit the decisions first; the next round reads
	}
	for i := range verdicts {
		verdicts[i].Close = "" // none of their attempts is open
	}
	if _, err := ledger.Settle(ctx, tx, c.cfg.Instance.ID, verdicts); err != nil {
		return p, err
	}
	if err := ledger.SetAlone(ctx, tx, lone); err != nil {
		return p, err
	}
	p.verdicts, p.decided = verdicts, len(verdicts)+len(lone)
	return p, nil
}

// tell logs what was decided without a request.
func (c *claimer) tell(verdicts []ledger.Verdict) {
	for _, v := range verdicts {
		c.suspect.CompareAndSwap(false, v.Outcome == invitation.Failed)
		c.log.Debug("row decided", "batch", v.Batch, "row", v.Row, "outcome", v.Outcome, "reason", v.Reason)
	}
}

// open opens attempts for the requests and claims their people. Then it loads their evidence again,
// because an answer may have been recorded between pick and the claim.
func (c *claimer) open(ctx context.Context, tx pgx.Tx, requests []ledger.Request, probeCreate, probeBulk bool) ([]*ticket, error) {
	claimed, err := ledger.Open(ctx, tx, c.cfg.Instance.ID, c.id, c.cfg.RequestTimeout, requests)
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
	again, err := ledger.Load(ctx, tx, c.cfg.Instance.ID, ids, c.measured.rules(c.cfg), invitation.Coverage{})
	if err != nil {
		return nil, err
	}
	still := make(map[string]candidate, len(again)) // one row for each person
	for _, one := range again {
		one.Attempts = slices.DeleteFunc(one.Attempts, func(a invitation.Attempt) bool { return mine[a.ID] })
		one.Revoked = slices.DeleteFunc(one.Revoked, func(r invitation.OwnRevoke) bool { return mine[r.Attempt] })
		if act := one.Next(); act.Kind == invitation.Claim {
			still[one.Key] = candidate{one, act.Revoke}
		}
	}
	claimed, err = ledger.Withdraw(ctx, tx, claimed, func(p ledger.Person) bool {
		now, ok := still[p.Key]
		return !ok || now.revoke != p.InvitationID
	})
	if err != nil {
		return nil, err
	}
	var revoking []invitation.RowID
	tickets := make([]*ticket, len(claimed))
	for i, cl := range claimed {
		t := &ticket{Claimed: cl, cases: make(map[string]*ledger.Case, len(cl.People))}
		for _, p := range cl.People {
			t.cases[p.Key] = still[p.Key].Case
		}
		t.probe = cl.Bucket == ratelimit.Create && probeCreate || cl.Bucket == ratelimit.Bulk && probeBulk
		if t.probe {
			if err := ratelimit.Probing(ctx, tx, c.cfg.Instance.ID, cl.Bucket, cl.AttemptID); err != nil {
				return nil, err
			}
		}
		if cl.Call == ledger.CallRevoke {
			revoking = append(revoking, cl.People[0].RowID)
		}
		tickets[i] = t
	}
	return tickets, ledger.MarkRevoking(ctx, tx, revoking)
}

// bulkSize is how many people one bulk call takes, according to Clerk's documentation.
const bulkSize = 10

// budget is how many requests may be opened.
type budget struct {
	single, bulk int
	spare        int  // requests for one person: how many more than are promised to owed rows
	probe        bool // the next request for one person shows whether Clerk accepts requests again
}

// pack divides people over requests so that the budget invites most of them: full bulk calls while
// ten people wait, then singles, and a bulk call that is not full only if no single is left. Rows
// that must go alone go as singles, or as a bulk call of one if singles are off.
//
// Owed rows come first. A revoke uses the budget of the create that follows it. While it is not
// known whether Clerk accepts creates again, no revoke is sent if another row can probe.
func pack(cases []candidate, b budget, want int, singlesOff bool) []ledger.Request {
	one, single := &b.single, ratelimit.Create
	if singlesOff {
		one, single = &b.bulk, ratelimit.Bulk
	}
	other := slices.ContainsFunc(cases, func(c candidate) bool { return c.revoke == "" })
	var owed, crowd, alone []candidate
	for _, c := range cases {
		switch {
		case c.revoke != "" && b.probe && other:
		case c.Owed:
			owed = append(owed, c)
		case c.Alone:
			alone = append(alone, c)
		default:
			crowd = append(crowd, c)
		}
	}
	var requests []ledger.Request
	add := func(call string, people []candidate) {
		r := ledger.Request{Call: call, Bucket: call}
		if people[0].revoke != "" { // a revoke goes alone
			r.Call, r.Bucket = ledger.CallRevoke, ratelimit.GeneralCall
		}
		for _, p := range people {
			r.People = append(r.People, ledger.Person{RowID: p.RowID, Key: p.Key, InvitationID: p.revoke})
		}
		requests = append(requests, r)
	}
	for ; len(owed) > 0 && *one > 0 && len(requests) < want; owed, *one = owed[1:], *one-1 {
		add(single, owed[:1])
	}
	*one = max(0, min(*one, b.spare))
	for len(requests) < want {
		switch {
		case len(alone) > 0 && *one > 0:
			add(single, alone[:1])
			alone, *one = alone[1:], *one-1
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
