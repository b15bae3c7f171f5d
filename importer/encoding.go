package importer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
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
	utf8Text = charset{name: "UTF-8"}
	utf16LE  = charset{"UTF-16LE", utf16.UTF16(utf16.LittleEndian, utf16.IgnoreBOM)}
	utf16BE  = charset{"UTF-16BE", utf16.UTF16(utf16.BigEndian, utf16.IgnoreBOM)}
)

// charsetNamed finds an encoding by any name that the Encoding Standard lists.
func charsetNamed(name string) (charset, error) {
	label := strings.ToLower(strings.TrimSpace(name))
	known := label
	codec, err := htmlindex.Get(label)
	if err == nil {
		known, err = htmlindex.Name(codec)
		known = strings.ReplaceAll(known, "_", "-") // shift_jis
	}
	if known == "gbk" { // GB18030 has all of its characters at the same places
		known = "gb18030"
	}
	all := []charset{utf8Text, utf16LE, utf16BE}
	for _, l := range legacies {
		all = append(all, l.charset)
	}
	fix := "Among those known:"
	for _, c := range all {
		if strings.EqualFold(c.name, known) {
			return c, nil
		}
		fix += " " + c.name + ","
	}
	if err != nil || known == "replacement" || known == "x-user-defined" {
		what := fmt.Sprintf("no encoding is called %q", label)
		return charset{}, &FileError{What: what, Fix: strings.TrimSuffix(fix, ",") + "."}
	}
	return charset{known, codec}, nil
}

// decoder turns a file's bytes into UTF-8. It decides on an encoding when it has
// to: while only ASCII has come by, or only letters that all likely encodings
// have at the same places, the next lines tell more. The first umlaut may stand
// in the last of a hundred thousand rows.
type decoder struct {
	in      *bufio.Reader
	r       io.Reader // nil: not decided
	charset charset
	words   *foreignWords
	agreed  *[256]bool // bytes that all likely encodings read alike; nil: ASCII's alone
	// guesses are the likely encodings where they read the text differently, the
	// likeliest first, which is charset; nil: there is no doubt.
	guesses []EncodingGuess
}

// newDecoder takes a byte order mark off, and refuses what is no text.
func newDecoder(in *bufio.Reader, name string) (*decoder, error) {
	head, err := in.Peek(window)
	if err != nil && err != io.EOF {
		return nil, err
	}
	d := &decoder{in: in, charset: utf8Text, words: &foreignWords{}}
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
	if len(p) == 0 {
		return 0, nil
	}
	for d.r == nil {
		if _, err := d.in.Peek(1); err != nil {
			return 0, err
		}
		b, _ := d.in.Peek(min(d.in.Buffered(), len(p))) // it is there
		if n, err := d.pass(p, b); n > 0 || err != nil {
			return n, err
		}
		sample, err := d.in.Peek(window)
		if err != nil && err != io.EOF {
			return 0, err
		}
		d.judge(sample)
	}
	return d.r.Read(p)
}

// pass reads the lines of b that are the same in all likely encodings.
func (d *decoder) pass(p, b []byte) (int, error) {
	n := d.alike(b)
	if n < len(b) {
		n = bytes.LastIndexByte(b[:n], '\n') + 1 // a word is judged as a whole
	}
	if d.agreed == nil {
		copy(p, b[:n])
		return d.in.Discard(n)
	}
	wrote, n, err := d.charset.codec.NewDecoder().Transform(p, b[:n], false)
	if err != nil && err != transform.ErrShortDst {
		return 0, err
	}
	_, err = d.in.Discard(n)
	return wrote, err
}

// alike tells how many bytes there are before the first that the likely encodings read
// differently.
func (d *decoder) alike(b []byte) int {
	n := ascii(b)
	for d.agreed != nil && n < len(b) && (b[n] < utf8.RuneSelf || d.agreed[b[n]]) {
		n++
	}
	return n
}

// judge decides on an encoding by the sample that comes next, or puts that off.
func (d *decoder) judge(sample []byte) {
	if good, bad := sequences(sample); d.agreed == nil && good > bad {
		// By chance, one character in seven of GB18030 is such a sequence, and fewer elsewhere.
		d.decide(utf8Text)
		return
	}
	known := len(d.words.all)
	d.words.add(sample)
	v := d.words.judge()
	switch {
	case len(v.doubt) > 0:
		d.guesses = d.words.guesses(append([]charset{v.best}, v.doubt...), sample)
	case !v.wide && len(d.words.all) > known && !d.words.full():
		d.charset, d.agreed = v.best, agreement(v.best, v.alike)
		if line, _, _ := bytes.Cut(sample, []byte{'\n'}); d.alike(line) == len(line) {
			return
		}
	}
	d.decide(v.best)
}

// agreement lists the bytes that single-byte encodings read alike.
func agreement(one charset, others []charset) *[256]bool {
	var agreed [256]bool
	for b := range 256 {
		text := []byte{byte(b)}
		agreed[b] = !slices.ContainsFunc(others, func(c charset) bool {
			return !bytes.Equal(decoded(one, text), decoded(c, text))
		})
	}
	return &agreed
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
	return bytes.ContainsFunc(text, isOddity)
}

// decoded is a text in UTF-8, with U+FFFD for what it can't be in an encoding.
func decoded(c charset, text []byte) []byte {
	out, err := c.codec.NewDecoder().Bytes(text)
	if err != nil {
		return []byte(strings.Repeat(string(utf8.RuneError), len(text)))
	}
	return out
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
