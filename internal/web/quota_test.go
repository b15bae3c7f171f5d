package web

import (
	"net/http"
	"strings"
	"testing"
)

// TestUploadQuota: files that don't fit beside those that drafts keep are refused,
// and leave nothing. A draft that is discarded makes room at once.
func TestUploadQuota(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.UploadQuota = 5<<20 - 100<<10 })
	w, s := b.as("olga"), b.script(Operator)
	file := func(bytes int, name string) string {
		return "email,notes\n" + name + "@example.com," + strings.Repeat("x", bytes) + "\n"
	}
	s.csv("", file(1<<19, "a")).want(http.StatusCreated)
	s.csv("", file(1<<19, "b")).want(http.StatusCreated)
	b.exec(`insert into upload_chunks (upload_id, number, data) select 2, n, decode(repeat('00', 1 << 20), 'hex') from generate_series(1, 3) n`)
	kept := b.count(`select sum(octet_length(data)) from upload_chunks`)

	const full, remedy = "The files that drafts keep would take more than 4.9 MiB", "Start or discard drafts"
	a := s.csv("", file(1000<<10, "c")).want(http.StatusInsufficientStorage).says(full, remedy, "--upload-quota")
	if a.header.Get("Content-Type") != problemType {
		t.Errorf("%v", a.header)
	}
	w.upload("c.csv", file(1000<<10, "c")).want(http.StatusInsufficientStorage).says(full, remedy)
	if uploads, now := b.count(`select count(*) from uploads`), b.count(`select sum(octet_length(data)) from upload_chunks`); uploads != 2 || now != kept {
		t.Errorf("%d uploads and %d bytes are left, want 2 and %d", uploads, now, kept)
	}
	s.csv("", file(10, "small")).want(http.StatusCreated) // what fits is taken

	w.post("/batches/2/discard", nil).want(http.StatusSeeOther)
	s.csv("", file(1000<<10, "c")).want(http.StatusCreated)
}
