package postgres_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"bulkinvite/internal/must"
)

// TestServerCantReadItsLog checks that the server's log is open for appending only. The program
// that opens it may be root.
func TestServerCantReadItsLog(t *testing.T) {
	t.Parallel()
	_, dir := lookedAt.start(t)
	pid := postmaster(dir)
	for _, fd := range []string{"1", "2"} {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd))
		if err != nil || to != filepath.Join(dir, "postgres.log") {
			t.Fatalf("file %s of the server is %s: %v", fd, to, err)
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd)) // proc(5)
		must.OK(t, err)
		_, rest, _ := strings.Cut(string(text), "flags:")
		flags, err := strconv.ParseInt(strings.Fields(rest)[0], 8, 64)
		must.OK(t, err)
		if flags&syscall.O_ACCMODE != syscall.O_WRONLY || flags&syscall.O_APPEND == 0 {
			t.Errorf("file %s of the server has the flags %o", fd, flags)
		}
	}
}
