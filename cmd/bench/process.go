package main

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

// process is a program under way.
type process struct {
	cmd  *exec.Cmd
	name string
	log  string        // the file with its standard error
	over chan struct{} // closed when it has ended
	err  error         // how; to be read once over is closed
}

// launch starts bulkinvite with its log in a file. The end of ctx interrupts it.
func launch(ctx context.Context, binary string, env []string, log string, stdout io.Writer, args ...string) (*process, error) {
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
	p := &process{cmd: cmd, name: name, log: log, over: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.over)
	}()
	return p, nil
}

// wait waits for the program's end, and fails with the end of its log where its
// exit status is not 0.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.over:
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", p.name, context.Cause(ctx))
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w: %s", p.name, p.err, tail(p.log))
	}
	return nil
}

// kill is kill -9. It returns when the program is gone.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.over
	return nil
}

// tail is the end of a log.
func tail(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// call runs bulkinvite to its end and returns its standard output. A status of
// exit other than 0 is an *exec.ExitError with the standard error.
func call(ctx context.Context, binary string, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	var out, log bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &log
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", filepath.Base(binary), args[0], err, strings.TrimSpace(log.String()))
	}
	return out.Bytes(), nil
}
