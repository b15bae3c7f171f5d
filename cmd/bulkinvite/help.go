package main

import (
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

// helpWidth is how wide help is at most, in columns: longer lines are hard to read.
const helpWidth = 100

// settingsGroup is the key of the flags that every command has.
const settingsGroup = "settings"

// printHelp prints one screen: what the command does, examples, and each flag
// with its default and its variable. Kong's own printer gives a flag several
// lines, and the settings alone would fill the screen.
func printHelp(_ kong.HelpOptions, ctx *kong.Context) error {
	node := ctx.Selected()
	if node == nil {
		node = ctx.Model.Node
	}
	on := display{}
	if file, ok := ctx.Stdout.(*os.File); ok {
		on = displayOf(file, term.IsTerminal(int(file.Fd())))
	}
	width := helpWidth
	if on.columns > 0 {
		width = min(width, on.columns)
	}
	var b strings.Builder
	usage := "bulkinvite " + node.Summary()
	if node.Parent == nil {
		usage = node.Name + " <command> [flags]"
	}
	b.WriteString("Usage: " + usage + "\n\n" + node.Help + "\n")
	if node.Detail != "" {
		b.WriteString("\n" + wrapText(node.Detail, width) + "\n")
	}
	var arguments, commands [][2]string
	for _, arg := range node.Positional {
		arguments = append(arguments, [2]string{arg.Summary(), arg.Help})
	}
	for _, child := range node.Children {
		commands = append(commands, [2]string{child.Name, child.Help})
	}
	columns(&b, "Arguments", arguments, width)
	columns(&b, "Commands ("+strings.TrimSpace("bulkinvite "+node.Path())+" <command> --help says more)", commands, width)
	var own, settings []*kong.Flag
	for _, flags := range node.AllFlags(true) {
		for _, f := range flags {
			if f.Group != nil && f.Group.Key == settingsGroup {
				if uses(node, f.Name) {
					settings = append(settings, f)
				}
			} else if f.Name != "help" {
				own = append(own, f)
			}
		}
	}
	columns(&b, "Flags", flagRows(own), width)
	if node == ctx.Model.Node {
		columns(&b, "Settings, which every command accepts; a flag wins over its variable, a variable over --config's file",
			flagRows(settings), width)
	} else {
		b.WriteString("\nSettings that it uses (bulkinvite --help says more), their variables and defaults:\n")
		b.WriteString(settingsTable(settings))
	}
	_, err := io.WriteString(ctx.Stdout, on.fit(ascii(b.String())))
	return err
}

// flagName writes a flag as it is given.
func flagName(f *kong.Flag) string {
	name := "--" + f.Name
	if f.Tag.Negatable != "" {
		name = "--[no-]" + f.Name
	}
	if !f.IsBool() {
		name += " " + f.FormatPlaceHolder()
	}
	return name
}

func flagRows(flags []*kong.Flag) [][2]string {
	var rows [][2]string
	for _, f := range flags {
		text := f.Help
		for _, name := range f.Envs {
			text += " ($" + name + ")"
		}
		rows = append(rows, [2]string{flagName(f), text})
	}
	return rows
}

// settingsTable gives each setting a line: flag, variable, default. The default
// is the end of the flag's help.
func settingsTable(flags []*kong.Flag) string {
	var t table
	for _, f := range flags {
		_, byDefault, _ := strings.Cut(f.Help, "Default: ")
		variable := strings.Join(f.Envs, ", ")
		if f.Name == "clerk-key-file" {
			variable = keyVariable
		}
		t.add("  "+flagName(f), variable, strings.TrimSuffix(byDefault, "."))
	}
	return t.String()
}

// columns writes a heading, and rows of a name and a text, which is wrapped to a line of most columns.
// Without rows it writes nothing.
func columns(b *strings.Builder, heading string, rows [][2]string, most int) {
	if len(rows) == 0 {
		return
	}
	b.WriteString("\n" + heading + ":\n")
	width := 0
	for _, row := range rows {
		width = max(width, len(row[0]))
	}
	width = min(width, 28, most/2)
	indent := strings.Repeat(" ", width+4)
	for _, row := range rows {
		text := strings.Join(wrap(row[1], most-len(indent)), "\n"+indent)
		gap := "\n" + indent // too long a name has a line of its own
		if len(row[0]) <= width {
			gap = strings.Repeat(" ", width-len(row[0])+2)
		}
		b.WriteString("  " + row[0] + gap + text + "\n")
	}
}

// wrapText wraps the paragraphs of a text, except lines that are indented,
// which are examples.
func wrapText(text string, width int) string {
	var lines []string
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		if strings.HasPrefix(line, " ") || line == "" {
			lines = append(lines, strings.Replace(line, "    ", "  ", 1))
		} else {
			lines = append(lines, wrap(line, width)...)
		}
	}
	return strings.ReplaceAll(strings.Join(lines, "\n"), "Examples:\n\n", "Examples:\n")
}

// wrap breaks a text into lines of at most width columns.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
