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

// packaged are the places where the common packages put their binaries outside PATH. Those under ~ lie in the user's home.
var packaged = []string{
	"/usr/lib/postgresql/*/bin",                               // Debian, Ubuntu
	"/usr/pgsql-*/bin",                                        // the PostgreSQL project's RPMs
	"/usr/bin",                                                // Fedora, Arch, where PATH is short
	"/opt/pgsql-*/bin",                                        // Arch, the major version before
	"/usr/libexec/postgresql*",                                // Alpine
	"/opt/homebrew/opt/postgresql@*/bin",                      // Homebrew on Apple's processors
	"/usr/local/opt/postgresql@*/bin",                         // on Intel's
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",         // on Linux
	"/Applications/Postgres.app/Contents/Versions/[0-9]*/bin", // one of them is a link that is called latest
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

// installations lists what there is: config.BinDir alone where it is given, else PATH, then the packages' places and what
// was fetched, newest first.
func installations(ctx context.Context, config Config) ([]binaries, error) {
	var found []binaries
	for _, dir := range binaryDirs(config) {
		b, err := inspectBinaries(ctx, dir)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("look for PostgreSQL: %w", ctx.Err())
		}
		if err != nil {
			continue // nothing there that runs
		}
		found = append(found, b)
	}
	found = append(found, fetched(config)...)
	rest := found
	if len(rest) > 0 && onPath(rest[0].dir) {
		rest = rest[1:] // somebody's choice stays in front
	}
	slices.SortStableFunc(rest, func(a, b binaries) int { return b.major - a.major })
	return found, nil
}

// choose takes the installation that new data is made with.
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

// match takes the installation that can run the data, which the major version want made.
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
			continue // only a malformed pattern fails: a home with a bracket in its name
		}
		for _, dir := range matches {
			if !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

// inspectBinaries asks the server in dir for its version.
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

// versionIn takes the version out of what a server says of it: "postgres (PostgreSQL) 15.18 (Debian …)".
func versionIn(said string) string {
	_, version, _ := strings.Cut(strings.TrimSpace(said), ") ")
	return version
}
