package main

import "testing"

func TestMachineZone(t *testing.T) {
	for tz, want := range map[string]string{"Europe/Berlin": "Europe/Berlin", ":America/New_York": "America/New_York", "": "UTC"} {
		t.Setenv("TZ", tz)
		if got, err := machineZone(); err != nil || got != want {
			t.Errorf("TZ=%q: %q, %v; want %q", tz, got, err, want)
		}
	}
	t.Setenv("TZ", "nowhere")
	if got, err := machineZone(); err == nil {
		t.Errorf("TZ=nowhere: %q", got)
	}
}
