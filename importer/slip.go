package importer

import "strings"

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

// roles are the mailboxes that RFC 2142 names, and those that offices share.
var roles = func() map[string]bool {
	roles := map[string]bool{}
	for name := range strings.FieldsSeq(`abuse accounting accounts admin administrator all alle allstaff all-staff billing bewerbung buchhaltung
		careers compras comptabilite contact contacto contato contatti correo customerservice datenschutz desk dev dpo einkauf email empfang enquiries
		equipe everyone everybody finance feedback help helpdesk hello hostmaster hr humanresources info infos it jobs karriere kontakt legal list mail
		mailbox marketing media news newsletter no-reply noreply do-not-reply donotreply office people personal personalabteilung post postmaster presse press
		privacy recruiting recruitment reception rechnung registrar rh root sales secretariat security sekretariat service soporte staff subscribe support
		team test treasurer usenet users vendas ventas verkauf vertrieb verwaltung webmaster welcome www`) {
		roles[name] = true
	}
	return roles
}()

// isRole tells whether a local part names a role; what follows a plus counts not.
func isRole(local string) bool {
	name, _, _ := strings.Cut(strings.ToLower(local), "+")
	return roles[name]
}
