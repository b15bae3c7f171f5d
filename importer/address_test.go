package importer

import (
	"slices"
	"strings"
	"testing"

	"bulkinvite/internal/invitation"
)

// TestClean: what was mended is noted. TestAddressCorpus has what is refused.
func TestClean(t *testing.T) {
	t.Parallel()
	label63 := strings.Repeat("x", 63)
	for _, test := range []struct {
		cell, email string
		notes       []string
	}{
		{cell: "jane@example.com", email: "jane@example.com"},
		{cell: "Jane.Doe+x@Example.COM", email: "Jane.Doe+x@Example.COM"},
		{cell: "o'brien@example.com", email: "o'brien@example.com"},
		{cell: "a!#$%&*/=?^_`{|}~@example.com", email: "a!#$%&*/=?^_`{|}~@example.com"},
		{cell: " jane@example.com\t", email: "jane@example.com", notes: []string{noteSpaces}},
		{cell: "\u00a0jane@example.com\u3000", email: "jane@example.com", notes: []string{noteWidth, noteSpaces}},
		{cell: "ja\u200bne@example.com\ufeff", email: "jane@example.com", notes: []string{noteInvisible}},
		{cell: "ｊａｎｅ＠ｅｘａｍｐｌｅ．ｃｏｍ", email: "jane@example.com", notes: []string{noteWidth}},
		{cell: "Jane Doe <jane@example.com>", email: "jane@example.com", notes: []string{noteName}},
		{cell: `"Doe, Jane" <jane@example.com>;`, email: "jane@example.com", notes: []string{noteName}},
		{cell: "<jane@example.com>", email: "jane@example.com", notes: []string{noteName}},
		{cell: "'jane@example.com' <jane@example.com>", email: "jane@example.com", notes: []string{noteName}},
		{cell: "Jane <mailto:jane@example.com>", email: "jane@example.com", notes: []string{noteName, noteMailto}},
		{cell: "MailTo:jane@example.com?subject=Hi", email: "jane@example.com", notes: []string{noteMailto}},
		{cell: "'jane@example.com'", email: "jane@example.com", notes: []string{noteQuotes}},
		{cell: "„jane@example.com“", email: "jane@example.com", notes: []string{noteQuotes}},
		{cell: "jane@example.com.", email: "jane@example.com", notes: []string{noteEnd}},
		{cell: "jane@example.com ,", email: "jane@example.com", notes: []string{noteEnd}},
		{cell: `"jane doe"@example.com`, email: `"jane doe"@example.com`},
		{cell: `"jane@work"@example.com`, email: `"jane@work"@example.com`},
		{cell: `"jane\"doe"@example.com`, email: `"jane\"doe"@example.com`},
		{cell: "jane@bücher.example", email: "jane@xn--bcher-kva.example", notes: []string{noteDomain}},
		{cell: "jane@例え。jp", email: "jane@xn--r8jz45g.jp", notes: []string{noteDomain}},
		{cell: "jane@xn--bcher-kva.example", email: "jane@xn--bcher-kva.example"},
		{cell: "mu\u0308ller@example.com", email: "müller@example.com", notes: []string{noteForm}},
		{cell: strings.Repeat("x", 64) + "@example.com", email: strings.Repeat("x", 64) + "@example.com"},
		{cell: "a@" + label63 + ".com", email: "a@" + label63 + ".com"},
	} {
		email, notes, code := Clean(test.cell)
		if email != test.email || code != "" || !slices.Equal(notes, test.notes) {
			t.Errorf("Clean(%q) = %q, %q, %q; want %q, %q", test.cell, email, notes, code, test.email, test.notes)
		}
	}
}

// TestRowsHaveTheirKey holds the importer to the one spelling of a person: the
// key of a row is that of the address that is stored with it.
func TestRowsHaveTheirKey(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ cell, key string }{
		{"Jane@Example.COM", "jane@example.com"},
		{"j.doe+x@example.com", "j.doe+x@example.com"},
		{"Jane@BÜCHER.example", "jane@xn--bcher-kva.example"},
		{"Jane@XN--BCHER-KVA.example", "jane@xn--bcher-kva.example"},
		{"MÜLLER@example.com", "müller@example.com"},
		{"Jane Doe <Jane@Example.com>", "jane@example.com"},
		{"ｊ＠ｅｘａｍｐｌｅ．ｃｏｍ", "j@example.com"},
		{`"A b"@example.com`, `"a b"@example.com`},
		{"a@x。com", "a@x.com"},
		{"a@straße.de", "a@xn--strae-oqa.de"},
	} {
		rows, _, err := read(t, "email\n\""+strings.ReplaceAll(test.cell, `"`, `""`)+"\"\n", Options{})
		if err != nil || len(rows) != 1 || rows[0].Problem != nil {
			t.Errorf("%q is no valid row: %v", test.cell, err)
			continue
		}
		key, err := invitation.Key(rows[0].Email)
		if err != nil || rows[0].Key != key || key != test.key {
			t.Errorf("%q: the row's key is %q, that of its address %q, %v; want %q", test.cell, rows[0].Key, key, err, test.key)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, cell := range []string{
		"jane@example.com", " Jane Doe <jane@example.com>;", "mailto:jane@example.com?subject=x", `"a b"@example.com`, "ｊ＠ｘ．ｃｏｍ",
		"a@x.com, b@x.com", "jane@bücher.example", "a@r3---sn-x.com", "a@xn--.com", "a@1.2", "\u200fa@x.com.", "a@x。com", "'a'@x.com", "a@ß.com", "\xff@x", "a@X-.com",
		`"Doe, Jane" <jane.doe@example.com>`, "'jane@example.com' <jane@example.com>", "jane@example.com;", "jane@example.com / joe@example.com", "Jane\u00a0<JANE@Example.com>\u200b",
		"jane(work)@example.com", "jane@localhost", "jane@[192.0.2.1]", "a@x.com <b@x.com>", "jane@example.com, ", "mailto:%6aane@example.com", "mu\u0308ller@münchen.example", "İ@x.com",
	} {
		f.Add(cell)
	}
	f.Fuzz(func(t *testing.T, cell string) {
		email, _, code := Clean(cell)
		if (email == "") != (code != "") {
			t.Fatalf("Clean(%q) = %q with code %q", cell, email, code)
		}
		if code != "" {
			if _, known := remedies[code]; !known {
				t.Fatalf("Clean(%q): no remedy for %q", cell, code)
			}
			return
		}
		if len(email) > maxAddress {
			t.Fatalf("Clean(%q) = %q: too long", cell, email)
		}
		again, notes, code := Clean(email)
		if again != email || code != "" || len(notes) > 0 {
			t.Fatalf("Clean(%q) = %q, but that cleans to %q, %q, %q", cell, email, again, notes, code)
		}
		key, err := invitation.Key(email)
		if err != nil {
			t.Fatalf("Key(%q): %v", email, err)
		}
		// Lower case is not always idempotent, but a key has to be its own.
		if twice, err := invitation.Key(key); err != nil || twice != key {
			t.Fatalf("Key(%q) = %q, %v", key, twice, err)
		}
	})
}
