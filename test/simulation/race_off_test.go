//go:build !race

package simulation

const underRace = 1
