package clerk_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// TestLinkHides checks that only Reveal shows a link.
func TestLinkHides(t *testing.T) {
	t.Parallel()
	const secret = "https://clerk.example.com/v1/tickets/accept?ticket=dvb_secret"
	i := clerk.Invitation{ID: "inv_1", Link: secret}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("made", "invitation", i, "link", i.Link)
	slog.New(slog.NewTextHandler(&log, nil)).Info("made", "invitation", i, "link", i.Link)
	body, err := json.Marshal(i)
	must.OK(t, err)
	for _, text := range []string{fmt.Sprint(i), fmt.Sprintf("%+v %#v %s %q", i, i, i.Link, i.Link), string(body), log.String()} {
		expect.NoText(t, text, "dvb_secret")
	}
	expect.Equal(t, "revealed as", i.Link.Reveal(), secret)
}

// TestLinkIsKeptOnlyInsteadOfAMail checks that links are kept of invitations without a mail only.
func TestLinkIsKeptOnlyInsteadOfAMail(t *testing.T) {
	t.Parallel()
	api := newStandIn(t, sandbox.Config{})
	silent := false
	for _, tt := range []struct {
		name   string
		answer clerk.Answer
		want   bool
	}{
		{"mailed", api.Create(t.Context(), clerk.Invite{Email: "a@example.com"}), false},
		{"not mailed", api.Create(t.Context(), clerk.Invite{Email: "b@example.com", Notify: &silent}), true},
		{"mailed, bulk", api.Bulk(t.Context(), []clerk.Invite{{Email: "c@example.com"}}), false},
		{"not mailed, bulk", api.Bulk(t.Context(), []clerk.Invite{{Email: "d@example.com", Notify: &silent}}), true},
		{"listed", api.Invitations(t.Context(), clerk.ListQuery{}).Answer, false},
	} {
		if tt.answer.Class != clerk.Success || len(tt.answer.Invitations) == 0 {
			t.Fatalf("%s: %v", tt.name, tt.answer)
		}
		for _, i := range tt.answer.Invitations {
			if (i.Link != "") != tt.want {
				t.Errorf("%s: a link is kept: %v, want %v", tt.name, i.Link != "", tt.want)
			}
		}
	}
}
