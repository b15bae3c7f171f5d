package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Kinds of rows of a file.
const (
	fresh   = "fresh"   // unknown to Clerk and to the program
	user    = "user"    // a user at Clerk
	pending = "pending" // has a pending invitation at Clerk
	blocked = "blocked" // on Clerk's block list
	invalid = "invalid" // has no valid address
	again   = "again"   // repeats the person of an earlier row
)

// rows is the number of fresh people in each run.
const rows = 300

// crowd has the people of a run's files.
type crowd struct {
	kinds []string // by row of the first file, from 0
	keys  []string // likewise; empty if the row has none
}

// newCrowd mixes 300 fresh people with rows of the other kinds.
func newCrowd(dice *rand.Rand, withBlocked bool) *crowd {
	c := &crowd{}
	add := func(kind string, n int) {
		for range n {
			c.kinds = append(c.kinds, kind)
		}
	}
	add(fresh, rows)
	add(user, 6)
	add(pending, 6)
	add(invalid, 2)
	if withBlocked {
		add(blocked, 3)
	}
	dice.Shuffle(len(c.kinds), func(i, j int) { c.kinds[i], c.kinds[j] = c.kinds[j], c.kinds[i] })
	add(again, 2)
	for i, kind := range c.kinds {
		key := fmt.Sprintf("%s.%04d@example.com", kind, i+1)
		switch kind {
		case invalid:
			key = ""
		case again:
			key = c.keys[slices.Index(c.kinds, fresh)]
		}
		c.keys = append(c.keys, key)
	}
	return c
}

// of returns the keys of all rows of a kind.
func (c *crowd) of(kind string) []string {
	keys := []string{}
	for i, k := range c.kinds {
		if k == kind {
			keys = append(keys, c.keys[i])
		}
	}
	return keys
}

// shift returns by how many rows a file's order is rotated.
func (c *crowd) shift(file int) int { return file * len(c.keys) / 3 }

// at returns the index of the person in a row of a file. Rows count from 1. The files have their
// rows in different orders, but the last rows, which repeat a person, stay last.
func (c *crowd) at(file, row int) int {
	n := len(c.keys) - len(c.of(again))
	if row > n {
		return row - 1
	}
	return (row - 1 + c.shift(file)) % n
}

// file returns the CSV text of a file. Each number, from 0, gives a different order.
func (c *crowd) file(number int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "email,name in file %d\n", number)
	for row := range c.keys {
		i := c.at(number, row+1)
		key := c.keys[i]
		if key == "" {
			key = "nobody"
		}
		fmt.Fprintf(&b, "%s,Person %d\n", key, i+1)
	}
	return b.String()
}
