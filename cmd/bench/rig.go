package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/postgres"
)

// rig is what all runs share: the program, built once, and a PostgreSQL with
// its defaults, in a temporary directory.
type rig struct {
	dir    string
	binary string
	server *postgres.Server
	admin  *pgxpool.Pool // on the server's own database
	stages int
}

// newRig builds and starts everything. Settings are PostgreSQL's.
func newRig(ctx context.Context, settings map[string]string) (_ *rig, err error) {
	dir, err := os.MkdirTemp("", "bulkinvite-bench-")
	if err != nil {
		return nil, err
	}
	r := &rig{dir: dir, binary: filepath.Join(dir, "bulkinvite")}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	// Where we are root, the server runs as somebody else, who must get in.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", r.binary, "./cmd/bulkinvite")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build bulkinvite (bench runs in the module's directory): %w: %s", err, out)
	}
	r.server, err = postgres.Start(ctx, postgres.Config{Dir: filepath.Join(dir, "postgres"), Settings: settings})
	if err != nil {
		return nil, err
	}
	r.admin, err = postgres.Open(ctx, r.server.URL())
	return r, err
}

func (r *rig) close() error {
	if r.admin != nil {
		r.admin.Close()
	}
	var err error
	if r.server != nil {
		err = r.server.Close()
	}
	return errors.Join(err, os.RemoveAll(r.dir))
}

// database makes an empty database and returns its URL.
func (r *rig) database(ctx context.Context, name string) (string, error) {
	if _, err := r.admin.Exec(ctx, "create database "+name); err != nil {
		return "", fmt.Errorf("create database: %w", err)
	}
	u, err := url.Parse(r.server.URL())
	if err != nil {
		return "", errors.New("create database: the server's URL can't be read")
	}
	u.Path = "/" + name
	return u.String(), nil
}

// machine says in a line what the numbers were measured on.
func (r *rig) machine(ctx context.Context) (string, error) {
	var server string
	if err := r.admin.QueryRow(ctx, "select split_part(current_setting('server_version'), ' ', 1)").Scan(&server); err != nil {
		return "", fmt.Errorf("ask PostgreSQL for its version: %w", err)
	}
	return fmt.Sprintf("%d cores, %s/%s, %s, PostgreSQL %s, %s",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, strings.Replace(runtime.Version(), "go", "Go ", 1), server,
		time.Now().Format("2 January 2006")), nil
}
