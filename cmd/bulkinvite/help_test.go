package main

import (
	"bytes"
	"cmp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/alecthomas/kong"

	"bulkinvite/internal/must"
)

// TestHelp compares each command's help with its golden file, and checks that
// it fits a screen and names each flag's default.
func TestHelp(t *testing.T) {
	t.Parallel()
	var model cli
	parser, err := newParser(&model, &bytes.Buffer{})
	must.OK(t, err)
	commands := []*kong.Node{parser.Model.Node}
	for _, child := range parser.Model.Children {
		commands = append(append(commands, child), child.Children...)
	}
	for _, command := range commands {
		name := strings.ReplaceAll(cmp.Or(command.Path(), command.Name), " ", "-")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := help(t, command)
			golden(t, "help-"+name, text)
			lines := strings.Split(text, "\n")
			screen := 70
			if command.Parent == nil { // the list of all commands has a line for each
				screen = 50 + len(command.Children)
			}
			if len(lines) > screen {
				t.Errorf("%d lines are no screen", len(lines))
			}
			for _, line := range lines {
				if utf8.RuneCountInString(line) > helpWidth+10 {
					t.Errorf("a line of %d columns: %s", utf8.RuneCountInString(line), line)
				}
			}
			for _, f := range command.Flags {
				if f.Name != "help" && !strings.Contains(f.Help, "Default: ") {
					t.Errorf("--%s does not say its default", f.Name)
				}
			}
			if command.Parent != nil && !strings.Contains(text, "Examples:\n") {
				t.Error("no examples")
			}
		})
	}
}

// help prints a command's help as --help does.
func help(t *testing.T, command *kong.Node) string {
	t.Helper()
	var c cli
	var out bytes.Buffer
	parser, err := newParser(&c, &out)
	must.OK(t, err)
	args := []string{"--help"}
	if command.Parent != nil {
		args = append(strings.Fields(command.Path()), "--help")
	}
	parser.Exit = func(int) {}
	_, _ = parser.Parse(args) // after help, an argument that is missing is no matter
	return out.String()
}
