package rig

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// PeakMemory waits for a process to end and returns the most memory, in bytes,
// that it had resident: VmHWM of Linux, which counts no other process. The
// kernel forgets it when the process ends; what it gained in its last 5 ms may
// be missing.
func PeakMemory(p *Process) (int64, error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var peak int64
	for {
		select {
		case <-p.Over():
			if peak == 0 {
				return 0, fmt.Errorf("measure the memory of %s: it ended too soon", p.Name)
			}
			return peak, nil
		case <-tick.C:
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
		if err != nil {
			continue // it has ended, or is about to
		}
		now, err := highWater(text)
		if err != nil {
			return 0, fmt.Errorf("measure the memory of %s: %w", p.Name, err)
		}
		peak = max(peak, now)
	}
}

// highWater finds VmHWM in a process's status. A process that has ended but was
// not waited for has none.
func highWater(status []byte) (int64, error) {
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		value, ok := strings.CutPrefix(lines.Text(), "VmHWM:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
		return kib << 10, err
	}
	return 0, lines.Err()
}
