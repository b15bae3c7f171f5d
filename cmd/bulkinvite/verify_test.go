package main

import (
	"slices"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/internal/proof"
	"bulkinvite/internal/report"
)

// TestVerifyReads changes the reads, and what they showed, that prove the outcomes
// of a batch. Each change is refused, and found where somebody got past that.
func TestVerifyReads(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Config{})
	s.Tell("users", `["user@example.com"]`)
	s.Tell("invitations", `["pending@example.com", "other@example.com"]`)
	b := newBench(t, "CLERK_API_URL="+s.url, keyVariable+"=sk_test_reads")
	all := b.file("all.csv", "email\nuser@example.com\npending@example.com\nnew@example.com\n")
	b.run("send", "--yes", all).want(t, exitOK)
	pool := open(t, b.url)
	plant := func(sql string) { t.Helper(); postgrestest.Plant(t, pool, sql) }
	hash := decode[report.Report](t, b.run("status", "1", "--json").want(t, exitOK)).Certificate.Head
	head := hash.String()
	b.run("verify", "1", "--head", head).want(t, exitOK)

	for _, sql := range []string{
		`update reads set ended_at = ended_at + interval '1 second'`,
		`update reads set items = 7`, `update reads set complete = not complete`,
		`update reads set call = 'users'`,
		`update reads set pass_begun_at = pass_begun_at - interval '1 hour'`, `update reads set worker_id = 'x'`,
		`delete from reads where id = (select max(id) from reads)`, `truncate reads cascade`,
		`update sightings set created_at = now() - interval '1 year'`,
		`update sightings set first_seen = now() - interval '1 year'`,
		`update sightings set status = 'pending' where status is null`,
		`update sightings set last_seen = now()`, `update sightings set key = 'x'`,
		`delete from sightings`, `truncate sightings`,
		`update certified_sightings set status = 'accepted'`,
		`delete from certified_sightings`, `truncate certified_sightings`,
	} {
		if _, err := pool.Exec(t.Context(), sql); err == nil {
			t.Errorf("not refused: %s", sql)
		}
	}
	b.run("verify", "1", "--head", head).want(t, exitOK)

	user := `(select read_id from results where row_number = 1)`
	pending := `(select read_id from results where row_number = 2)`
	for _, table := range []string{"reads", "sightings", "certified_sightings"} {
		plant(`create table kept_` + table + ` as table ` + table)
	}
	verified := func() *proof.Verification {
		t.Helper()
		v, err := proof.Verify(t.Context(), pool, 1, &hash)
		must.OK(t, err)
		return v
	}
	for _, one := range []struct{ name, sql, what string }{
		{"a read is changed", `update reads set http_status = 500 where id = ` + user, "reads"},
		{"when it was is changed", `update reads set ended_at = ended_at + interval '1 us' where id = ` + pending, "reads"},
		{"a read is deleted", `delete from reads where id = ` + pending, "reads"},
		{"a sighting's status is changed",
			`update sightings set status = 'expired' where key = 'pending@example.com'`, "sightings"},
		{"a sighting's age is changed",
			`update sightings set created_at = created_at - interval '1 day' where key = 'pending@example.com'`, "sightings"},
		{"a sighting is another read's",
			`update sightings set first_read = 1, first_seen = now() where key = 'user@example.com'`, "sightings"},
		{"a sighting is deleted", `delete from sightings where key = 'user@example.com'`, "sightings"},
		{"a sighting is added", `insert into sightings select instance_id, 'inv_forged', key, 'invitation', 'accepted',
			created_at, expires_at, first_read, first_seen, last_read, last_seen
			from sightings where key = 'user@example.com'`, "sightings"},
		{"what is kept of one is changed",
			`update certified_sightings set status = 'accepted' where row_number = 2`, "sightings"},
		{"what is kept of one is deleted", `delete from certified_sightings where row_number = 1`, "sightings"},
	} {
		plant(one.sql)
		v := verified()
		if !slices.ContainsFunc(v.Differences, func(d proof.Difference) bool { return d.What == one.what }) {
			t.Errorf("%s: found %+v", one.name, v.Differences)
		}
		for _, table := range []string{"reads", "sightings", "certified_sightings"} {
			plant(`delete from ` + table)
			override := ""
			if table == "reads" {
				override = "overriding system value "
			}
			plant(`insert into ` + table + ` ` + override + `table kept_` + table)
		}
		if v := verified(); !v.Holds {
			t.Errorf("%s, and put back: found %+v", one.name, v.Differences)
		}
	}
	for _, table := range []string{"reads", "sightings", "certified_sightings"} {
		plant(`drop table kept_` + table)
	}

	// What happens later is no difference: people accept, are read again, and are erased.
	s.Tell("accept", `{"addresses": ["pending@example.com", "new@example.com"]}`)
	b.run("reconcile").want(t, exitOK)
	later := b.file("later.csv", "email\nother@example.com\nuser@example.com\npending@example.com\n")
	b.run("send", "--yes", later).want(t, exitOK)
	b.run("verify", "1", "--head", head).want(t, exitOK)
	b.run("erase", "user@example.com", "--yes").want(t, exitOK)
	b.run("verify", "1", "--head", head).want(t, exitOK)
	b.run("verify", "2").want(t, exitOK)
	b.run("purge", "--older-than", "1ms", "--yes").want(t, exitOK)
	b.run("send", "--yes", "--again", later).want(t, exitOK)
	b.run("verify", "1", "--head", head).want(t, exitOK)
	b.run("verify", "2").want(t, exitOK)
}
