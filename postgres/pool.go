// Package postgres holds the program's connection to PostgreSQL: a pool with the settings that its promises need, and a
// private server that the program starts itself where it is given no database.
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
	// MinMajor is the oldest major version of PostgreSQL that the program works with.
	MinMajor = 15

	defaultMaxConns       = 20
	defaultConnectTimeout = 10 * time.Second
)

// A connection whose server is silent breaks within deadAfter: the kernel asks again
// keepaliveTries times, keepaliveEvery apart, after a silence of keepaliveIdle.
// [prepareSession] has the server look after us in the same way.
const (
	keepaliveIdle  = 10 * time.Second
	keepaliveEvery = 5 * time.Second
	keepaliveTries = 3
	deadAfter      = keepaliveIdle + keepaliveTries*keepaliveEvery
)

// forced holds the settings that every connection begins with, whatever the URL, the role, or the server says, so that
// times and texts have one reading.
var forced = map[string]string{
	"application_name": "bulkinvite",
	"client_encoding":  "UTF8",
	"timezone":         "UTC",
}

// Open connects to the database at url, a postgres:// URL or libpq's key=value form, and returns a pool of at most
// pool_max_conns connections (a parameter of the URL; 20 where it has none). Every connection has synchronous_commit on,
// jit off, client encoding UTF8 and time zone UTC. One over TCP breaks when its server has been silent for 25 s while it
// had something to acknowledge (Linux) or an answer was awaited.
//
// It fails with an [*Error] of kind [ErrURL], [ErrUnreachable] (no answer within connect_timeout, 10 s by default, or
// turned away), or [ErrTooOld].
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
	// A parse error is not passed on: it quotes the URL, and where that is malformed nobody can tell which part of it
	// is the password.
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
	// pgx's own dialer asks after five minutes of silence, so that a statement on a
	// connection that a network has forgotten would wait for an hour.
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

// readTimesInUTC has times scanned in UTC, as JSON documents give them. pgx would scan them in the zone of the machine.
// Text for people converts them to a zone itself.
func readTimesInUTC(types *pgtype.Map) {
	one := &pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC}}
	types.RegisterType(one)
	types.RegisterType(&pgtype.Type{Name: "_timestamptz", OID: pgtype.TimestamptzArrayOID, Codec: &pgtype.ArrayCodec{ElementType: one}})
}

// prepareSession makes a commit mean that it is on disk, since an attempt counts as recorded only then, and ends a
// transaction that stands still for 20 s, since its locks may keep the whole fleet from claiming. It also has the server
// find out within half a minute that a machine of ours is gone, which would otherwise keep the locks of its transactions
// for the two hours of a kernel's own keepalive. Plans are not compiled (PostgreSQL's
// jit), which is done anew for each question and takes a quarter of the time of an auditor's largest one. These are
// statements, since a pooler in between may be told to ignore the parameters of a connection's start.
func prepareSession(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `set synchronous_commit = on; set jit = off; set idle_in_transaction_session_timeout = '20s';
		set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3; set tcp_user_timeout = '25s'`)
	return err
}

// check sees that the server answers and is new enough.
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

// unreachable says in one line why there is no connection.
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

// cause is the part of a connection's error that a person needs. The whole also holds the configuration, with its password.
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

// refusalRemedy says what helps against a server's refusal (SQLSTATE, PostgreSQL's appendix A).
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

// place names the server and the database, without user or password.
func place(config *pgx.ConnConfig) string {
	host := config.Host
	if !strings.HasPrefix(host, "/") {
		host = net.JoinHostPort(host, strconv.Itoa(int(config.Port)))
	}
	return host + " (" + config.Database + ")"
}

// majorOf reads the major version off "15.18 (Debian …)" or "17beta1"; 0 where there is none.
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
