package importer

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"bulkinvite/internal/invitation"
)

// The lengths in octets that RFC 5321 (4.5.3.1) and RFC 1035 (2.3.4) allow. 254
// is what is left of a path's 256 without its angle brackets.
const (
	maxLocal   = 64
	maxLabel   = 63
	maxAddress = 254
)

// The notes that Clean makes of what it mended.
const (
	noteInvisible = "took out invisible characters"
	noteWidth     = "wrote full-width characters in plain ones"
	noteSpaces    = "took off the spaces around it"
	noteMailto    = "took off mailto:"
	noteTwice     = "took one of two writings of the address"
	noteText      = "took off the apostrophe before it"
	noteName      = "took the address out of the brackets after a name"
	noteQuotes    = "took off the quotation marks around it"
	noteEnd       = "took off punctuation at its end"
	noteForm      = "composed accented letters"
	noteDomain    = "wrote the domain in its ASCII form"
)

// Person names the person that an address belongs to, however it is written: see
// [invitation.Key]. code says why it is no address, as [Clean] does.
func Person(address string) (key, code string) {
	email, _, code := Clean(address)
	if code != "" {
		return "", code
	}
	key, err := invitation.Key(email)
	if err != nil {
		return "", BadDomain
	}
	return key, ""
}

// Clean reads an address out of a cell as a person would, and notes each change.
// Where it can't, code is one of MissingEmail, NoAt, BadLocal, BadDomain,
// NoDotDomain, TooLong, SeveralAddresses and BadEncoding, and email is empty.
// The case of letters stays; a domain in another script than ASCII's becomes its
// ASCII form, which every mail server takes.
func Clean(cell string) (email string, notes []string, code string) {
	a, notes, code := clean(cell)
	if code != "" {
		return "", notes, code
	}
	return a.text, notes, ""
}

// address is one that was read, as it was written.
type address struct {
	text          string // local@domain
	local, domain string
	ascii         string // the domain in lower case and ASCII
}

func clean(cell string) (a address, notes []string, code string) {
	if plain(cell) {
		a, code = split(cell)
		return a, nil, code
	}
	text, notes, code := unwrap(cell)
	if code != "" {
		return a, notes, code
	}
	a, code = split(text)
	if code == "" && ascii([]byte(a.domain)) < len(a.domain) {
		a.domain, a.text = a.ascii, a.local+"@"+a.ascii
		notes = append(notes, noteDomain)
	}
	return a, notes, code
}

// plain tells whether a cell has nothing in it that might need mending.
func plain(cell string) bool {
	if cell == "" || cell[len(cell)-1] == '.' {
		return false
	}
	for i := 0; i < len(cell); i++ {
		c := cell[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || c == '@' || c == '.' || c == '-' || c == '_' || c == '+') {
			return false
		}
	}
	return strings.Count(cell, "@") == 1
}

// unwrap takes off what surrounds an address.
func unwrap(cell string) (text string, notes []string, code string) {
	if !utf8.ValidString(cell) || strings.ContainsRune(cell, utf8.RuneError) || strings.IndexByte(cell, 0) >= 0 {
		return "", nil, BadEncoding
	}
	note := func(changed, what string) {
		if changed != text {
			text, notes = changed, append(notes, what)
		}
	}
	text = cell
	if blankCell(text) {
		return "", nil, MissingEmail
	}
	if code := garbled(text); code != "" {
		return "", nil, code
	}
	note(strings.Map(visible, text), noteInvisible)
	note(strings.Map(halfWidth, text), noteWidth)
	note(norm.NFC.String(text), noteForm)
	note(strings.TrimFunc(text, isSpace), noteSpaces)
	note(once(text, "<>"), noteName)
	note(once(text, "()"), noteTwice)
	if several(text) {
		return "", notes, SeveralAddresses
	}
	note(outOfBrackets(text), noteName)
	if address := withoutMailto(text); address != text && len(address) <= 4*maxAddress {
		// What was escaped in it may need mending itself.
		text, more, code := unwrap(address)
		if code == MissingEmail {
			code = NoAt
		}
		return text, append(append(notes, noteMailto), more...), code
	}
	note(withoutQuotes(text), noteQuotes)
	note(withoutApostrophe(text), noteText)
	note(strings.TrimRightFunc(text, isEnd), noteEnd)
	note(strings.TrimFunc(text, isSpace), noteSpaces)
	if text == "" {
		return "", notes, NoAt
	}
	return text, notes, ""
}

