package importer

import (
	"strings"

	"bulkinvite/internal/invitation"
)

// slips are misspellings of the domains that most private addresses have. They
// are a list, not a measure of likeness, because mail.com and ymail.com are as
// like gmail.com as its misspellings are.
var slips = func() map[string]string {
	slips := map[string]string{}
	for right, wrong := range map[string]string{
		"gmail.com":      "gmial.com gmai.com gmal.com gamil.com gmil.com gmaill.com gmaiil.com ggmail.com gnail.com gmsil.com gmeil.com gmail.co gmail.cm gmail.om gmail.con gmail.cmo gmail.comm gmail.coom gmail.ocm gmail.vom gmail.xom",
		"googlemail.com": "googlemai.com goglemail.com googelmail.com googlemail.con",
		"hotmail.com":    "hotmial.com hotmal.com hotmai.com hotmil.com homail.com hotmaill.com hormail.com hotnail.com hotmail.co hotmail.cm hotmail.con",
		"outlook.com":    "outlok.com outloook.com outllook.com outook.com oulook.com outlook.co outlook.cm outlook.con",
		"yahoo.com":      "yaho.com yahooo.com yhaoo.com yhoo.com yaoo.com yahho.com yahoo.co yahoo.cm yahoo.con",
		"icloud.com":     "iclould.com icoud.com iclod.com icluod.com icloud.co icloud.cm icloud.con",
		"gmx.de":         "gmx.ed gmx.dee gmxx.de",
		"web.de":         "web.ed web.dee wed.de",
		"t-online.de":    "t-onlin.de t-onine.de tonline.de t-online.ed",
		"orange.fr":      "ornage.fr orang.fr",
		"wanadoo.fr":     "wanado.fr wandoo.fr",
		"mail.ru":        "mial.ru maill.ru",
		"yandex.ru":      "yandx.ru yadnex.ru",
	} {
		for domain := range strings.FieldsSeq(wrong) {
			slips[domain] = right
		}
	}
	return slips
}()

// endings are top-level domains that don't exist, and the ones they are taken for.
var endings = map[string]string{
	"con": "com", "cmo": "com", "ocm": "com", "comm": "com", "coom": "com", "vom": "com", "xom": "com", "cim": "com", "cpm": "com",
	"ogr": "org", "orgg": "org", "nett": "net", "ner": "net", "nte": "net", "eduu": "edu", "dee": "de", "frr": "fr",
}

// slip gives what a domain in lower case was probably meant to be; empty: no idea.
func slip(domain string) string {
	if right := slips[domain]; right != "" {
		return right
	}
	dot := strings.LastIndexByte(domain, '.')
	if right := endings[domain[dot+1:]]; right != "" {
		return "." + right
	}
	return ""
}

// providers give addresses to anybody, so that none of their domains is a
// company's own, and none a misspelling of one.
var providers = setOf(`gmail.com googlemail.com hotmail.com hotmail.fr hotmail.de hotmail.co.uk outlook.com outlook.de outlook.fr live.com msn.com
		yahoo.com yahoo.de yahoo.fr yahoo.co.uk yahoo.co.jp ymail.com icloud.com me.com mac.com aol.com mail.com email.com gmx.de gmx.net gmx.at gmx.ch gmx.com
		web.de t-online.de freenet.de orange.fr wanadoo.fr free.fr laposte.net sfr.fr libero.it mail.ru yandex.ru yandex.com rambler.ru ukr.net
		qq.com 163.com 126.com sina.com foxmail.com naver.com daum.net proton.me protonmail.com pm.me fastmail.com zoho.com seznam.cz wp.pl onet.pl o2.pl interia.pl`)

// setOf makes a set of words.
func setOf(words string) map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(words) {
		set[word] = true
	}
	return set
}

// A domain is taken for the company's if so many rows have it, and more than half of those
// whose domain is no provider's. So many rows of another near it are no slip.
const (
	companyRows = 3
	secondRows  = 3
)

// company is whose people a file lists.
type company struct {
	domain string // in lower case and ASCII; empty: unknown
	second map[string]bool
}

// companyOf finds the company's domain in the first rows, unless it is given.
func companyOf(records []record, column int, domain string) company {
	rows, all := map[string]int{}, 0
	for _, rec := range records {
		if a, _, code := clean(cell(rec.cells, column)); code == "" && !providers[a.ascii] {
			rows[a.ascii]++
			all++
		}
	}
	c := company{second: map[string]bool{}}
	for name, n := range rows {
		c.second[name] = n >= secondRows
		if n >= companyRows && 2*n > all {
			c.domain = name
		}
	}
	if own, ok := invitation.ASCIIDomain(domain); ok && !providers[own] {
		c.domain = own
	}
	return c
}

// slip tells whether a domain differs from the company's by one letter: one
// wrong, one more, one less, or two in the wrong order. In a short name that is
// no sign of a slip.
func (c *company) slip(domain string) bool {
	return c.domain != "" && domain != c.domain && min(len(domain), len(c.domain)) > 6 && !c.second[domain] && !providers[domain] && oneEdit(domain, c.domain)
}

// oneEdit tells whether one edit makes two different texts equal.
func oneEdit(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) < len(b) {
		return a[i:] == b[i+1:]
	}
	return i == len(a) || a[i+1:] == b[i+1:] || i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}

// roles are the mailboxes that RFC 2142 names, and those that offices share.
var roles = setOf(`abuse accounting accounts admin administrator all alle allstaff all-staff billing bewerbung buchhaltung
		careers compras comptabilite contact contacto contato contatti correo customerservice datenschutz desk dev dpo einkauf email empfang enquiries
		equipe everyone everybody finance feedback help helpdesk hello hostmaster hr humanresources info infos it jobs karriere kontakt legal list mail
		mailbox marketing media news newsletter no-reply noreply do-not-reply donotreply office people personal personalabteilung post postmaster presse press
		privacy recruiting recruitment reception rechnung registrar rh root sales secretariat security sekretariat service soporte staff subscribe support
		team test treasurer usenet users vendas ventas verkauf vertrieb verwaltung webmaster welcome www`)

// isRole tells whether a local part names a role; what follows a plus counts not.
func isRole(local string) bool {
	name, _, _ := strings.Cut(strings.ToLower(local), "+")
	return roles[name]
}
