package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// What a row of the file is, to Clerk or to us.
const (
	fresh   = "fresh"   // nobody knows the person
	user    = "user"    // is a user
	pending = "pending" // has a pending invitation
	blocked = "blocked" // is on the block list
	invalid = "invalid" // has no address
	again   = "again"   // is a person of an earlier row
)

// rows is how many fresh people each run has.
const rows = 300

// crowd is the people of a run's file.
type crowd struct {
	kinds []string // by row, from 0
	keys  []string // likewise; empty: the row has none
}

// newCrowd mixes 300 fresh people with some others.
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

// of lists the people of a kind.
func (c *crowd) of(kind string) []string {
	keys := []string{}
	for i, k := range c.kinds {
		if k == kind {
			keys = append(keys, c.keys[i])
		}
	}
	return keys
}

// shift is by how many rows a file's order is moved on from the crowd's.
func (c *crowd) shift(file int) int { return file * len(c.keys) / 3 }

// at is the person of a file's row, which counts from 1. The files have their
// rows in different orders; the last ones, which repeat a person, stay last.
func (c *crowd) at(file, row int) int {
	n := len(c.keys) - len(c.of(again))
	if row > n {
		return row - 1
	}
	return (row - 1 + c.shift(file)) % n
}

// file is a file of the people; each number's is another, from 0.
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
