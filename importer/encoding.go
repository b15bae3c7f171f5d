package importer

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/wlynxg/chardet"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
	utf16 "golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// charset is an encoding by the name that a person knows it by; a nil codec is
// UTF-8, which is checked but not converted.
type charset struct {
	name  string
	codec encoding.Encoding
}

var (
	utf8Text    = charset{name: "UTF-8"}
	utf16LE     = charset{"UTF-16LE", utf16.UTF16(utf16.LittleEndian, utf16.IgnoreBOM)}
	utf16BE     = charset{"UTF-16BE", utf16.UTF16(utf16.BigEndian, utf16.IgnoreBOM)}
	windows1252 = charset{"Windows-1252", charmap.Windows1252}
	windows1251 = charset{"Windows-1251", charmap.Windows1251}
	gb18030     = charset{"GB18030", simplifiedchinese.GB18030}
	shiftJIS    = charset{"Shift-JIS", japanese.ShiftJIS}
)

// charsetNamed finds an encoding by any name that the Encoding Standard lists.
func charsetNamed(name string) (charset, error) {
	label := strings.ToLower(strings.TrimSpace(name))
	for _, c := range []charset{utf8Text, utf16LE, utf16BE, windows1252, windows1251, gb18030, shiftJIS} {
		if label == strings.ToLower(c.name) {
			return c, nil
		}
	}
	codec, err := htmlindex.Get(label)
	if err == nil {
		name, err = htmlindex.Name(codec)
	}
	switch {
	case err != nil || name == "replacement" || name == "x-user-defined":
		return charset{}, &FileError{What: fmt.Sprintf("no encoding is called %q", label), Fix: "Among those known: UTF-8, UTF-16LE, UTF-16BE, Windows-1252, Windows-1251, Shift-JIS, GB18030."}
	case name == "utf-8":
		return utf8Text, nil
	case name == "utf-16le":
		return utf16LE, nil
	case name == "utf-16be":
		return utf16BE, nil
	case name == "windows-1252":
		return windows1252, nil
	case name == "windows-1251":
		return windows1251, nil
	case name == "gb18030" || name == "gbk":
		return gb18030, nil
	case name == "shift_jis":
		return shiftJIS, nil
	}
	return charset{name, codec}, nil
}

// decoder turns a file's bytes into UTF-8. While nothing but ASCII has come by
// it doesn't decide on an encoding: the first umlaut may stand in the last of a
// hundred thousand rows.
type decoder struct {
	in      *bufio.Reader
	r       io.Reader // nil: not decided
	charset charset
	unsure  bool // the encoding is the best of poor guesses
}

// newDecoder takes a byte order mark off, and refuses what is no text.
func newDecoder(in *bufio.Reader, name string) (*decoder, error) {
	head, err := in.Peek(window)
	if err != nil && err != io.EOF {
		return nil, err
	}
	d := &decoder{in: in, charset: utf8Text}
	found, mark := byteOrder(head)
	if mark == len(head) {
		return nil, emptyFile()
	}
	if name != "" {
		named, err := charsetNamed(name)
		if err != nil {
			return nil, err
		}
		// A mark knows better than a name which of UTF-16's byte orders it is.
		if mark != 2 || named.name != utf16LE.name && named.name != utf16BE.name {
			found = named
		}
	}
	if found.codec == nil && controls(head) {
		return nil, &FileError{What: "this is binary data, not text", Fix: "Save it as CSV (UTF-8)."}
	}
	if _, err := in.Discard(mark); err != nil {
		return nil, fmt.Errorf("skip the byte order mark: %w", err)
	}
	if found.name != "" {
		d.decide(found)
	}
	return d, nil
}

