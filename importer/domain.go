package importer

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// honestDomain reports whether a domain outside ASCII names what a reader sees. name
// is its ASCII form. IDNA (UTS 46) maps many characters to others, and the library
// lets symbols through that no registry takes: acme™.com would become acmetm.com, and
// acme–tools.com with a long dash a domain of its own. Those belong to other people.
//
// A domain is honest if mapping changes nothing but capitals and the width of dots,
// and each label is made of letters, digits and hyphens of one script.
func honestDomain(domain, name string) bool {
	written := strings.ToLower(strings.Map(asciiDot, domain))
	if same, err := idna.Registration.ToASCII(written); err != nil || same != name { // that maps nothing
		return false
	}
	for label := range strings.SplitSeq(written, ".") {
		// One that was written in ASCII stays as it is.
		if !strings.HasPrefix(label, "xn--") && !honestLabel(label) {
			return false
		}
	}
	return true
}

// asciiDot writes the dots that IDNA takes for one (RFC 3490, 3.1) as that.
func asciiDot(r rune) rune {
	switch r {
	case '\u3002', '\uff0e', '\uff61':
		return '.'
	}
	return r
}

// honestLabel reports whether a label in lower case has only characters that
// registries take, from scripts that belong together.
func honestLabel(label string) bool {
	runes := []rune(label)
	at := func(i int) rune {
		if i < 0 || i >= len(runes) {
			return 0
		}
		return runes[i]
	}
	for i, r := range runes {
		before, after := at(i-1), at(i+1)
		ok := false
		switch {
		case r == '-' || r == '\u3007': // the ideographic zero is a letter number
			ok = true
		case r == '\u00b7': // Catalan's middle dot (RFC 5892, A.3)
			ok = before == 'l' && after == 'l'
		case r == '\u30fc': // makes a vowel long; looks like a dash behind anything else
			ok = isKana(before)
		case r == '\u30fb': // between Japanese words (RFC 5892, A.7)
			ok = isJapanese(before) && isJapanese(after)
		case r == '\u02bc': // the apostrophe of Ukrainian
			ok = unicode.Is(unicode.Cyrillic, before) && unicode.Is(unicode.Cyrillic, after)
		case '\u02b0' <= r && r <= '\u02ff': // other modifier letters look like primes and quotation marks
		default:
			ok = unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r)
		}
		if !ok {
			return false
		}
	}
	return oneScript(label)
}

func isKana(r rune) bool { return unicode.In(r, unicode.Hiragana, unicode.Katakana) || r == '\u30fc' }

func isJapanese(r rune) bool { return isKana(r) || unicode.Is(unicode.Han, r) }

// scripts are those that one word may have at once. Latin goes with those of Japanese,
// Korean and Chinese, the "highly restrictive" level of UTS 39 (5.2); any other script
// stands alone.
var scripts = func() [][]*unicode.RangeTable {
	all := [][]*unicode.RangeTable{
		{unicode.Latin, unicode.Han, unicode.Hiragana, unicode.Katakana},
		{unicode.Latin, unicode.Han, unicode.Hangul},
		{unicode.Latin, unicode.Han, unicode.Bopomofo},
	}
	for _, script := range unicode.Scripts {
		all = append(all, []*unicode.RangeTable{script})
	}
	return all
}()

// oneScript reports whether a label's characters are of one script, or of scripts
// that are written together. A Cyrillic letter in a Latin name is a look-alike.
func oneScript(label string) bool {
	return slices.ContainsFunc(scripts, func(set []*unicode.RangeTable) bool {
		return !strings.ContainsFunc(label, func(r rune) bool {
			return !unicode.In(r, set...) && !unicode.In(r, unicode.Common, unicode.Inherited)
		})
	})
}

// inside are endings of domains that exist inside a company's network at most. Mail
// from outside does not reach them: the special-use names of RFC 6761, RFC 6762
// (with its appendix G) and RFC 8375, and internal, which ICANN set aside in 2024.
// test and example are special too, but people rehearse with them.
var inside = []string{
	".local", ".localdomain", ".localhost", ".internal", ".intranet", ".private", ".corp", ".home", ".lan",
	".home.arpa", ".invalid",
}

// isInside reports whether a domain in lower case is one of a company's network.
func isInside(domain string) bool {
	return slices.ContainsFunc(inside, func(ending string) bool { return strings.HasSuffix(domain, ending) })
}

// isGuest reports whether a local part is the name that Microsoft Entra gives to a
// guest account: ada_contoso.com#EXT#@fabrikam.onmicrosoft.com is no mailbox.
func isGuest(local string) bool {
	return len(local) > 5 && strings.EqualFold(local[len(local)-5:], "#EXT#")
}
