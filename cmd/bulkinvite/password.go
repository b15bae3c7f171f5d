package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// password reads a password: twice and unseen on a terminal, else a line of
// standard input.
func (p *program) password(ctx context.Context) (string, error) {
	terminal, ok := p.in.(*os.File)
	if !ok || !p.inTTY {
		line, err := readLine(p.in)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return line, nil
	}
	first, err := p.unseen(ctx, terminal, "Password: ")
	if err != nil {
		return "", err
	}
	second, err := p.unseen(ctx, terminal, "Once more: ")
	if err == nil && first != second {
		err = fail(exitUsage, "password", "give the command again", "the two passwords are not the same")
	}
	return first, err
}

// unseen reads a line that the terminal does not show. Should ctx end first, the
// terminal is put back as it was.
func (p *program) unseen(ctx context.Context, terminal *os.File, question string) (string, error) {
	before, err := term.GetState(int(terminal.Fd()))
	if err != nil {
		return "", fmt.Errorf("ask for the password: %w", err)
	}
	_, _ = p.errs.WriteString(question) // a terminal that can't be written to shows nothing either
	line, err := await(ctx, func() ([]byte, error) { return term.ReadPassword(int(terminal.Fd())) })
	if ctx.Err() != nil {
		return "", errors.Join(context.Cause(ctx), term.Restore(int(terminal.Fd()), before))
	}
	p.note("")
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return string(line), nil
}
