package invitation_test

import (
	"errors"
	"testing"

	"bulkinvite/internal/invitation"
)

func TestConsent(t *testing.T) {
	t.Parallel()
	three, four := 3, 4
	production := invitation.Sending{People: 3, Environment: "production", Real: true}
	confirmed, nobody := production, production
	confirmed.Confirmed, nobody.People = true, 0
	development := invitation.Sending{People: 3, Environment: "development", Mailed: 97}
	full := development
	full.Mailed = 98
	silent, before := full, full
	silent.Silent, before.Confirmed = true, true
	const ok, ask, drop = "", "ask", "drop"
	for _, c := range []struct {
		name    string
		sending invitation.Sending
		consent invitation.Consent
		want    string
	}{
		{"production, nothing said", production, invitation.Consent{}, ask},
		{"production, yes", production, invitation.Consent{Yes: true}, ask},
		{"production, the number", production, invitation.Consent{Number: &three}, ok},
		{"production, another number", production, invitation.Consent{Number: &four, Yes: true, All: true}, ask},
		{"production, --yes", production, invitation.Consent{All: true}, ok},
		{"production, allowed to be dropped", production, invitation.Consent{Undelivered: true}, ask},
		{"confirmed", confirmed, invitation.Consent{}, ok},
		{"confirmed, another number", confirmed, invitation.Consent{Number: &four}, ask},
		{"nobody to invite, nothing said", nobody, invitation.Consent{}, ask},
		{"nobody to invite, yes", nobody, invitation.Consent{Yes: true}, ok},
		{"development, nothing said", development, invitation.Consent{}, ask},
		{"development, yes", development, invitation.Consent{Yes: true}, ok},
		{"development, another number", development, invitation.Consent{Number: &four, Yes: true}, ask},
		{"full, --yes", full, invitation.Consent{All: true}, drop},
		{"full, the number", full, invitation.Consent{Number: &three}, drop},
		{"full, allowed", full, invitation.Consent{Yes: true, Undelivered: true}, ok},
		{"full, allowed, nothing said", full, invitation.Consent{Undelivered: true}, ask},
		{"full, without mails", silent, invitation.Consent{Yes: true}, ok},
		{"full, confirmed before", before, invitation.Consent{}, ok},
	} {
		err := c.sending.Check(c.consent)
		got := ok
		var consent *invitation.ConsentError
		var undelivered *invitation.UndeliveredError
		switch {
		case errors.As(err, &consent):
			got = ask
		case errors.As(err, &undelivered):
			got = drop
		}
		if got != c.want {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
