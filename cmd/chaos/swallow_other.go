//go:build !linux

package main

import "fmt"

// swallow is there on Linux alone.
func swallow(any, bool) error { return fmt.Errorf("swallow packets: %w", errNotHere) }