// isEnd finds the punctuation that sentences and lists leave behind an address,
// with spaces between.
func isEnd(r rune) bool { return strings.ContainsRune(".,;:。、", r) || isSpace(r) }

func isSpace(r rune) bool { return unicode.IsSpace(r) || r == '\u2800' || r == '\u3164' }

// isInvisible finds characters that take no place and that copying from mails
// and pages leaves in cells: zero-width ones, soft hyphens, marks of direction;
// and the mark with which DOS ended its files.
func isInvisible(r rune) bool {
	switch {
	case r == '\x1a', r == '\u00ad', r == '\ufeff', r == '\u061c', r == '\u180e', '\u200b' <= r && r <= '\u200f',
		'\u202a' <= r && r <= '\u202e', '\u2060' <= r && r <= '\u2069':
		return true
	}
	return false
}

func visible(r rune) rune {
	if isInvisible(r) {
		return -1
	}
	return r
}

// halfWidth writes the wide forms of ASCII's characters, which East Asian
// keyboards give, as those characters.
func halfWidth(r rune) rune {
	switch {
	case '\uff01' <= r && r <= '\uff5e':
		return r - 0xfee0
	case r == '\u3000':
		return ' '
	}
	return r
}

// garbled gives the code for an address whose UTF-8 was read in another encoding. It
// looks before anything is taken out: a soft hyphen may be half of a letter.
func garbled(text string) string {
	address := outOfBrackets(text)
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return ""
	}
	if _, ok := mojibake(address[at+1:]); ok {
		return BadDomain
	}
	if _, ok := mojibake(address); ok {
		return BadLocal
	}
	return ""
}

// once takes one of two writings of an address, the second of them in brackets, as
// Outlook, Word and Markdown write a link: ada@x.com<mailto:ada@x.com>,
// ada@x.com (ada@x.com), [ada@x.com](mailto:ada@x.com).
func once(text, brackets string) string {
	rest, ok := strings.CutSuffix(strings.TrimRightFunc(text, isEnd), brackets[1:])
	if !ok {
		return text
	}
	first, second, ok := strings.Cut(rest, brackets[:1])
	if !ok {
		return text
	}
	first = strings.Trim(strings.TrimFunc(first, isSpace), `"'[]`)
	second = strings.TrimFunc(withoutMailto(second), isSpace)
	if strings.IndexByte(first, '@') > 0 && strings.EqualFold(withoutMailto(first), second) {
		return second
	}
	return text
}

// several tells whether a cell has more than one address.
func several(text string) bool {
	found := 0
	for part := range strings.FieldsFuncSeq(unquoted(text), func(r rune) bool {
		return isSpace(r) || strings.ContainsRune(",;|/<>()[]，；、", r)
	}) {
		// A quoted local part reads as one letter here.
		if at := strings.IndexByte(part, '@'); at > 0 && at < len(part)-1 {
			found++
		}
	}
	return found > 1
}

