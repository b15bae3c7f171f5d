package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// TestAPISaysWhatCommandsSay holds the API's documents against what the commands
// print with --json.
func TestAPISaysWhatCommandsSay(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.run("send", "--sandbox", "--yes", b.file("hires.csv", "Name,email\nJane,jane@example.com\nTom,tom(at)example.com\nJane,JANE@example.com\n=1+1,ana@example.com\n")).want(t, exitRows)
	b.run("sweep", "--sandbox", "--older-than", "1h").want(t, exitOK)
	token := strings.TrimSpace(b.run("token", "create", "reader").want(t, exitOK).out)
	serve := b.command("serve", "--sandbox", "--listen", "127.0.0.1:0")
	errs, err := serve.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := serve.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := serve.Wait(); err != nil {
			t.Error(err)
		}
	}()
	var base string
	for lines := bufio.NewScanner(errs); base == "" && lines.Scan(); {
		if _, link, ok := strings.Cut(lines.Text(), "Sign in, once:  "); ok {
			u, err := url.Parse(link)
			if err != nil {
				t.Fatal(err)
			}
			base = u.Scheme + "://" + u.Host
		}
	}
	for path, command := range map[string][]string{
		"/batches":                 {"batches", "--json"},
		"/batches/1":               {"status", "1", "--json"},
		"/batches/1/results":       {"results", "1", "--format", "json"},
		"/batches/1/results.csv":   {"results", "1", "--format", "csv"},
		"/people/JANE@example.com": {"why", "jane@example.com", "--json"},
		"/sweeps":                  {"sweep", "--list", "--json"},
		"/drift":                   {"drift", "--json"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/v1"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		if err := answer.Body.Close(); err != nil {
			t.Error(err)
		}
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v %s", path, answer.Status, text)
		}
		printed := b.run(command...).want(t, exitOK).out
		if strings.HasSuffix(path, ".csv") {
			if string(text) != printed {
				t.Errorf("%s:\n%s\nthe command prints\n%s", path, text, printed)
			}
			continue
		}
		var said, want any
		if err := json.Unmarshal(text, &said); err != nil {
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
