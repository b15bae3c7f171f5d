package postgres

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// packaged are the directories in which common packages install the binaries outside PATH. ~ is the
// user's home directory.
var packaged = []string{
	"/usr/lib/postgresql/*/bin",                               // Debian, Ubuntu
	"/usr/pgsql-*/bin",                                        // the PostgreSQL project's RPMs
	"/usr/bin",                                                // Fedora and Arch, if PATH is short
	"/opt/pgsql-*/bin",                                        // Arch, the previous major version
	"/usr/libexec/postgresql*",                                // Alpine
	"/opt/homebrew/opt/postgresql@*/bin",                      // Homebrew on Apple silicon
	"/usr/local/opt/postgresql@*/bin",                         // Homebrew on Intel
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",         // Homebrew on Linux
	"/Applications/Postgres.app/Contents/Versions/[0-9]*/bin", // one of the versions is a link named latest
	"~/.nix-profile/bin",
	"/run/current-system/sw/bin", // NixOS
}

const installRemedy = "install it: apt-get install postgresql (Debian, Ubuntu), dnf install postgresql-server (Fedora), " +
	"apk add postgresql (Alpine), brew install postgresql@17 (macOS); or give a server's URL (DATABASE_URL)"

// binaries is one installation of PostgreSQL.
type binaries struct {
	dir     string
	major   int
	version string
}

func (b binaries) path(name string) string { return filepath.Join(b.dir, name) }

// installations lists the usable installations: only config.BinDir if it is set, otherwise PATH,
// then the directories of packages and what was fetched. The one on PATH comes first; the others
// follow with the newest first.
func installations(ctx context.Context, config Config) ([]binaries, error) {
	var found []binaries
	for _, dir := range binaryDirs(config) {
		b, err := inspectBinaries(ctx, dir)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("look for PostgreSQL: %w", ctx.Err())
		}
		if err != nil {
			continue // nothing usable there
		}
		found = append(found, b)
	}
	found = append(found, fetched(config)...)
	rest := found
	if len(rest) > 0 && onPath(rest[0].dir) {
		rest = rest[1:] // the one on PATH is a choice, so it stays first
	}
	slices.SortStableFunc(rest, func(a, b binaries) int { return b.major - a.major })
	return found, nil
}

// choose returns the installation that creates new data.
func choose(found []binaries, config Config) (binaries, error) {
	where := "PATH or the usual places"
	if config.BinDir != "" {
		where = config.BinDir
	}
	for _, b := range found {
		if b.major >= MinMajor {
			return b, nil
		}
	}
	if len(found) == 0 {
		return binaries{}, &Error{
			Kind:      ErrNoBinaries,
			Text:      fmt.Sprintf("no PostgreSQL (initdb and postgres) in %s", where),
			Remedy:    installRemedy,
			fetchable: config.fetches(),
		}
	}
	return binaries{}, &Error{
		Kind:      ErrTooOld,
		Text:      fmt.Sprintf("the PostgreSQL in %s is too old (%s); %d or newer is needed", where, versions(found), MinMajor),
		Remedy:    installRemedy,
		fetchable: config.fetches(),
	}
}

// match returns the installation that can run data of the major version want.
func match(found []binaries, want string, config Config) (binaries, error) {
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
		Text: fmt.Sprintf("the data in %s was made by PostgreSQL %s, which is not here (%s)", filepath.Join(config.Dir, dataName), want, have),
		Remedy: fmt.Sprintf("install PostgreSQL %s beside it; to move to another one, dump the database with the old one and load it "+
			"into a new data directory; the data was not touched", want),
		fetchable: config.fetches() && want == strconv.Itoa(majorOf(config.Release)),
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

func binaryDirs(config Config) []string {
	if config.BinDir != "" {
		return []string{config.BinDir}
	}
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, pattern := range packaged {
		if below, ok := strings.CutPrefix(pattern, "~/"); ok {
			pattern = filepath.Join(os.Getenv("HOME"), below)
		}
		matches, err := filepath.Glob(filepath.Join("/", config.Root, pattern))
		if err != nil {
			continue // a malformed pattern: a home directory with a bracket in its name
		}
		for _, dir := range matches {
			if !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

// inspectBinaries runs the server in dir to get its version.
func inspectBinaries(ctx context.Context, dir string) (binaries, error) {
	b := binaries{dir: dir}
	if !b.whole() {
		return b, fs.ErrNotExist
	}
	cmd := exec.CommandContext(ctx, b.path("postgres"), "--version")
	cmd.Env = environment()
	out, err := cmd.Output()
	if err != nil {
		return b, err
	}
	b.version = versionIn(string(out))
	b.major = majorOf(b.version)
	return b, nil
}

func (b binaries) whole() bool {
	_, initdb := os.Stat(b.path("initdb"))
	_, postgres := os.Stat(b.path("postgres"))
	return initdb == nil && postgres == nil
}

// versionIn returns the version from the output of --version: "postgres (PostgreSQL) 15.18 (Debian
// …)".
func versionIn(said string) string {
	_, version, _ := strings.Cut(strings.TrimSpace(said), ") ")
	return version
}
