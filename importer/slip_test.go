package importer

import (
	"fmt"
	"strings"
	"testing"

	"bulkinvite/internal/must"
)

// Who is nearly in the company's domain is warned of; the company is found by
// the rows, or given.
func TestReadCompanySlips(t *testing.T) {
	t.Parallel()
	people := func(domain string, n int) string {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "p%d@%s\n", i, domain)
		}
		return text.String()
	}
	for _, test := range []struct {
		name, text, domain string
		slips              int
	}{
		{"one letter wrong, missing, more, swapped", people("acme-tools.com", 9) + "a@acme-tolls.com\nb@acme-tool.com\nc@acmee-tools.com\nd@acme-toosl.com\n", "", 4},
		{"before the others", "a@acme-tolls.com\n" + people("acme-tools.com", 9), "", 1},
		{"others", people("acme-tools.com", 9) + "a@contractor.com\nb@acme-tools.de\nc@tools.com\n", "", 0},
		{"a second domain", people("acme-tools.com", 9) + people("acme-tool.com", 3), "", 0},
		{"no company", people("acme-tools.com", 2) + "a@acme-tolls.com\n", "", 0},
		{"no majority", people("acme-tools.com", 3) + "a@one.com\nb@two.com\nc@three.com\na@acme-tolls.com\n", "", 0},
		{"private addresses", people("gmail.com", 20) + people("acme-tools.com", 3) + "a@acme-tolls.com\nb@ymail.com\n", "", 1},
		{"given", people("other-firm.com", 9) + "a@acme-tolls.com\nb@othr-firm.com\n", "Acme-Tools.com", 1},
		{"a provider given", people("acme-tools.com", 9) + "a@acme-tolls.com\nb@mail.com\n", "gmail.com", 1},
		{"a short name", people("abc.de", 9) + "a@abd.de\n", "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, s, err := read(t, "email\n"+test.text, Options{Domain: test.domain})
			must.OK(t, err)
			for _, w := range s.Warnings {
				if w.Code != LikelySlip || strings.Contains(w.Message, ".com") {
					t.Errorf("%+v", w)
				}
			}
			if len(s.Warnings) != test.slips {
				t.Errorf("%d warnings, want %d: %+v", len(s.Warnings), test.slips, s.Warnings)
			}
		})
	}
}
