package invitation_test

import (
	"strings"
	"testing"

	"golang.org/x/net/idna"
	"pgregory.net/rapid"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
)

func TestKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ email, want string }{
		{"jane@example.com", "jane@example.com"},
		{"Jane.Doe@Example.COM", "jane.doe@example.com"},
		{"j.a.n.e+hires@example.com", "j.a.n.e+hires@example.com"}, // plus and dots are kept
		{"jane@bücher.example", "jane@xn--bcher-kva.example"},
		{"jane@BÜCHER.example", "jane@xn--bcher-kva.example"},
		{"jane@xn--bcher-kva.example", "jane@xn--bcher-kva.example"},
		{"jane@XN--BCHER-KVA.example", "jane@xn--bcher-kva.example"},
		{"JÖRG@example.com", "jörg@example.com"},
		{`"a@b"@example.com`, `"a@b"@example.com`}, // the last @ divides
	} {
		if got, err := invitation.Key(tt.email); err != nil || got != tt.want {
			t.Errorf("Key(%q) = %q, %v; want %q", tt.email, got, err, tt.want)
		}
	}
}

// An error names no address: it may end up in a log.
func TestKeyRefuses(t *testing.T) {
	t.Parallel()
	for _, email := range []string{"", "@", "secret", "secret@", "@secret.example", "secret@-secret-.example", "secret@sec ret.example", "secret@secret..example", "secret@xn--secret\u00fc.example"} {
		got, err := invitation.Key(email)
		if err == nil {
			t.Errorf("Key(%q) = %q, want an error", email, got)
			continue
		}
		expect.NoText(t, err.Error(), "secret")
	}
}

// A key is its own key, and does not depend on the case of what it is made of.
func TestKeyIsStable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		email := rapid.StringMatching(`[a-zA-Z0-9.+_'-]{1,12}@[a-zA-Z]{1,8}(\.[a-zA-Z]{2,6}){1,2}`).Draw(t, "email")
		key, err := invitation.Key(email)
		if err != nil {
			t.Fatalf("Key(%q): %v", email, err)
		}
		for _, same := range []string{key, strings.ToUpper(email), strings.ToLower(email)} {
			if got, err := invitation.Key(same); err != nil || got != key {
				t.Fatalf("Key(%q) = %q, %v; want %q, as of %q", same, got, err, key, email)
			}
		}
	})
}

// The short way for plain domains has to say what the library says.
func FuzzASCIIDomain(f *testing.F) {
	for _, domain := range []string{"example.com", "a-b.c", "xn--bcher-kva.example", "a--b.com", "1.2", "a.", "-a.b", "A.b", "a..b", ""} {
		f.Add(domain)
	}
	f.Fuzz(func(t *testing.T, domain string) {
		got, ok := invitation.ASCIIDomain(domain)
		want, err := idna.Lookup.ToASCII(domain)
		if ok && (err != nil || got != want) {
			t.Fatalf("%q: %q, but the library makes %q of it, %v", domain, got, want, err)
		}
	})
}
