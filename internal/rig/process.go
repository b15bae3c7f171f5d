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

// Process is a bulkinvite process that Launch started.
type Process struct {
	Name string
	Log  string // path of the file with its standard error
	cmd  *exec.Cmd
	over chan struct{} // closed when the process has ended
	err  error         // how the process ended; valid once over is closed
}

// Launch starts bulkinvite and appends its standard error to the file log. When ctx ends, the
// process gets SIGTERM, and SIGKILL 10 seconds later.
func Launch(ctx context.Context, binary string, env []string, log string, stdout io.Writer, args ...string) (*Process, error) {
	name := "bulkinvite " + args[0]
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer func() { _ = file.Close() }() // the program has it now
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

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Over returns a channel that is closed when the process has ended.
func (p *Process) Over() <-chan struct{} { return p.over }

// Err returns how the process ended, nil for exit status 0. Call it only once [Process.Over] is
// closed.
func (p *Process) Err() error { return p.err }

// Wait waits until the process has ended. If its exit status is not 0, the error contains the end
// of its log.
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

// Signal sends a signal. It returns nil if the process has already ended.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to %s: %w", sig, p.Name, err)
	}
	return nil
}

// Kill sends SIGKILL and returns when the process has ended.
func (p *Process) Kill() error {
	if err := p.Signal(os.Kill); err != nil {
		return err
	}
	<-p.over
	return nil
}

// Tail returns the last five lines of a log, or the error that reading it gave.
func Tail(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// Call runs bulkinvite until it exits and returns its standard output. If the exit status is not 0,
// the error wraps an *exec.ExitError and contains the standard error.
func Call(ctx context.Context, binary string, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	var out, log bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &log
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s %s: %w: %s", filepath.Base(binary), args[0], err, strings.TrimSpace(log.String()))
	}
	return out.Bytes(), nil
}
