//go:build !linux

package main

import "errors"

func mount(string, int) error { return errors.New("tmpfs exists only on Linux") }

func unmount(string) error { return nil }
