// Package ratelimit keeps a fleet of processes under Clerk's limits without wasting any of them. It owns
// the tables buckets and leases, and imports nothing of the program. Start reading at [Reserve] in
// bucket.go; general.go has the limit of all requests.
//
// # Why not a token bucket
//
// Clerk allows N requests in a window: 100 single and 25 bulk creates an hour. It does not say
// whether its windows are fixed or sliding, or where they begin. A limiter has to keep the limit in
// either case.
//
// A token bucket does not. With a burst of 100 and a refill of 100 an hour it lets 100 requests
// start at once and another 100 within the following hour. That is 200 in one window, and Clerk
// refuses half of them. With a burst of 1 it is safe, but it spreads a hundred invitations over the
// hour: thirty of them take eighteen minutes, even if nothing else was sent all day. GCRA is the
// same bucket with different arithmetic. golang.org/x/time/rate is that bucket in the memory of one
// process, which forgets what it sent when it restarts.
//
// # The sliding log
//
// The attempts table remembers each request. It has to exist anyway, as the ledger of requests to
// Clerk. A request counts against its limit from its start until one window and a small margin
// ([Limit.Weight]) after its answer. If no answer came, that time runs from its deadline, because
// nothing of a request is written to the network after its deadline. A new request may start while
// fewer than N count.
//
// Proof that no window gets more than N requests: A request arrives at Clerk at some moment between
// its start and its answer. Take any N+1 requests in the order of their starts. When the last one
// started, the first no longer counted, so a whole window lay between the answer of the first and
// the start of the last. Therefore a whole window lay between their arrivals too. So no N+1
// requests arrive in one window, wherever windows begin and whatever the latency is. The only waste
// is the latency itself: N requests may start at once.
//
// Counting must not race. The transaction that counts also inserts the attempt, under a lock on the
// bucket's row. A statement takes its snapshot before it waits for a lock, so locking and counting
// are two statements ([Reserve]). All times are PostgreSQL's, so the clocks of processes need not
// agree and a restart changes nothing.
//
// # Workers with different limits
//
// Each live worker states its limits in its row of workers. Counting keeps all of them ([Obeyed]),
// each in its own window. The number of requests that may start is the lowest that any of the
// limits leaves. The limits are read after the bucket's lock is taken, so every worker that
// registered before is obeyed. No worker is refused because its limits differ.
//
// # The general limit
//
// Reads and revokes are many and cheap. One row for each would cost one round trip for each. So a
// process leases small blocks of them ([General]). A block counts as requests do: from the lease
// until one window after the last answer in it. Inside a process golang.org/x/time/rate paces the
// requests of a block evenly, so that they do not all start at the same moment.
//
// # Freezing
//
// Clerk may answer 429 anyway, for example if another program shares the key. Then the bucket is
// frozen for the fleet until Retry-After has passed, at most for one window. After that one request
// probes. For 24 windows after the 429 the fleet sends one request of that bucket at a time. If
// another program uses the limit too, Clerk then refuses one request and not many.
package ratelimit
