package postgres

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Dump is the manifest of a dump. A dump is a zip file with manifest.json, which is this, and a
// file NAME.copy for each table: its rows in the text format of COPY, which every version of
// PostgreSQL reads.
type Dump struct {
	// Schema is the version of the tables.
	Schema int64 `json:"schema"`
	// Server is the version of the PostgreSQL server that the dump is from.
	Server string `json:"postgresql"`
	// At is the time of the rows by the server's clock.
	At time.Time `json:"at"`
	// Tables are the tables, by name.
	Tables []Table `json:"tables"`
	// Sequences are the sequences that were used, with their last value.
	Sequences map[string]int64 `json:"sequences"`
}

// Table is a table of a dump.
type Table struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"` // in the order of the rows' values; generated columns are left out
	Rows    int64    `json:"rows"`    // how many
}

// Rows returns how many rows the dump has in all tables.
func (d *Dump) Rows() int64 {
	var n int64
	for _, t := range d.Tables {
		n += t.Rows
	}
	return n
}

const manifestName = "manifest.json"

// ErrNotEmpty says that the database has rows. Load needs an empty database.
var ErrNotEmpty = errors.New("the database is not empty")

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// columnList returns the table and its columns in the syntax of COPY.
func (t Table) columnList() string {
	list := ""
	for i, name := range t.Columns {
		if i > 0 {
			list += ", "
		}
		list += quoted(name)
	}
	return quoted(t.Name) + " (" + list + ")"
}

// tables lists the tables whose rows are the content of a database. It leaves out the tables that
// record the schema's version, which the migrations fill, and unlogged tables, whose rows are
// temporary.
func tables(ctx context.Context, tx pgx.Tx) ([]Table, error) {
	rows, err := tx.Query(ctx, `
		select c.relname, array_agg(a.attname::text order by a.attnum)
		from pg_class c join pg_attribute a on a.attrelid = c.oid
		where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and c.relpersistence = 'p'
		  and c.relname not in ('goose_db_version', 'river_migration')
		  and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
		group by c.relname order by c.relname`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Table, err error) {
		return t, row.Scan(&t.Name, &t.Columns)
	})
}

// WriteDump writes all rows, as they are at one moment, to w. Programs may work meanwhile. The file
// contains everything: people, keys of hashes, sessions.
func WriteDump(ctx context.Context, pool *pgxpool.Pool, w io.Writer, schema int64) (*Dump, error) {
	d := &Dump{Schema: schema, Sequences: map[string]int64{}}
	out := zip.NewWriter(w)
	err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		return d.write(ctx, tx, out)
	})
	if err = errors.Join(err, out.Close()); err != nil {
		return nil, fmt.Errorf("dump: %w", err)
	}
	return d, nil
}

func (d *Dump) write(ctx context.Context, tx pgx.Tx, out *zip.Writer) (err error) {
	if err := tx.QueryRow(ctx, `select current_setting('server_version'), now()`).Scan(&d.Server, &d.At); err != nil {
		return err
	}
	if d.Tables, err = tables(ctx, tx); err != nil {
		return err
	}
	for i := range d.Tables {
		t := &d.Tables[i]
		entry, err := out.Create(t.Name + ".copy")
		if err != nil {
			return err
		}
		tag, err := tx.Conn().PgConn().CopyTo(ctx, entry, "copy "+t.columnList()+" to stdout")
		if err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
		t.Rows = tag.RowsAffected()
	}
	// Sequences don't belong to a transaction. They are read after the rows, so they are never
	// behind them.
	rows, err := tx.Query(ctx, `select sequencename, last_value from pg_sequences where schemaname = current_schema() and last_value is not null`)
	if err != nil {
		return err
	}
	var name string
	var last int64
	if _, err := pgx.ForEachRow(rows, []any{&name, &last}, func() error { d.Sequences[name] = last; return nil }); err != nil {
		return err
	}
	entry, err := out.Create(manifestName)
	if err != nil {
		return err
	}
	return json.NewEncoder(entry).Encode(d)
}

