//go:build race

package importer

// slower is how many times as much the race detector has a program take.
const slower = 10
