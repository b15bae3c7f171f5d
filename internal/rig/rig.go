// Package rig runs bulkinvite for cmd/bench, cmd/chaos and test/e2e. It has the built program, a
// PostgreSQL with databases, the sandbox as a server, and processes.
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

	"bulkinvite/internal/postgres"
)

// Config has the settings of a rig.
type Config struct {
	Name     string            // name of the tool, for its temporary directory
	Tags     string            // build tags of the program
	Settings map[string]string // settings of PostgreSQL; nil for its defaults
}

// Rig is what all runs share: the program, which is built once, and a PostgreSQL. Both are in a
// temporary directory.
type Rig struct {
	Dir    string
	Binary string
	Server *postgres.Server
	Admin  *pgxpool.Pool // connected to the server's own database
	config Config
	stages atomic.Int64

	migrating sync.Mutex
	migrated  bool // there is a template with the program's tables
}

// Build builds bulkinvite into a file, with additional flags of go build. The working directory
// must be in the module.
func Build(ctx context.Context, binary, tags string, flags ...string) error {
	args := append([]string{"build", "-tags=" + tags, "-o", binary}, flags...)
	build := exec.CommandContext(ctx, "go", append(args, "bulkinvite/cmd/bulkinvite")...)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build bulkinvite, within its module: %w: %s", err, out)
	}
	return nil
}

// New builds the program and starts PostgreSQL. The working directory must be in the module. The
// caller closes the rig.
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
	// If this process is root, the server runs as another user, who needs access.
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

// Start starts PostgreSQL. It also starts it again after a crash.
func (r *Rig) Start(ctx context.Context) error {
	server, err := postgres.Start(ctx, postgres.Config{Dir: filepath.Join(r.Dir, "postgres"), Settings: r.config.Settings})
	if err != nil {
		return err
	}
	if r.Server != nil {
		err = r.Server.Close() // the new share keeps the server running
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

// Database makes a database and returns its URL. The database is empty, or a copy of template if
// that is not empty. PostgreSQL copies a template only if no session is connected to it.
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
	r.migrating.Lock() // PostgreSQL can't copy a template twice at a time
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

// WithParameter adds a parameter, as name=value, to a database URL.
func WithParameter(database, parameter string) string {
	if strings.Contains(database, "?") {
		return database + "&" + parameter
	}
	return database + "?" + parameter
}

// Drop drops a database and ends all its sessions.
func (r *Rig) Drop(ctx context.Context, name string) error {
	if _, err := r.Admin.Exec(ctx, "drop database if exists "+name+" with (force)"); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

// Machine returns a line about the machine: cores, system, versions of Go and PostgreSQL, and the
// day.
func (r *Rig) Machine(ctx context.Context) (string, error) {
	var server string
	if err := r.Admin.QueryRow(ctx, "select split_part(current_setting('server_version'), ' ', 1)").Scan(&server); err != nil {
		return "", fmt.Errorf("ask PostgreSQL for its version: %w", err)
	}
	return fmt.Sprintf("%d cores, %s/%s, %s, PostgreSQL %s, %s",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, strings.Replace(runtime.Version(), "go", "Go ", 1), server,
		time.Now().Format("2 January 2006")), nil
}

// Environment returns the environment for the programs: the caller's without its BULKINVITE_ and
// CLERK_ variables, and with the given database, data directory and key.
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
