package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// logLine is a line of the log as json has it.
type logLine map[string]any

// readLog reads what a run wrote to standard error, but for what is for people.
func readLog(t *testing.T, text string) (lines []logLine) {
	t.Helper()
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		var one logLine
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Errorf("no line of JSON: %v: %s", err, line)
		}
		lines = append(lines, one)
	}
	return lines
}

// logKeys are all that lines may say: ids, numbers, times, and words of ours or
// of Clerk's. A new one has to be thought about, and gets its place here.
var logKeys = strings.Fields(`
	time level msg error
	attempt batch batches erasure instance invitation invitations lease notice notices number people read reconcile resend_of revocations row rows sweep upload users worker
	accepted action again_in answer already_invited already_registered away bulk bytes by call cancel class code complete create decided deleted done_at dir duplicate_row duration environment eta
	expired fault found frozen_until gone invalid lost new of openid outcome page patience pending pending_again pid reason requests revoke revoked role scanned seconds stale status
	tries try type unchanged undecided unexplained version via wait waiting windows work address apply bucket id joined status took trace_id threshold
	to_send file size openid exporter later_batches kept`)

// knownKeys fails the test where the log says what is not on the list.
func knownKeys(t *testing.T, lines []logLine) {
	t.Helper()
	for _, line := range lines {
		for _, key := range slices.Sorted(maps.Keys(line)) {
			// River's page counts jobs by a query without parameters, and says err if it fails, as on a busy machine.
			ours := !strings.HasPrefix(fmt.Sprint(line["msg"]), "querycacher.") || key != "err"
			if ours && !slices.Contains(logKeys, key) {
				t.Errorf("%q says %s", line["msg"], key)
			}
		}
	}
}

// TestOneLineARow: at info a row has one line at most, and only where something
// was wrong; at debug each row that was sent has one for its outcome.
func TestOneLineARow(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Config{})
	s.Tell("users", `["person3@example.com"]`)
	s.Tell("faults", `[{"kind":"cut_after","call":"bulk","first":1},{"kind":"status","status":422,"call":"create","first":2}]`)
	b := newBench(t, "CLERK_API_URL="+s.url, "CLERK_SECRET_KEY=sk_test_log", "BULKINVITE_SETTLE=1ms", "BULKINVITE_LOG_LEVEL=debug", "BULKINVITE_LOG_FORMAT=json")
	o := b.run("send", "--yes", b.file("people.csv", people(47))).want(t, exitRows)
	lines := readLog(t, o.err)
	knownKeys(t, lines)
	outcomes, others, calls := map[string]int{}, map[string]int{}, map[string]int{}
	for _, line := range lines {
		row := fmt.Sprint(line["batch"], " ", line["row"], " ", line["outcome"])
		switch {
		case line["msg"] == "called Clerk" && line["attempt"] != nil:
			calls[fmt.Sprint(line["attempt"])]++
		case line["row"] == nil:
		case line["outcome"] != nil && line["outcome"] != "":
			outcomes[row]++
		case line["level"] != "DEBUG":
			others[row]++
		}
	}
	pool := open(t, b.url)
	rows, err := pool.Query(t.Context(), `select batch_id || ' ' || row_number || ' ' || outcome from results`)
	must.OK(t, err)
	want, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(want) != 47 {
		t.Fatal(len(want), err)
	}
	for _, row := range want {
		if outcomes[row] != 1 || others[row] > 1 {
			t.Errorf("row %s: %d lines for its outcome, %d others; want one, and one at most", row, outcomes[row], others[row])
		}
	}
	expect.Equal(t, "rows that have lines with outcomes", len(outcomes), len(want))
	attempts := must.Read[int](t, pool,
		`select count(*) from attempts where http_status is not null or resolved_at is not null`)
	for attempt, n := range calls {
		if n != 1 {
			t.Errorf("attempt %s has %d lines, want one", attempt, n)
		}
	}
	expect.Equal(t, "attempts in the log", len(calls), attempts)
}
