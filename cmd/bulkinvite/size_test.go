package main

import "testing"

func TestSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]size{
		"1": 1, "500MB": 500_000_000, "2GiB": 2 << 30, "2 gib": 2 << 30, "3kB": 3000, "3KiB": 3 << 10, "1TB": 1_000_000_000_000, "8388607TiB": 8388607 << 40,
		"1.5GB": 1_500_000_000, "1B": 1,
		"0": 0, "-1": 0, "": 0, "GB": 0, "1XB": 0, "0.5": 0, "8388608TiB": 0,
	} {
		var got size
		if err := got.UnmarshalText([]byte(text)); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
}
