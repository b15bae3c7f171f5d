package importer

import (
	_ "embed"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// headerKind is what a header says of the addresses in its column, the likeliest to be
// meant last. The zero value is one that is never chosen automatically.
type headerKind uint8

const (
	othersHeader  headerKind = iota // an address of somebody else: Manager Email
	privateHeader                   // a private or second address of the person: Personal Email
	plainHeader                     // nothing: Name, Login
	unsureHeader                    // e-mail, and words that this package doesn't know: Invoice Email
	neutralHeader                   // e-mail, and nothing of whose or which: Email Address
	workHeader                      // the work address: Work Email
)

// header is what the words of a header cell say.
type header struct {
	kind  headerKind
	mail  bool // it has a word for e-mail
	known bool // it has no word that this package doesn't know
}

// isEmail reports whether a header alone is enough to take its column for the one
// with the addresses.
func (h header) isEmail() bool { return h.kind == neutralHeader || h.kind == workHeader }

// avoided reports whether a header says that its column holds other addresses than
// the ones to invite. Such a column is read only when --map names it.
func (h header) avoided() bool { return h.kind == privateHeader || h.kind == othersHeader }

// wordClass is what a word of a header means.
type wordClass uint8

const (
	unknownWord    wordClass = iota
	fillerWord               // says nothing: id, required, of
	mailWord                 // e-mail
	electronicWord           // makes e-mail of post and address: electronic, the e of e-post
	postWord                 // is e-mail beside an electronic word: post, address
	workWord
	privateWord
	othersWord
)

// headerWords has the words of headers, in lines of one class each. A star at the end
// stands for any ending; a word of two parts stands for these parts one after the other.
// The words are written as people write them, and compared as [normal] writes them, so
// that case, accents of Latin letters and hyphens don't matter.
//
//go:embed headerwords.txt
var headerWords string

// dictionary is headerWords, to look words up in.
var dictionary = func() (d struct {
	words   map[string]wordClass // by the normal parts of the word, with a space between
	endings map[string]wordClass // by the beginning
	parts   int                  // of the word with the most of them
	longest int                  // the word with the most runes
}) {
	d.words, d.endings = map[string]wordClass{}, map[string]wordClass{}
	classes := map[string]wordClass{"mail": mailWord, "electronic": electronicWord, "post": postWord,
		"filler": fillerWord, "work": workWord, "private": privateWord, "others": othersWord}
	for line := range strings.Lines(headerWords) {
		name, words, _ := strings.Cut(strings.TrimSpace(line), ": ")
		class, ok := classes[name]
		if !ok {
			panic("importer: headerwords.txt: no class " + name)
		}
		for word := range strings.SplitSeq(words, ",") {
			into := d.words
			if strings.HasSuffix(word, "*") {
				into = d.endings
			}
			parts := splitWords(word, false)
			key := strings.Join(parts, " ")
			into[key] = max(into[key], class) // rather private than work
			d.parts, d.longest = max(d.parts, len(parts)), max(d.longest, utf8.RuneCountInString(key))
		}
	}
	return d
}()

// splitWords cuts a header into words as [normal] writes them, numbers apart. With
// camel set a capital begins a word too: userPrincipalName.
func splitWords(text string, camel bool) (words []string) {
	runes := []rune(norm.NFKD.String(strings.ToValidUTF8(text, " ")))
	var word []rune
	end := func() {
		if n := normal(string(word)); n != "" {
			words = append(words, n)
		}
		word = word[:0]
	}
	for i, r := range runes {
		switch {
		case unicode.IsMark(r):
			word = append(word, r)
			continue
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			if !strings.ContainsRune(`'’"״׳`, r) { // dipendente dell'azienda, דוא"ל
				end()
			}
			continue
		case len(word) > 0 && unicode.IsDigit(r) != unicode.IsDigit(runes[i-1]) && !unicode.IsMark(runes[i-1]):
			end()
		case camel && len(word) > 0 && unicode.IsUpper(r):
			if !unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]) {
				end()
			}
		}
		word = append(word, r)
	}
	end()
	return words
}

// longHeader is how many bytes of a header are looked at. No header that says
// anything is as long, and a cell may be a megabyte.
const longHeader = 200

// readHeaderCell tells what a header cell says.
func readHeaderCell(cell string) header {
	if len(cell) > longHeader {
		return header{kind: plainHeader}
	}
	h := weigh(splitWords(cell, true))
	if !h.known || !h.mail {
		if plain := weigh(splitWords(cell, false)); plain.avoided() || plain.known && plain.mail && !h.avoided() {
			return plain // EMAILadresse
		}
	}
	return h
}

// weigh puts together what the words of a header mean.
func weigh(words []string) header {
	var seen [othersWord + 1]bool
	any := false
	for len(words) > 0 {
		n, classes := lookUp(words)
		for _, class := range classes {
			seen[class] = true
		}
		words, any = words[n:], true
	}
	h := header{
		known: any && !seen[unknownWord],
		mail:  seen[mailWord] || seen[electronicWord] && seen[postWord],
	}
	switch {
	case seen[othersWord]:
		h.kind = othersHeader
	case seen[privateWord]:
		h.kind = privateHeader
	case !h.mail:
		h.kind = plainHeader
	case !h.known:
		h.kind = unsureHeader
	case seen[workWord]:
		h.kind = workHeader
	default:
		h.kind = neutralHeader
	}
	return h
}

// lookUp tells what the first of some words mean, and how many they are.
func lookUp(words []string) (n int, classes []wordClass) {
	for n := min(dictionary.parts, len(words)); n > 0; n-- {
		if class, ok := dictionary.words[strings.Join(words[:n], " ")]; ok {
			return n, []wordClass{class}
		}
	}
	word := words[0]
	if strings.IndexFunc(word, func(r rune) bool { return !unicode.IsDigit(r) }) < 0 {
		return 1, []wordClass{fillerWord}
	}
	classes = compound([]rune(word))
	if slices.Contains(classes, unknownWord) {
		for i := range len(word) + 1 { // the longest beginning first
			if class, ok := dictionary.endings[word[:len(word)-i]]; ok {
				return 1, []wordClass{class}
			}
		}
	}
	return 1, classes
}

// compound takes a word apart that is written without spaces: Firmenmailadresse,
// 会社メール. In scripts that have no spaces a part of it may be unknown.
func compound(word []rune) []wordClass {
	spaceless := slices.ContainsFunc(word, func(r rune) bool {
		return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Thai)
	})
	// At each place: the fewest runes that no word covers, and how to get there.
	type step struct {
		unknown, from int
		class         wordClass
	}
	best := make([]step, len(word)+1)
	for at := 1; at <= len(word); at++ {
		best[at] = step{best[at-1].unknown + 1, at - 1, unknownWord}
		for from := max(0, at-dictionary.longest); from < at; from++ {
			class, ok := dictionary.words[string(word[from:at])]
			short := at-from < 3 && !spaceless && !(at == 1 && class == electronicWord) && string(word[from:at]) != "id"
			if ok && !short && best[from].unknown <= best[at].unknown {
				if best[from].unknown < best[at].unknown || best[at].class == unknownWord || from < best[at].from {
					best[at] = step{best[from].unknown, from, class}
				}
			}
		}
	}
	if best[len(word)].unknown > 0 && !spaceless {
		return []wordClass{unknownWord}
	}
	var classes []wordClass
	for at := len(word); at > 0; at = best[at].from {
		classes = append(classes, best[at].class)
	}
	return classes
}
