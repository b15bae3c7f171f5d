// Package simulation runs the whole program under faults that one number, the seed, decides.
//
// A run is one process with several workers of the real code, the sandbox in memory, and its own
// database in a real PostgreSQL. The files have 10 to 40 rows. One second of the program's own
// waits takes 30 ms, so a run takes about a second. The connections from the workers to PostgreSQL
// and to the sandbox delay, cut or lose data. Workers die, stand still (as after SIGSTOP) for
// longer than their leases last, and are started again. An operator pauses, resumes, cancels,
// retries, resends, corrects, rescinds, undoes and sweeps.
//
//	go test ./test/simulation                                      a few seeds, as make test does
//	go test ./test/simulation -run TestSimulate -seed 4711 -v      one seed again, with a log of the run
//	go test ./test/simulation -run TestSimulate -seed 4711 -times 50   for a failure that does not return every time
//	make simulate SEEDS=5000                                       many seeds, which must reach every rare state
//
// # What a seed fixes
//
// The seed and the identity of an event decide its fault. An event is, for example, the n-th commit
// of a kind by the second life of the third worker, or the n-th request to invite these people. No
// fault depends on the time or on earlier faults, so a rerun has the same fault at the same event.
// A seed does not fix the order in which Go and PostgreSQL run concurrent work: which worker claims
// a row first, and which people share a bulk call. Another order makes other events. After
// [calmAfter] there are no faults, so that a run ends. docs/reliability.md says how often a failing
// seed fails again.
//
// # What must hold
//
// invariant_test.go has the rules that must hold at the end, in SQL and in terms of what the
// sandbox did. They do not call the program, except to verify certificates. network_test.go has the
// rules that are checked during a run: a request that reaches the sandbox has its own committed,
// open attempt, was written before its deadline, exceeds no limit, and mails nobody whose earlier
// invitation from us still stands.
//
// # What the simulation leaves out
//
// The simulation does not stop a worker between its last look at the clock and the write to the
// socket. docs/protocol.md names this gap. River looks for due jobs every five seconds, which can't
// be changed from outside, so the simulation makes them available itself. If the machine is so busy
// that a request takes more than half a settle time to arrive, the program's assumptions do not
// hold. The simulation then drops the request, as a fault of the network.
package simulation
