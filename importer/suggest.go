package importer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/unicode/norm"
)

// Suggest returns the address that a cell was probably meant to be, where [Clean]
// refuses the cell with BadLocal or BadDomain for its characters: long dashes, marks glued to its end, letters
// that look like others, UTF-8 that was read in another encoding. It returns nothing
// where it has no idea, and for a cell that Clean takes. A domain is in Unicode, as a
// person reads it.
//
// A suggestion is a person's address. It may be shown where the cell is shown, and
// never stands in a log or on standard error.
func Suggest(cell string) string {
	if len(cell) > 4*maxAddress {
		return ""
	}
	if _, _, code := clean(cell); code != BadLocal && code != BadDomain {
		return ""
	}
	text := outOfBrackets(cell)
	if right, ok := mojibake(text); ok {
		text = right
	}
	a, _, code := clean(withoutOddities(text))
	if code != "" {
		return ""
	}
	domain, err := idna.Lookup.ToUnicode(a.ascii)
	if err != nil {
		return ""
	}
	return a.local + "@" + domain
}

// mojibake gives what a text was before its UTF-8 was read as Windows-1252: bÃ¼cher
// was bücher. ok is false where it reads well as it is.
func mojibake(text string) (right string, ok bool) {
	if ascii([]byte(text)) == len(text) {
		return "", false
	}
	bytes, err := charmap.Windows1252.NewEncoder().String(text)
	if err != nil || !utf8.ValidString(bytes) || ascii([]byte(bytes)) == len(bytes) {
		return "", false
	}
	return bytes, true
}

// withoutOddities writes an address as it was probably meant.
func withoutOddities(text string) string {
	text = strings.TrimFunc(norm.NFC.String(strings.Map(halfWidth, strings.Map(visible, text))), isSpace)
	text = strings.TrimLeftFunc(text,
		func(r rune) bool { return isOrnament(r) || isSpace(r) || strings.ContainsRune(`"'<>()[]`, r) })
	text = strings.TrimRightFunc(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) || isOrnament(r)
	})
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return text
	}
	labels := strings.Split(plainer(strings.Map(asciiDot, text[at+1:]), false), ".")
	for i, label := range labels {
		labels[i] = latinAgain(label)
	}
	return plainer(text[:at], true) + "@" + strings.Join(labels, ".")
}

// isOrnament finds marks that stand beside a name and are no part of it.
func isOrnament(r rune) bool {
	return r >= utf8.RuneSelf && (unicode.IsSymbol(r) || unicode.IsPunct(r) || '\u02b0' <= r && r <= '\u02ff') && !isDash(r)
}

func isDash(r rune) bool {
	return r >= utf8.RuneSelf && (unicode.Is(unicode.Pd, r) || strings.ContainsRune("\u2212\u2043\u02d7\u2500\u30fc",
		r))
}

// plainer writes dashes as hyphens and what is a form of another character as that,
// and leaves ornaments out. In a local part a typographic apostrophe is an apostrophe.
func plainer(text string, local bool) string {
	var out strings.Builder
	var before rune
	for _, r := range text {
		form := norm.NFKC.String(string(r))
		switch {
		case r == '\u30fc' && isKana(before):
			out.WriteRune(r)
		case isDash(r):
			out.WriteByte('-')
		case local && strings.ContainsRune("\u2019\u2018\u02bc\u2032", r):
			out.WriteByte('\'')
		case r == '\u0130': // the Turkish capital; IDNA would make two characters of its small letter
			out.WriteByte('i')
		case r == '\u1e9e':
			out.WriteString("ß") // IDNA would make ss of the capital
		case r == '\u00b7' || r == '\u30fb':
			out.WriteRune(r)
		case isOrnament(r):
		default:
			out.WriteString(form)
		}
		before = r
	}
	return out.String()
}

// lookAlikes are letters that look like Latin ones, by that.
var lookAlikes = func() map[rune]rune {
	all := map[rune]rune{}
	for _, pair := range []struct{ others, latin string }{
		{"аеорсухіјѕһԁԛԝӏАВЕЗКМНОРСТУХІЈЅ", "aeopcyxijshdqwlABE3KMHOPCTYXIJS"},
		{"αονιυκΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "aoviukABEZHIKMNOPTYX"},
	} {
		latin := []rune(pair.latin)
		for i, r := range []rune(pair.others) {
			all[r] = latin[i]
		}
	}
	return all
}()

// latinAgain writes look-alikes in a label of several scripts as the Latin letters
// that they stand for.
func latinAgain(label string) string {
	if oneScript(label) {
		return label
	}
	return strings.Map(func(r rune) rune {
		if latin := lookAlikes[r]; latin != 0 {
			return latin
		}
		return r
	}, label)
}