// byteOrder finds the encodings that show in a file's first bytes: by a byte
// order mark, whose length it tells, or, for UTF-16 without one, by the zeros
// beside ASCII's letters, digits and delimiters.
func byteOrder(head []byte) (charset, int) {
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		return utf8Text, 3
	case bytes.HasPrefix(head, []byte("\xff\xfe")):
		return utf16LE, 2
	case bytes.HasPrefix(head, []byte("\xfe\xff")):
		return utf16BE, 2
	}
	var zeros [2]int
	for i, b := range head {
		if b == 0 {
			zeros[i%2]++
		}
	}
	const stray = 3 // zeros in a row of a small file of another encoding
	switch half := len(head) / 2; {
	case zeros[1] > max(half/5, stray) && zeros[0] <= half/50:
		return utf16LE, 0
	case zeros[0] > max(half/5, stray) && zeros[1] <= half/50:
		return utf16BE, 0
	}
	return charset{}, 0
}

// controls tells whether more than one byte in twenty is a control character
// that no text has. A few NULs in a row don't make a file binary.
func controls(head []byte) bool {
	n := 0
	for _, b := range head {
		if b < ' ' && b != '\t' && b != '\n' && b != '\r' && b != '\f' && b != '\v' {
			n++
		}
	}
	return n > 3 && n*20 > len(head)
}

func (d *decoder) decide(c charset) {
	d.charset = c
	if c.codec == nil {
		d.r = d.in
		return
	}
	d.r = transform.NewReader(d.in, c.codec.NewDecoder())
}

func (d *decoder) Read(p []byte) (int, error) {
	if d.r != nil || len(p) == 0 {
		if d.r == nil {
			return 0, nil
		}
		return d.r.Read(p)
	}
	if _, err := d.in.Peek(1); err != nil {
		return 0, err
	}
	b, err := d.in.Peek(min(d.in.Buffered(), len(p)))
	if err != nil {
		return 0, err
	}
	n := ascii(b)
	if n < len(b) {
		n = bytes.LastIndexByte(b[:n], '\n') + 1 // a word is judged as a whole
	}
	if n > 0 {
		copy(p, b[:n])
		return d.in.Discard(n)
	}
	sample, err := d.in.Peek(window)
	if err != nil && err != io.EOF {
		return 0, err
	}
	found, sure := detect(sample)
	d.decide(found)
	d.unsure = !sure
	return d.r.Read(p)
}

// ascii tells how many bytes there are before the first that is none of ASCII's.
func ascii(b []byte) int {
	const high = 0x8080808080808080
	i := 0
	for i+8 <= len(b) && binary.LittleEndian.Uint64(b[i:])&high == 0 {
		i += 8
	}
	for i < len(b) && b[i] < utf8.RuneSelf {
		i++
	}
	return i
}

// undecoded tells whether some of the text's bytes made no sense in the file's
// encoding, or are NUL, which no database text can hold. Decoders write U+FFFD
// for such bytes, and those of the Windows code pages a control character that
// no text has. In UTF-8 a U+FFFD is what an earlier program lost.
func (d *decoder) undecoded(text []byte) bool {
	if bytes.IndexByte(text, 0) >= 0 {
		return true
	}
	if ascii(text) == len(text) {
		return false
	}
	if d.charset.codec == nil {
		return !utf8.Valid(text) || bytes.Contains(text, []byte("\ufffd"))
	}
	return bytes.ContainsFunc(text, func(r rune) bool {
		return r == utf8.RuneError || 0x80 <= r && r < 0xa0
	})
}

// enoughForStatistics is how many bytes outside ASCII a sample needs: of one
// apostrophe in Windows-1252 they are as sure that it is Japanese.
const enoughForStatistics = 24

