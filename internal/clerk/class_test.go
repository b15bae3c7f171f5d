package clerk_test

import (
	"context"
	"encoding/csv"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/must"
)

// TestRefusalTable compares the class of every code, for each call that can get it, with testdata.
func TestRefusalTable(t *testing.T) {
	t.Parallel()
	asking := maps.Clone(calls)
	asking["one"] = func(ctx context.Context, c *clerk.Client) clerk.Answer {
		return c.Bulk(ctx, []clerk.Invite{{Email: "jane@example.com"}})
	}
	file, err := os.Open("testdata/refusals.tsv")
	must.OK(t, err)
	defer func() { _ = file.Close() }() // it was only read
	r := csv.NewReader(file)
	r.Comma, r.Comment = '\t', '#'
	lines, err := r.ReadAll()
	must.OK(t, err)
	for _, line := range lines[1:] {
		code, class := line[0], line[3]
		status, err := strconv.Atoi(line[1])
		must.OK(t, err)
		body := fmt.Sprintf(`{"errors":[{"code":%q,"message":"no"}],"clerk_trace_id":"trace_b"}`, code)
		names := strings.Split(line[2], ",")
		if line[2] == "*" {
			names = slices.Sorted(maps.Keys(asking))
		}
		f := newFake(t, clerk.Config{}, answering(status, body))
		for _, name := range names {
			a := asking[name](within(t, 10*time.Second), f.Client)
			if a.Class.String() != class || a.Code != code {
				t.Errorf("%s answered %d %s: %s, want %s", name, status, code, a.Class, class)
			}
		}
	}
	if len(lines) < 100 {
		t.Errorf("%d lines, want every code", len(lines))
	}
}
