package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bulkinvite/internal/must"
)

// listening returns the local addresses, as /proc has them, on which a process
// takes TCP connections.
func listening(t *testing.T, pid int) []string {
	t.Helper()
	at := map[string]string{} // of each socket that listens, by its inode
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.ReadFile(name)
		must.OK(t, err)
		for line := range strings.Lines(string(table)) {
			const local, state, inode, listens = 1, 3, 9, "0A" // proc_net_tcp(5)
			if fields := strings.Fields(line); len(fields) > inode && fields[state] == listens {
				at[fields[inode]] = fields[local]
			}
		}
	}
	files := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(files)
	must.OK(t, err)
	var all []string
	for _, entry := range entries {
		to, err := os.Readlink(filepath.Join(files, entry.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		if address, ok := at[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")]; ok {
			all = append(all, address)
		}
	}
	return all
}

// The stand-in inside the program takes no connections: any user of the machine,
// and any page in a browser, could otherwise change what a rehearsal shows.
func TestSandboxListensNowhere(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.serve("--sandbox", "--work")
	if all := listening(t, s.Process.Pid); len(all) != 1 {
		t.Errorf("serve --sandbox listens on %q, want its own address alone", all)
	}
	s.stop()
	worker := b.command("work", "--sandbox", "--metrics-listen", "127.0.0.1:0", "--log-format", "json")
	errs, err := worker.StderrPipe()
	must.OK(t, err)
	must.OK(t, worker.Start())
	lines := bufio.NewScanner(errs)
	for lines.Scan() && !strings.Contains(lines.Text(), "working") {
	}
	if all := listening(t, worker.Process.Pid); len(all) != 1 {
		t.Errorf("work --sandbox listens on %q, want the address of its metrics alone", all)
	}
	must.OK(t, worker.Process.Signal(syscall.SIGTERM))
	for lines.Scan() { // until it has ended
	}
	if err := worker.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}
