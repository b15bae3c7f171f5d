//go:build !linux

package main

import "fmt"

// swallow works only on Linux.
func swallow(any, bool) error { return fmt.Errorf("swallow packets: %w", errNotHere) }
