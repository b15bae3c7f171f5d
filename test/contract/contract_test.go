// Package contract_test checks the built program against docs/contract.md, from outside: its
// commands, its server, its database.
//
// Each promise quotes the text of the page that it tests. The run fails if text of the page is in
// no quote, if the page does not contain a quote, or if a promise never uses or sees a name (a
// flag, a variable, a JSON key, a status) that its quote has in backticks.
//
//	go test ./test/contract                                   everything
//	go test ./test/contract -sections 'Settings,Exit status'  only these sections
package contract_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

var sections = flag.String(
	"sections",
	"",
	"hold the program to these sections of the page alone, by their titles, with commas",
)

// A promise is text of the page with its test.
type promise struct {
	name   string
	quotes []string // exact text of the page; each must occur there once
	test   func(c *check)

	// For what can't be seen from outside: the tests in other packages that check it, as
	// "path/of_test.go TestName". Then test is nil, and reason says why.
	elsewhere []string
	reason    string
}

// promises has all promises. Each file adds its own, so no list is shared.
var promises []promise

// promised adds a promise with its test. Files call it to initialize a package variable.
func promised(name string, quotes []string, test func(c *check)) struct{} {
	promises = append(promises, promise{name: name, quotes: quotes, test: test})
	return struct{}{}
}

// testedElsewhere adds a promise that can't be tested from outside. Tests of other packages check it.
func testedElsewhere(name string, quotes []string, reason string, tests ...string) struct{} {
	promises = append(promises, promise{name: name, quotes: quotes, reason: reason, elsewhere: tests})
	return struct{}{}
}

// TestContract tests every promise. If all hold, it checks that they cover every name of the page.
func TestContract(t *testing.T) {
	t.Parallel()
	text, err := readContract()
	if err != nil {
		t.Fatal(err)
	}
	p := readPage(text)
	c := &coverage{page: p, seen: map[int]bool{}}
	t.Run("promises", func(t *testing.T) {
		for i := range promises {
			one := &promises[i]
			if !chosen(p, one) {
				continue
			}
			t.Run(one.name, func(t *testing.T) {
				t.Parallel()
				if one.test == nil {
					checkElsewhere(t, one)
					c.add(one, nil)
					return
				}
				k := &check{T: t}
				one.test(k)
				c.add(one, k.trace.words())
			})
		}
	})
	if t.Failed() {
		return
	}
	t.Run("nothing is left out", func(t *testing.T) {
		for _, problem := range c.problems(titles()) {
			t.Error(problem)
		}
	})
}

// TestEveryLineHasATest checks that the quotes cover the whole page. It does not run the program.
func TestEveryLineHasATest(t *testing.T) {
	t.Parallel()
	text, err := readContract()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range unquoted(readPage(text), promises, titles()) {
		t.Error(problem)
	}
}

// titles returns the section titles of -sections, or nil for all sections.
func titles() []string {
	if *sections == "" {
		return nil
	}
	return strings.Split(*sections, ",")
}

// chosen reports whether a promise belongs to the chosen sections.
func chosen(p *page, one *promise) bool {
	if titles() == nil {
		return true
	}
	for _, quote := range one.quotes {
		if from, _, err := p.find(quote); err == nil && slices.Contains(titles(), p.in(from)) {
			return true
		}
	}
	return false
}

var word = regexp.MustCompile(`[\pL\pN]`)

// unquoted returns what is wrong with the quotes, and the text of the chosen sections that no quote
// contains.
func unquoted(p *page, promises []promise, titles []string) (problems []string) {
	quoted := make([]bool, len(p.text))
	var names []string
	for _, one := range promises {
		if slices.Contains(names, one.name) {
			problems = append(problems, fmt.Sprintf("two promises are called %q", one.name))
		}
		names = append(names, one.name)
		if (one.test == nil) == (len(one.elsewhere) == 0) {
			problems = append(problems, fmt.Sprintf("%s: needs a test here or elsewhere, and not both", one.name))
		}
		if len(one.quotes) == 0 {
			problems = append(problems, fmt.Sprintf("%s: quotes nothing", one.name))
		}
		for _, quote := range one.quotes {
			from, to, err := p.find(quote)
			if err != nil {
				problems = append(problems, fmt.Sprintf("%s: %v", one.name, err))
				continue
			}
			for i := from; i < to; i++ {
				quoted[i] = true
			}
		}
	}
	for _, s := range p.sections {
		if titles != nil && !slices.Contains(titles, s.title) {
			continue
		}
		for from := s.from; from < s.to; from++ {
			if quoted[from] {
				continue
			}
			to := from
			for to < s.to && !quoted[to] {
				to++
			}
			if first := word.FindStringIndex(p.text[from:to]); first != nil {
				from += first[0]
				problems = append(
					problems,
					fmt.Sprintf("line %d (%s): no test for %q", p.lines[from], s.title, p.text[from:to]),
				)
			}
			from = to
		}
	}
	return problems
}

// coverage collects which names of the page the promises have used or seen.
type coverage struct {
	page *page
	mu   sync.Mutex
	seen map[int]bool // by index of the token
}

// add records which names of a promise's quotes are in its trace. A nil trace, for a promise that
// is tested elsewhere, counts as having all of them.
func (c *coverage) add(one *promise, trace *string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, quote := range one.quotes {
		from, to, err := c.page.find(quote)
		if err != nil {
			continue // TestEveryLineHasATest reports it
		}
		for i, token := range c.page.tokens {
			if token.from >= from && token.to <= to && (trace == nil || mentions(*trace, token.text)) {
				c.seen[i] = true
			}
		}
	}
}

