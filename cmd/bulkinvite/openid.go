package main

import (
	"net/url"
	"os"
	"slices"
	"strings"

	"bulkinvite/internal/loopback"
	"bulkinvite/internal/web"
)

// openIDFlags say how people sign in at an identity provider.
type openIDFlags struct {
	OpenIDIssuer      string   `name:"openid-issuer" env:"BULKINVITE_OPENID_ISSUER" placeholder:"URL" help:"Sign in with this OpenID Connect provider. Default: none."`
	OpenIDClientID    string   `name:"openid-client-id" env:"BULKINVITE_OPENID_CLIENT_ID" placeholder:"ID" help:"The client that the provider has for it; its secret is $$BULKINVITE_OPENID_CLIENT_SECRET. Default: none."`
	OpenIDSecretFile  string   `name:"openid-client-secret-file" env:"BULKINVITE_OPENID_CLIENT_SECRET_FILE" type:"path" predictor:"file" placeholder:"FILE" help:"File that holds the client's secret. Default: none."`
	OpenIDGroupsClaim string   `name:"openid-groups-claim" env:"BULKINVITE_OPENID_GROUPS_CLAIM" default:"groups" placeholder:"CLAIM" help:"Claim that lists somebody's groups. Default: groups."`
	OpenIDOperators   []string `name:"openid-operators" env:"BULKINVITE_OPENID_OPERATORS" placeholder:"GROUP" help:"Groups whose people are operators. Default: none."`
	OpenIDAuditors    []string `name:"openid-auditors" env:"BULKINVITE_OPENID_AUDITORS" placeholder:"GROUP" help:"Groups whose people are auditors. Default: none."`
	OpenIDScopes      []string `name:"openid-scopes" env:"BULKINVITE_OPENID_SCOPES" default:"openid,email,profile" placeholder:"SCOPE" help:"What it asks the provider for; some want groups too. Default: openid,email,profile."`
}

// openIDSecretVariable holds the client's secret.
const openIDSecretVariable = "BULKINVITE_OPENID_CLIENT_SECRET"

// openID is what the flags come to; nil: nobody signs in with a provider. back
// is the URL that the provider sends people back to.
func (f *openIDFlags) openID(back *url.URL) (*web.OpenID, error) {
	if f.OpenIDIssuer == "" {
		return nil, nil
	}
	issuer, err := url.Parse(f.OpenIDIssuer)
	switch {
	case err != nil || issuer.Host == "" || !loopback.Secure(issuer):
		return nil, fail(exitUsage, "openid", "write it as https://login.example.com", "--openid-issuer=%s is no https address", f.OpenIDIssuer)
	case f.OpenIDClientID == "":
		return nil, fail(exitUsage, "openid", "register bulkinvite with the provider, and give the client's id", "--openid-issuer needs --openid-client-id")
	case back == nil:
		return nil, fail(exitUsage, "openid", "--url https://invite.example.com, which the provider sends people back to", "--openid-issuer needs --url")
	case len(f.OpenIDOperators)+len(f.OpenIDAuditors) == 0:
		return nil, fail(exitUsage, "openid", "name groups with --openid-operators or --openid-auditors", "--openid-issuer lets nobody in: no group has a role")
	case !slices.Contains(f.OpenIDScopes, "openid"):
		return nil, fail(exitUsage, "openid", "--openid-scopes openid,email,profile", "--openid-scopes lacks openid")
	}
	secret := os.Getenv(openIDSecretVariable)
	if f.OpenIDSecretFile != "" {
		text, err := os.ReadFile(f.OpenIDSecretFile)
		if err != nil {
			return nil, fail(exitUsage, "openid", "see that the file is there and may be read", "read --openid-client-secret-file: %w", err)
		}
		secret = string(text)
	}
	return &web.OpenID{Issuer: f.OpenIDIssuer, ClientID: f.OpenIDClientID, ClientSecret: strings.TrimSpace(secret), Scopes: f.OpenIDScopes,
		GroupsClaim: f.OpenIDGroupsClaim, Operators: f.OpenIDOperators, Auditors: f.OpenIDAuditors}, nil
}
