//go:build race

package simulation

// underRace is how much longer a second is with the race detector, which slows the workers down, and beside the tests of
// other packages.
const underRace = 4
