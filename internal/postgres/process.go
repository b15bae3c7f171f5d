package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// process is a server as its pid file describes it. postmaster.pid has the pid, the data directory,
// the start time, the port, the socket's directory, the listening address, the shared memory key,
// and the state, one on each line (PostgreSQL's src/include/utils/pidfile.h). The server adds lines
// while it starts.
type process struct {
	pid    int
	socket string
	state  string      // starting, stopping, ready, standby; "" until the server writes it
	data   fs.FileInfo // of the data directory with the pid file, even if its name now belongs to another
}

// readProcess reads the pid file in the data directory. ok is false if there is none.
func readProcess(data string) (p process, ok bool, err error) {
	text, info, err := readPidFile(data)
	if errors.Is(err, fs.ErrNotExist) {
		return process{}, false, nil
	}
	if err != nil {
		return process{}, false, outOfReach(filepath.Join(data, pidName), err)
	}
	lines := strings.Split(string(text), "\n")
	line := func(n int) string {
		if n > len(lines) {
			return ""
		}
		return strings.TrimSpace(lines[n-1])
	}
	pid, err := strconv.Atoi(line(1))
	if err != nil || pid == 0 {
		return process{data: info}, true, nil // the server is writing it
	}
	return process{pid: max(pid, -pid), socket: line(5), state: line(8), data: info}, true, nil
}

// readPidFile returns the pid file's text and the info of the directory that it is in. The data never
// belongs to root. If it seems to, its owner has put a link in its place, and the pid may belong to a
// process of root's.
func readPidFile(data string) (text []byte, info fs.FileInfo, err error) {
	root, err := os.OpenRoot(data)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = root.Close() }() // it was only read
	if info, err = root.Stat("."); err != nil {
		return nil, nil, err
	}
	file, err := openBelow(root, pidName, os.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	if text, err = readSmall(file); err == nil && info.Sys().(*syscall.Stat_t).Uid == 0 {
		err = errPlanted
	}
	return text, info, err
}

const pidName = "postmaster.pid"

// lives reports whether the server's process lives. A pid that the system has given to another
// process does not count, nor does the zombie of a killed server that its parent has not collected.
// If /proc does not tell, the pid alone decides.
func (p process) lives() bool {
	if p.pid == 0 || errors.Is(syscall.Kill(p.pid, 0), syscall.ESRCH) {
		return false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid)) // proc(5)
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(status)) {
		field := strings.Fields(line)
		switch {
		case len(field) < 2:
		case field[0] == "State:" && (field[1] == "Z" || field[1] == "X"):
			return false
		case field[0] == "Uid:" && field[1] != strconv.Itoa(int(p.data.Sys().(*syscall.Stat_t).Uid)):
			return false
		}
	}
	known, here := p.place()
	return !known || here
}

// place reports whether the process's working directory is the data directory, as a server's is,
// and whether that is known. There may be no /proc, or root in a container may not be allowed to
// look.
func (p process) place() (known, here bool) {
	cwd, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", p.pid))
	if err != nil {
		return false, false
	}
	return true, os.SameFile(cwd, p.data)
}

// connect opens a connection to the maintenance database. answered reports whether a server is
// there, even if it refuses the connection.
func (p process) connect(ctx context.Context) (conn *pgx.Conn, answered bool, err error) {
	if p.socket == "" {
		return nil, false, errors.New("no socket yet")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err = pgx.Connect(ctx, p.url("postgres"))
	var refused *pgconn.PgError
	return conn, err == nil || errors.As(err, &refused), err
}

// answers reports whether a server listens on the socket.
func (p process) answers(ctx context.Context) bool {
	conn, answered, err := p.connect(ctx)
	if err == nil {
		_ = conn.Close(ctx) // it has answered, so an error of Close does not matter
	}
	return answered
}

// url returns the URL of a database of the server, for pgx and libpq.
func (p process) url(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database}
	query := url.Values{"host": {p.socket}, "port": {strconv.Itoa(port)}, "sslmode": {"disable"}}
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // libpq does not read + as a space
	return u.String()
}

const (
	superuser    = "bulkinvite"
	databaseName = "bulkinvite"
)
