package loopback_test

import (
	"net/url"
	"testing"

	"bulkinvite/internal/loopback"
)

func TestHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "LocalHost": true, "127.0.0.1": true, "127.8.9.10": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "localhost.example.com": false, "127.0.0.1.example.com": false, "0.0.0.0": false,
		"::": false, "10.0.0.1": false, "example.com": false,
	} {
		if got := loopback.Host(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func TestSecure(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"https://example.com": true, "http://127.0.0.1:8080/v1": true, "http://[::1]:80": true, "http://localhost": true,
		"http://example.com": false, "http://localhost.example.com": false,
		"http://user@example.com#localhost": false, "ftp://localhost": false, "//localhost": false,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := loopback.Secure(u); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
