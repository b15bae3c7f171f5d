package main

import (
	"net/http"
	"strings"
	"testing"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/postgres/postgrestest"
)

// Somebody who was rescinded from a draft stays out of it, however often its file is
// read again: by other columns, in which they are on another row or not at all.
func TestRescindedStaysOutOfDraft(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	serve := b.serve()
	defer serve.stop()
	serve.upload("draft.csv&map=email=work", `work,private,note
kim@example.com,kim@home.example,a
jane@example.com,jane@home.example,b
lee@example.com,,c
`)
	columns := func(email string, want int) string {
		t.Helper()
		status, text := serve.addresses("1", email)
		if status != want {
			t.Fatalf("columns: %d %s", status, text)
		}
		return text
	}
	o := b.swift("rescind", "--email", "Jane@example.com", "--apply", "--json").want(t, exitOK)
	if gone := decode[rescindDocument](t, o); gone.Waiting != 1 || gone.Stopped != 1 {
		t.Errorf("%+v", gone)
	}
	for _, email := range []string{"private", "private", "work"} { // jane@example.com is in no row of the second reading
		columns(email, http.StatusOK)
	}
	status, text := serve.ask(http.MethodPatch, "/api/v1/batches/1/options", "application/json", `{"priority":1}`)
	if status != http.StatusOK {
		t.Fatalf("options: %d %s", status, text)
	}
	expect.Text(t, serve.get("/api/v1/batches/1/draft"), `"to_invite":2`)
	rows := decode[[]map[string]any](t, b.run("audit", "--batch", "1", "--outcome", "cancelled", "--json").want(t, exitOK))
	if len(rows) != 1 || rows[0]["email"] != "jane@example.com" || rows[0]["reason"] != "withdrawn" {
		t.Errorf("cancelled: %v", rows)
	}
	b.run("start", "1", "--yes").want(t, exitOK)
	b.swift("work", "--until-idle").want(t, exitOK)
	s.wantOpen(t, "kim@example.com", "lee@example.com")
	b.run("verify", "1").want(t, exitOK)

	// What was kept for that goes with the person.
	serve.upload("two.csv", "email\njoe@example.com\nann@example.com\n")
	b.swift("rescind", "--email", "joe@example.com", "--apply").want(t, exitOK)
	if status, text := serve.addresses("2", "email"); status != http.StatusOK {
		t.Fatalf("columns: %d %s", status, text)
	}
	b.run("erase", "joe@example.com", "--yes").want(t, exitOK)
	var left strings.Builder
	b.dump(&left)
	expect.NoText(t, left.String(), "joe@example.com")
}

// A row of a draft is not corrected: that would send before anybody confirmed the
// draft. A draft that was corrected by a version before says so when its file is to
// be read in another way.
func TestCorrectRefusesDraft(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	serve := b.serve()
	defer serve.stop()
	serve.upload("draft.csv", "email,Name\njane@gmial.com,Jane\nkim@example.com,Kim\n")
	o := b.swift("correct", "1", "1", "--email", "jane@gmail.com", "--yes", "--json").want(t, exitHeld)
	refused := decode[errorDocument](t, o).Error
	for _, way := range []string{"bulkinvite start 1", "bulkinvite cancel 1"} {
		if refused.Code != "draft" || !strings.Contains(refused.Remedy, way) {
			t.Errorf("%+v", refused)
		}
	}
	s.mailed(t, 0)
	if status, text := serve.addresses("1", "email"); status != http.StatusOK {
		t.Errorf("columns: %d %s", status, text)
	}

	postgrestest.Plant(t, open(t, b.url), `
		insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor,
		                     state, corrects, corrects_row)
		select instance_id, file_name, '', 0, encoding, delimiter, columns, actor, 'done', 1, 1 from batches where id = 1`)
	status, text := serve.addresses("1", "email")
	if status != http.StatusUnprocessableEntity || !strings.Contains(text, "a row of it was corrected") ||
		!strings.Contains(text, "upload the file again") {
		t.Errorf("another way to read a draft with a corrected row: %d %s", status, text)
	}
	expect.Text(t, serve.get("/api/v1/batches/1/draft"), `"to_invite":2`)
	b.run("start", "1", "--yes").want(t, exitOK)
}

// upload makes a file a draft. The name may have other parameters after it.
func (s *serving) upload(name, text string) {
	s.t.Helper()
	status, answer := s.ask(http.MethodPost, "/api/v1/batches?file_name="+name, "text/csv", text)
	if status != http.StatusCreated {
		s.t.Fatalf("upload: %d %s", status, answer)
	}
}

// addresses has the file of a draft read again, with its addresses in a column.
func (s *serving) addresses(batch, column string) (status int, text string) {
	s.t.Helper()
	return s.ask(http.MethodPut, "/api/v1/batches/"+batch+"/columns", "application/json", `{"map":{"email":"`+column+`"}}`)
}
