// Package postgres opens a pool of connections to PostgreSQL, with the settings that the program's
// promises depend on. If no database is given, it starts a private server. It also dumps and loads.
//
// It may import files only, and knows no table except those that a dump must treat apart. Start
// reading at [Open]; server.go has the private server, dump.go the dumps.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// MinMajor is the oldest major version of PostgreSQL that the program supports.
	MinMajor = 15

	defaultMaxConns       = 20
	defaultConnectTimeout = 10 * time.Second
)

// A connection breaks within deadAfter if its server is silent: after keepaliveIdle without data,
// the kernel sends keepaliveTries probes, one each keepaliveEvery. [prepareSession] makes the
// server probe this machine in the same way.
const (
	keepaliveIdle  = 10 * time.Second
	keepaliveEvery = 5 * time.Second
	keepaliveTries = 3
	deadAfter      = keepaliveIdle + keepaliveTries*keepaliveEvery
)

// forced are the settings that every connection starts with, whatever the URL, the role or the
// server says, so that times and texts have one meaning.
var forced = map[string]string{
	"application_name": "bulkinvite",
	"client_encoding":  "UTF8",
	"timezone":         "UTC",
}

// Open connects to the database at url, a postgres:// URL or libpq's key=value form, and returns a
// pool of at most pool_max_conns connections (a parameter of the URL, 20 by default). Every
// connection has synchronous_commit on, jit off, client encoding UTF8 and time zone UTC. A TCP
// connection breaks if its server is silent for 25 s while it has something to acknowledge (Linux)
// or to answer.
//
// It fails with an [*Error] of kind [ErrURL], [ErrUnreachable] (refused, or no answer within
// connect_timeout, 10 s by default), or [ErrTooOld].
func Open(ctx context.Context, url string) (*pgxpool.Pool, error) {
	config, err := poolConfig(url)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, unreachable(config.ConnConfig, err)
	}
	if err := check(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

func poolConfig(url string) (*pgxpool.Config, error) {
	// The parse error is not returned: it quotes the URL, and in a malformed URL it is unknown
	// which part is the password.
	bad := &Error{
		Kind:   ErrURL,
		Text:   "the database URL cannot be read",
		Remedy: "give it as postgres://user:password@host:5432/database, with special characters percent-encoded (/ as %2F, @ as %40)",
	}
	if strings.TrimSpace(url) == "" {
		return nil, bad
	}
	plain, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, bad
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, bad
	}
	if _, given := plain.RuntimeParams["pool_max_conns"]; !given {
		config.MaxConns = defaultMaxConns
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = defaultConnectTimeout
	}
	for name := range config.ConnConfig.RuntimeParams {
		if _, ours := forced[strings.ToLower(name)]; ours {
			delete(config.ConnConfig.RuntimeParams, name)
		}
	}
	for name, value := range forced {
		config.ConnConfig.RuntimeParams[name] = value
	}
	// pgx's own dialer probes after five minutes of silence. A statement on a connection that a
	// network has forgotten would then wait for an hour.
	config.ConnConfig.DialFunc = (&net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepaliveIdle, Interval: keepaliveEvery, Count: keepaliveTries},
		Control:         giveUpAfter(deadAfter),
	}).DialContext
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		readTimesInUTC(conn.TypeMap())
		return prepareSession(ctx, conn)
	}
	return config, nil
}

// readTimesInUTC makes pgx scan times in UTC, as JSON documents show them. By default pgx uses the
// machine's time zone. Code that formats text for people converts the times to a zone itself.
func readTimesInUTC(types *pgtype.Map) {
	one := &pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC}}
	types.RegisterType(one)
	types.RegisterType(&pgtype.Type{Name: "_timestamptz", OID: pgtype.TimestamptzArrayOID, Codec: &pgtype.ArrayCodec{ElementType: one}})
}

