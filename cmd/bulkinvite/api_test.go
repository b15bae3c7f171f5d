package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// TestAPISaysWhatCommandsSay holds the API's documents against what the commands
// print with --json.
func TestAPISaysWhatCommandsSay(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.run("send", "--sandbox", "--yes", b.file("hires.csv", "Name,email\nJane,jane@example.com\nTom,tom(at)example.com\nJane,JANE@example.com\n=1+1,ana@example.com\n")).want(t, exitRows)
	b.run("sweep", "--sandbox", "--older-than", "1h").want(t, exitOK)
	serve := b.serve("--sandbox")
	defer serve.stop()
	for path, command := range map[string][]string{
		"/batches":                 {"batches", "--json"},
		"/batches/1":               {"status", "1", "--json"},
		"/batches/1/results":       {"results", "1", "--format", "json"},
		"/batches/1/results.csv":   {"results", "1", "--format", "csv"},
		"/people/JANE@example.com": {"why", "jane@example.com", "--json"},
		"/sweeps":                  {"sweep", "--list", "--json"},
		"/drift":                   {"drift", "--json"},
	} {
		text := serve.get("/api/v1" + path)
		printed := b.run(command...).want(t, exitOK).out
		if strings.HasSuffix(path, ".csv") {
			if text != printed {
				t.Errorf("%s:\n%s\nthe command prints\n%s", path, text, printed)
			}
			continue
		}
		var said, want any
		if err := json.Unmarshal([]byte(text), &said); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if err := json.Unmarshal([]byte(printed), &want); err != nil {
			t.Fatalf("%v: %v", command, err)
		}
		if !reflect.DeepEqual(said, want) {
			t.Errorf("%s:\n%s\nthe command prints\n%s", path, text, printed)
		}
	}
}
