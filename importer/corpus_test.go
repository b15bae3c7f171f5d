package importer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"bulkinvite/internal/must"
)

// The corpus of addresses. Its cases follow the rules of RFC 5321, 5322, 6531, 1035 and
// 5891 one by one, in the categories that the usual validators test, and what people's
// files have around and instead of addresses. Each has the verdict that is right.

func x(n int) string { return strings.Repeat("x", n) }

// takenAsTheyAre are addresses that a mail server takes, written as it takes them.
func takenAsTheyAre() []string {
	all := []string{
		// Local parts: dots, lengths, signs.
		"a@example.com", "ab@example.com", "a.b@example.com", "a.b.c.d.e@example.com", "1@example.com",
		"123456@example.com", "1a@example.com",
		"A@example.com", "JANE@example.com", "Jane.Doe@Example.Com", "jane@EXAMPLE.COM", "jane+work@example.com",
		"jane+a+b@example.com", "+@example.com",
		"jane-doe@example.com", "-jane@example.com", "jane-@example.com", "_@example.com", "_jane@example.com",
		"jane_@example.com", "j_a_n_e@example.com",
		"o'brien@example.com", "jane'@example.com", "d'arcy.o'neil@example.com", "jane/sales@example.com",
		"sales=jane@example.com", "jane%home@example.com",
		"jane!home@example.com", "{jane}@example.com", "jane|doe@example.com", "~jane@example.com",
		"jane~@example.com", "`jane@example.com", "^@example.com",
		"$1@example.com", "#1@example.com", "?@example.com", "*@example.com", "&@example.com",
		"a!#$%&'*+-/=?^_`{|}~b@example.com", x(1) + "@example.com",
		x(63) + "@example.com", x(64) + "@example.com", x(31) + "." + x(32) + "@example.com", "a@" + x(63) + ".com",
		"a@" + x(62) + ".com",
		x(64) + "@" + x(63) + "." + x(63) + "." + x(57) + ".com", "bounce+1234=jane=example.com@mail.example.com",
		"SRS0=abc=de=example.org=jane@example.com",
		"f47ac10b-58cc-4372-a567-0e02b2c3d479@example.com", "00000000@example.com",
		"jane.doe-smith+tag_1@sub.example.co.uk",
		// Quoted local parts.
		`"jane"@example.com`, `"jane doe"@example.com`, `" "@example.com`, `"jane@work"@example.com`,
		`"jane.doe"@example.com`, `"..jane"@example.com`, `"jane."@example.com`,
		`"jane\"doe"@example.com`, `"jane\\doe"@example.com`, `"\a"@example.com`, `"a,b"@example.com`,
		`"a;b"@example.com`, `"<a>"@example.com`, `"(a)"@example.com`,
		`"[a]"@example.com`, `"a:b"@example.com`, `"` + x(62) + `"@example.com`,
		// Domains: labels, lengths, hyphens, digits.
		"a@b.co", "a@b.c.d.e.f.com", "a@1.com", "a@123.com", "a@1a.com", "a@a1.com", "a@1.2.3.com", "a@3com.com",
		"a@a-b.com", "a@a-b-c.com", "a@c--n.com", "a@abc--n.com",
		"a@sub.a-b.com", "a@x.museum", "a@x.photography", "a@x.travelersinsurance", "a@t.co", "a@example.co.uk",
		"a@example.com.au", "a@mail.example.com", "a@a.b.c.example.com",
		"a@x.io", "a@x.ai", "a@x.test", "a@x.example", "a@example.org", "a@example.net", "a@xn--bcher-kva.example",
		"a@XN--BCHER-KVA.example", "a@x.xn--p1ai",
		"a@xn--d1abbgf6aiiy.xn--p1ai", "a@xn--r8jz45g.jp", "a@0-0.com", "a@" + strings.Repeat("a.", 100) + "com",
		// Private and company addresses as they are.
		"jane.doe@gmail.com", "j.a.n.e@gmail.com", "jane@googlemail.com", "jane@yahoo.co.jp", "jane@gmx.de",
		"jane@163.com", "12345678@qq.com", "jane@proton.me",
		"jane_doe@contoso.onmicrosoft.com", "x2f8k3@privaterelay.appleid.com",
	}
	for _, c := range "!#$%&'*+-/=?^_`{|}~" {
		all = append(all, fmt.Sprintf("j%cd@example.com", c))
	}
	for _, c := range "abcxyzABCXYZ0129" {
		all = append(all, fmt.Sprintf("%c@example.com", c), fmt.Sprintf("a@%cb.example", c))
	}
	return all
}