// ReadDump reads the manifest of a dump. It fails if the file is not a dump or is cut off.
func ReadDump(file *zip.Reader) (*Dump, error) {
	manifest, err := file.Open(manifestName)
	if err != nil {
		return nil, errors.New("it has no " + manifestName)
	}
	var d Dump
	if err := errors.Join(json.NewDecoder(manifest).Decode(&d), manifest.Close()); err != nil {
		return nil, fmt.Errorf("its %s: %w", manifestName, err)
	}
	return &d, nil
}

// Load writes the rows of a dump into a database that has the same tables and no rows
// ([ErrNotEmpty]): all of them, or none. The database's user must own the tables; it need not be a
// superuser.
func (d *Dump) Load(ctx context.Context, pool *pgxpool.Pool, file *zip.Reader) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return d.load(ctx, tx, file) })
	if err == nil {
		_, err = pool.Exec(ctx, `analyze`) // so that the first plans are good
	}
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return nil
}

func (d *Dump) load(ctx context.Context, tx pgx.Tx, file *zip.Reader) error {
	here, err := tables(ctx, tx)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(here, d.Tables, func(a, b Table) bool { return a.Name == b.Name && slices.Equal(a.Columns, b.Columns) }) {
		return errors.New("the tables of the dump are not those of the database")
	}
	// The program's triggers must not run: they would treat the loaded evidence as new or as
	// changed. The foreign keys refer to each other in a circle, so they are dropped first.
	if err := each(ctx, tx, here, "alter table %s disable trigger user"); err != nil {
		return err
	}
	if err := clear(ctx, tx, here); err != nil {
		return err
	}
	restore, err := dropReferences(ctx, tx)
	if err != nil {
		return err
	}
	for _, t := range d.Tables {
		if err := t.load(ctx, tx, file); err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
	}
	for name, last := range d.Sequences {
		if _, err := tx.Exec(ctx, `select setval(quote_ident($1)::regclass, $2)`, name, last); err != nil {
			return fmt.Errorf("sequence %s: %w", name, err)
		}
	}
	for _, sql := range restore {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return each(ctx, tx, here, "alter table %s enable trigger user")
}

func each(ctx context.Context, tx pgx.Tx, list []Table, sql string) error {
	for _, t := range list {
		if _, err := tx.Exec(ctx, fmt.Sprintf(sql, quoted(t.Name))); err != nil {
			return err
		}
	}
	return nil
}

// clear checks that there are no rows except the key of hashes, which the migrations insert, and
// deletes that one.
func clear(ctx context.Context, tx pgx.Tx, list []Table) error {
	if _, err := tx.Exec(ctx, `delete from hash_key`); err != nil {
		return err
	}
	for _, t := range list {
		var some bool
		if err := tx.QueryRow(ctx, "select exists (select from "+quoted(t.Name)+")").Scan(&some); err != nil {
			return err
		}
		if some {
			return fmt.Errorf("%w: there are %s", ErrNotEmpty, t.Name)
		}
	}
	return nil
}

// dropReferences drops the foreign keys and returns the statements that create them again. Creating
// them checks every row.
func dropReferences(ctx context.Context, tx pgx.Tx) (restore []string, err error) {
	rows, err := tx.Query(ctx, `
		select format('alter table %s drop constraint %I', conrelid::regclass, conname),
		       format('alter table %s add constraint %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
		from pg_constraint where contype = 'f' and connamespace = current_schema()::regnamespace order by conname`)
	if err != nil {
		return nil, err
	}
	var drop []string
	var out, in string
	if _, err := pgx.ForEachRow(rows, []any{&out, &in}, func() error { drop, restore = append(drop, out), append(restore, in); return nil }); err != nil {
		return nil, err
	}
	for _, sql := range drop {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return nil, err
		}
	}
	return restore, nil
}

func (t Table) load(ctx context.Context, tx pgx.Tx, file *zip.Reader) error {
	entry, err := file.Open(t.Name + ".copy")
	if err != nil {
		return err
	}
	tag, err := tx.Conn().PgConn().CopyFrom(ctx, entry, "copy "+t.columnList()+" from stdin")
	if err = errors.Join(err, entry.Close()); err != nil {
		return err
	}
	if tag.RowsAffected() != t.Rows {
		return fmt.Errorf("%d rows instead of %d", tag.RowsAffected(), t.Rows)
	}
	return nil
}
