package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// packaged are the places where the common packages put their binaries outside PATH: Debian and Ubuntu, the PostgreSQL
// project's RPMs, Homebrew on either processor, Postgres.app.
var packaged = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

const installRemedy = "install it: apt-get install postgresql (Debian, Ubuntu), dnf install postgresql-server (Fedora), " +
	"apk add postgresql (Alpine), brew install postgresql@17 (macOS); or give a server's URL"

// binaries is one installation of PostgreSQL.
type binaries struct {
	dir     string
	major   int
	version string
}

func (b binaries) path(name string) string { return filepath.Join(b.dir, name) }

// installations lists what is installed: binDir alone where it is given, else PATH, then the packages' places, newest
// first.
func installations(ctx context.Context, binDir string) ([]binaries, error) {
	var found []binaries
	for _, dir := range binaryDirs(binDir) {
		b, err := inspectBinaries(ctx, dir)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("look for PostgreSQL: %w", ctx.Err())
		}
		if err != nil {
			continue // nothing there that runs
		}
		found = append(found, b)
	}
	rest := found
	if len(rest) > 0 && onPath(rest[0].dir) {
		rest = rest[1:] // somebody's choice stays in front
	}
	slices.SortStableFunc(rest, func(a, b binaries) int { return b.major - a.major })
	return found, nil
}

// choose takes the installation that new data is made with.
func choose(found []binaries, binDir string) (binaries, error) {
	where := "PATH or the usual places"
	if binDir != "" {
		where = binDir
	}
	for _, b := range found {
		if b.major >= MinMajor {
			return b, nil
		}
	}
	if len(found) == 0 {
		return binaries{}, &Error{
			Kind:   ErrNoBinaries,
			Text:   fmt.Sprintf("no PostgreSQL (initdb and postgres) in %s", where),
			Remedy: installRemedy,
		}
	}
	return binaries{}, &Error{
		Kind:   ErrTooOld,
		Text:   fmt.Sprintf("the PostgreSQL in %s is too old (%s); %d or newer is needed", where, versions(found), MinMajor),
		Remedy: installRemedy,
	}
}

// match takes the installation that can run the data in dir, which the major version want made.
func match(found []binaries, want, dir string) (binaries, error) {
	for _, b := range found {
		if strconv.Itoa(b.major) == want {
			return b, nil
		}
	}
	have := "none is installed"
	if len(found) > 0 {
		have = "installed: " + versions(found)
	}
	return binaries{}, &Error{
		Kind: ErrVersion,
		Text: fmt.Sprintf("the data in %s was made by PostgreSQL %s, which is not here (%s)", dir, want, have),
		Remedy: fmt.Sprintf("install PostgreSQL %s beside it; to move to a newer one, dump the database with the old one and restore it "+
			"into a new data directory; the data was not touched", want),
	}
}

func versions(found []binaries) string {
	var list []string
	for _, b := range found {
		list = append(list, b.version)
	}
	return strings.Join(list, ", ")
}

func onPath(dir string) bool {
	path, err := exec.LookPath("postgres")
	return err == nil && filepath.Dir(path) == dir
}

func binaryDirs(binDir string) []string {
	if binDir != "" {
		return []string{binDir}
	}
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, pattern := range packaged {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			continue // only a malformed pattern fails, and these are constants
		}
		dirs = append(dirs, matches...)
	}
	return dirs
}

// inspectBinaries asks the server in dir for its version ("postgres (PostgreSQL) 15.18 (Debian …)").
func inspectBinaries(ctx context.Context, dir string) (binaries, error) {
	b := binaries{dir: dir}
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := os.Stat(b.path(name)); err != nil {
			return b, err
		}
	}
	cmd := exec.CommandContext(ctx, b.path("postgres"), "--version")
	cmd.Env = environment()
	out, err := cmd.Output()
	if err != nil {
		return b, err
	}
	_, version, _ := strings.Cut(strings.TrimSpace(string(out)), ") ")
	b.version, b.major = version, majorOf(version)
	return b, nil
}
