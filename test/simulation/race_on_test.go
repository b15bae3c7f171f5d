//go:build race

package simulation

// underRace is the factor for a simulated second under the race detector, which makes the workers
// slower while tests of other packages run too.
const underRace = 4
