package importer

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

// EncodingGuess is an encoding that a file may be in, and how some of its names
// would read then.
type EncodingGuess struct {
	Encoding string `json:"encoding"` // a name that Options.Encoding takes
	// Sample are cells of the file, the same ones for each guess. Empty where a
	// summary is kept longer than the file.
	Sample []string `json:"sample"`
}

// ReadAs reads a cell that was read in one encoding as it reads in another. False
// means that the cell's bytes can't be told any more.
func ReadAs(cell, was, other string) (string, bool) {
	from, err1 := charsetNamed(was)
	to, err2 := charsetNamed(other)
	if err1 != nil || err2 != nil || from.codec == nil || to.codec == nil || strings.ContainsRune(cell, utf8.RuneError) {
		return "", false
	}
	text, err := from.codec.NewEncoder().Bytes([]byte(cell))
	if err != nil {
		return "", false
	}
	return string(decoded(to, text)), true
}

// legacy is an encoding from before Unicode and the languages that are written in it.
type legacy struct {
	charset
	languages []string
	rare      float64 // the logarithm of how much rarer it is than the others
	wide      *wide   // nil: each byte is a character
}

// wide describes an encoding whose characters take several bytes. The standards have
// common characters in some rows and rare ones in others; the first byte of a character
// tells its row.
type wide struct {
	width        func(text []byte) int // of the first character, in bytes
	marks        string                // the rows of punctuation
	kana, common string                // the first and the last row of each
	extended     bool                  // characters with a byte below 0xa1 were added later, and are rare
}

// unseen is the logarithm of how likely a character is that the model doesn't have.
func (w *wide) unseen(char []byte) float64 {
	lead := string(char[:1])
	within := func(rows string) bool { return rows != "" && rows[:1] <= lead && lead <= rows[1:] }
	switch {
	case w.extended && (len(char) == 4 || min(char[0], char[len(char)-1]) < 0xa1):
		return -14
	case len(char) == 1: // kana of half width
		return -5.4
	case strings.Contains(w.marks, lead):
		return -9
	case within(w.kana):
		return -8
	case within(w.common):
		return -10
	}
	return -12.5
}

// legacies are the encodings that a file is tried in. Where several read it alike,
// the first of them gives it its name.
var legacies = []legacy{
	{charset{"Windows-1252", charmap.Windows1252}, languages("de fr es pt it da sv fi is"), 0, nil},
	{charset{"Windows-1250", charmap.Windows1250}, languages("cs sk pl hu hr sl ro de fr"), 1, nil},
	{charset{"Windows-1251", charmap.Windows1251}, languages("ru uk bg sr"), 1, nil},
	{charset{"Windows-1253", charmap.Windows1253}, languages("el"), 1, nil},
	{charset{"Windows-1254", charmap.Windows1254}, languages("tr de fr es"), 1, nil},
	{charset{"Windows-1255", charmap.Windows1255}, languages("he"), 2, nil},
	{charset{"Windows-1256", charmap.Windows1256}, languages("ar"), 1, nil},
	{charset{"Windows-1257", charmap.Windows1257}, languages("lv lt et de"), 2, nil},
	{charset{"Windows-874", charmap.Windows874}, languages("th"), 2, nil},
	{charset{"ISO-8859-2", charmap.ISO8859_2}, languages("cs sk pl hu hr sl ro"), 3, nil},
	{charset{"macintosh", charmap.Macintosh}, languages("de fr es pt it da sv fi is"), 3, nil},
	{charset{"IBM850", charmap.CodePage850}, languages("de fr es pt it da sv fi is"), 5, nil},
	{charset{"IBM852", charmap.CodePage852}, languages("cs sk pl hu hr sl ro de"), 5, nil},
	{charset{"KOI8-R", charmap.KOI8R}, languages("ru"), 3, nil},
	{charset{"Shift-JIS", japanese.ShiftJIS}, languages("ja"), 1, &wide{shiftJISWidth, "\x81", "\x82\x83", "\x88\x97", false}},
	{charset{"EUC-JP", japanese.EUCJP}, languages("ja"), 2, &wide{eucJPWidth, "\xa1", "\xa4\xa5", "\xb0\xcf", false}},
	{charset{"GB18030", simplifiedchinese.GB18030}, languages("zh"), 1, &wide{gb18030Width, "\xa1\xa3", "", "\xb0\xd7", true}},
	{charset{"Big5", traditionalchinese.Big5}, languages("zh-Hant"), 1, &wide{twoBytes, "\xa1", "", "\xa4\xc6", false}},
	{charset{"EUC-KR", korean.EUCKR}, languages("ko"), 1, &wide{twoBytes, "\xa1", "", "\xb0\xc8", true}},
}

func languages(names string) []string { return strings.Fields(names) }

func twoBytes([]byte) int { return 2 }

// shiftJISWidth knows the kana of half width, which take one byte.
func shiftJISWidth(text []byte) int {
	if 0xa1 <= text[0] && text[0] <= 0xdf {
		return 1
	}
	return 2
}

// eucJPWidth knows the characters of JIS X 0212, which take three bytes.
func eucJPWidth(text []byte) int {
	if text[0] == 0x8f {
		return 3
	}
	return 2
}

// gb18030Width knows the characters of four bytes, whose second is a digit.
func gb18030Width(text []byte) int {
	if len(text) > 1 && '0' <= text[1] && text[1] <= '9' {
		return 4
	}
	return 2
}

// foreignWords are the different words of a file that are not ASCII alone. A word
// that comes again tells nothing new.
type foreignWords struct {
	all  [][]byte
	seen map[string]bool
	size int // bytes
}

