package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"bulkinvite/jobs"
)

// bareChunk is the number of jobs per insert. The bare loop is fastest at this number.
const bareChunk = 5000

// rowBytes is the length of a row in bytes, as in files from personnel systems.
const rowBytes = 86

// writePeople writes a CSV file with a header and the given number of rows.
func writePeople(path string, rows int) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := bufio.NewWriterSize(file, 1<<20)
	_, _ = w.WriteString("Employee ID,Name,Email,Department,Start\n") // Flush tells
	for i := range rows {
		const row = "%07d,Jane Example Doe,%s,Engineering Platform,2026-12-01\n"
		_, _ = fmt.Fprintf(w, row, i+1, personOf(i+1)) // Flush tells
	}
	return w.Flush()
}

// personOf returns the address in a row of that file. Rows count from 1.
func personOf(row int) string { return fmt.Sprintf("jane.doe.%07d@example.com", row) }

// bareParse reads a file with encoding/csv, drops its records, and counts its rows without the
// header.
func bareParse(path string) (rows int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }() // it was only read
	in := csv.NewReader(file)
	in.ReuseRecord = true
	for {
		if _, err := in.Read(); err == io.EOF {
			return rows - 1, nil
		} else if err != nil {
			return 0, err
		}
		rows++
	}
}

// bareImport parses a file with encoding/csv, copies its rows into results and inserts a job for
// each row, in one transaction. It checks nothing.
func bareImport(ctx context.Context, path, database string) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	client, err := river.NewClient(riverpgxv5.New(nil), &river.Config{})
	if err != nil {
		return err
	}
	in := csv.NewReader(file)
	if _, err := in.Read(); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return bareLoad(ctx, tx, client, in) })
}

func bareLoad(ctx context.Context, tx pgx.Tx, client *river.Client[pgx.Tx], in *csv.Reader) error {
	var batch, instance int64
	err := tx.QueryRow(ctx, `
		with i as (insert into instances (clerk_id, environment) values ('ins_bare', 'production') returning id)
		insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state)
		select id, 'people.csv', '', 0, '', '', '{}', 'bench', 'running' from i
		returning id, instance_id`).Scan(&batch, &instance)
	if err != nil {
		return err
	}
	columns := []string{"batch_id", "instance_id", "row_number", "line", "original", "email", "key"}
	opts := &river.InsertOpts{Queue: fmt.Sprintf("invite_%d", instance), Priority: 2}
	for done := 0; ; {
		var values [][]any
		var params []river.InsertManyParams
		for len(values) < bareChunk {
			cells, err := in.Read()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			done++
			values = append(values, []any{batch, instance, done, done + 1, cells, cells[2], strings.ToLower(cells[2])})
			params = append(params, river.InsertManyParams{Args: jobs.InviteArgs{Batch: batch, Row: done}, InsertOpts: opts})
		}
		if len(values) == 0 {
			return nil
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"results"}, columns, pgx.CopyFromRows(values)); err != nil {
			return err
		}
		if _, err := client.InsertManyFastTx(ctx, tx, params); err != nil {
			return err
		}
	}
}

// counted returns an error unless a database has exactly as many results and jobs as rows.
func counted(ctx context.Context, db *pgxpool.Pool, rows int) error {
	var results, queued int
	err := db.QueryRow(ctx, `
		select (select count(*) from results), (select count(*) from river_job)`).Scan(&results, &queued)
	if err != nil {
		return fmt.Errorf("count what was imported: %w", err)
	}
	if results != rows || queued != rows {
		return fmt.Errorf("%s results and %s jobs, want %s of each", grouped(results), grouped(queued), grouped(rows))
	}
	return nil
}
