package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"bulkinvite/internal/must"
)

// terminal is a pseudo-terminal that a test sits at.
type terminal struct {
	t       *testing.T
	master  *os.File
	process *os.Process // of the program, once it runs
	mu      sync.Mutex
	seen    bytes.Buffer
	more    chan struct{} // something was written
	over    chan struct{} // closed when the program has left
}

// newTerminal opens a terminal and returns the end that the program gets.
func newTerminal(t *testing.T) (*terminal, *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	must.OK(t, err)
	var number, unlock int32
	for request, arg := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, uintptr(unsafe.Pointer(arg))); errno != 0 {
			t.Fatal(errno)
		}
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	must.OK(t, err)
	term := &terminal{t: t, master: master, more: make(chan struct{}, 1), over: make(chan struct{})}
	term.resize(120)
	t.Cleanup(func() { _ = master.Close() }) // nobody reads it any more
	go term.read()
	return term, slave
}

// resize makes it so many columns wide: bars are drawn as wide as there is room.
func (term *terminal) resize(columns int) {
	term.t.Helper()
	size := [4]uint16{40, uint16(columns)} // rows and columns
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, term.master.Fd(), syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size))); errno != 0 {
		term.t.Fatal(errno)
	}
}

func (term *terminal) read() {
	defer close(term.over)
	part := make([]byte, 4096)
	for {
		n, err := term.master.Read(part)
		if err != nil {
			return // the program has ended
		}
		term.mu.Lock()
		term.seen.Write(part[:n])
		term.mu.Unlock()
		select {
		case term.more <- struct{}{}:
		default:
		}
	}
}

func (term *terminal) text() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.seen.String()
}

// await waits until the terminal has shown a text, wherever its lines are wrapped.
func (term *terminal) await(text string) {
	term.t.Helper()
	late := time.After(30 * time.Second)
	words := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	for !strings.Contains(words(term.text()), words(text)) {
		select {
		case <-term.more:
		case <-late:
			term.t.Fatalf("never showed %q:\n%s", text, term.text())
		}
	}
}

// answer waits for a question and types a line.
func (term *terminal) answer(question, line string) {
	term.t.Helper()
	term.await(question)
	if _, err := term.master.WriteString(line + "\n"); err != nil {
		term.t.Fatal(err)
	}
}

// sit runs the program at a terminal until it ends, and returns its exit status.
func (b *bench) sit(talk func(*terminal), args ...string) (exit int, text string) {
	b.t.Helper()
	return b.sitAt(120, talk, args...)
}

// sitAt is sit at a terminal of so many columns.
func (b *bench) sitAt(columns int, talk func(*terminal), args ...string) (exit int, text string) {
	b.t.Helper()
	term, slave := newTerminal(b.t)
	term.resize(columns)
	c := b.command(args...)
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	must.OK(b.t, c.Start())
	must.OK(b.t, slave.Close())
	term.process = c.Process
	talk(term)
	_ = c.Wait() // the exit status is looked at
	<-term.over  // the last words may still be on their way
	return c.ProcessState.ExitCode(), term.text()
}
