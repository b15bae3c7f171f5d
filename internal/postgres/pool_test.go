package postgres_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres"
)

const password = "s3cr/et@pass"

// fakeServer answers each connection as given, and then every query with success. It returns its
// address.
func fakeServer(t *testing.T, version string, refusal *pgproto3.ErrorResponse) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	t.Cleanup(func() {
		expect.OK(t, listener.Close())
	})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed at the end of the test
			}
			go serve(conn, version, refusal)
		}
	}()
	return listener.Addr().String()
}

// serve plays the server until the client closes the connection. The client's test reports what
// went wrong.
func serve(conn net.Conn, version string, refusal *pgproto3.ErrorResponse) {
	defer conn.Close()
	backend := pgproto3.NewBackend(conn, conn)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return
	}
	if refusal != nil {
		backend.Send(refusal)
	} else {
		backend.Send(&pgproto3.AuthenticationOk{})
		backend.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: version})
		backend.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
		backend.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"})
		backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
	for backend.Flush() == nil {
		message, err := backend.Receive()
		if err != nil {
			return
		}
		answer(backend, message)
	}
}

func answer(backend *pgproto3.Backend, message pgproto3.FrontendMessage) {
	switch message.(type) {
	case *pgproto3.Parse:
		backend.Send(&pgproto3.ParseComplete{})
	case *pgproto3.Describe:
		backend.Send(&pgproto3.ParameterDescription{})
		backend.Send(&pgproto3.NoData{})
	case *pgproto3.Bind:
		backend.Send(&pgproto3.BindComplete{})
	case *pgproto3.Execute:
		backend.Send(&pgproto3.CommandComplete{CommandTag: []byte("SET")})
	case *pgproto3.Query:
		backend.Send(&pgproto3.CommandComplete{CommandTag: []byte("SET")})
		backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	case *pgproto3.Sync:
		backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	refusal := func(code, message string) *pgproto3.ErrorResponse {
		return &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: message, Detail: "row (jane@secret.example)"}
	}
	closed := "127.0.0.1:1" // nothing listens on tcpmux
	tests := []struct {
		name, url string
		kind      error
		says      []string
	}{
		{"nothing", " ", postgres.ErrURL, []string{"postgres://"}},
		{"a password with a slash", "postgres://jane:" + password + "@db:5432/x", postgres.ErrURL, []string{"percent-encoded"}},
		{"a port that is none", "postgres://jane:s3cr@db:port/x", postgres.ErrURL, nil},
		{"a mode that is none", "postgres://jane:s3cr@db/x?sslmode=maybe", postgres.ErrURL, nil},
		{"a pool that is none", "postgres://jane:s3cr@db/x?pool_max_conns=0", postgres.ErrURL, nil},
		{"keys", "host=db user=jane password='s3cr' sslmode=maybe", postgres.ErrURL, nil},
		{"nobody there", "postgres://jane:s3cr@" + closed + "/x", postgres.ErrUnreachable, []string{closed, "refused"}},
		{"no such host", "postgres://jane:s3cr@host.invalid/x", postgres.ErrUnreachable, []string{"host.invalid"}},
		{"no socket", "postgres://jane:s3cr@/x?host=/nonexistent", postgres.ErrUnreachable, []string{"/nonexistent"}},
		{"two hosts", "postgres://jane:s3cr@" + closed + ",127.0.0.1:2/x", postgres.ErrUnreachable, []string{"refused"}},
		{"a wrong password", fmt.Sprintf("postgres://jane:s3cr@%s/x?sslmode=disable",
			fakeServer(t, "", refusal("28P01", "password authentication failed for user \"jane\""))),
			postgres.ErrUnreachable, []string{"authentication failed", "user and password"}},
		{"no such database", fmt.Sprintf("postgres://jane:s3cr@%s/x?sslmode=disable",
			fakeServer(t, "", refusal("3D000", "database \"x\" does not exist"))),
			postgres.ErrUnreachable, []string{"does not exist", "create the database"}},
		{"starting", fmt.Sprintf("postgres://jane:s3cr@%s/x?sslmode=disable",
			fakeServer(t, "", refusal("57P03", "the database system is starting up"))),
			postgres.ErrUnreachable, []string{"starting up", "wait"}},
		{"an old server", fmt.Sprintf("postgres://jane:s3cr@%s/x?sslmode=disable", fakeServer(t, "14.2 (Debian)", nil)),
			postgres.ErrTooOld, []string{"14.2", "15 or newer"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := postgres.Open(t.Context(), test.url)
			wantError(t, err, test.kind, test.says...)
			for e := err; e != nil; e = errors.Unwrap(e) {
				secrets(t, e.Error())
			}
			secrets(t, fmt.Sprintf("%+v", err))
			var refused *pgconn.PgError
			if errors.As(err, &refused) {
				secrets(t, refused.Detail)
			}
			var whole *pgconn.ConnectError
			if errors.As(err, &whole) {
				t.Error("the error holds the configuration")
			}
		})
	}
}

func secrets(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{"s3cr", "pass@", "secret.example"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q gives %q away", text, secret)
		}
	}
}

func TestOpenNewVersions(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"15.0", "15.18 (Debian 15.18-0+deb12u1)", "17beta1", "18.1"} {
		pool, err := postgres.Open(t.Context(), fmt.Sprintf("postgres://jane@%s/x?sslmode=disable", fakeServer(t, version, nil)))
		if err != nil {
			t.Errorf("%s: %v", version, err)
			continue
		}
		pool.Close()
	}
}

func TestOpenForcesSettings(t *testing.T) {
	t.Parallel()
	server := start(t, config(newDir(t)))
	execute(t, server.URL(), "alter role all set synchronous_commit = off")
	execute(t, server.URL(), "alter role all set timezone = 'Asia/Tokyo'")
	tests := []struct {
		parameters string
		maxConns   int32
	}{
		{"", 20},
		{"&pool_max_conns=3", 3},
		{"&synchronous_commit=off&timezone=Asia/Tokyo&application_name=x&TimeZone=Asia/Tokyo", 20},
		{"&options=-c%20synchronous_commit%3Doff%20-c%20timezone%3DAsia/Tokyo", 20},
	}
	for _, test := range tests {
		pool, err := postgres.Open(t.Context(), server.URL()+test.parameters)
		if err != nil {
			t.Fatalf("%s: %v", test.parameters, err)
		}
		for name, want := range map[string]string{
			"synchronous_commit": "on", "jit": "off", "application_name": "bulkinvite", "client_encoding": "UTF8", "timezone": "UTC",
		} {
			var got string
			if err := pool.QueryRow(t.Context(), "select current_setting($1)", name).Scan(&got); err != nil || got != want {
				t.Errorf("%s: %s is %q (%v)", test.parameters, name, got, err)
			}
		}
		if got := pool.Config().MaxConns; got != test.maxConns {
			t.Errorf("%s: at most %d connections", test.parameters, got)
		}
		pool.Close()
	}
}

// TestOpenAsksForTheLiving checks that a server keeps the locks of a machine that disappeared no
// longer than it takes to probe it three times. (On a Unix socket the values themselves read as 0.)
func TestOpenAsksForTheLiving(t *testing.T) {
	t.Parallel()
	server, _ := lookedAt.start(t)
	pool, err := postgres.Open(t.Context(), server.URL())
	must.OK(t, err)
	defer pool.Close()
	set := must.Read[int](t, pool, `select count(*) from pg_settings where source = 'session'
		and name in ('tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_keepalives_count', 'tcp_user_timeout')`)
	if set != 4 {
		t.Errorf("%d of 4 settings are the session's own", set)
	}
}
