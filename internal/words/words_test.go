package words

import "testing"

func TestThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{
		0: "0", 999: "999", 3500: "3,500", -3500: "-3,500", 100_000: "100,000", 1_000_005: "1,000,005",
	} {
		if got := Thousands(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", 1 << 10: "1 KiB", 1536: "1.5 KiB", 3 << 20: "3 MiB", 20_500_000: "20 MiB", 1 << 30: "1 GiB", 8 << 30: "8 GiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

// TestReason: a code of Clerk's is put into words, and stays beside them for
// whoever asks Clerk; one that nobody knows stays as it is.
func TestReason(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"not_allowed_access": "Clerk's allow or block list keeps the address out (not_allowed_access)", "pending_at_clerk": "Clerk had a pending invitation", "brand_new": "brand_new",
	} {
		if got := Reason(code); got != want {
			t.Errorf("%s is %q, want %q", code, got, want)
		}
	}
}