// detect finds the encoding of text that is not ASCII alone. Statistics judge
// well where there is much text; a file of three lines has two names in it, and
// there it tells more what letters the bytes would be.
//
// It is not sure where most of the text would be nonsense in every encoding that
// it knows, and where a few letters make as much sense in another: the bytes of
// 杨 in GB 18030 are those of Со in Windows-1251.
func detect(sample []byte) (found charset, sure bool) {
	good, bad := sequences(sample)
	if good > bad { // by chance, one character in seven of GB 18030 is such a sequence, and fewer elsewhere
		return utf8Text, true
	}
	sample = foreign(sample, 16<<10)
	if found := chardet.Detect(sample); found.Confidence >= 0.9 && len(sample)-plainBytes(sample) >= enoughForStatistics {
		known := map[string]charset{
			"windows-1252": windows1252, "iso-8859-1": windows1252, "windows-1251": windows1251,
			"gb2312": gb18030, "gb18030": gb18030, "gbk": gb18030, "shift_jis": shiftJIS, "cp932": shiftJIS,
		}
		if c, ok := known[strings.ToLower(found.Encoding)]; ok && fits(c, sample) {
			return c, true
		}
	}
	type candidate struct {
		charset
		score, enough float64
	}
	candidates := []candidate{{windows1252, plausible1252(sample), 0.75}, {windows1251, plausible1251(sample), 0.75},
		{gb18030, plausibleGB(sample), 0.5}, {shiftJIS, plausibleJIS(sample), 0.55}}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(b.score, a.score) })
	best := candidates[0]
	sure = best.score >= best.enough
	for _, c := range candidates[1:] {
		if c.score >= best.score-0.1 && !sameText(best.charset, c.charset, sample) {
			sure = false
		}
	}
	return best.charset, sure
}

// sameText tells whether a text reads the same in two encodings.
func sameText(a, b charset, text []byte) bool {
	one, err1 := a.codec.NewDecoder().Bytes(text)
	other, err2 := b.codec.NewDecoder().Bytes(text)
	return err1 == nil && err2 == nil && bytes.Equal(one, other)
}

// sequences counts the multi-byte sequences of UTF-8 in text, and the bytes that
// are none; one that the end cuts off is neither.
func sequences(text []byte) (good, bad int) {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r == utf8.RuneError && n == 1 {
			if !utf8.FullRune(text) {
				return good, bad
			}
			bad++
		} else if n > 1 {
			good++
		}
		text = text[n:]
	}
	return good, bad
}

// foreign keeps of a text the cells that are not ASCII alone, as lines, up to a
// number of bytes. Addresses and English words would only dilute them.
func foreign(text []byte, most int) []byte {
	var kept []byte
	for line := range bytes.Lines(text) {
		if len(kept) > most {
			break
		}
		if ascii(line) < len(line) {
			kept = append(kept, line...)
		}
	}
	return kept[:min(len(kept), most)]
}

func plainBytes(text []byte) (n int) {
	for _, b := range text {
		if b < utf8.RuneSelf {
			n++
		}
	}
	return n
}

// fits tells whether nearly all of the text has a meaning in an encoding.
func fits(c charset, text []byte) bool {
	out, err := c.codec.NewDecoder().Bytes(text)
	if err != nil {
		return false
	}
	lost, all := 0, 0
	for _, r := range string(out) {
		if r >= utf8.RuneSelf {
			all++
		}
		if r == utf8.RuneError || 0x80 <= r && r < 0xa0 {
			lost++
		}
	}
	return lost*20 <= all
}

// plausible1252 and the three below tell how much of what isn't ASCII would be
// what people write in an encoding: about 1 for such text, 0 or less for other.
// In Western Europe's languages, marked letters stand one or two together in
// words of plain ones, and none stands where a small letter meets a capital after it.
func plausible1252(text []byte) float64 {
	return words(charmap.Windows1252, text, func(word []rune) int {
		plain, run, longest := 0, 0, 0
		for i, r := range word {
			if i > 0 && max(r, word[i-1]) >= utf8.RuneSelf && unicode.IsLower(word[i-1]) && unicode.IsUpper(r) {
				return 0
			}
			if r < utf8.RuneSelf {
				plain, run = plain+1, 0
				continue
			}
			if run++; !unicode.Is(unicode.Latin, r) {
				return 0
			}
			longest = max(longest, run)
		}
		if longest > 2 || longest > 1 && plain == 0 {
			return 0
		}
		return len(word) - plain
	})
}

// Words of Cyrillic have no other letters in them, and capitals only where the
// word begins or all through it.
func plausible1251(text []byte) float64 {
	return words(charmap.Windows1251, text, func(word []rune) int {
		small, capitals, latin := 0, 0, 0
		for _, r := range word {
			if r < utf8.RuneSelf {
				latin++
			} else if !unicode.Is(unicode.Cyrillic, r) {
				return 0
			} else if unicode.IsLower(r) {
				small++
			} else {
				capitals++
			}
		}
		if latin > 0 {
			return -small - capitals // worse than nonsense: it is another language
		}
		if small > 0 && (capitals > 1 || capitals == 1 && unicode.IsLower(word[0])) {
			return 0
		}
		return len(word)
	})
}

