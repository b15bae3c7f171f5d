package postgrestest_test

import (
	"testing"

	"bulkinvite/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

func TestNew(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	var tables int
	err := pool.QueryRow(t.Context(), "select count(*) from pg_tables where tablename in ('results', 'river_job')").Scan(&tables)
	if err != nil {
		t.Fatal(err)
	}
	if tables != 2 {
		t.Errorf("%d of the tables results and river_job are there", tables)
	}
}
