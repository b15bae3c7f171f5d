package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/mattn/go-shellwords"

	"bulkinvite/internal/must"
)

// samples stand for what a suggested command leaves open: verbs of fmt and placeholders.
var samples = []struct {
	open *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`--outcome %s`), "--outcome invited"},
	{regexp.MustCompile(`--head (%s|HASH)`), "--head " + strings.Repeat("5f", 32)},
	{regexp.MustCompile(`thaw %\[1\]s`), "thaw create"},
	{regexp.MustCompile(`--allow%s`), "--allow"},
	{regexp.MustCompile(`%(\[\d\])?d`), "12"},
	{regexp.MustCompile(`%(\[\d\])?s`), "people.csv"},
}

var placeholders = map[string]string{
	"BATCH": "12", "ROW": "3", "NUMBER": "12", "SESSION": "12", "TOKEN": "12",
	"FILE": "people.csv", "ADDRESS": "jane@example.com",
	"HASH": strings.Repeat("5f", 32), "EMAIL": "jane@example.com", "NAME": "maria",
	"URL": "postgres://db/hires", "AGE": "30d",
}

// parsed checks that a command line is one that the program takes, and returns what is wrong.
func parsed(parser *kong.Kong, line string) error {
	args, err := shellwords.Parse(line)
	if err != nil {
		return err
	}
	for i, arg := range args {
		if as := placeholders[arg]; as != "" {
			args[i] = as
		}
	}
	if at := slices.Index(args, "--config"); at >= 0 {
		args = slices.Delete(args, at, at+2) // it would be read
	}
	args = commonArguments(args[1:])
	if slices.Contains(args, "--help") {
		return nil
	}
	_, err = parser.Parse(args)
	return err
}

// literals are the texts of a Go file: what is put together of several counts as one, in which
// a file's name stands for what is not a literal.
func literals(t *testing.T, path string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	must.OK(t, err)
	var all []string
	var text func(ast.Expr) (string, bool)
	text = func(e ast.Expr) (string, bool) {
		switch e := e.(type) {
		case *ast.BasicLit:
			if s, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
				return s, true
			}
		case *ast.BinaryExpr:
			a, isText := text(e.X)
			b, alsoText := text(e.Y)
			if e.Op != token.ADD || !isText && !alsoText {
				return "", false
			}
			if !isText {
				a = "people.csv"
			}
			if !alsoText {
				b = "people.csv"
			}
			return a + b, true
		}
		return "", false
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if e, ok := n.(ast.Expr); ok {
			if s, ok := text(e); ok {
				all = append(all, s)
				return false
			}
		}
		return true
	})
	return all
}

// example matches a command on a line of its own, or one that a script or a sentence in
// Markdown marks as code. It ends where a comment, a redirection or a second column begins.
var example = regexp.MustCompile("(?m)(?:^ {2,}(?:[^#\n]*\\| )?(?:[A-Z_]+=\\S+ )*|`|<code>|=\\$\\()" +
	"(?:go run \\./cmd/|bin/)?(bulkinvite (?:'[^'\n]*'|\"[^\"\n]*\"|[^'\"`<>|#\n)])*?)(?:`|<|>| {2}|#|$|\\)| \\|)")

// usageLines say what a command takes, in a notation of their own.
var usageLines = regexp.MustCompile(`(?m)^(Usage: |Commands \().*$`)

