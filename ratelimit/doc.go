// Package ratelimit keeps a fleet of processes under Clerk's limits, and wastes
// none of them.
//
// # Why not a token bucket
//
// Clerk allows N requests a window (100 single and 25 bulk creates an hour) and
// does not say whether its windows are fixed, or where they begin, or slide. A
// limiter has to hold under either reading.
//
// A token bucket does not. With a burst of 100 and a refill of 100 an hour it
// lets 100 requests go at once and another 100 within the hour that follows:
// 200 in one window, of which Clerk refuses half. With a burst of 1 it is safe,
// but spreads a hundred invitations over the hour, so that thirty hires wait
// eighteen minutes although nothing else was sent all day. GCRA is the same
// bucket by another arithmetic; golang.org/x/time/rate is that bucket in the
// memory of one process, which forgets what it sent when it is restarted.
//
// # What is right: a sliding log
//
// Each request is remembered, in the attempts table that has to exist anyway
// as the ledger of what was asked of Clerk. A request weighs on its limit from
// its start until one window (and a small margin, [Limit.Weight]) after its
// answer; where no answer came, after its deadline, past which nothing of it is
// written to the network. A new one may start while fewer than N weigh.
//
// A request arrives at Clerk at some moment between its start and its answer.
// Take any N+1 requests in the order of their starts: when the last one began,
// the first no longer weighed, so that a whole window lay between its answer
// and that start, and so between the two arrivals. Hence no N+1 of them fall
// into one window, wherever windows begin, whatever the latency is. And nothing
// is wasted but the latency itself: N may go at once.
//
// Counting must not race. Reserving is the insert of the attempt in the same
// transaction that counted, under a lock on the bucket's row; and since a
// statement's snapshot is taken before it waits for a lock, locking and counting
// are two statements ([Reserve]). Time is Postgres' own throughout, so that
// clocks of processes need not agree, and a restart changes nothing.
//
// # Workers with different limits
//
// Each live worker states its limits in its row of workers. Counting keeps all
// of them ([Obeyed]), each in its own window, and what is free is the least that any
// leaves. They are read after the bucket's lock was taken, so that a worker that
// registers before is obeyed. Nobody is refused for having other limits.
//
// # The general limit
//
// Reads and revocations are many and cheap; a row each would cost a round trip
// each. A process leases small blocks of them ([General]), which weigh like
// requests do: from the lease until one window after the last answer in it.
// Inside a process golang.org/x/time/rate does what it is good at: it paces a
// block's requests evenly, instead of firing them in one instant.
//
// # Freezing
//
// Should Clerk answer 429 all the same (another program shares the key), the
// bucket is frozen for the fleet until Retry-After has passed, one window at most; then one request
// probes. For 24 windows after the 429 the fleet sends one request of that bucket at a
// time: if another program uses the limit too, Clerk refuses one request, not many.
package ratelimit