// mostWords is how many bytes of different words are judged: some four hundred
// names, whose encoding is beyond doubt.
const mostWords = 4 << 10

func (f *foreignWords) full() bool { return f.size >= mostWords }

// add takes the words of a text, up to that many bytes.
func (f *foreignWords) add(text []byte) {
	if f.seen == nil {
		f.seen = map[string]bool{}
	}
	for len(text) > 0 && !f.full() {
		end := bytes.IndexFunc(text, func(r rune) bool { return separates(r) })
		if end < 0 {
			end = len(text)
		}
		word := text[:end]
		text = text[min(end+1, len(text)):]
		if ascii(word) == len(word) || f.seen[string(word)] {
			continue
		}
		f.seen[string(word)] = true
		f.all = append(f.all, bytes.Clone(word))
		f.size += len(word)
	}
}

// separates tells whether a character stands between words. Bytes from 0x30 on
// may be the second of a character.
func separates(r rune) bool { return r < '0' || r == ';' || r == ':' }

// verdict is what the words of a file tell about its encoding.
type verdict struct {
	best  charset
	alike []charset // others that are likely and read the words alike
	doubt []charset // others that are likely and read them differently; nil: best is beyond doubt
	wide  bool      // best or one of alike has characters of several bytes
}

const (
	// margin is the logarithm of how many times as likely an encoding has to be as
	// any other that reads the words differently.
	margin = 7.0
	// plausible is the logarithm of how likely a byte outside ASCII has to be.
	// Text in an encoding that is not among those tried has -14 to -20, names in
	// the right one have -3 to -8.
	plausible = -10.0
	// doubted is among how many encodings a person is asked to choose.
	doubted = 6
)

// judge tries the encodings on the words.
func (f *foreignWords) judge() verdict {
	type scored struct {
		*legacy
		score float64
	}
	all := make([]scored, 0, len(legacies))
	for i := range legacies {
		all = append(all, scored{&legacies[i], legacies[i].score(f.all)})
	}
	slices.SortStableFunc(all, func(a, b scored) int { return cmp.Compare(b.score, a.score) })
	foreign := 0
	for _, b := range bytes.Join(f.all, nil) {
		if b >= utf8.RuneSelf {
			foreign++
		}
	}
	top := all[0]
	v := verdict{best: top.charset, wide: top.wide != nil}
	nonsense := top.score < plausible*float64(foreign)
	text := f.decoded(top.charset)
	told := [][]byte{text}
	sure := !nonsense
	for _, c := range all[1:] {
		short := top.score - c.score // how much less likely
		read := f.decoded(c.charset)
		switch {
		case short < margin && bytes.Equal(read, text):
			v.alike, v.wide = append(v.alike, c.charset), v.wide || c.wide != nil
		case len(told) < doubted && (short < 2*margin || nonsense) && !slices.ContainsFunc(told, func(t []byte) bool { return bytes.Equal(t, read) }):
			v.doubt, told = append(v.doubt, c.charset), append(told, read)
			sure = sure && short >= margin
		}
	}
	if sure {
		v.doubt = nil
	}
	for _, l := range legacies {
		if i := slices.Index(v.alike, l.charset); l.charset == v.best {
			break
		} else if i >= 0 {
			v.best, v.alike[i] = l.charset, v.best
			break
		}
	}
	return v
}

func (f *foreignWords) decoded(c charset) []byte {
	return decoded(c, bytes.Join(f.all, []byte{'\n'}))
}

// score is the logarithm of how likely the words are in an encoding: mostly of one
// of its languages, and a few of the others.
func (l *legacy) score(words [][]byte) float64 {
	scores := make([][]float64, len(l.languages)) // of each word
	for _, word := range words {
		var text []rune
		if l.wide == nil {
			text = []rune(string(decoded(l.charset, word)))
		}
		for i, name := range l.languages {
			var score float64
			if l.wide != nil {
				score = models()[name].wideWord(l, word)
			} else {
				score = models()[name].word(text)
			}
			scores[i] = append(scores[i], score)
		}
	}
	best := math.Inf(-1)
	for i := range scores {
		sum := 0.0
		for w := range words {
			most, likely := scores[i][w], 0.0
			for j := range scores {
				most = max(most, scores[j][w])
			}
			for j := range scores {
				share := 0.1 / float64(len(scores))
				if i == j {
					share += 0.9
				}
				likely += share * math.Exp(scores[j][w]-most)
			}
			sum += most + math.Log(likely)
		}
		best = max(best, sum)
	}
	return best - l.rare
}

// sampled is how many cells of a file are shown to tell its encoding by, and
// shownCell how long one is at most, in characters.
const (
	sampled   = 3
	shownCell = 40
)

// guesses shows how cells of a text read in some encodings: those cells that they
// read differently.
func (f *foreignWords) guesses(among []charset, text []byte) []EncodingGuess {
	var cells [][]byte
	for cell := range bytes.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(",;\t\r\n\"", r) }) {
		cell = bytes.TrimSpace(cell)
		if ascii(cell) == len(cell) || bytes.IndexByte(cell, '@') >= 0 || len(cell) > 4*shownCell ||
			slices.ContainsFunc(cells, func(c []byte) bool { return bytes.Equal(c, cell) }) {
			continue
		}
		if cells = append(cells, cell); len(cells) == sampled {
			break
		}
	}
	var all []EncodingGuess
	for _, c := range among {
		guess := EncodingGuess{Encoding: c.name, Sample: []string{}}
		for _, cell := range cells {
			shown := []rune(strings.Map(visible, string(decoded(c, cell))))
			guess.Sample = append(guess.Sample, string(shown[:min(len(shown), shownCell)]))
		}
		all = append(all, guess)
	}
	return all
}