// Each command that the program, the page, the API or the documentation suggests is one that the
// program takes.
func TestSuggestedCommandsParse(t *testing.T) {
	t.Parallel()
	top := filepath.Join("..", "..")
	found := map[string]int{}
	parser, err := newParser(&cli{}, io.Discard)
	must.OK(t, err)
	for _, line := range []string{
		"bulkinvite send people.csv", "bulkinvite send", "bulkinvite send --nosuch people.csv", "bulkinvite status", "bulkinvite nosuch",
	} {
		if err := parsed(parser, line); (err == nil) != (line == "bulkinvite send people.csv") {
			t.Errorf("%q: %v", line, err)
		}
	}
	results := map[string]error{} // by line: many stand in several places
	check := func(where, line string) {
		found[strings.TrimPrefix(filepath.Dir(where), top)]++
		if _, known := results[line]; !known {
			results[line] = parsed(parser, line)
		}
		if err := results[line]; err != nil {
			t.Errorf("%s: %q: %v", where, line, err)
		}
	}
	for _, dir := range []string{
		"cmd/bulkinvite", "importer", "jobs", "migrations", "ratelimit", "internal/batch", "internal/clerk", "internal/invitation",
		"internal/ledger", "internal/postgres", "internal/proof", "internal/report", "internal/revocation", "internal/web", "internal/words",
	} {
		files, err := filepath.Glob(filepath.Join(top, dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			for _, text := range literals(t, path) {
				for _, s := range samples {
					text = s.open.ReplaceAllString(text, s.as)
				}
				examples := example.FindAllStringSubmatch(text, -1)
				for _, e := range examples {
					check(path, e[1])
				}
				if rest := example.ReplaceAllString(text, ""); rest != "" {
					for _, s := range suggestions(rest) {
						check(path, rest[s.begin:s.end])
					}
				}
			}
		}
	}
	for _, pattern := range []string{"README.md", "CHANGELOG.md", "docs/*", "internal/web/templates/*.html",
		"cmd/bulkinvite/testdata/*.golden", "deploy/*/*", "examples/*"} {
		files, err := filepath.Glob(filepath.Join(top, pattern))
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, path := range files {
			if info, err := os.Stat(path); err != nil || info.IsDir() {
				continue
			}
			content, err := os.ReadFile(path)
			must.OK(t, err)
			text := usageLines.ReplaceAllString(string(content), "")
			text = strings.NewReplacer("\\\n", " ", "postgres://…/", "postgres://db/").Replace(text)
			for _, e := range example.FindAllStringSubmatch(text, -1) {
				check(path, strings.Join(strings.Fields(e[1]), " "))
			}
			if !strings.HasSuffix(path, ".md") { // whose sentences mark commands as code
				rest := example.ReplaceAllString(text, "")
				for _, s := range suggestions(rest) {
					check(path, rest[s.begin:s.end])
				}
			}
		}
	}
	for dir, least := range map[string]int{
		"/cmd/bulkinvite": 150, "/internal/web": 8, "/docs": 50, "/internal/web/templates": 3, "/internal/words": 1, "": 10,
	} {
		if found[dir] < least {
			t.Errorf("only %d commands are found in %q", found[dir], dir)
		}
	}
}

func TestSuggestions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"bulkinvite results 12 shows the rows; run bulkinvite resume 12, then the same": {"bulkinvite results 12", "bulkinvite resume 12"},
		"bulkinvite batches lists what there is":                                        {"bulkinvite batches"},
		"start one with bulkinvite work":                                                {"bulkinvite work"},
		"bulkinvite sweep 12 --allow lets it go on":                                     {"bulkinvite sweep 12 --allow"},
		"bulkinvite send FILE makes the first.":                                         {"bulkinvite send FILE"},
		"(bulkinvite work --until-idle), then":                                          {"bulkinvite work --until-idle"},
		"bulkinvite check --problems bad.csv '/my files/it'\\''s.csv' writes":           {"bulkinvite check --problems bad.csv '/my files/it'\\''s.csv'"},
		"bulkinvite token list shows its number":                                        {"bulkinvite token list"},
		"bulkinvite limits thaw create tries one request now":                           {"bulkinvite limits thaw create"},
		"use the bulkinvite that brought the database there, or a newer one":            nil,
		"bulkinvite: batch 2 is paused":                                                 nil,
	} {
		var got []string
		for _, s := range suggestions(text) {
			got = append(got, text[s.begin:s.end])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Commands that a run suggests work as they are printed, in a shell that has no settings: they
// carry the flags that said where the run worked.
func TestSuggestedCommandsRun(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	data := filepath.Join(t.TempDir(), "the data")
	place := []string{"--sandbox", "--data-dir", data, "--database-url", b.url}
	b.env = slices.DeleteFunc(b.env, func(v string) bool {
		return strings.HasPrefix(v, "DATABASE_URL=") || strings.HasPrefix(v, "BULKINVITE_")
	})
	file := b.file("it's new.csv", "email\n"+strings.TrimPrefix(people(30), "email\n")+"bad\n")
	ran := map[string]bool{}
	dir := t.TempDir()
	for _, c := range []struct {
		exit     int
		args     []string
		commands []string // some that it must suggest
	}{
		{exitOK, []string{"token", "list"}, nil},
		{exitOK, []string{"sweep", "--list"}, []string{"bulkinvite sweep"}},
		{exitOK, []string{"drift"}, []string{"bulkinvite reconcile"}},
		{exitRows, []string{"check", file}, []string{"bulkinvite check"}},
		{exitHeld, []string{"import", file}, []string{"bulkinvite check"}},
		{exitRows, []string{"import", file, "--yes"}, []string{"bulkinvite results"}},
		{exitHeld, []string{"start", "1"}, []string{"bulkinvite pause"}},
		{exitOK, []string{"status", "1"}, []string{"bulkinvite resume"}},
		{exitHeld, []string{"import", file, "--yes"}, []string{"bulkinvite status", "bulkinvite send"}},
		{exitHeld, []string{"send", file}, []string{"bulkinvite status"}},
		{exitOK, []string{"status", "1"}, []string{"bulkinvite results", "bulkinvite verify"}},
		{exitUsage, []string{"status", "77"}, []string{"bulkinvite batches"}},
		{exitUsage, []string{"sweep", "77"}, []string{"bulkinvite sweep"}},
		{exitUsage, []string{"token", "revoke", "77"}, []string{"bulkinvite token list"}},
		{exitUsage, []string{"sessions", "end", "77"}, []string{"bulkinvite sessions list"}},
		{exitUsage, []string{"why", "nobody@example.com"}, []string{"bulkinvite batches"}},
		{exitHeld, []string{"sweep", "--older-than", "1ms", "--apply"}, []string{"bulkinvite sweep"}},
		{exitOK, []string{"doctor"}, nil},
		{exitHeld, []string{"pause", "1"}, []string{"bulkinvite status"}},
	} {
		o := b.run(append(c.args, place...)...)
		if o.exit != c.exit {
			t.Errorf("%v: exit status %d, not %d: %s%s", c.args, o.exit, c.exit, o.out, o.err)
		}
		text := o.out + o.err
		for _, want := range c.commands {
			is := func(s suggestion) bool { return strings.HasSuffix(want, " "+s.node.Path()) }
			if !slices.ContainsFunc(suggestions(text), is) {
				t.Errorf("%v does not suggest %s: %s", c.args, want, text)
			}
		}
		for _, s := range suggestions(text) {
			line := text[s.begin:s.end]
			open := regexp.MustCompile(` [A-Z]{3,}\b`).MatchString(line)
			again := strings.Contains(line, "--problems") && ran["bad"] // its file is there now
			if ran[line] || open || again || s.node.Name == "work" {
				continue
			}
			ran[line], ran["bad"] = true, ran["bad"] || strings.Contains(line, "--problems")
			script := "cd '" + dir + `' && bulkinvite() { "` + b.program + `" "$@"; }; `
			out, err := b.shell(script + line + ` --yes --json; echo "exit $?"`)
			if err != nil {
				t.Fatal(err, out)
			}
			_, exit, _ := strings.Cut(out[strings.LastIndex(out, "exit "):], " ")
			if n := strings.TrimSpace(exit); !slices.Contains([]string{"0", "3", "4"}, n) {
				t.Errorf("%v suggests %s, which ends with %s: %s", c.args, line, n, out)
			}
		}
	}
	if len(ran) < 12 {
		t.Errorf("only these ran: %v", ran)
	}
}