// cleaned are cells with an address that a person would take out of them.
var cleaned = [][2]string{
	{" a@x.com", "a@x.com"}, {"a@x.com ", "a@x.com"}, {"\ta@x.com\t", "a@x.com"}, {"a@x.com\r\n", "a@x.com"},
	{"\na@x.com", "a@x.com"},
	{"\u00a0a@x.com\u00a0", "a@x.com"}, {"\u2003a@x.com", "a@x.com"}, {"\u3000a@x.com", "a@x.com"},
	{"\u2800a@x.com", "a@x.com"},
	{"\ufeffa@x.com", "a@x.com"}, {"a\u200b@x.com", "a@x.com"}, {"a@x\u200d.com", "a@x.com"},
	{"a@x\u00ad.com", "a@x.com"}, {"\u200ea@x.com\u200f", "a@x.com"},
	{"\u202aa@x.com\u202c", "a@x.com"}, {"\u2066a@x.com\u2069", "a@x.com"}, {"a@x.com\x1a", "a@x.com"},
	{"<a@x.com>", "a@x.com"}, {"Ann <a@x.com>", "a@x.com"}, {`"Ann" <a@x.com>`, "a@x.com"},
	{`"Doe, Ann" <a@x.com>`, "a@x.com"}, {"Ann Doe<a@x.com>", "a@x.com"},
	{"Jürgen <a@x.com>", "a@x.com"}, {"JÃ¼rgen <a@x.com>", "a@x.com"}, {"山田 <a@x.com>", "a@x.com"},
	{"Ann <a@x.com>;", "a@x.com"}, {"Ann (Sales) <a@x.com>", "a@x.com"},
	{"a@x.com.", "a@x.com"}, {"a@x.com,", "a@x.com"}, {"a@x.com;", "a@x.com"}, {"a@x.com:", "a@x.com"},
	{"a@x.com .", "a@x.com"}, {"a@x.com。", "a@x.com"}, {"a@x.com、", "a@x.com"},
	{"a@x.com;,", "a@x.com"}, {"'a@x.com'", "a@x.com"}, {`"a@x.com"`, "a@x.com"}, {"`a@x.com`", "a@x.com"},
	{"“a@x.com”", "a@x.com"}, {"‘a@x.com’", "a@x.com"},
	{"„a@x.com“", "a@x.com"}, {"«a@x.com»", "a@x.com"}, {"« a@x.com »", "a@x.com"},
	{"'a@x.com", "a@x.com"}, {"'o'brien@x.com", "o'brien@x.com"},
	{"mailto:a@x.com", "a@x.com"}, {"MAILTO:a@x.com", "a@x.com"}, {" mailto:a@x.com", "a@x.com"},
	{"mailto: a@x.com", "a@x.com"}, {"mailto:a@x.com?subject=Hi", "a@x.com"},
	{"mailto://a@x.com", "a@x.com"}, {"mailto:///a@x.com", "a@x.com"}, {"mailto:a%40x.com", "a@x.com"},
	{"mailto:%61@x.com", "a@x.com"},
	{"mailto:a%2Bb@x.com", "a+b@x.com"}, {"mailto:a+b@x.com", "a+b@x.com"},
	{"mailto:o%27brien@x.com", "o'brien@x.com"}, {"mailto://a%40x.com?subject=x", "a@x.com"},
	{"mailto:m%C3%BCller@x.com", "müller@x.com"}, {"mailto:mu%CC%88ller@x.com", "müller@x.com"},
	{"mailto:a@b%C3%BCcher.example", "a@xn--bcher-kva.example"},
	{"mailto:%20a@x.com%20", "a@x.com"}, {"<mailto:a@x.com>", "a@x.com"}, {"Ann <mailto:a@x.com>", "a@x.com"},
	{"mailto:Ann%20%3Ca@x.com%3E", "a@x.com"},
	{"mailto:mailto:a@x.com", "a@x.com"},
	{"a@x.com<mailto:a@x.com>", "a@x.com"}, {"a@x.com <mailto:a@x.com>", "a@x.com"},
	{"a@x.com (mailto:a@x.com)", "a@x.com"}, {"a@x.com(a@x.com)", "a@x.com"},
	{"a@x.com <a@x.com>", "a@x.com"}, {"A@X.com <a@x.com>", "a@x.com"}, {"'a@x.com' <a@x.com>", "a@x.com"},
	{`"a@x.com" <a@x.com>`, "a@x.com"}, {"[a@x.com](mailto:a@x.com)", "a@x.com"},
	{"a@x.com<mailto:a%40x.com>", "a@x.com"}, {"a@x.com<mailto:a@x.com>;", "a@x.com"},
	{"mailto:a@x.com <mailto:a@x.com>", "a@x.com"}, {"a@x.com <mailto:a@x.com?subject=x>", "a@x.com"},
	{"ａ＠ｘ．ｃｏｍ", "a@x.com"}, {"a＠x.com", "a@x.com"}, {"a@x．com", "a@x.com"}, {"a@x。com", "a@x.com"},
	{"a@acme－tools.com", "a@acme-tools.com"},
	{"mu\u0308ller@x.com", "müller@x.com"}, {"a@bu\u0308cher.example", "a@xn--bcher-kva.example"},
	{"a@bücher.example", "a@xn--bcher-kva.example"}, {"a@BÜCHER.example", "a@xn--bcher-kva.example"},
	{"a@straße.example", "a@xn--strae-oqa.example"},
	{"a@mañana.example", "a@xn--maana-pta.example"}, {"a@łódź.example", "a@xn--d-uga0v4h.example"},
	{"a@例え.jp", "a@xn--r8jz45g.jp"}, {"a@president.рф", "a@president.xn--p1ai"},
	{"a@президент.рф", "a@xn--d1abbgf6aiiy.xn--p1ai"}, {"a@παράδειγμα.gr", "a@xn--hxajbheg2az3al.gr"},
	{"a@مثال.example", "a@xn--mgbh0fb.example"}, {"a@한국.kr", "a@xn--3e0b707e.kr"},
	{"a@中文.example", "a@xn--fiq228c.example"}, {"a@उदाहरण.example", "a@xn--p1b6ci4b4b3a.example"},
	{"a@ตัวอย่าง.example", "a@xn--72c1a1bt4awk9o.example"},
	{"a@テストabc.jp", "a@xn--abc-4k4bocn.jp"}, {"a@日本のabc.jp", "a@xn--abc-kc4b805ycvb.jp"},
	{"a@中文abc.example", "a@xn--abc-u68do18h.example"}, {"a@한국abc.kr", "a@xn--abc-lt8lk11n.kr"},
	{"a@サーバー.jp", "a@xn--vckucxgb.jp"}, {"a@col·lecció.example", "a@xn--collecci-ioa91d.example"},
	{"a@अ१.example", "a@xn--l1b0r.example"}, {"a@bücher-2.example", "a@xn--bcher-2-n2a.example"},
	{"a@обʼєкт.example", "a@xn--mqa95e2anx0i.example"},
}

