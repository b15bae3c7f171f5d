package words

import "bulkinvite/importer"

// Problems says in a few words what each code of the importer's problems and
// warnings means: for a filter, a heading or a story. What to do about it is
// [importer.Remedy]'s.
var Problems = map[string]string{
	importer.MissingEmail:      "no address",
	importer.NoAt:              "no @ in the address",
	importer.BadLocal:          "no mailbox before the @",
	importer.BadDomain:         "no domain after the @",
	importer.NoDotDomain:       "no dot in the domain",
	importer.TooLong:           "too long an address",
	importer.SeveralAddresses:  "several addresses",
	importer.BadEncoding:       "characters that can't be read",
	importer.BadQuotes:         "broken quotation marks",
	importer.RaggedRow:         "too many or too few cells",
	importer.BadRedirectURL:    "no web address, app link or path",
	importer.BadExpiresInDays:  "no number of days",
	importer.BadRevokeOn:       "no date",
	importer.BadMetadata:       "too much metadata",
	importer.MergedCell:        "merged cell",
	importer.LikelySlip:        "domain perhaps misspelt",
	importer.RoleAddress:       "shared mailbox",
	importer.NonASCIILocal:     "letter outside A to Z before the @",
	importer.DifferentOptions:  "same address, other options",
	importer.HiddenRow:         "hidden row",
	importer.ShortRow:          "row that ends early",
	importer.InternalDomain:    "domain of an internal network",
	importer.GuestAccount:      "name of a guest account",
	importer.LostCharacter:     "lost character in a cell that isn't sent",
	importer.UncertainEncoding: "encoding is a guess",
	importer.OtherSheets:       "other sheets have addresses too",
	importer.UncomputedFormula: "formula without a value",
	importer.AddressesAbove:    "address above the header",
}
