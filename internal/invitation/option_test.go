package invitation_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/invitation"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"", "https://app.example.com/welcome?a=1#b", "http://localhost:3000", "HTTPS://app.example.com",
		"https://bücher.example/ä",
		"/", "/welcome", "/welcome/to?who=me#top", "/a//b", "/:b",
		"myapp://", "myapp://welcome", "myapp:///welcome?a=1", "com.example.app:/welcome", "MyApp://welcome",
		"exp+my-app://expo-development-client/?url=x",
		"https://app.example.com/" + strings.Repeat("x", invitation.MaxRedirectURL-24),
	} {
		if err := (invitation.Options{RedirectURL: good}).Validate(); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"welcome", "app.example.com", "localhost:3000/welcome", "app.example.com:443/x", "//example.com",
		"/\\example.com", "\\welcome",
		"https:", "https://", "https:///welcome", "https:/app.example.com", "http://:80",
		"https//app.example.com", "htps://app.example.com", "htttps://app.example.com", "://x",
		"myapp:", "myapp:welcome", "mailto:ann@example.com", "1app://x",
		"javascript:alert(1)", "JavaScript://%0aalert(1)", "javascript:/alert",
		"data:text/html,x", "data://text/html", "vbscript://x", "file:///etc/passwd", "blob://x", "ftp://example.com/x",
		"/wel come", "/welcome ", " /welcome", "/wel\tcome", "/welcome\n", "/wel\x00come",
		"/wel\u00a0come", "/wel\u200bcome", "/wel\ufffdcome", "/wel\xffcome", "/%zz", "https://app.example.com/%",
		"/" + strings.Repeat("x", invitation.MaxRedirectURL),
	} {
		err := invitation.Options{RedirectURL: bad}.Validate()
		var option *invitation.OptionError
		if !errors.As(err, &option) || option.Option != "redirect_url" || option.Remedy == "" {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for days, good := range map[int]bool{-1: false, 0: true, 1: true, 365: true, 366: false} {
		if err := (invitation.Options{ExpiresInDays: days}).Validate(); (err == nil) != good {
			t.Errorf("%d days: %v", days, err)
		}
	}
}

func TestBatchOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		option string // that can't be; empty: all can
		batch  invitation.Batch
	}{
		{"", invitation.Batch{Priority: 1}},
		{"", invitation.Batch{Priority: 4, Canary: 1, Duplicates: invitation.Resend, RevokeAfter: 36500 * 24 * time.Hour}},
		{"", invitation.Batch{Priority: 1, Duplicates: invitation.Skip, LinksFile: "links.csv"}},
		{"expires_in_days", invitation.Batch{Priority: 1, Options: invitation.Options{ExpiresInDays: 366}}},
		{"priority", invitation.Batch{}},
		{"priority", invitation.Batch{Priority: 5}},
		{"canary", invitation.Batch{Priority: 1, Canary: -1}},
		{"on_duplicate", invitation.Batch{Priority: 1, Duplicates: "twice"}},
		{"on_duplicate", invitation.Batch{Priority: 1, Duplicates: invitation.Resend, LinksFile: "links.csv"}},
		{"revoke_after", invitation.Batch{Priority: 1, RevokeAfter: -1}},
		{"revoke_after", invitation.Batch{Priority: 1, RevokeAfter: 36500*24*time.Hour + 1}},
	} {
		err := c.batch.Validate()
		var option *invitation.OptionError
		found := errors.As(err, &option)
		if found != (c.option != "") || found && (option.Option != c.option || option.Remedy == "") {
			t.Errorf("%+v: %v", c.batch, err)
		}
	}
}
