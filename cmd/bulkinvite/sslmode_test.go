package main

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// TestUnverifiedHost: of a database elsewhere, doctor says that nothing keeps the
// connection from being read, or from leading to another server, unless the URL says
// by sslmode what is wanted.
func TestUnverifiedHost(t *testing.T) {
	for _, name := range []string{"PGSSLMODE", "PGHOST", "PGSERVICE"} {
		t.Setenv(name, "")
	}
	for url, want := range map[string]string{
		"postgres://b@db.example.com/hires":                          "db.example.com",
		"postgres://b@192.0.2.7:5433/hires?sslmode=prefer":           "192.0.2.7",
		"postgres://b@db.example.com/hires?sslmode=allow":            "db.example.com",
		"postgres://b@localhost,db.example.com/hires":                "db.example.com",
		"postgres://b@db.example.com/hires?sslmode=verify-full":      "",
		"postgres://b@db.example.com/hires?sslmode=require":          "",
		"postgres://b@postgres/hires?sslmode=disable":                "",
		"postgres://b@localhost/hires":                               "",
		"postgres://b@127.0.0.1,[::1]/hires":                         "",
		"postgres://b@/hires?host=/var/run/postgresql":               "",
		"postgres://b@one,two/hires?target_session_attrs=read-write": "one",
	} {
		config, err := pgx.ParseConfig(url)
		must.OK(t, err)
		expect.Equal(t, url, unverifiedHost(config), want)
	}
}