// problems returns the names in the chosen sections that no promise has used or seen.
func (c *coverage) problems(titles []string) (problems []string) {
	for i, token := range c.page.tokens {
		title := c.page.in(token.from)
		if c.seen[i] || titles != nil && !slices.Contains(titles, title) {
			continue
		}
		problems = append(problems, fmt.Sprintf("line %d (%s): no promise that quotes it uses or sees `%s`",
			c.page.lines[token.from], title, token.text))
	}
	return problems
}

var (
	placeholder = regexp.MustCompile(`^[A-Z]+(-[A-Z]+)?(,…)?$`) // FILE, FROM-TO, COLUMN,…
	splits      = regexp.MustCompile(`[\s|]+`)
)

// mentions reports whether a trace has all words of a name, except placeholders.
// For `--scope ours|all` it must have three words.
func mentions(trace, name string) bool {
	if strings.Contains(trace, "\n"+name+"\n") { // the exact name
		return true
	}
	var words int
	for _, w := range splits.Split(strings.ReplaceAll(name, `\|`, "|"), -1) {
		if w == "" || placeholder.MatchString(w) && w != "GET" && w != "POST" && w != "DELETE" {
			continue
		}
		words++
		if !hasWord(trace, strings.Trim(w, "…")) {
			return false
		}
	}
	return words > 0
}

// hasWord reports whether a text contains w, not as part of a longer word.
func hasWord(text, w string) bool {
	inWord := func(r byte) bool {
		return r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	for at := 0; ; {
		i := strings.Index(text[at:], w)
		if i < 0 {
			return false
		}
		from, to := at+i, at+i+len(w)
		before := from == 0 || !inWord(text[from-1]) || !inWord(w[0])
		after := to == len(text) || !inWord(text[to]) || !inWord(w[len(w)-1])
		if before && after {
			return true
		}
		at = from + 1
	}
}

// checkElsewhere fails the test unless the named tests exist.
func checkElsewhere(t *testing.T, one *promise) {
	if one.reason == "" {
		t.Error("no reason why it isn't tested here")
	}
	for _, test := range one.elsewhere {
		file, name, ok := strings.Cut(test, " ")
		text, err := os.ReadFile("../../" + file)
		if !ok || err != nil || !strings.Contains(string(text), "\nfunc "+name+"(") {
			t.Errorf("there is no test %s (%v)", test, err)
		}
	}
}

// A check is the running test of a promise. Its trace gets what the test gives to its programs and
// what they answer.
type check struct {
	*testing.T
	trace trace
}

// saw records that the test has checked names of the page that its trace has in another form, such
// as `$XDG_DATA_HOME/bulkinvite`.
func (c *check) saw(names ...string) {
	for _, name := range names {
		c.trace.add(name)
	}
}

// A trace is what a test gave to programs, and what they answered.
type trace struct {
	mu   sync.Mutex
	text strings.Builder
}

func (t *trace) add(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text.WriteString("\n" + text + "\n")
}

func (t *trace) words() *string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := t.text.String()
	return &text
}

// TestCoverageFindsGaps checks that gaps in quotes and names are found.
func TestCoverageFindsGaps(t *testing.T) {
	t.Parallel()
	p := readPage(
		"# Title\n\nFirst `one`. Twice. Twice.\n\n| a | b |\n|---|---|\n| `two` | `--three\\|four` |\n\n```json\n{\"five\":1,\n \"six\":2}\n```\n",
	)
	run := func(*check) {}
	for _, c := range []struct {
		name     string
		promises []promise
		trace    string
		want     []string
	}{
		{"everything", []promise{{name: "a", test: run, quotes: []string{"First `one`. Twice. Twice. | `two` | `--three\\|four` | {\"five\":1, \"six\":2}"}}},
			"one two --three four five six", nil},
		{"a row is missing", []promise{{name: "a", test: run, quotes: []string{"First `one`. Twice. Twice."}},
			{name: "b", test: run, quotes: []string{"{\"five\":1, \"six\":2}"}}},
			"one two --three four five six", []string{"line 7 (Title): no test for", "uses or sees `two`", "uses or sees `--three\\|four`"}},
		{"no such words, words that stand twice, no quote, no test", []promise{
			{name: "a", test: run, quotes: []string{"First `one`. Twice. Twice. | `two` | `--three\\|four` | {\"five\":1, \"six\":2}", "Thrice.", "Twice."}},
			{name: "b", test: run}, {name: "a", quotes: []string{"First"}}},
			"one two --three four five six", []string{"does not say", "more than once", "quotes nothing", "two promises", "needs a test"}},
		{"names are missing", []promise{{name: "a", test: run, quotes: []string{"First `one`. Twice. Twice. | `two` | `--three\\|four` | {\"five\":1, \"six\":2}"}}},
			"bone two --three six", []string{"`one`", "`--three\\|four`", "`five`"}},
	} {
		cover := &coverage{page: p, seen: map[int]bool{}}
		for i := range c.promises {
			cover.add(&c.promises[i], &c.trace)
		}
		got := unquoted(p, c.promises, nil)
		got = append(got, cover.problems(nil)...)
		for _, want := range c.want {
			if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, want) }) {
				t.Errorf("%s: no problem with %q in %q", c.name, want, got)
			}
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %q, want %d problems", c.name, got, len(c.want))
		}
	}
}
