package main

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/postgres"
	"bulkinvite/migrations"
)

type dumpCmd struct {
	File string `arg:"" predictor:"file" help:"The file to write, mode 0600; it must not be there yet."`
}

// Help is shown before the flags.
func (dumpCmd) Help() string {
	return `Examples:

    bulkinvite dump hires.bulkinvite                                     the private database
    bulkinvite load hires.bulkinvite --database-url postgres://db/hires   into a real one

The file has every row of one moment: people, keys of hashes, sessions. To move, stop all programs first: what they do later is not in it. Needs no programs of PostgreSQL, and any version from 15 on loads it.`
}

// moved is what dump and load print.
type moved struct {
	File       string    `json:"file"`
	At         time.Time `json:"at"`
	Schema     int64     `json:"schema"`
	PostgreSQL string    `json:"postgresql"`
	Tables     int       `json:"tables"`
	Rows       int64     `json:"rows"`
}

func newMoved(file string, d *postgres.Dump) moved {
	return moved{File: file, At: d.At.UTC(), Schema: d.Schema, PostgreSQL: d.Server, Tables: len(d.Tables), Rows: d.Rows()}
}

// Run writes the file. What can't be finished is removed.
func (c *dumpCmd) Run(ctx context.Context, p *program, pool *pgxpool.Pool) (err error) {
	newest, err := newestSchema(ctx, pool)
	if err != nil {
		return err
	}
	var working int
	if err := pool.QueryRow(ctx, `select count(*) from workers where heartbeat_at > clock_timestamp() - interval '1 minute'`).Scan(&working); err != nil {
		return err
	}
	out, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fail(exitUsage, "file", "name another file, or remove that one", "%s is there already", plain(c.File))
	}
	if err != nil {
		return unreadable(c.File, err)
	}
	d, err := postgres.WriteDump(ctx, pool, out, newest.Version)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(c.File))
	}
	if working > 0 {
		p.log.Warn("programs still work in this database; what they do from now on is not in the file", "workers", working)
	}
	return p.show(newMoved(c.File, d), fmt.Sprintf("%s has %s rows of PostgreSQL %s, of %s. bulkinvite load %s --database-url URL brings them into an empty database.\n",
		plain(c.File), thousands(int(d.Rows())), d.Server, moment(d.At), shellWord(c.File)))
}

// newestSchema is the last change to the tables that this program knows of.
func newestSchema(ctx context.Context, pool *pgxpool.Pool) (migrations.Migration, error) {
	all, err := migrations.Status(ctx, pool)
	if err != nil {
		return migrations.Migration{}, err
	}
	return all[len(all)-1], nil
}

type loadCmd struct {
	File string `arg:"" predictor:"file" help:"A file that dump wrote."`
}

// Help is shown before the flags.
func (loadCmd) Help() string {
	return `Examples:

    bulkinvite load hires.bulkinvite --database-url postgres://db/hires

The database must be there (create database hires) and be empty: rows are never mixed. All rows are loaded or, whatever goes wrong, none. The tables and the role bulkinvite_auditor are made as migrate makes them. Then set DATABASE_URL to it, run bulkinvite doctor --after-restore, and start workers; the old database must not be worked with any more.`
}

// Run loads the file into an empty database.
func (c *loadCmd) Run(ctx context.Context, p *program) error {
	file, err := zip.OpenReader(c.File)
	if errors.Is(err, zip.ErrFormat) {
		return fail(exitUsage, "file", "name a file that bulkinvite dump FILE wrote to its end", "%s is no dump, or was cut off", plain(c.File))
	}
	if err != nil {
		return unreadable(c.File, err)
	}
	p.onClose(file.Close)
	d, err := postgres.ReadDump(&file.Reader)
	if err != nil {
		return fail(exitUsage, "file", "name a file that bulkinvite dump FILE wrote", "%s is no dump: %w", plain(c.File), err)
	}
	pool, err := p.databaseAsItIs(ctx)
	if err != nil {
		return err
	}
	if err := c.prepare(ctx, p, pool, d); err != nil {
		return err
	}
	err = d.Load(ctx, pool, &file.Reader)
	if errors.Is(err, postgres.ErrNotEmpty) {
		return notEmpty(err)
	}
	if err != nil {
		return err
	}
	return p.show(newMoved(c.File, d), fmt.Sprintf("Loaded %s rows that PostgreSQL %s had %s. With DATABASE_URL set to this database, run bulkinvite doctor --after-restore, then start workers.\n",
		thousands(int(d.Rows())), d.Server, moment(d.At)))
}

// prepare makes the tables in a database that has none. It touches no other: a
// database of somebody else's gets no table of ours.
func (c *loadCmd) prepare(ctx context.Context, p *program, pool *pgxpool.Pool, d *postgres.Dump) error {
	var tables int
	err := pool.QueryRow(ctx, `select count(*) from pg_class where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p', 'v', 'f')`).Scan(&tables)
	if err != nil {
		return err
	}
	newest, err := newestSchema(ctx, pool)
	if err != nil {
		return err
	}
	if tables > 0 && !newest.Applied {
		return notEmpty(fmt.Errorf("%w: it has %d tables of something else, or of an older bulkinvite", postgres.ErrNotEmpty, tables))
	}
	if d.Schema != newest.Version {
		return fail(exitHeld, "schema", "load it with the version of bulkinvite that wrote it; a newer one brings it up to date after",
			"%s has the tables of version %d, this program's are of version %d", plain(c.File), d.Schema, newest.Version)
	}
	return p.migrate(ctx, pool)
}

func notEmpty(err error) error {
	return fail(exitHeld, "not_empty", "name an empty database (create database NAME); nothing was changed", "%w", err)
}
