// Package simulation runs the whole program under faults that one number, the seed, decides.
//
// A run is one process with several workers of the real code, the sandbox in memory, and a real PostgreSQL with a
// database of its own. The files have 10 to 40 rows, and a second of the program's own waits takes 30 ms, so that a
// run takes about a second. Between the workers and PostgreSQL, and between the workers and the sandbox, stand
// connections that delay, cut or lose what passes; workers die, stand still for longer than their leases last, and
// are started again; and an operator pauses, resumes, cancels, retries, resends, corrects, rescinds, undoes and sweeps.
//
//	go test ./test/simulation                                      a few seeds, as make test does
//	go test ./test/simulation -run TestSimulate -seed 4711 -v      one seed again, with what happened
//	go test ./test/simulation -run TestSimulate -seed 4711 -times 50   for a failure that does not return every time
//	make simulate SEEDS=5000                                       many, and every rare state must be reached
//
// # What a seed fixes
//
// Every fault is drawn from the seed and the identity of its event: the n-th commit of a kind by the second life of
// the third worker, or the n-th request to invite these people. No draw depends on the time or on what was
// drawn before, so a rerun meets the same fault at the same event. What a seed does not fix is the
// order in which Go and PostgreSQL run what is concurrent: which worker claims a row first, and who else is in the
// same bulk call. Another order makes other events. After [calmAfter] no fault is drawn any more, so that a
// run ends. How often a failing seed fails again is in docs/reliability.md.
//
// # What must hold
//
// invariant_test.go has the rules, in SQL and in terms of what the sandbox did. They do not call the program.
// Those that are checked while a run goes on are in network_test.go: a request that reaches the sandbox has one
// committed, open attempt of its own, was written before its deadline, meets no limit, and mails nobody
// whose earlier invitation from us still stands.
//
// # What the simulation leaves out
//
// A worker that stands still between its last look at the clock and the write to the socket is the gap that
// docs/protocol.md names, and is not simulated. River looks for jobs that are due each five seconds, which can't be
// changed from outside, and so the simulation makes them available. A machine that is so busy that a request takes
// more than half a settle time on its way breaks what the program may rely on: that request is lost
// on the way, as a fault.
package simulation
