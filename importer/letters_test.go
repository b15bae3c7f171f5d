package importer

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"bulkinvite/internal/must"
)

// corpus are the names that CLDR has for countries and languages in a language.
func corpus(tag language.Tag) []string {
	var all []string
	regions, langs := display.Regions(tag), display.Languages(tag)
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			if r, err := language.ParseRegion(string(a) + string(b)); err == nil {
				all = append(all, regions.Name(r))
			}
			if l, err := language.ParseBase(strings.ToLower(string(a) + string(b))); err == nil {
				all = append(all, langs.Name(l))
			}
			for c := 'A'; c <= 'Z'; c++ {
				if l, err := language.ParseBase(strings.ToLower(string(a) + string(b) + string(c))); err == nil {
					all = append(all, langs.Name(l))
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// TestLetters holds letters.txt against the names that it is made of. -update writes it.
func TestLetters(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	for name := range strings.FieldsSeq("cs sk pl hu hr sl ro el tr ar fa he th lv lt et ru uk bg sr fr de es pt it da sv fi is ja zh zh-Hant ko") {
		counts := map[string]int{}
		add := func(text string, weight int) {
			before := edge
			for _, r := range text + " " {
				f := fold(r)
				if f == edge && before == edge {
					continue
				}
				counts[string(f)] += weight
				if max(before, f) >= utf8.RuneSelf {
					counts[string(before)+string(f)] += weight
				}
				before = f
			}
		}
		for _, text := range corpus(language.MustParse(name)) {
			add(text, 1)
		}
		for text := range strings.FieldsSeq(commonNames[name]) {
			add(text, 10)
		}
		wide := strings.Contains(" ja zh zh-Hant ko ", " "+name+" ")
		out.WriteString(name)
		for _, token := range slices.Sorted(maps.Keys(counts)) {
			n := utf8.RuneCountInString(token)
			r, _ := utf8.DecodeRuneInString(token)
			if wide && (n > 1 || r < 0x80 || !unicode.IsLetter(r)) {
				continue
			}
			fmt.Fprintf(&out, " %s%d", token, counts[token])
		}
		out.WriteString("\n")
	}
	if *update {
		must.OK(t, os.WriteFile("letters.txt", []byte(out.String()), 0o644))
		return
	}
	if out.String() != lettersText {
		t.Error("letters.txt is not what the names give: go test ./importer -run TestLetters -update")
	}
}
