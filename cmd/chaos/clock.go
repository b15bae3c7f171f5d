package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"bulkinvite/internal/rig"
)

// clockVariable names a file. Its first eight bytes are the offset of a worker's wall clock from
// the machine's clock, in seconds.
const clockVariable = "BULKINVITE_CHAOS_CLOCK"

// clockSource is added to Go's package time when the workers of these runs are built. Go reads the
// clock without a system call, so no library can intercept it, and a machine has one clock for all
// processes. So time.Now of these workers adds the offset in the file to the wall clock. The
// monotonic reading is unchanged, as when an administrator sets a machine's clock. The program's
// own code contains nothing for this.
const clockSource = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

var wallStep *int64

func init() {
	path, found := syscall.Getenv("` + clockVariable + `")
	if !found {
		return
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY, 0)
	if err != nil {
		panic("open the clock's file: " + err.Error())
	}
	page, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("map the clock's file: " + err.Error())
	}
	wallStep = (*int64)(unsafe.Pointer(&page[0]))
}

func stepped() int64 {
	if wallStep == nil {
		return 0
	}
	return atomic.LoadInt64(wallStep)
}
`

// clockReading is the start of time.Now, which reads both clocks.
const clockReading = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"

// buildStepping builds a bulkinvite whose wall clock can be stepped. It compiles everything, also
// the standard library. That takes minutes on a busy machine, so it happens once, before the runs.
func buildStepping(ctx context.Context, dir string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	text, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		return "", err
	}
	if bytes.Count(text, []byte(clockReading)) != 1 {
		return "", fmt.Errorf("%s: time.Now does not begin as expected; update clockReading", source)
	}
	text = bytes.Replace(text, []byte(clockReading), []byte(clockReading+"\tsec += stepped()\n"), 1)
	now, step, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "step.go"), filepath.Join(dir, "overlay.json")
	replaced, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(source, "time.go"): now,
		filepath.Join(source, "step.go"): step,
	}})
	if err != nil {
		return "", err
	}
	for path, text := range map[string][]byte{now: text, step: []byte(clockSource), overlay: replaced} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return "", err
		}
	}
	binary := filepath.Join(dir, "bulkinvite-stepping")
	return binary, rig.Build(ctx, binary, "failpoints", "-overlay="+overlay)
}

func (r *run) clockFile(i int) string { return filepath.Join(r.Dir, fmt.Sprintf("clock-%d", i)) }

// setClocks gives each worker its own clock, which at first shows the machine's time.
func (r *run) setClocks() error {
	for i := range workers {
		if err := os.WriteFile(r.clockFile(i), make([]byte, 8), 0o600); err != nil {
			return err
		}
	}
	r.fleet.each = func(i int) []string { return []string{clockVariable + "=" + r.clockFile(i)} }
	return nil
}

// setClock sets the offset of a worker's clock from the machine's clock, in whole seconds.
func (r *run) setClock(i int, by time.Duration) error {
	file, err := os.OpenFile(r.clockFile(i), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(int64(by/time.Second))), 0)
	if closing := file.Close(); err == nil {
		err = closing
	}
	return err
}

// stepClock steps a worker's wall clock by an hour, forwards or backwards. In half of the runs it
// sets the clock right again later.
func (r *run) stepClock() error {
	by := time.Hour
	if r.dice.IntN(2) == 0 {
		by = -by
	}
	r.strike()
	if err := r.setClock(r.worker, by); err != nil {
		return err
	}
	r.did[map[bool]string{true: "steps an hour forwards", false: "steps an hour backwards"}[by > 0]]++
	if err := r.clockShows(r.worker, by); err != nil {
		return err
	}
	if r.dice.IntN(2) == 0 {
		return nil
	}
	if err := rig.Sleep(r.ctx, r.wait); err != nil {
		return err
	}
	r.did["steps back to the right time"]++
	return r.setClock(r.worker, 0)
}

// clockShows waits for a line in a worker's log with a time by the stepped clock.
func (r *run) clockShows(i int, by time.Duration) error {
	for began := time.Now(); time.Since(began) < stalledFor; {
		text, err := os.ReadFile(r.fleet.worker(i).Log)
		if err != nil {
			return err
		}
		for line := range bytes.Lines(text) {
			var said struct{ Time time.Time }
			if json.Unmarshal(line, &said) == nil && said.Time.Sub(began.Add(by)).Abs() < 10*time.Minute {
				return nil
			}
		}
		if err := rig.Sleep(r.ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("worker %d logged no line with the time that its clock was set to", i)
}