// refused are cells with no address in them, or with none that is sure, by the code.
func refused() map[string][]string {
	all := map[string][]string{
		MissingEmail: {"", " ", "\t", "\u00a0", "\u200b", "\u3000", " \u200b\u00a0 "},
		NoAt: {"jane", "jane.example.com", "example.com", "n/a", "N/A", "-", "none", "TBD", "#N/A", "0",
			"jane at example.com", "jane(at)example.com", "jane[at]example.com",
			"...", ",", "<>", "''", "mailto:", "mailto:jane", "https://example.com", "<jane>", "jane&#64;example.com",
			"+49 30 123456"},
		BadLocal: {"@", "@example.com", "jane@@example.com", "jane doe@example.com", "jane @example.com",
			".jane@example.com", "jane.@example.com", "jane..doe@example.com",
			".@example.com", "..@example.com", "jane(work)@example.com", "(work)jane@example.com",
			"jane,doe@example.com", "jane;doe@example.com", "jane:doe@example.com", "ja<ne@example.com",
			"ja>ne@example.com", "[jane]@example.com", `jane\@example.com`, `ja"ne@example.com`, `"jane@example.com`,
			`jane"@example.com`, `""@example.com`, `"jane"doe@example.com`,
			`"ja"ne"@example.com`, `"jane"doe"@example.com`, `"jane\"@example.com`, "\"ja\x01ne\"@example.com", "\"jané\"@example.com",
			"ja\x7fne@example.com", "ja\x01ne@example.com", "ja\tne@example.com", "jane\n@example.com",
			`"a"."b"@example.com`, `a."b"@example.com`, "jane@home@example.com", "E-Mail: jane@example.com",
			"Jane Doe jane@example.com", "jane…doe@example.com", "ja½@example.com", "😀@example.com",
			"a%40@@example.com"},
		BadDomain: {"jane@", "jane@.", "jane@.com", "jane@-example.com", "jane@example-.com", "jane@example.-com",
			"jane@example.com-", "jane@example..com", "jane@exam ple.com", "jane@ example.com",
			"jane@exam_ple.com", "jane@_example.com", "jane@example.com/x", "jane@example.com:25",
			"jane@example.com,net", "jane@example.com?", "jane@example.com!", "jane@exa'mple.com",
			"jane@example.com'",
			"jane@example.com\"", "jane@example.com)", "jane@(work)example.com", "jane@example.com(work)",
			"jane@[192.0.2.1]", "jane@[IPv6:2001:db8::1]", "jane@[example.com]", "jane@[]", "jane@[x",
			"jane@192.0.2.1", "jane@1.2", "jane@example.123", "jane@example.c*m", "jane@%example.com",
			"jane@exam\\ple.com", "jane@exam\x01ple.com", "jane@example.com\x7f", "jane@xn--a.com",
			"jane@xn--.com", "jane@xn--\u00fc.com", "jane@ab--cd.com", "jane@example.com&", "jane@example.com|",
			"jane@exam#ple.com", "jane@example.com=", "jane@~example.com", "jane@{example}.com",
			"jane@<example.com", "jane@ex\tample.com", "jane@ex\nample.com",
			// Symbols, and what IDNA would make another domain of without a word.
			"jane@½.com", "jane@ex½.com", "jane@☃.net", "jane@i❤.ws", "jane@😀.com", "jane@exam•ple.com", "jane@√.com",
			"jane@€.com", "jane@x⁄y.com", "jane@ex″ample.com",
			"jane@\u0301x.com", "jane@ex\u0626\u0061.com", "jane@אa.com", "jane@ｱﾞ.jp"},
		NoDotDomain: {"jane@localhost", "jane@example", "jane@com", "jane@bücher", "jane@xn--bcher-kva", "jane@a",
			"jane@EXAMPLE"},
		TooLong: {x(65) + "@example.com", x(200) + "@example.com", strings.Repeat("ü", 33) + "@example.com",
			"a@" + x(64) + ".com", "a@x." + x(64), "a@" + strings.Repeat("x23456789.", 25) + "com",
			x(64) + "@" + x(63) + "." + x(63) + "." + x(58) + ".com", "a@" + strings.Repeat("ü", 60) + ".com",
			"a@" + x(3000) + ".com", `"` + x(63) + `"@example.com`},
		SeveralAddresses: {"a@x.com,b@x.com", "a@x.com, b@x.com", "a@x.com;b@x.com", "a@x.com; b@x.com",
			"a@x.com b@x.com", "a@x.com\nb@x.com", "a@x.com\tb@x.com", "a@x.com|b@x.com",
			"a@x.com/b@x.com", "a@x.com / b@x.com", "A <a@x.com>, B <b@x.com>", "a@x.com <b@x.com>",
			"a@x.com<mailto:b@x.com>", "a@x.com (b@x.com)", "[a@x.com](mailto:b@x.com)",
			"mailto:a@x.com,b@x.com", "mailto:a@x.com%2Cb@x.com", "a@x.com、b@x.com", "a@x.com，b@x.com",
			"a@x.com；b@x.com", "a@x.com (work) b@x.com (home)", "a@x.com <a@x.com>, b@x.com"},
		BadEncoding: {"jane\ufffd@example.com", "jane\xff@example.com", "jane@ex\xe9mple.com", "jane\x00@example.com",
			"\x00", "Zo\ufffd <z@example.com>", "mailto:%00a@example.com", "mailto:%FFa@example.com"},
	}
	for _, c := range `()<>[]:;\",` + " \t\x01\x1f\x7f" {
		all[BadLocal] = append(all[BadLocal], fmt.Sprintf("j%cd@example.com", c))
	}
	for _, c := range "!#$%&'*+/=?^_`{|}~()<>[]:;\\, \t\x01\x1f\x7f" {
		all[BadDomain] = append(all[BadDomain], fmt.Sprintf("jane@ex%cample.com", c))
	}
	return all
}

