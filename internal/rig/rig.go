// Package rig is what cmd/bench, cmd/chaos and test/e2e run bulkinvite on: the
// program itself, a PostgreSQL with databases, the sandbox as a server, and
// processes.
package rig

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
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/postgres"
)

// Config says what a rig is made of.
type Config struct {
	Name     string            // of the tool; its temporary directory is called after it
	Tags     string            // build tags of the program
	Settings map[string]string // PostgreSQL's; none: its defaults
}

// Rig is what all runs share: the program, built once, and a PostgreSQL, in a
// temporary directory.
type Rig struct {
	Dir    string
	Binary string
	Server *postgres.Server
	Admin  *pgxpool.Pool // on the server's own database
	config Config
	stages atomic.Int64

	migrating sync.Mutex
	migrated  bool // there is a template with the program's tables
}

// Build builds bulkinvite into a file, with more flags of go build where there are
// any. It runs within the module.
func Build(ctx context.Context, binary, tags string, flags ...string) error {
	args := append([]string{"build", "-tags=" + tags, "-o", binary}, flags...)
	build := exec.CommandContext(ctx, "go", append(args, "bulkinvite/cmd/bulkinvite")...)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build bulkinvite, within its module: %w: %s", err, out)
	}
	return nil
}

// New builds and starts everything. It runs within the module.
func New(ctx context.Context, config Config) (_ *Rig, err error) {
	dir, err := os.MkdirTemp("", "bulkinvite-"+config.Name+"-")
	if err != nil {
		return nil, err
	}
	r := &Rig{Dir: dir, Binary: filepath.Join(dir, "bulkinvite"), config: config}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	// Where we are root, the server runs as somebody else, who must get in.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	if err := Build(ctx, r.Binary, config.Tags); err != nil {
		return nil, err
	}
	if err := r.Start(ctx); err != nil {
		return nil, err
	}
	r.Admin, err = postgres.Open(ctx, r.Server.URL())
	return r, err
}

// Start starts PostgreSQL, again where it was killed.
func (r *Rig) Start(ctx context.Context) error {
	server, err := postgres.Start(ctx, postgres.Config{Dir: filepath.Join(r.Dir, "postgres"), Settings: r.config.Settings})
	if err != nil {
		return err
	}
	if r.Server != nil {
		err = r.Server.Close() // the new share keeps the server
	}
	r.Server = server
	return err
}

// Close stops PostgreSQL and removes the directory.
func (r *Rig) Close() error {
	if r.Admin != nil {
		r.Admin.Close()
	}
	var err error
	if r.Server != nil {
		err = r.Server.Close()
	}
	return errors.Join(err, os.RemoveAll(r.Dir))
}

// Database makes a database, empty or a copy of a template that nobody is
// connected to, and returns its URL.
func (r *Rig) Database(ctx context.Context, name, template string) (string, error) {
	statement := "create database " + name
	if template != "" {
		statement += " template " + template
	}
	if _, err := r.Admin.Exec(ctx, statement); err != nil {
		return "", fmt.Errorf("create database: %w", err)
	}
	u, err := url.Parse(r.Server.URL())
	if err != nil {
		return "", errors.New("create database: the server's URL can't be read")
	}
	u.Path = "/" + name
	return u.String(), nil
}

// Migrated makes a database with the program's tables and returns its URL.
func (r *Rig) Migrated(ctx context.Context, name string) (string, error) {
	const template = "rig_template"
	r.migrating.Lock() // a template that is being copied can't be copied
	defer r.migrating.Unlock()
	if !r.migrated {
		url, err := r.Database(ctx, template, "")
		if err != nil {
			return "", err
		}
		if _, err := Call(ctx, r.Binary, Environment(r.Dir, url, ""), "migrate"); err != nil {
			return "", err
		}
		r.migrated = true
	}
	return r.Database(ctx, name, template)
}

// WithParameter adds a parameter to a database's URL.
func WithParameter(database, parameter string) string {
	if strings.Contains(database, "?") {
		return database + "&" + parameter
	}
	return database + "?" + parameter
}

// Drop drops a database, whoever is connected to it.
func (r *Rig) Drop(ctx context.Context, name string) error {
	if _, err := r.Admin.Exec(ctx, "drop database if exists "+name+" with (force)"); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

// Machine says in a line what the numbers were measured on.
func (r *Rig) Machine(ctx context.Context) (string, error) {
	var server string
	if err := r.Admin.QueryRow(ctx, "select split_part(current_setting('server_version'), ' ', 1)").Scan(&server); err != nil {
		return "", fmt.Errorf("ask PostgreSQL for its version: %w", err)
	}
	return fmt.Sprintf("%d cores, %s/%s, %s, PostgreSQL %s, %s",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, strings.Replace(runtime.Version(), "go", "Go ", 1), server,
		time.Now().Format("2 January 2006")), nil
}

// Environment is that of the programs: nothing of the caller's settings.
func Environment(dir, database, key string) []string {
	var env []string
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "BULKINVITE_") && !strings.HasPrefix(name, "CLERK_") {
			env = append(env, pair)
		}
	}
	return append(env, "DATABASE_URL="+database, "BULKINVITE_DATA_DIR="+dir, "CLERK_SECRET_KEY="+key)
}