// unquoted writes one x for each quoted string, whose content is nobody's
// address.
func unquoted(text string) string {
	if strings.IndexByte(text, '"') < 0 || !strings.Contains(text, `"@`) {
		return text
	}
	var out strings.Builder
	open := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && open:
			i++
		case c == '"':
			if open = !open; open {
				out.WriteByte('x')
			}
		case !open:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// outOfBrackets gives what stands in the angle brackets that end a text.
func outOfBrackets(text string) string {
	open := strings.LastIndexByte(text, '<')
	if open < 0 {
		return text
	}
	inner, ok := strings.CutSuffix(strings.TrimRightFunc(text[open+1:], isEnd), ">")
	if !ok || strings.ContainsAny(inner, "<>") {
		return text
	}
	return inner
}

// withoutMailto takes the address out of a mailto: link (RFC 6068), in which
// characters may be escaped. The slashes that some write there belong to other links.
func withoutMailto(text string) string {
	const scheme = "mailto:"
	trimmed := strings.TrimLeftFunc(text, isSpace)
	if len(trimmed) < len(scheme) || !strings.EqualFold(trimmed[:len(scheme)], scheme) {
		return text
	}
	address, _, _ := strings.Cut(trimmed[len(scheme):], "?")
	address = strings.TrimLeft(address, "/")
	if plain, err := url.PathUnescape(address); err == nil {
		return plain
	}
	return address
}

// withoutApostrophe takes off the mark by which spreadsheets know a text.
func withoutApostrophe(text string) string {
	rest, ok := strings.CutPrefix(text, "'")
	if local, _, found := strings.Cut(rest, "@"); !ok || !found || local == "" || strings.HasSuffix(local, "'") {
		return text
	}
	return rest
}

func withoutQuotes(text string) string {
	trimmed := strings.TrimFunc(text, isSpace)
	for _, pair := range []string{`""`, "''", "“”", "‘’", "„“", "«»", "``"} {
		marks := []rune(pair)
		inner, ok := strings.CutPrefix(trimmed, string(marks[0]))
		if !ok {
			continue
		}
		if inner, ok = strings.CutSuffix(inner, string(marks[1])); ok && !strings.ContainsRune(inner, marks[1]) {
			return inner
		}
	}
	return text
}

// split checks an address that has nothing around it.
func split(text string) (a address, code string) {
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return a, NoAt
	}
	local, domain := text[:at], text[at+1:]
	switch {
	case len(local) > maxLocal:
		return a, TooLong
	case !validLocal(local):
		return a, BadLocal
	case domain == "":
		return a, BadDomain
	case len(domain) > 4*maxAddress:
		return a, TooLong
	}
	name, ok := invitation.ASCIIDomain(domain)
	if longLabel(domain, name) || len(local)+1+len(name) > maxAddress {
		return a, TooLong
	}
	switch {
	case !ok:
		return a, BadDomain
	case strings.IndexByte(name, '.') < 0:
		return a, NoDotDomain
	case name != domain && ascii([]byte(domain)) < len(domain) && !honestDomain(domain, name):
		return a, BadDomain
	case strings.HasSuffix(name, ".") || onlyDigits(name[strings.LastIndexByte(name, '.')+1:]):
		// A numeric ending makes it an IP address, to which nobody is hired.
		return a, BadDomain
	}
	return address{text, local, domain, name}, ""
}

// longLabel measures the ASCII form where there is one, else what was written.
func longLabel(domain, ascii string) bool {
	if ascii == "" {
		ascii = domain
	}
	if len(ascii) <= maxLabel {
		return false
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if len(label) > maxLabel {
			return true
		}
	}
	return false
}

func onlyDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// validLocal knows RFC 5321's Dot-string and Quoted-string, and the letters
// outside ASCII that RFC 6531 adds to the first.
func validLocal(local string) bool {
	if strings.HasPrefix(local, `"`) {
		return quotedString(local)
	}
	before := '.'
	for _, r := range local {
		if r == '.' && before == '.' || r != '.' && !atomRune(r) {
			return false
		}
		before = r
	}
	return before != '.'
}

// atomRune finds the characters that a Dot-string has besides its dots.
func atomRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) ||
		strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
}

func quotedString(s string) bool {
	if len(s) < 3 || s[len(s)-1] != '"' {
		return false
	}
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\\' {
			i++
			if i == len(s)-1 {
				return false
			}
		} else if s[i] == '"' {
			return false
		}
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