// suggested are cells that are refused for their characters, and what they were
// probably meant to be.
func suggested() [][3]string {
	all := [][3]string{
		{"a@x.com…", BadDomain, "a@x.com"}, {"a@bÃ¼cher.example", BadDomain, "a@bücher.example"},
		{"mÃ¼ller@x.com", BadLocal, "müller@x.com"}, {"a@garcÃ\u00ada.example", BadDomain, "a@garcía.example"},
		{"josÃ© <josÃ©@x.com>", BadLocal, "josé@x.com"}, {"a@caf\u00c3\u00a9.example", BadDomain, "a@café.example"},
		{"a@Ã¼ber.example", BadDomain, "a@über.example"},
		{"a@аpple.com", BadDomain, "a@apple.com"}, {"a@acmе.com", BadDomain, "a@acme.com"},
		{"a@ехample.com", BadDomain, "a@example.com"}, {"a@gооgle.com", BadDomain, "a@google.com"},
		{"a@pαypal.com", BadDomain, "a@paypal.com"}, {"a@micrοsoft.com", BadDomain, "a@microsoft.com"},
		{"a@АCME.com", BadDomain, "a@acme.com"}, {"a@acme.сom", BadDomain, "a@acme.com"},
		{"a@acme②.com", BadDomain, "a@acme2.com"}, {"a@ﬁrma.com", BadDomain, "a@firma.com"},
		{"a@oﬃce.com", BadDomain, "a@office.com"}, {"a@𝐚cme.com", BadDomain, "a@acme.com"},
		{"a@acmeª.com", BadDomain, "a@acmea.com"},
		{"a@x².com", BadDomain, "a@x2.com"}, {"a@ſave.com", BadDomain, "a@save.com"},
		{"a@acme™.com", BadDomain, "a@acme.com"}, {"a@acme®.com", BadDomain, "a@acme.com"},
		{"a@İstanbul.com", BadDomain, "a@istanbul.com"},
		{"a@GROẞ.example", BadDomain, "a@groß.example"}, {"a@acmeーtools.com", BadDomain, "a@acme-tools.com"},
		{"o’brien@x.com", BadLocal, "o'brien@x.com"}, {"oʼbrien’s@x.com", BadLocal, "o'brien's@x.com"},
		{"anne–marie@x.com", BadLocal, "anne-marie@x.com"}, {"anne—marie@x.com", BadLocal, "anne-marie@x.com"},
		{"•a@x.com", BadLocal, "a@x.com"}, {"✓ a@x.com", BadLocal, "a@x.com"}, {"†a@x.com", BadLocal, "a@x.com"},
		{"→ a@x.com", BadLocal, "a@x.com"}, {"a@x.com)", BadDomain, "a@x.com"}, {"a@x.com'", BadDomain, "a@x.com"},
		{"a@x.com\"", BadDomain, "a@x.com"}, {"a@x.com!", BadDomain, "a@x.com"}, {"a@x.com?", BadDomain, "a@x.com"},
		{"a@x.com*", BadDomain, "a@x.com"}, {"a@x.com]", BadDomain, "a@x.com"},
		{"a@x–y.com’", BadDomain, "a@x-y.com"}, {"a@acme．tools™", BadDomain, "a@acme.tools"},
		{"jane doe@x.com", BadLocal, ""}, {"jane@exam_ple.com", BadDomain, ""}, {"jane@½.com", BadDomain, ""},
		{"jane@аррle–ж.com", BadDomain, ""}, {"jane@xжy.com", BadDomain, ""},
	}
	for _, mark := range "’″”©®†‡•✓✔™℠…·›»°" {
		all = append(all, [3]string{"a@x.com" + string(mark), BadDomain, "a@x.com"},
			[3]string{"a@x.com " + string(mark), BadDomain, "a@x.com"})
	}
	for _, dash := range "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\ufe58\ufe63\u02d7\u2500" {
		all = append(all, [3]string{"a@acme" + string(dash) + "tools.com", BadDomain, "a@acme-tools.com"},
			[3]string{"a" + string(dash) + "b@x.com", BadLocal, "a-b@x.com"})
	}
	return all
}

