package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"bulkinvite/importer"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
)

type auditCmd struct {
	Email string `placeholder:"ADDRESS" help:"Only this person's rows, in any spelling of the address. Default: everybody's."`
	Batch int64  `placeholder:"NUMBER" help:"Only this batch's rows. Default: all batches'."`
	outFlags
	Status string `enum:"pending,accepted,revoked,expired,gone," default:"" placeholder:"STATUS" help:"Only rows whose invitation stands so: pending, accepted, revoked, expired, gone (deleted at Clerk). Default: all."`
	Actor  string `placeholder:"NAME" help:"Only rows of files that this person sent. Default: everybody's."`
	Since  string `placeholder:"TIME" help:"Only rows that were decided at this time or later (undecided ones: imported): 2026-03-01, \"2026-03-01 08:00\" in --tz, or 2026-03-01T08:00:00+01:00. Default: all."`
	Until  string `placeholder:"TIME" help:"Only rows that were decided before this time; a day without a time is not in it. Default: all."`
	Trace  string `placeholder:"ID" help:"Only rows for which Clerk answered a request with this trace id. Default: all."`
	zoneFlag
}

// Help is shown before the flags.
func (auditCmd) Help() string {
	return `Examples:

    bulkinvite audit --email jane@example.com
    bulkinvite audit --outcome rejected --format csv
    bulkinvite audit --batch 12 --json
    bulkinvite audit --actor maria --since 2026-03-01 --until 2026-04-01
    bulkinvite audit --trace 4bf92f3577b34da6a3ce929d0e0e4736

Rows come by batch and row. A rehearsal's rows are there too: environment says sandbox.`
}

// Run prints the rows that the flags let through.
func (c *auditCmd) Run(ctx context.Context, p *program) error {
	if err := c.apply(); err != nil {
		return err
	}
	filter := report.AuditFilter{Batch: c.Batch, Outcome: invitation.Outcome(c.Outcome),
		Status: invitation.Status(c.Status), Actor: c.Actor, Trace: c.Trace}
	var err error
	if filter.Since, err = parseMoment("since", c.Since); err != nil {
		return err
	}
	if filter.Until, err = parseMoment("until", c.Until); err != nil {
		return err
	}
	if c.Email != "" {
		key, err := personKey(c.Email)
		if err != nil {
			return err
		}
		filter.Key = key
	}
	pool, err := p.database(ctx)
	if err != nil {
		return err
	}
	each := func(yield func(*report.AuditRow) error) error { return report.Audit(ctx, pool, filter, yield) }
	return p.stream(func(w io.Writer) error {
		switch c.format(p) {
		case "csv":
			return auditCSV(w, each)
		case "json":
			return report.JSONArray(w, func(add func(any) error) error {
				return each(func(r *report.AuditRow) error { return add(r) })
			})
		}
		return auditTable(w, p.outDisplay(), each)
	})
}

// parseMoment reads a time that a flag gives; empty is the zero time.
func parseMoment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usage(fmt.Errorf("--%s=%s is no time: write a day as 2026-03-01, a time as \"2026-03-01 08:00\", or with its zone as 2026-03-01T08:00:00+01:00", flag, text))
}

// personKey finds the person that an address names, however it is written.
func personKey(address string) (string, error) {
	key, problem := importer.Person(address)
	if problem == "" {
		return key, nil
	}
	return "", fail(exitUsage, "address", "write it as name@example.com", "what is given as an address is none (%s)", problem)
}

// auditFields are the columns of an audit in CSV.
var auditFields = []struct {
	name  string
	value func(*report.AuditRow) string
}{
	{"batch_id", func(r *report.AuditRow) string { return cellText(r.BatchID) }},
	{"row_number", func(r *report.AuditRow) string { return cellText(r.RowNumber) }},
	{"email", func(r *report.AuditRow) string { return or(r.Email) }},
	{"outcome", func(r *report.AuditRow) string { return or(r.Outcome) }},
	{"reason", func(r *report.AuditRow) string { return or(r.Reason) }},
	{"status", func(r *report.AuditRow) string { return or(r.Status) }},
	{"clerk_invitation_id", func(r *report.AuditRow) string { return or(r.ClerkInvitationID) }},
	{"decided_at", func(r *report.AuditRow) string { return or(r.DecidedAt) }},
	{"actor", func(r *report.AuditRow) string { return r.Actor }},
	{"file_name", func(r *report.AuditRow) string { return r.FileName }},
	{"environment", func(r *report.AuditRow) string { return r.Environment }},
	{"line", func(r *report.AuditRow) string { return cellText(r.Line) }},
	{"duplicate_of", func(r *report.AuditRow) string { return or(r.DuplicateOf) }},
	{"clerk_user_id", func(r *report.AuditRow) string { return or(r.ClerkUserID) }},
	{"status_at", func(r *report.AuditRow) string { return or(r.StatusAt) }},
	{"invited_at", func(r *report.AuditRow) string { return or(r.InvitedAt) }},
	{"expires_at", func(r *report.AuditRow) string { return or(r.ExpiresAt) }},
	{"attempt_id", func(r *report.AuditRow) string { return or(r.AttemptID) }},
	{"read_id", func(r *report.AuditRow) string { return or(r.ReadID) }},
}

func auditCSV(out io.Writer, each func(func(*report.AuditRow) error) error) error {
	w := csv.NewWriter(out)
	w.UseCRLF = true // RFC 4180
	record := make([]string, 0, len(auditFields))
	for _, f := range auditFields {
		record = append(record, f.name)
	}
	if err := w.Write(record); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	err := each(func(r *report.AuditRow) error {
		record = record[:0]
		for _, f := range auditFields {
			record = append(record, spreadsheetSafe(f.value(r)))
		}
		return w.Write(record)
	})
	w.Flush()
	if err == nil {
		err = w.Error()
	}
	return err
}

func auditTable(w io.Writer, s display, each func(func(*report.AuditRow) error) error) error {
	t := newStreamTable(w, s, "Batch", "Row", "By", "File")
	err := each(func(r *report.AuditRow) error {
		numbers := []string{strconv.FormatInt(r.BatchID, 10), strconv.Itoa(r.RowNumber)}
		return t.add(slices.Concat(numbers, resultCells(&r.Result), []string{r.Actor, r.FileName})...)
	})
	if err != nil {
		return err
	}
	return t.flush()
}
