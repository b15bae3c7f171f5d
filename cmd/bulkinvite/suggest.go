package main

import (
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/alecthomas/kong"
)

// suggestion is a command of this program within a text, such as what a remedy says to do.
type suggestion struct {
	begin, end int
	node       *kong.Node // the command
}

// programName is the program's name at the begin of a command, also where a path is before it.
var programName = regexp.MustCompile(`(^|[^a-z_.-])bulkinvite `)

// argument is a word that reads as an argument and not as the sentence going on: a number, a
// placeholder, a file, an address.
var argument = regexp.MustCompile(`^([0-9]+|[A-Z]{2,}|'.*'|-|\S*[./@_]\S*)$`)

// suggestions finds the commands in a text. Their ends are told from the sentence around them by
// what each command takes.
func suggestions(text string) []suggestion {
	var all []suggestion
	for _, found := range programName.FindAllStringIndex(text, -1) {
		s := suggestion{begin: found[1] - len("bulkinvite "), end: found[1] - 1, node: commandLine().Node}
		s.extend(text)
		if s.node.Parent != nil {
			all = append(all, s)
		}
	}
	return all
}

// extend takes up the words that belong to the command.
func (s *suggestion) extend(text string) {
	given := 0 // positional arguments
	for {
		word, bare := wordAt(text, s.end)
		if bare == "" {
			return
		}
		child := slices.IndexFunc(s.node.Children, func(n *kong.Node) bool { return n.Name == bare })
		flag := flagOf(s.node, bare)
		switch {
		case child >= 0 && given == 0:
			s.node = s.node.Children[child]
		case flag != nil && !flag.IsBool() && !strings.Contains(bare, "="):
			if word == bare { // its value is the next word
				s.end += 1 + len(word)
				if word, bare = wordAt(text, s.end); bare == "" {
					return
				}
			}
		case strings.HasPrefix(bare, "--"):
		case given < len(s.node.Positional) && (takes(s.node.Positional[given], bare) ||
			strings.HasPrefix(text[s.end+1+len(bare):], " --")):
			given++
		default:
			return
		}
		if s.end += 1 + len(bare); bare != word {
			return // the sentence goes on, or ends, after it
		}
	}
}

// takes reports whether a word can be what the command asks for, rather than the sentence.
func takes(p *kong.Positional, word string) bool {
	return slices.Contains(p.EnumSlice(), word) || argument.MatchString(word)
}

// wordAt returns the word after a blank at an offset, and the same without the punctuation that
// ends it. Both are empty if the text has ended.
func wordAt(text string, at int) (word, bare string) {
	if at >= len(text) || text[at] != ' ' {
		return "", ""
	}
	rest := text[at+1:]
	end := 0
	for quoted := false; end < len(rest) && (quoted || !strings.ContainsRune(" \n\r`<", rune(rest[end]))); end++ {
		if rest[end] == '\\' && !quoted && end+1 < len(rest) {
			end++ // as in what shellWord makes of a quote
		} else {
			quoted = quoted != (rest[end] == '\'')
		}
	}
	word = rest[:end]
	return word, strings.TrimRight(word, ".,;:)")
}

// flagOf finds a command's flag by how it is given: --name or --name=value.
func flagOf(node *kong.Node, word string) *kong.Flag {
	name, found := strings.CutPrefix(word, "--")
	if !found {
		return nil
	}
	name, _, _ = strings.Cut(name, "=")
	for ; node != nil; node = node.Parent {
		for _, f := range node.Flags {
			if f.Name == name || f.Tag.Negatable != "" && "no-"+f.Name == name {
				return f
			}
		}
	}
	return nil
}

// commandLine is every command with its flags.
func commandLine() *kong.Application {
	commands.once.Do(func() {
		parser, err := newParser(&cli{}, io.Discard)
		if err != nil {
			panic(err) // the command line is part of the program; each run parses it
		}
		commands.model = parser.Model
	})
	return commands.model
}

var commands struct {
	once  sync.Once
	model *kong.Application
}

// placeSettings say where a command works. A command that is suggested needs them as well.
var placeSettings = []string{"config", "data-dir", "database-url", "clerk-key-file", "clerk-url", "sandbox"}

// complete adds to the commands in a text the flags of this command line that say where it works,
// to those commands that use them: the person who copies one would else ask another database.
// Variables need no flag, since they are still set.
func (p *program) complete(text string) string {
	if len(p.place) == 0 || !strings.Contains(text, "bulkinvite ") {
		return text
	}
	for _, s := range slices.Backward(suggestions(text)) {
		flags := ""
		for _, f := range p.place {
			if uses(s.node, f.name) && !strings.Contains(text[s.begin:s.end], " --"+f.name) {
				flags += f.text
			}
		}
		at := s.begin + len("bulkinvite")
		text = text[:at] + flags + text[at:]
	}
	return text
}

// suggestSandbox has suggested commands talk to the sandbox inside the program: what is shown is
// of a rehearsal, and may have been asked for without --sandbox.
func (p *program) suggestSandbox() {
	if !slices.ContainsFunc(p.place, func(f placeFlag) bool { return f.name == "sandbox" }) {
		p.place = append(p.place, placeFlag{"sandbox", " --sandbox"})
	}
}

// placeFlag is one of placeSettings as the command line gave it, ready to be given again.
type placeFlag struct{ name, text string }

// placeGiven collects the flags of a command line that say where it works.
func placeGiven(command *kong.Context) []placeFlag {
	var given []placeFlag
	for _, step := range command.Path {
		if step.Flag == nil || step.Resolved || !slices.Contains(placeSettings, step.Flag.Name) {
			continue
		}
		f := placeFlag{name: step.Flag.Name, text: " --" + step.Flag.Name}
		if !step.Flag.IsBool() {
			value := step.Flag.Target.String()
			if hidden(f.name, value) != value {
				value = "URL" // a database's password is not shown again
			}
			f.text += " " + shellWord(value)
		}
		given = append(given, f)
	}
	return given
}
