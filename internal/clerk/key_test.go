package clerk_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

const (
	testKey = "sk_test_4mVb2sQxYd0"
	liveKey = "sk_live_9pLw7rTzKc1"
)

func TestCheckKey(t *testing.T) {
	t.Parallel()
	for key, good := range map[string]bool{
		testKey: true, liveKey: true, "sk_test_x": true, "sk_live_$~!": true,
		"": false, "sk_test_": false, "sk_live_": false, "pk_test_abc": false, "sk_prod_abc": false,
		"SK_TEST_abc": false, " sk_test_abc": false, "sk_test_abc\n": false, "sk_test_a b": false, "sk_test_ä": false,
	} {
		err := clerk.CheckKey(key)
		if good != (err == nil) || !good && !errors.Is(err, clerk.ErrKey) {
			t.Errorf("CheckKey(%q) = %v", key, err)
		}
		if len(key) > len("sk_test_") && err != nil && strings.Contains(err.Error(), key) {
			t.Errorf("the error shows the key %q", key)
		}
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	// printf sk_test_abc | sha256sum
	const want = "4b4090ccee1e713c"
	expect.Equal(t, "Fingerprint", clerk.Fingerprint("sk_test_abc"), want)
	if clerk.Fingerprint(testKey) == clerk.Fingerprint(liveKey) {
		t.Error("two keys, one fingerprint")
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		key, url string
		want     error
	}{
		{testKey, "", nil},
		{testKey, "https://api.clerk.com/v1", nil},
		{testKey, "https://clerk.example.com:8443/v1/", nil},
		{testKey, "http://127.0.0.1:8089/v1", nil},
		{testKey, "http://[::1]:8089/v1", nil},
		{testKey, "http://localhost:8089/v1", nil},
		{testKey, "http://api.clerk.com/v1", clerk.ErrInsecureURL},
		{testKey, "http://127.0.0.1.example.com/v1", clerk.ErrInsecureURL},
		{testKey, "http://localhost.example.com/v1", clerk.ErrInsecureURL},
		{testKey, "http://0.0.0.0/v1", clerk.ErrInsecureURL},
		{testKey, "ftp://127.0.0.1/v1", clerk.ErrURL},
		{testKey, "api.clerk.com/v1", clerk.ErrURL},
		{testKey, "https:///v1", clerk.ErrURL},
		{testKey, "https://me:secret@api.clerk.com/v1", clerk.ErrURL},
		{testKey, "https://api.clerk.com/v1?x=secret", clerk.ErrURL},
		{testKey, "https://api.clerk.com/%zz", clerk.ErrURL},
		{"", "", clerk.ErrKey},
		{"secret", "", clerk.ErrKey},
	} {
		_, err := clerk.New(clerk.Config{Key: tt.key, URL: tt.url})
		if !errors.Is(err, tt.want) {
			t.Errorf("New(%q, %q) = %v, want %v", tt.key, tt.url, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret@") {
			t.Errorf("the error shows the URL's password: %v", err)
		}
	}
}

func TestLive(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]bool{testKey: false, liveKey: true} {
		c, err := clerk.New(clerk.Config{Key: key})
		must.OK(t, err)
		expect.Equal(t, fmt.Sprintf("Live of %.8s…", key), c.Live(), want)
	}
}

func TestKeyIsNeverPrinted(t *testing.T) {
	t.Parallel()
	config := clerk.Config{Key: liveKey}
	c, err := clerk.New(config)
	must.OK(t, err)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		fmt.Fprintf(&out, verb, config)
		fmt.Fprintf(&out, verb, &config)
		fmt.Fprintf(&out, verb, c)
		fmt.Fprintf(&out, verb, []any{config, c})
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("x", "config", config, "pointer", &config, "client", c)
	}
	secret := strings.TrimPrefix(liveKey, "sk_live_")
	expect.NoText(t, out.String(), secret, fmt.Sprintf("%x", secret))
}
