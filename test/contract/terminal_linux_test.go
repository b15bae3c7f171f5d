package contract_test

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
)

// terminal is a pseudo-terminal. The test has its master end.
type terminal struct {
	t       testing.TB
	master  *os.File
	process *os.Process // the program, once it runs
	mu      sync.Mutex
	seen    bytes.Buffer
	more    chan struct{} // signals that something was written
	over    chan struct{} // closed when the program has closed its end
}

// newTerminal opens a terminal of 120 columns. It also returns the end for the program.
func newTerminal(t testing.TB) (*terminal, *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var number, unlock int32
	for request, arg := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, uintptr(unsafe.Pointer(arg))); errno != 0 {
			t.Fatal(errno)
		}
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, more: make(chan struct{}, 1), over: make(chan struct{})}
	term.resize(120)
	t.Cleanup(func() { _ = master.Close() }) // nobody reads it any more
	go term.read()
	return term, slave
}

// resize sets the width in columns.
func (term *terminal) resize(columns int) {
	term.t.Helper()
	size := [4]uint16{40, uint16(columns)} // rows, columns
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

// await waits until the terminal has shown a text.
func (term *terminal) await(text string) {
	term.t.Helper()
	late := time.After(30 * time.Second)
	for !strings.Contains(term.text(), text) {
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

// sit runs the program at a terminal until it ends and returns its result. Its out has everything
// that the terminal showed.
func (b *bench) sit(talk func(*terminal), args ...string) outcome {
	b.Helper()
	term, slave := newTerminal(b)
	c := b.command(args...)
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	if err := slave.Close(); err != nil {
		b.Fatal(err)
	}
	term.process = c.Process
	talk(term)
	_ = c.Wait() // the exit status is checked below
	<-term.over  // the last output may still be on its way
	o := outcome{check: b.check, args: args, exit: c.ProcessState.ExitCode(), out: term.text()}
	b.trace.add(fmt.Sprintf("exit status\n%d\n%s", o.exit, o.out))
	return o
}

// answers returns a function that types answers to questions, in the given order.
func answers(pairs ...string) func(*terminal) {
	return func(term *terminal) {
		for i := 0; i < len(pairs); i += 2 {
			term.answer(pairs[i], pairs[i+1])
		}
	}
}

var _ = testedElsewhere("text for people follows the terminal and the locale", []string{
	"Text for people, never JSON or CSV, follows the terminal and the locale: " +
		"- On a terminal no line is wider than its columns, except single words, suggested commands and log lines. " +
		"Tables of many rows cut cells and mark them with `…`; on a narrow terminal each row becomes a block of " +
		"lines. Off a terminal every value is whole and every row is one line. " +
		"- The program's own text is ASCII if the locale is not UTF-8: the first of `LC_ALL`, `LC_CTYPE` and `LANG` " +
		"that is not empty decides. If none is set, the locale counts as UTF-8. File names, addresses and other " +
		"data stay as they are. " +
		"- Colours appear on terminals only, and not if `NO_COLOR` has a value or `TERM` is `dumb` or not set. ",
}, "the command's tests run every table at several widths and in several locales",
	"cmd/bulkinvite/display_linux_test.go TestTablesFitTheTerminal",
	"cmd/bulkinvite/display_linux_test.go TestASCIILocale",
	"cmd/bulkinvite/display_linux_test.go TestColours",
	"cmd/bulkinvite/progress_linux_test.go TestProgressFitsTheTerminal")

var _ = testedElsewhere("suggested commands say where they work, and help names the settings", []string{
	"- A suggested command repeats the flags of the command line that say where it works, if it uses them: " +
		"`--config`, `--data-dir`, `--database-url` (`URL` stands for one with a password), `--clerk-key-file`, " +
		"`--clerk-url`, `--sandbox`. ",
	"Every command accepts every setting. `COMMAND --help` lists the settings that the command uses. ",
}, "the command's tests go through all suggestions and all commands",
	"cmd/bulkinvite/suggest_test.go TestSuggestedProblemsCommand",
	"cmd/bulkinvite/display_test.go TestComplete",
	"cmd/bulkinvite/suggested_test.go TestSuggestedCommandsRun",
	"cmd/bulkinvite/uses_test.go TestSettingsUsed",
	"cmd/bulkinvite/uses_test.go TestHelpShowsSettingsUsed")
