package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/postgres"
	"bulkinvite/migrations"
)

// database opens the database, starting the private one where no other is
// named, and brings its schema up to date.
func (p *program) database(ctx context.Context) (*pgxpool.Pool, error) {
	pool, err := p.databaseAsItIs(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.migrate(ctx, pool); err != nil {
		return nil, err
	}
	return pool, nil
}

// migrate brings the database's schema up to date. A person at a terminal is
// told first, where there is anything to do.
func (p *program) migrate(ctx context.Context, pool *pgxpool.Pool) error {
	if p.tellsSteps() {
		pending, err := migrations.Pending(ctx, pool)
		if err != nil {
			return err
		}
		if pending {
			p.step("Bringing the database up to date")
		}
	}
	return migrations.Up(ctx, pool)
}

// databaseAsItIs opens the database without looking at its schema.
func (p *program) databaseAsItIs(ctx context.Context) (*pgxpool.Pool, error) {
	url := p.settings.DatabaseURL
	if url == "" {
		config, err := p.privateServer()
		if err != nil {
			return nil, err
		}
		server, err := postgres.Start(ctx, config)
		if postgres.Fetchable(err) {
			if err := p.fetchPostgres(ctx, config, err); err != nil {
				return nil, err
			}
			server, err = postgres.Start(ctx, config)
		}
		if err != nil {
			return nil, err
		}
		p.onClose(server.Close)
		p.private = server
		url = server.URL()
	}
	return p.open(ctx, url)
}

// runningDatabase opens a database only where one is named or the private one
// runs already; otherwise it returns nil. It starts nothing.
func (p *program) runningDatabase(ctx context.Context) (*pgxpool.Pool, error) {
	if p.settings.DatabaseURL != "" {
		return p.open(ctx, p.settings.DatabaseURL)
	}
	config, err := p.privateServer()
	if err != nil {
		return nil, err
	}
	url, ok, err := postgres.Running(ctx, config)
	if err != nil || !ok {
		return nil, err
	}
	return p.open(ctx, url)
}

func (p *program) open(ctx context.Context, url string) (*pgxpool.Pool, error) {
	pool, err := postgres.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	p.onClose(func() error {
		within, cancel := context.WithTimeout(context.Background(), closing)
		defer cancel()
		_, _ = await(within, func() (any, error) { pool.Close(); return nil, nil })
		return nil
	})
	return pool, nil
}

// closing is how long connections may take to be given back at the end. A worker that was left
// behind, since its database is gone, may hold on to one.
const closing = 5 * time.Second

// installed says where PostgreSQL is looked for, and which is fetched where there
// is none. Tests look elsewhere.
var installed = postgres.Config{Release: postgres.DefaultRelease}

func (p *program) privateServer() (postgres.Config, error) {
	dir, err := p.settings.directory()
	if err != nil {
		return postgres.Config{}, err
	}
	config := installed
	config.Dir, config.Log = filepath.Join(dir, "postgres"), p.log
	config.Fetched = filepath.Join(dir, "postgres-binaries")
	config.Starting = func(first bool) {
		if first {
			p.step("Creating a PostgreSQL database in %s", config.Dir)
		} else {
			p.step("Starting PostgreSQL")
		}
	}
	return config, nil
}

// fetchPostgres gets the binaries that are missing. At a terminal it asks first;
// elsewhere, where nobody could answer and a private server was asked for, it
// says what it does.
func (p *program) fetchPostgres(ctx context.Context, config postgres.Config, missing error) error {
	config.Repository = p.settings.PostgresFrom
	from := hidden("postgres-from", config.Repository)
	switch {
	case p.settings.Yes && p.tellsSteps():
		p.note("%s.", missing)
	case p.settings.Yes || !p.canAsk():
		p.log.Warn("PostgreSQL is fetched, once: "+missing.Error(), "release", config.Release, "from", from, "to", config.Fetched)
	default:
		question := fmt.Sprintf("%s.\nFetch PostgreSQL %s (some 20 MB) from %s and keep it in %s? [y/N] ", missing, config.Release, from, config.Fetched)
		ok, err := p.confirm(ctx, question, yes...)
		if err != nil {
			return err
		}
		if !ok {
			return fail(exitHeld, "not_confirmed", "--yes confirms it; or install PostgreSQL, or set DATABASE_URL", "nobody confirmed that PostgreSQL is fetched: %w", missing)
		}
	}
	p.step("Fetching PostgreSQL %s (about 20 MB) from %s and storing it in %s", config.Release, from, config.Fetched)
	return postgres.Fetch(ctx, config)
}

// SQLSTATEs (PostgreSQL's appendix A) that ask for a remedy of their own.
const (
	diskFull              = "53100"
	insufficientPrivilege = "42501"
)

const (
	noSpace      = "No space left on device"
	diskRemedy   = "Nothing is lost. Free space on that disk, then give the same command again."
	rightsRemedy = "Grant the database role what it needs: it creates and owns the tables in the schema public " +
		"(GRANT ALL ON SCHEMA public TO role), or use the role that owns them."
)

// classifyDatabase says what to do about an error of a database that was
// reached, or of the program itself. A message of the server is passed on
// without its detail, which may quote rows.
func classifyDatabase(err error) *failure {
	var server *pgconn.PgError
	var connect *pgconn.ConnectError
	f := &failure{exit: exitFailed, code: "failed", err: err}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		f.code, f.remedy = "disk_full", diskRemedy
	case errors.As(err, &server) && server.Code == diskFull:
		f.code, f.remedy = "disk_full", diskRemedy
		if !strings.Contains(err.Error(), noSpace) {
			f.err = fmt.Errorf("%w: %s", err, noSpace)
		}
	case errors.As(err, &server) && server.Code == insufficientPrivilege:
		f.code, f.remedy = "database_rights", rightsRemedy
	case errors.Is(err, migrations.ErrNewer):
		f.code, f.remedy = "database_newer", "use the bulkinvite that brought the database there, or a newer one"
	case errors.As(err, &server), errors.As(err, &connect), pgconn.Timeout(err), pgconn.SafeToRetry(err):
		f.code, f.remedy = "database", "nothing is lost: see that the database runs, then give the same command again"
	}
	return f
}