// words decodes a text, and gives the share of its characters outside ASCII that
// are good. Letters are judged by the word; punctuation is good beside words, and
// of what stands between two letters only the apostrophe.
func words(codec encoding.Encoding, text []byte, judge func(word []rune) int) float64 {
	out, err := codec.NewDecoder().Bytes(text)
	if err != nil {
		return 0
	}
	runes := []rune(string(out))
	good, all := 0, 0
	for i := 0; i < len(runes); i++ {
		start := i
		for i < len(runes) && unicode.IsLetter(runes[i]) {
			i++
		}
		word := runes[start:i]
		good += judge(word)
		for _, r := range word {
			if r >= utf8.RuneSelf {
				all++
			}
		}
		if i == len(runes) || runes[i] < utf8.RuneSelf {
			continue
		}
		all++
		inside := i > start && i+1 < len(runes) && unicode.IsLetter(runes[i+1])
		if runes[i] == '’' || !inside && strings.ContainsRune("«»“”„‘–—…€№\u00a0", runes[i]) {
			good++
		}
	}
	return float64(good) / float64(max(all, 1))
}

// GB 2312 has its common characters in rows B0 to D7, the rare ones up to F7.
func plausibleGB(text []byte) float64 {
	return pairs(text, func(lead, trail byte) float64 {
		switch {
		case lead < 0x81 || lead > 0xfe || trail < 0x30 || trail == 0x7f || trail == 0xff:
			return -2
		case trail < 0x40:
			return 0.3
		case trail < 0xa1 || lead < 0xa1:
			return 0.2
		case 0xb0 <= lead && lead <= 0xd7:
			return 1
		case 0xd8 <= lead && lead <= 0xf7:
			return 0.6
		}
		return 0.4
	}, func(byte) float64 { return -2 })
}

// Shift-JIS has kana in rows 82 and 83, common kanji in 88 to 97, and the kana
// of half width, which are rare, as single bytes.
func plausibleJIS(text []byte) float64 {
	return pairs(text, func(lead, trail byte) float64 {
		switch {
		case 0xa1 <= lead && lead <= 0xdf:
			return -1 // not a pair: asked again as a single
		case trail < 0x40 || trail == 0x7f || trail > 0xfc || lead == 0x80 || lead == 0xa0 || lead > 0xfc:
			return -2
		case lead == 0x82 && trail >= 0x9f, lead == 0x83 && trail <= 0x96, 0x88 <= lead && lead <= 0x97:
			return 1
		case lead == 0x81:
			return 0.8
		case 0x98 <= lead && lead <= 0xea:
			return 0.5
		}
		return 0.2
	}, func(b byte) float64 {
		if 0xa1 <= b && b <= 0xdf {
			return 0.75
		}
		return -2
	})
}

func isSmall(b byte) bool { return 'a' <= b && b <= 'z' }

// pairs walks a text of double-byte characters, and gives the mean of what its
// bytes outside ASCII score; -1 from pair means that the lead stands alone.
func pairs(text []byte, pair func(lead, trail byte) float64, single func(byte) float64) float64 {
	score, all := 0.0, 0.0
	for i := 0; i < len(text); i++ {
		if text[i] < utf8.RuneSelf {
			continue
		}
		if i+1 == len(text) {
			break // the sample may end inside a character
		}
		if v := pair(text[i], text[i+1]); v != -1 {
			if v > 0 && (i > 0 && isSmall(text[i-1]) && text[i+1] < utf8.RuneSelf || i+2 < len(text) && isSmall(text[i+2])) {
				v = 0 // no Latin word has such a character in it
			}
			if v >= 0 {
				i++
			}
			score += 2 * v
			all += 2
			continue
		}
		score += single(text[i])
		all++
	}
	return score / max(all, 1)
}