// prepareSession sets what the program's promises need:
//
//   - A commit returns only once it is on disk (synchronous_commit), since an attempt counts as
//     recorded only then.
//   - The server ends a transaction that is idle for 20 s, since its locks may keep all workers
//     from claiming.
//   - The server notices within half a minute that this machine is gone. Otherwise the locks of its
//     transactions would stay for the two hours of a kernel's default keepalive.
//   - Plans are not compiled (jit). Compiling happens again for each query and takes a quarter of
//     the time of an auditor's largest query.
//
// These are statements and not parameters of the connection, because a connection pooler may be
// configured to ignore those.
func prepareSession(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `set synchronous_commit = on; set jit = off; set idle_in_transaction_session_timeout = '20s';
		set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3; set tcp_user_timeout = '25s'`)
	return err
}

// check reports an error unless the server answers and is new enough.
func check(ctx context.Context, pool *pgxpool.Pool) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return unreachable(pool.Config().ConnConfig, err)
	}
	defer conn.Release()
	version := conn.Conn().PgConn().ParameterStatus("server_version")
	if major := majorOf(version); major < MinMajor {
		return &Error{
			Kind:   ErrTooOld,
			Text:   fmt.Sprintf("the database at %s is PostgreSQL %s; %d or newer is needed", place(conn.Conn().Config()), version, MinMajor),
			Remedy: fmt.Sprintf("use a server of PostgreSQL %d or newer", MinMajor),
		}
	}
	return nil
}

// unreachable returns an error that says in one line why there is no connection.
func unreachable(config *pgx.ConnConfig, err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("connect to the database at %s: %w", place(config), context.Canceled)
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return &Error{
			Kind:   ErrUnreachable,
			Text:   fmt.Sprintf("the database at %s refuses the connection: %s (%s)", place(config), oneLine(refused.Message), refused.Code),
			Remedy: refusalRemedy(refused.Code),
			Err:    &pgconn.PgError{Severity: refused.Severity, Code: refused.Code, Message: refused.Message},
		}
	}
	reason := cause(err)
	return &Error{
		Kind:   ErrUnreachable,
		Text:   fmt.Sprintf("the database at %s cannot be reached: %s", place(config), oneLine(reason.Error())),
		Remedy: "see that the server runs and that the URL's host and port are right",
		Err:    reason,
	}
}

// cause returns the part of a connection's error that a person needs. The whole error also contains
// the configuration with its password.
func cause(err error) error {
	var dialing *net.OpError
	var resolving *net.DNSError
	var connecting *pgconn.ConnectError
	switch {
	case errors.As(err, &resolving):
		return resolving
	case errors.As(err, &dialing):
		return dialing.Err
	case errors.As(err, &connecting):
		return connecting.Unwrap()
	}
	return err
}

// refusalRemedy returns an instruction for a server's refusal, by SQLSTATE (PostgreSQL's appendix
// A).
func refusalRemedy(code string) string {
	switch {
	case strings.HasPrefix(code, "28"):
		return "see that the URL's user and password are right and that the server lets this user in from here"
	case code == "3D000":
		return "create the database, or name one that exists in the URL"
	case code == "42501":
		return "grant the URL's user the right to connect to the database"
	case code == "53300":
		return "raise max_connections on the server, or lower pool_max_conns in the URL"
	case strings.HasPrefix(code, "57P"):
		return "wait until the server has started, then try again"
	}
	return "see the server's log for the reason"
}

// place returns the server and the database, without user or password.
func place(config *pgx.ConnConfig) string {
	host := config.Host
	if !strings.HasPrefix(host, "/") {
		host = net.JoinHostPort(host, strconv.Itoa(int(config.Port)))
	}
	return host + " (" + config.Database + ")"
}

// majorOf returns the major version in "15.18 (Debian …)" or "17beta1", or 0 if there is none.
func majorOf(version string) int {
	digits := strings.TrimSpace(version)
	if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = digits[:end]
	}
	major, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return major
}
