package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"syscall"
	"testing"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// TestWorkTellsMetrics starts a worker that serves metrics, on a port of the
// system's choice, and asks it.
func TestWorkTellsMetrics(t *testing.T) {
	t.Parallel()
	b := newBench(t, "BULKINVITE_LOG_FORMAT=json")
	b.run("send", "--sandbox", "--yes", b.file("people.csv", "email\nplanted@example.com\nnobody\n")).want(t, exitRows)
	c := b.command("work", "--sandbox", "--metrics-listen", "127.0.0.1:0")
	errs, err := c.StderrPipe()
	must.OK(t, err)
	must.OK(t, c.Start())
	var line struct{ Msg, Address string }
	lines := bufio.NewScanner(errs)
	for line.Msg != "serving metrics" && lines.Scan() {
		must.OK(t, json.Unmarshal(lines.Bytes(), &line))
	}
	text := fetch(t, "http://"+line.Address+"/metrics")
	expect.Text(t, text,
		`bulkinvite_rows{outcome="invited"} 1`, `bulkinvite_rows{outcome="invalid"} 1`, `bulkinvite_database_up 1`, `environment="sandbox"`)
	expect.NoText(t, text, "planted")
	fetch(t, "http://"+line.Address+"/healthz")
	must.OK(t, c.Process.Signal(syscall.SIGTERM))
	if err := c.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// fetch reads what a URL answers, which must be a 200.
func fetch(t *testing.T, url string) string {
	t.Helper()
	answer, err := http.Get(url) // the test's programs end with it
	must.OK(t, err)
	defer answer.Body.Close() // it was only read
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, answer.Status, err)
	}
	return string(text)
}
