package postgres

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"bulkinvite/internal/files"
)

const (
	// DefaultRelease is the version of PostgreSQL that [Fetch] downloads, in the repository's form:
	// major, minor, 0.
	DefaultRelease = "18.3.0"
	// DefaultRepository is Maven Central, which has zonky.io's embedded-postgres-binaries:
	// PostgreSQL for Linux (glibc and musl) and macOS that runs from any directory.
	DefaultRepository = "https://repo1.maven.org/maven2"

	fetchName = "fetch.lock" // locked during a fetch
	newName   = "new"        // the directory for a fetch in progress

	fetchTimeout = 15 * time.Minute // for the archive of about 20 MB
	maxArchive   = 200 << 20        // bytes
)

// artifact returns the name of the archive for this system. ok is false if the repository has none.
func artifact() (name string, ok bool) {
	arch, known := map[string]string{"amd64": "amd64", "arm64": "arm64v8"}[runtime.GOARCH]
	if !known || (runtime.GOOS != "linux" && runtime.GOOS != "darwin") {
		return "", false
	}
	if _, err := os.Stat("/etc/alpine-release"); err == nil {
		arch += "-alpine" // built with musl
	}
	return "embedded-postgres-binaries-" + runtime.GOOS + "-" + arch, true
}

// fetches reports whether Fetch can download anything.
func (c Config) fetches() bool {
	_, ok := artifact()
	return ok && c.Release != "" && c.Fetched != "" && c.BinDir == ""
}

// fetched lists what was fetched before. The version is the directory's name, since nothing that is
// next to the data may be run as root, not even to ask for its version.
func fetched(config Config) []binaries {
	if config.Fetched == "" || config.BinDir != "" {
		return nil
	}
	entries, err := os.ReadDir(config.Fetched)
	if err != nil {
		return nil // nothing there, or nothing that this user may read
	}
	var found []binaries
	for _, entry := range entries {
		b := binaries{dir: filepath.Join(config.Fetched, entry.Name(), "bin"), major: majorOf(entry.Name()), version: entry.Name()}
		if b.major > 0 && b.whole() {
			found = append(found, b)
		}
	}
	return found
}

// fetch is one attempt to download the binaries.
type fetch struct {
	release string
	home    directory // the directory of all that was fetched
	own     owner     // the user that the server runs as
	url     string    // of the archive
	client  http.Client
}

// Fetch downloads the binaries of PostgreSQL config.Release from config.Repository into
// config.Fetched, where the server's user can read and run them. If they are there already, it does
// nothing.
//
// Fetch compares the archive with the SHA-256 that the repository publishes next to it before it
// unpacks or runs anything. The result is complete or missing, even after a crash or if several
// programs do this at once. A program that runs as root needs a directory that only root can change.
//
// Kinds of [*Error]: [ErrFetch], [ErrAccess].
func Fetch(ctx context.Context, config Config) error {
	f := fetch{release: config.Release, client: http.Client{Timeout: fetchTimeout, CheckRedirect: staySecure}}
	name, ok := artifact()
	if !ok {
		return f.failed(fmt.Errorf("there is none for %s on %s", runtime.GOOS, runtime.GOARCH))
	}
	f.url = fmt.Sprintf("%s/io/zonky/test/postgres/%s/%s/%s-%s.jar", strings.TrimRight(config.Repository, "/"), name, f.release, name, f.release)
	data, err := newDirectory(config.Dir)
	if err != nil {
		return err
	}
	if f.own, err = findOwner(data); err != nil {
		return err
	}
	if f.home, err = newDirectory(config.Fetched); err != nil {
		return err
	}
	if err := f.own.reaches(f.home.path); err != nil {
		return err
	}
	if err := OnlyRootWrites(f.home.path); err != nil {
		return err
	}
	if err := makeParents(f.home.path, f.own); err != nil {
		return err
	}
	if f.home, err = newDirectory(f.home.path); err != nil { // now it exists, so its symbolic links can be resolved
		return err
	}
	if err := OnlyRootWrites(f.home.path); err != nil {
		return err
	}
	alone, err := openLock(f.home.file(fetchName), f.own)
	if err != nil {
		return outOfReach(f.home.file(fetchName), err)
	}
	if err := alone.take(ctx, syscall.LOCK_EX); err != nil {
		return errors.Join(f.failed(err), alone.close())
	}
	return errors.Join(f.once(ctx), alone.close())
}

