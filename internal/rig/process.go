package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Process is a program under way.
type Process struct {
	Name string
	Log  string // the file with its standard error
	cmd  *exec.Cmd
	over chan struct{} // closed when it has ended
	err  error         // how; to be read once over is closed
}

// Launch starts bulkinvite with its log in a file, which it appends to. The end
// of ctx interrupts it.
func Launch(ctx context.Context, binary string, env []string, log string, stdout io.Writer, args ...string) (*Process, error) {
	name := "bulkinvite " + args[0]
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer file.Close() //nolint:errcheck // the program has it now
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, stdout, file
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{cmd: cmd, Name: name, Log: log, over: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.over)
	}()
	return p, nil
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Over is closed when the program has ended.
func (p *Process) Over() <-chan struct{} { return p.over }

// Err is how the program ended, once [Process.Over] is closed; nil: with exit
// status 0.
func (p *Process) Err() error { return p.err }

// Wait waits for the program's end, and fails with the end of its log where its
// exit status is not 0.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.over:
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", p.Name, context.Cause(ctx))
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w: %s", p.Name, p.err, Tail(p.Log))
	}
	return nil
}

// Signal sends a signal; one that has ended does not mind.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to %s: %w", sig, p.Name, err)
	}
	return nil
}

// Kill is kill -9. It returns when the program is gone.
func (p *Process) Kill() error {
	if err := p.Signal(os.Kill); err != nil {
		return err
	}
	<-p.over
	return nil
}

// Tail is the end of a log.
func Tail(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// Call runs bulkinvite to its end and returns its standard output. A status of
// exit other than 0 is an *exec.ExitError with the standard error.
func Call(ctx context.Context, binary string, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	var out, log bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &log
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s %s: %w: %s", filepath.Base(binary), args[0], err, strings.TrimSpace(log.String()))
	}
	return out.Bytes(), nil
}
