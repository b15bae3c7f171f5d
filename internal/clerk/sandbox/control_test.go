package sandbox

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/must"
)

func TestAcceptByAddress(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.invite("a@example.com")
	b.invite("b@example.com")
	b.clock.advance(time.Minute)
	var got struct{ Accepted int }
	b.ok("POST", "/sandbox/accept", `{"addresses":["A@example.com","nobody@example.com"]}`, &got)
	same(t, "accepted", got.Accepted, 1)
	list := b.list("status=accepted")
	same(t, "listed", emails(list), []string{"a@example.com"})
	same(t, "updated", list[0].UpdatedAt, b.clock.now().UnixMilli())
	var users []userBody
	b.ok("GET", "/v1/users?email_address=a@example.com", "", &users)
	same(t, "users", len(users), 1)
	b.post("/v1/invitations", item("a@example.com")).wants(t, 422, "form_identifier_exists")
	b.ok("POST", "/sandbox/accept", `{"addresses":["a@example.com"]}`, &got)
	same(t, "accepted again", got.Accepted, 0)
}

func TestAcceptAFraction(t *testing.T) {
	t.Parallel()
	var runs [2][]string
	for i := range runs {
		b := setup(t, Config{})
		var list []string
		for n := range 40 {
			list = append(list, fmt.Sprintf(`"n%02d@example.com"`, n))
		}
		b.post("/sandbox/invitations", "["+strings.Join(list, ",")+"]")
		var got struct{ Accepted int }
		b.ok("POST", "/sandbox/accept", `{"fraction":0.2,"seed":7}`, &got)
		same(t, "accepted", got.Accepted, 8)
		runs[i] = emails(b.list("status=accepted&order_by=email_address"))
		same(t, "listed", len(runs[i]), 8)
	}
	same(t, "the same seed", runs[1], runs[0])
}

func TestAcceptanceOverTime(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Limits: Limits{Bulk: Limit{N: -1}}, Acceptance: Acceptance{Fraction: 0.5, After: Duration(time.Hour), Seed: 1}})
	for i := range 20 {
		var list []string
		for j := range 10 {
			list = append(list, fmt.Sprintf("n%d.%d@example.com", i, j))
		}
		b.post("/v1/invitations/bulk", items(list...))
	}
	due := b.clock.now().Add(time.Hour).UnixMilli()
	b.clock.advance(time.Hour - time.Millisecond)
	same(t, "before", len(b.list("status=accepted")), 0)
	b.clock.advance(time.Minute)
	accepted := b.list("status=accepted&limit=500")
	if n := len(accepted); n < 80 || n > 120 {
		t.Errorf("%d of 200 accepted, want about half", n)
	}
	same(t, "accepted at", accepted[0].UpdatedAt, due)
	same(t, "users", len(b.server.state.users), len(accepted))
	b.configure(`{"acceptance":{"fraction":1}}`)
	b.invite("late@example.com")
	b.clock.advance(time.Hour)
	same(t, "a later one", len(b.list("status=accepted&query=late@example.com")), 1)
}

func TestRevokedInvitationIsNotAccepted(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Acceptance: Acceptance{Fraction: 1, After: Duration(time.Hour)}})
	b.post("/v1/invitations/"+b.invite("a@example.com").ID+"/revoke", "")
	b.clock.advance(time.Hour)
	same(t, "status", emails(b.list("status=revoked")), []string{"a@example.com"})
	same(t, "users", len(b.server.state.users), 0)
}

func TestEveryInvitation(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Switches: Switches{ListLag: Duration(time.Hour)}})
	in := b.invite("a@example.com")
	b.post("/v1/invitations/"+in.ID+"/revoke", "")
	b.post("/sandbox/invitations", `[{"email":"old@example.com","age":"1h"}]`)
	var list []struct {
		ID, Email, Status string
		Mailed            bool
	}
	b.ok("GET", "/sandbox/invitations", "", &list)
	if len(list) != 2 || list[0].Email != "old@example.com" || list[0].Mailed || list[1].ID != in.ID || list[1].Status != "revoked" || !list[1].Mailed {
		t.Errorf("invitations %+v", list)
	}
}

func TestControlRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for call, body := range map[string]string{
		"/sandbox/users":       `["nobody"]`,
		"/sandbox/invitations": `{"email":"a@example.com"}`,
		"/sandbox/accept":      `{"fraction":2}`,
	} {
		r := b.post(call, body)
		if r.status != http.StatusBadRequest || !strings.Contains(r.body, `"error"`) {
			t.Errorf("%s %s: %d %s", call, body, r.status, r.body)
		}
	}
	same(t, "users", len(b.server.state.users), 0)
}

// TestDemoMeetsTheExamples checks that all rows of examples/hires.csv end well, and that those of
// examples/messy.csv get every outcome that a first send can have.
func TestDemoMeetsTheExamples(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]map[string]int{
		"hires.csv": {"invited": 15, "duplicate_record": 2, "form_identifier_exists": 2, "duplicate_row": 1},
		"messy.csv": {
			"invited": 12, "duplicate_record": 2, "form_identifier_exists": 2, "not_allowed_access": 1, "invalid": 2,
			"duplicate_row": 1,
		},
	} {
		same(t, name, demoOutcomes(t, name), want)
	}
}

// demoOutcomes invites the people of an example one by one, at a new sandbox.
func demoOutcomes(t *testing.T, example string) map[string]int {
	t.Helper()
	file, err := os.Open("../../../examples/" + example)
	must.OK(t, err)
	defer func() { _ = file.Close() }() // it was only read
	rows, err := csv.NewReader(file).ReadAll()
	must.OK(t, err)
	b := setup(t, Demo())
	column := slices.Index(rows[0], "Email")
	seen := map[string]bool{}
	outcomes := map[string]int{}
	for _, row := range rows[1:] {
		key := strings.ToLower(row[column])
		switch {
		case !validAddress(key):
			outcomes["invalid"]++
			continue
		case seen[key]:
			outcomes["duplicate_row"]++
			continue
		}
		seen[key] = true
		r := b.post("/v1/invitations", item(row[column]))
		if r.status == http.StatusOK {
			outcomes["invited"]++
			continue
		}
		outcomes[r.failure(t).code]++
	}
	return outcomes
}
