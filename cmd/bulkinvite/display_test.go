package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

func TestSignsOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		all, ctype, lang string
		want             signSet
	}{
		{"", "", "", unicodeSigns},
		{"", "", "en_US.UTF-8", unicodeSigns},
		{"", "UTF-8", "C", unicodeSigns}, // as macOS sets it
		{"C.utf8", "C", "C", unicodeSigns},
		{"C", "en_US.UTF-8", "en_US.UTF-8", asciiSigns},
		{"", "POSIX", "en_US.UTF-8", asciiSigns},
		{"", "", "de_DE.ISO-8859-15@euro", asciiSigns},
		{"", "", "en_US", asciiSigns},
	} {
		env := map[string]string{"LC_ALL": c.all, "LC_CTYPE": c.ctype, "LANG": c.lang}
		expect.Equal(t, fmt.Sprintf("%v", env), signsOf(func(name string) string { return env[name] }), c.want)
	}
}

func TestFit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		columns    int
		text, want string
	}{
		{0, "a line of any length\n", "a line of any length\n"},
		{20, "a line of 20 columns\n", "a line of 20 columns\n"},
		{20, "a line of 21 columns!\n", "a line of 21\ncolumns!\n"},
		{20, "Plan  one request after the other", "Plan  one request\n      after the\n      other"},
		{20, "bulkinvite: something is wrong here\n", "bulkinvite:\nsomething is wrong\nhere\n"},
		{44, "bulkinvite: something is wrong here and there\n", "bulkinvite: something is wrong here and\n            there\n"},
		{30, "run bulkinvite results 12 --outcome failed now", "run\nbulkinvite results 12 --outcome failed\nnow"},
		{12, "https://example.com/long", "https://example.com/long"},
		{16, "Go on with all? [y/N] ", "Go on with all?\n[y/N] "},
		{8, "名前名前 名前", "名前名前\n名前"},
		{10, "\x1b[31mred\x1b[0m words here", "\x1b[31mred\x1b[0m words\nhere"},
	} {
		expect.Equal(t, fmt.Sprintf("%d columns", c.columns), (display{columns: c.columns}).fit(c.text), c.want)
	}
}

func TestTableOn(t *testing.T) {
	t.Parallel()
	made := func() *table {
		tab := &table{head: []string{"Row", "Person", "What"}, right: []bool{true}}
		tab.add("1", "someone@example.com", "a reason that is long")
		tab.add("12", "a@example.com", "")
		return tab
	}
	for columns, want := range map[int]string{
		0:  "Row  Person               What\n  1  someone@example.com  a reason that is long\n 12  a@example.com\n",
		47: "Row  Person               What\n  1  someone@example.com  a reason that is long\n 12  a@example.com\n",
		40: "Row Person              What\n  1 someone@example.com a reason that i…\n 12 a@example.com\n",
		24: "Row Person      What\n  1 someone@ex… a reaso…\n 12 a@example.… \n",
		18: "Row     1\nPerson\nsomeone@example.com\nWhat    a reason\n        that is\n        long\n\n" +
			"Row     12\nPerson\na@example.com\n",
	} {
		if columns == 24 {
			want = strings.ReplaceAll(want, "… \n", "…\n")
		}
		if got := made().on(display{columns: columns}); got != want {
			t.Errorf("%d columns:\n%s\nwant:\n%s", columns, got, want)
		}
	}
}

// Text outside ASCII that is not a sign would be shown in every locale. Help is translated as a
// whole.
func TestTextIsASCII(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{".", filepath.Join("..", "..", "internal", "words")} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") || path == "display.go" {
				continue
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
			must.OK(t, err)
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					return n.Name.Name != "Help"
				case *ast.Field:
					return n.Tag == nil
				case *ast.ValueSpec:
					return n.Names[0].Name != "description"
				case *ast.BasicLit:
					if n.Kind == token.STRING && strings.ContainsFunc(n.Value, func(r rune) bool { return r >= 0x80 }) {
						t.Errorf("%s: %s", set.Position(n.Pos()), n.Value)
					}
				}
				return true
			})
		}
	}
}

// A suggested command has the flags that say where this one works, if it uses them.
func TestComplete(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args       []string
		text, want string
	}{
		{[]string{"batches"}, "bulkinvite status 1", "bulkinvite status 1"},
		{[]string{"batches", "--data-dir", "/my data", "--sandbox"}, "bulkinvite status 1 or bulkinvite resend 1",
			"bulkinvite --data-dir '/my data' status 1 or bulkinvite --data-dir '/my data' --sandbox resend 1"},
		{[]string{"batches", "--database-url", "postgres://me:secret@db/x"}, "bulkinvite batches lists them",
			"bulkinvite --database-url URL batches lists them"},
		{[]string{"dump", "f", "--database-url", "postgres://db/x"}, "bulkinvite load f --database-url URL",
			"bulkinvite load f --database-url URL"},
		{[]string{"user", "maria", "--clerk-url", "https://api.clerk.com/v1"}, "bulkinvite user NAME, the bulkinvite that",
			"bulkinvite user NAME, the bulkinvite that"},
	} {
		parser, err := newParser(&cli{}, nil)
		must.OK(t, err)
		var command *kong.Context
		if command, err = parser.Parse(slices.Clone(c.args)); err != nil {
			t.Fatal(err)
		}
		expect.Equal(t, fmt.Sprintf("%v", c.args), (&program{place: placeGiven(command)}).complete(c.text), c.want)
	}
}