// warned are addresses that are sent, but that a person should look at first.
var warned = map[string][]string{
	InternalDomain: {"a@x.local", "a@x.LOCAL", "a@mail.corp.internal", "a@x.internal", "a@x.lan", "a@x.corp",
		"a@x.home", "a@x.home.arpa", "a@x.intranet", "a@x.private", "a@x.localdomain", "a@x.localhost", "a@x.invalid"},
	GuestAccount:  {"ada_contoso.com#EXT#@fabrikam.onmicrosoft.com", "ada_contoso.com#ext#@fabrikam.com"},
	NonASCIILocal: {"müller@x.com", "josé@x.com", "山田@x.com", "иван@x.com", "аda@x.com"},
	RoleAddress:   {"info@x.com", "HR@x.com", "sales+eu@x.com"},
	LikelySlip:    {"a@gmial.com", "a@hotmail.con", "a@acme.con"},
}

// TestAddressCorpus holds Clean, and the rows of a file, to the corpus: nothing is
// rejected that a mail server takes, and nothing wrong is taken without a word.
func TestAddressCorpus(t *testing.T) {
	t.Parallel()
	cases, falseRejects, falseAccepts := 0, 0, 0
	check := func(cell, email, code, suggestion string, noted bool) {
		t.Helper()
		cases++
		got, notes, problem := Clean(cell)
		switch {
		case code == "" && problem != "":
			falseRejects++
			t.Errorf("%q is rejected as %s, want %q", cell, problem, email)
		case code != "" && problem == "":
			falseAccepts++
			t.Errorf("%q is taken as %q, %q, want %s", cell, got, notes, code)
		case got != email || problem != code:
			t.Errorf("%q is %q, %s; want %q, %s", cell, got, problem, email, code)
		case code == "" && noted != (len(notes) > 0):
			t.Errorf("%q has the notes %q", cell, notes)
		}
		if got := Suggest(cell); got != suggestion {
			t.Errorf("%q: suggested is %q, want %q", cell, got, suggestion)
		}
		if suggestion != "" {
			if _, _, problem := Clean(suggestion); problem != "" {
				t.Errorf("%q: the suggestion %q is refused as %s", cell, suggestion, problem)
			}
		}
	}
	for _, cell := range takenAsTheyAre() {
		check(cell, cell, "", "", false)
	}
	for _, c := range cleaned {
		check(c[0], c[1], "", "", true)
	}
	for code, cells := range refused() {
		for _, cell := range cells {
			check(cell, "", code, Suggest(cell), false)
		}
	}
	for _, c := range suggested() {
		check(c[0], "", c[1], c[2], false)
	}
	for code, cells := range warned {
		for _, cell := range cells {
			check(cell, cell, "", "", false)
			rows, _, err := read(t, "email\n"+cell+"\n", Options{})
			must.OK(t, err)
			if len(rows) != 1 || !slices.ContainsFunc(rows[0].Warnings,
				func(w Problem) bool { return w.Code == code }) {
				t.Errorf("%q has no warning %s", cell, code)
			}
		}
	}
	t.Logf("%d addresses: %d false rejects, %d false accepts", cases, falseRejects, falseAccepts)
	if cases < 400 {
		t.Errorf("the corpus has %d addresses only", cases)
	}
}

// The same by rule: of all characters, a domain takes letters, marks and digits alone,
// and becomes no other domain than the one that is written.
func TestDomainCharacters(t *testing.T) {
	t.Parallel()
	for r := rune(0x80); r <= 0x1ffff; r++ {
		if !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S) || unicode.In(r, unicode.Han,
			unicode.Hangul) && r%97 != 0 {
			continue
		}
		if isInvisible(r) || isSpace(r) || halfWidth(r) != r || asciiDot(r) == '.' {
			continue // those are cleaned, with a note
		}
		email, _, code := Clean("a@ac" + string(r) + "me.com")
		if code == "" && !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r) && r != '\u3007' {
			t.Errorf("%U %q is taken: %s", r, r, email)
		}
		if code == "" && !strings.Contains(email, "xn--") && r != '\u212a' {
			t.Errorf("%U %q becomes the domain of somebody else: %s", r, r, email)
		}
	}
}
