package importer

import (
	_ "embed"
	"math"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// lettersText has a line for each language: its name, then how often each letter
// and each pair of neighbours occurs in the names that Unicode's CLDR has for
// countries and languages, and in common names of people. A test writes it; see
// TestLetters. An underscore is the edge of a word.
//
//go:embed letters.txt
var lettersText string

// model tells how likely letters are beside each other in a language.
type model struct {
	letters map[rune]float64
	pairs   map[[2]rune]float64
	all     float64 // the sum of letters
	writes  bool    // with ideographs or syllables: pairs tell nothing
}

// edge is what stands around words.
const edge = '_'

// models parses lettersText, once.
var models = sync.OnceValue(func() map[string]*model {
	all := map[string]*model{}
	for line := range strings.Lines(lettersText) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		l := &model{letters: map[rune]float64{}, pairs: map[[2]rune]float64{}}
		for token := range strings.FieldsSeq(rest) {
			i := strings.IndexAny(token, "0123456789")
			n, err := strconv.Atoi(token[i:])
			if err != nil {
				panic("importer: letters.txt: " + err.Error())
			}
			switch r := []rune(token[:i]); len(r) {
			case 1:
				l.letters[r[0]] = float64(n)
				l.all += float64(n)
			case 2:
				l.pairs[[2]rune{r[0], r[1]}] = float64(n)
			}
		}
		l.writes = len(l.pairs) == 0
		all[name] = l
	}
	return all
})

// Costs are logarithms of probabilities.
const (
	impossible = -14.0 // a byte that the encoding does not define
	oddSymbol  = -10.0 // a symbol that names don't have
	punctuated = -2.0  // a dash, a quotation mark
	lone       = -4.0  // a letter that is a word
	inWord     = -7.0  // any such between two letters
	oddCase    = -2.5  // a small letter where a word begins, a capital further on
	mixedCase  = -8.0  // a capital after a small letter
	mixedWords = -8.0  // a letter of another script directly beside a Latin one
)

// alone is how likely a letter is anywhere.
func (m *model) alone(r rune) float64 {
	return (m.letters[r] + 0.05) / (m.all + 10)
}

// after is how likely b is after a.
func (m *model) after(a, b rune) float64 {
	const weight = 1.5
	if max(a, b) < utf8.RuneSelf {
		return math.Log(m.alone(b)) // such pairs were not counted
	}
	return math.Log((m.pairs[[2]rune{a, b}] + weight*m.alone(b)) / (m.letters[a] + weight))
}

func fold(r rune) rune {
	if unicode.IsLetter(r) || unicode.IsMark(r) {
		switch r = unicode.ToLower(r); r {
		case 'ș': // Windows-1250 has them with cedillas alone
			return 'ş'
		case 'ț':
			return 'ţ'
		}
		return r
	}
	return edge
}

// isOddity finds what decoders write for bytes without a meaning: U+FFFD, and those of
// Windows code pages a control character that no text has.
func isOddity(r rune) bool { return r == utf8.RuneError || 0x80 <= r && r < 0xa0 }

// word is how likely a word is in the language, of which only what stands in
// or beside characters outside ASCII counts.
func (m *model) word(word []rune) float64 {
	sum := 0.0
	before, was := edge, rune(' ')
	for i := 0; i <= len(word); i++ {
		r := ' '
		if i < len(word) {
			r = word[i]
		}
		f := fold(r)
		if max(r, was) >= utf8.RuneSelf {
			sum += m.after(before, f)
			if isOtherScript(r) && isASCIILetter(was) || isASCIILetter(r) && isOtherScript(was) {
				sum += mixedWords
			}
			if unicode.IsUpper(r) && unicode.IsLower(was) {
				sum += mixedCase
			}
			if unicode.IsLower(r) && unicode.IsUpper(was) && i > 1 && unicode.IsUpper(word[i-2]) {
				sum += mixedCase
			}
		}
		if r >= utf8.RuneSelf {
			sum += caseOf(r, before)
			if f != edge && before == edge && (i+1 == len(word) || fold(word[i+1]) == edge) {
				sum += lone
			}
			if f == edge {
				sum += m.symbol(r, before, word, i)
			}
		}
		before, was = f, r
	}
	return sum
}

func isOtherScript(r rune) bool {
	return r >= utf8.RuneSelf && fold(r) != edge && !unicode.Is(unicode.Latin, r)
}

func isASCIILetter(r rune) bool { return r < utf8.RuneSelf && unicode.IsLetter(r) }

// caseOf is what the case of a letter outside ASCII costs.
func caseOf(r, before rune) float64 {
	switch {
	case unicode.IsLower(r) && before == edge:
		return oddCase
	case unicode.IsUpper(r) && before != edge:
		return oddCase
	}
	return 0
}

// symbol is what a character outside ASCII that is no letter costs.
func (m *model) symbol(r, before rune, word []rune, i int) float64 {
	inside := before != edge && i+1 < len(word) && unicode.IsLetter(word[i+1])
	switch {
	case isOddity(r):
		return impossible
	case r == '’':
		return 1 // two edges of words cost enough
	case !strings.ContainsRune("«»“”„‘–—…€№ªº·\u00a0", r):
		return oddSymbol
	case inside:
		return inWord
	}
	return punctuated
}

// characters is how likely a word of two-byte characters is. zone tells of
// a pair of bytes how likely it is among the characters that were never counted.
func (m *model) wideWord(c *legacy, text []byte) float64 {
	sum := 0.0
	was, foreign := false, false // whether the character before is a Latin letter, or outside ASCII
	for _, r := range string(decoded(c.charset, text)) {
		if r < utf8.RuneSelf {
			latin := unicode.IsLetter(r)
			if latin && foreign {
				sum += mixedWords
			}
			text = text[min(1, len(text)):]
			was, foreign = latin, false
			continue
		}
		if len(text) == 0 {
			break
		}
		n := min(c.wide.width(text), len(text))
		switch {
		case isOddity(r):
			n = 1
			if len(text) > 1 && text[1] >= utf8.RuneSelf {
				n = 2
			}
			sum += impossible * float64(n)
		case m.letters[r] > 0:
			sum += math.Log(0.9 * m.letters[r] / m.all)
		case n > 0:
			sum += c.wide.unseen(text[:n])
		}
		if was {
			sum += mixedWords
		}
		text = text[n:]
		was, foreign = false, true
	}
	return sum
}
