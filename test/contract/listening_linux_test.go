package contract_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// listening returns the TCP ports on which a process listens.
func listening(t testing.TB, pid int) []int64 {
	t.Helper()
	at := map[string]int64{} // ports of all listening sockets, by inode
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(table)) {
			const local, state, inode, listens = 1, 3, 9, "0A" // columns and state, see proc_net_tcp(5)
			if fields := strings.Fields(line); len(fields) > inode && fields[state] == listens {
				_, port, _ := strings.Cut(fields[local], ":")
				if at[fields[inode]], err = strconv.ParseInt(port, 16, 32); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	files := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(files)
	if err != nil {
		t.Fatal(err)
	}
	var all []int64
	for _, entry := range entries {
		to, err := os.Readlink(filepath.Join(files, entry.Name()))
		if err != nil {
			continue // closed since ReadDir
		}
		if port, ok := at[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")]; ok {
			all = append(all, port)
		}
	}
	return all
}
