package contract_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// contractFile is the path of the page that the tests check.
const contractFile = "../../docs/contract.md"

// A page is the text of the contract. All white space in it is single spaces.
type page struct {
	text     string
	lines    []int     // by byte of text, the line of the file
	sections []section // in the order of the page, without gaps
	tokens   []token
}

// A section is the text below one heading, up to the next one.
type section struct {
	title    string
	from, to int // byte offsets in the text
}

// A token is a name that programs rely on: text in backticks, or a key of a JSON example.
type token struct {
	text     string
	from, to int // byte offsets in the text, including quotation marks
}

var (
	heading   = regexp.MustCompile(`^#+ (.*)`)
	ruler     = regexp.MustCompile(`^\|[-|]+\|$`) // between the head and the rows of a table
	backticks = regexp.MustCompile("`([^`]+)`")
	jsonKey   = regexp.MustCompile(`"([a-z_0-9]+)":`)
)

// readPage parses the text of the contract.
func readPage(text string) *page {
	p := &page{}
	var code bool
	var codeFrom int
	all := strings.Split(text, "\n")
	for i, line := range all {
		fence := strings.HasPrefix(line, "```")
		if fence && code {
			p.addTokens(jsonKey, codeFrom, len(p.text))
		}
		if fence {
			code, codeFrom = !code, len(p.text)
		}
		title := heading.FindStringSubmatch(line)
		head := i+1 < len(all) && ruler.MatchString(all[i+1])
		switch {
		case title != nil && !code:
			p.sections = append(p.sections, section{title: title[1], from: len(p.text)})
		case fence, head, ruler.MatchString(line), line == "":
		default:
			line = strings.Join(strings.Fields(line), " ") + " "
			if !code {
				p.addTokens(backticks, len(p.text), len(p.text)+len(line), p.text+line)
			}
			p.text += line
			p.lines = append(p.lines, slices.Repeat([]int{i + 1}, len(line))...)
		}
		if n := len(p.sections); n > 0 {
			p.sections[n-1].to = len(p.text)
		}
	}
	return p
}

// addTokens adds the tokens of a part of the page's text, or of the given text, which the page will
// have.
func (p *page) addTokens(form *regexp.Regexp, from, to int, text ...string) {
	whole := p.text
	if len(text) > 0 {
		whole = text[0]
	}
	for _, m := range form.FindAllStringSubmatchIndex(whole[from:to], -1) {
		p.tokens = append(p.tokens, token{whole[from+m[2] : from+m[3]], from + m[0], from + m[1]})
	}
}

// find returns the byte offsets of a quote. The page must contain the quote exactly once.
func (p *page) find(quote string) (from, to int, err error) {
	quote = strings.Join(strings.Fields(quote), " ")
	from = strings.Index(p.text, quote)
	switch {
	case quote == "":
		return 0, 0, fmt.Errorf("an empty quote")
	case from < 0:
		return 0, 0, fmt.Errorf("the page does not say %q", quote)
	case strings.Contains(p.text[from+1:], quote):
		return 0, 0, fmt.Errorf("the page says %q more than once: quote more of it", quote)
	}
	return from, from + len(quote), nil
}

// in returns the title of the section that contains a byte of the text.
func (p *page) in(at int) string {
	for _, s := range p.sections {
		if at >= s.from && at < s.to {
			return s.title
		}
	}
	return ""
}

// tableRows returns the cells of the table whose first column has the given heading. It unescapes
// escaped pipes.
func tableRows(text, name string) [][]string {
	var rows [][]string
	var inside bool
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "| "+name+" |"):
			inside = true
		case !strings.HasPrefix(line, "|"):
			inside = false
		case inside && !ruler.MatchString(line):
			line = strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00")
			var cells []string
			for cell := range strings.SplitSeq(line, "|") {
				cells = append(cells, strings.ReplaceAll(strings.TrimSpace(cell), "\x00", "|"))
			}
			rows = append(rows, cells)
		}
	}
	return rows
}

func readContract() (string, error) {
	text, err := os.ReadFile(contractFile)
	return string(text), err
}