// staySecure refuses redirects from https to http, and more than ten redirects.
func staySecure(req *http.Request, via []*http.Request) error {
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return errors.New("it redirects to http://")
	}
	if len(via) >= 10 {
		return errors.New("it redirects on and on")
	}
	return nil
}

// once fetches the release, unless another program did so before this one got the lock. The caller
// holds the lock.
func (f *fetch) once(ctx context.Context) (err error) {
	release := f.home.file(f.release)
	if (binaries{dir: filepath.Join(release, "bin")}).whole() {
		return nil
	}
	fresh := f.home.file(newName)
	if err := os.RemoveAll(fresh); err != nil { // left by a crash
		return outOfReach(fresh, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(fresh)) }()
	tree := filepath.Join(fresh, "tree")
	if err := makeParents(tree, f.own); err != nil {
		return err
	}
	archive := filepath.Join(fresh, "archive.jar")
	if err := f.download(ctx, archive); err != nil {
		return f.failed(fmt.Errorf("%s: %w", redacted(f.url), err))
	}
	if err := unpack(ctx, archive, tree); err != nil {
		return f.failed(fmt.Errorf("%s: the archive is refused: %w", redacted(f.url), err))
	}
	if err := f.try(ctx, filepath.Join(tree, "bin")); err != nil {
		return f.failed(fmt.Errorf("%s: what it holds does not run here: %w", redacted(f.url), err))
	}
	syscall.Sync()                                // the content must be on the disk before the directory gets its name
	if err := os.RemoveAll(release); err != nil { // an incomplete one
		return outOfReach(release, err)
	}
	if err := os.Rename(tree, release); err != nil {
		return outOfReach(release, err)
	}
	return files.SyncDir(f.home.path)
}

// download writes the archive to path. It fails unless the SHA-256 is the one that the repository
// publishes.
func (f *fetch) download(ctx context.Context, path string) (err error) {
	want, err := f.checksum(ctx)
	if err != nil {
		return err
	}
	body, err := f.get(ctx, f.url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(file, hash), io.LimitReader(body, maxArchive))
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("it broke off after %d bytes: %w", n, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want {
		return fmt.Errorf("its SHA-256 is %s, the repository says %s; nothing of it was unpacked", got, want)
	}
	return nil
}

// checksum reads the archive's SHA-256, 64 hexadecimal digits, from the file next to the archive.
func (f *fetch) checksum(ctx context.Context) (string, error) {
	body, err := f.get(ctx, f.url+".sha256")
	if err != nil {
		return "", fmt.Errorf("its checksum (.sha256): %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(body, 1<<10))
	if err := errors.Join(err, body.Close()); err != nil {
		return "", fmt.Errorf("its checksum (.sha256): %w", err)
	}
	word, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ") // a file name may follow
	if sum, err := hex.DecodeString(word); err != nil || len(sum) != sha256.Size {
		return "", errors.New("its checksum (.sha256) is no SHA-256")
	}
	return strings.ToLower(word), nil
}

func (f *fetch) get(ctx context.Context, from string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, withoutURL(err)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("the answer is %s", resp.Status), resp.Body.Close())
	}
	return resp.Body, nil
}

// withoutURL removes the URL, which may contain a password, from an error of net/http.
func withoutURL(err error) error {
	var named *url.Error
	if errors.As(err, &named) {
		return named.Err
	}
	return err
}

func redacted(from string) string {
	u, err := url.Parse(from)
	if err != nil {
		return "the repository"
	}
	return u.Redacted()
}

// try runs the unpacked server as its user and checks that it has the requested major version.
func (f *fetch) try(ctx context.Context, bin string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version")
	cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", environment(), f.own.attributes()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, cmp.Or(tail(out), "it says nothing"))
	}
	if !(binaries{dir: bin}).whole() {
		return errors.New("it has no initdb")
	}
	if got := versionIn(string(out)); majorOf(got) != majorOf(f.release) {
		return fmt.Errorf("it is PostgreSQL %q", got)
	}
	return nil
}

func (f *fetch) failed(err error) error {
	return &Error{
		Kind:   ErrFetch,
		Text:   fmt.Sprintf("fetch PostgreSQL %s: %s", f.release, oneLine(err.Error())),
		Remedy: installRemedy + "; or name a repository that can be reached (BULKINVITE_POSTGRES_FROM)",
		Err:    err,
	}
}
