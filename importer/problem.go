package importer

import "fmt"

// The codes of problems: why a row can't be sent. They are stable: they stand
// in results.reason, in the JSON of check, and in the file of bad rows.
const (
	MissingEmail     = "missing_email"       // the e-mail cell is empty
	NoAt             = "no_at"               // no @ in the cell
	BadLocal         = "bad_local"           // what stands before the @ is no mailbox name of RFC 5321
	BadDomain        = "bad_domain"          // what stands after the @ is no domain name of RFC 5321 and IDNA
	NoDotDomain      = "no_dot_domain"       // the domain has no dot
	TooLong          = "too_long"            // over 64 octets before the @, 63 in a label, or 254 in all
	SeveralAddresses = "several_addresses"   // more than one address in the row
	BadEncoding      = "bad_encoding"        // a cell that is sent has bytes that the file's encoding doesn't have, or NUL
	BadQuotes        = "bad_quotes"          // a quote that is not closed, or closes in mid-cell
	RaggedRow        = "ragged_row"          // more or fewer cells than the header
	BadRedirectURL   = "bad_redirect_url"    // no http or https URL, no app's link and no path
	BadExpiresInDays = "bad_expires_in_days" // no whole number from 1 to 365
	BadRevokeOn      = "bad_revoke_on"       // no date, or one that could be another day too
	BadMetadata      = "bad_metadata"        // the row's public metadata is over MaxMetadata
	MergedCell       = "merged_cell"         // the e-mail cell of a sheet is merged with one before or above it
)

// The codes of warnings: the row is sent, but a person may want to look first.
const (
	LikelySlip       = "likely_slip"       // a well-known domain, misspelt
	RoleAddress      = "role_address"      // a shared mailbox
	NonASCIILocal    = "non_ascii_local"   // a letter outside ASCII before the @
	DifferentOptions = "different_options" // a duplicate row that asks for something else than the row that stands
	HiddenRow        = "hidden_row"        // a row of a sheet that is filtered out or hidden
	ShortRow         = "short_row"         // the row ends before the header does; what it lacks is read as empty
	InternalDomain   = "internal_domain"   // a domain that exists inside a company's network at most
	GuestAccount     = "guest_account"     // the name that Microsoft Entra gives a guest, with #EXT# in it
	LostCharacter    = "lost_character"    // bytes that the file's encoding doesn't have, in a cell that isn't sent
	// The rest are about the whole file: their row is 0.
	UncertainEncoding = "uncertain_encoding" // several encodings are about as likely, or none is
	OtherSheets       = "other_sheets"       // other sheets have addresses, or a column for them, too
	UncomputedFormula = "uncomputed_formula" // formulas that were saved without a value
	AddressesAbove    = "addresses_above"    // lines above the header that hold an address, and are no rows
)

// Problem is one thing that is wrong with a row, or that deserves a look. Its fields
// in JSON name places, never a cell's content, so that they may be logged and kept.
type Problem struct {
	Row     int    `json:"row"`     // the row's number, from 1; header and blank records are not counted; 0: the whole file
	Line    int    `json:"line"`    // the line of the file on which the row begins, from 1
	Column  string `json:"column"`  // the header of the column at fault; empty where it is the whole row
	Code    string `json:"code"`    // one of the constants of this package
	Message string `json:"message"` // what to do
	// Suggestion is the address that was probably meant: see [Suggest]. It is a
	// person's, and so is written nowhere but where the row's cells are shown.
	Suggestion string `json:"-"`
}

// Advice returns the message with the suggestion, for where a row's cells are shown.
func (p Problem) Advice() string {
	if p.Suggestion == "" {
		return p.Message
	}
	return p.Message + "; did you mean " + p.Suggestion + "?"
}

// remedies says for each code what to do. Codes whose message has a number or
// a suggestion in it are not here.
var remedies = map[string]string{
	MissingEmail:      "the e-mail cell is empty; write the person's address",
	NoAt:              "there is no @ in the e-mail cell; write an address such as name@example.com",
	BadLocal:          "what stands before the @ can't be a mailbox; look for spaces, doubled dots and brackets",
	BadDomain:         "what stands after the @ can't be a domain; look for spaces, underscores and missing parts",
	NoDotDomain:       "the domain has no dot; write it in full, with its ending",
	TooLong:           "the address is too long for e-mail (64 before the @, 63 between dots, 254 in all); look for text that ran together",
	SeveralAddresses:  "more than one address; give each person a row of their own",
	BadEncoding:       "some of its characters can't be read in the file's encoding; save the file as UTF-8, or name its encoding with --encoding",
	BadQuotes:         "a quotation mark is not closed, or closes in the middle of a cell; double the quotation marks inside a quoted cell",
	BadRedirectURL:    "write an address like https://app.example.com/welcome, an app's link like myapp://welcome, or a path like /welcome, or leave the cell empty",
	BadExpiresInDays:  "write a whole number of days from 1 to 365, or leave the cell empty",
	BadRevokeOn:       "write the date as 2026-11-23, or leave the cell empty",
	BadMetadata:       fmt.Sprintf("the metadata of one person may take %d bytes as JSON; shorten it", MaxMetadata),
	MergedCell:        "the e-mail cell is merged with another and has no address of its own; unmerge it and write one",
	HiddenRow:         "the row is hidden in the sheet, and is sent all the same; delete it if it isn't meant",
	RoleAddress:       "looks like a mailbox that several people read",
	NonASCIILocal:     "has a letter outside A to Z before the @; few mail servers accept that",
	ShortRow:          "ends before the header does; the cells that it lacks are read as empty",
	InternalDomain:    "the domain ends like those inside a company's network, which mail from outside does not reach",
	GuestAccount:      "is the name of a guest account in Microsoft Entra, which is no mailbox; write the guest's own address",
	UncertainEncoding: "the encoding is a guess; if names look wrong, name the one in which they read right with --encoding, or save the file as UTF-8",
	LostCharacter:     "some characters of a cell that isn't sent can't be read in the file's encoding; if there are many such rows, name the encoding with --encoding",
	DifferentOptions:  "the same address again with other options; those of the first row count",
}

// oddities are the messages for an address outside ASCII, whose characters are at
// fault more often than anything else.
var oddities = map[string]string{
	BadLocal: "a character before the @ can't be in a mailbox name; type the address again",
	BadDomain: "the domain has a dash, sign or letter that no domain has, or that looks like the right one; " +
		"type the address again",
}

// Remedy says what to do about problems with a code, in words that hold for all
// of them; what is no code comes back as it is.
func Remedy(code string) string {
	switch code {
	case RaggedRow:
		return "has more or fewer cells than the header; a cell that holds the delimiter needs quotation marks around it"
	case LikelySlip:
		return "the domain may be misspelt"
	}
	if text := remedies[code]; text != "" {
		return text
	}
	return code
}

// FileError is a fault of the whole file, or of how it is to be read: nothing
// of it can be used until somebody mends that. Its text names header cells at
// most, never a cell of a row.
type FileError struct {
	Line   int    // the line at fault, from 1; 0: the whole file
	What   string // what is wrong, in one line
	Fix    string // what to do; may be empty
	Reason error  // what the operating system or a decoder said; may be nil
	// Columns are those that may hold the addresses, the likeliest first, where
	// somebody has to say which does: by name, or as #7 where a name says it not
	// alone. Nil: that is not what is wrong.
	Columns []string
	choices []Choice // the same with cells of rows, for Choices alone
}

// Error says in one line what is wrong. It doesn't name the file, whose name
// the reader of it doesn't know.
func (e *FileError) Error() string {
	text := e.What
	if e.Reason != nil {
		text += ": " + e.Reason.Error()
	}
	if e.Line > 0 {
		return fmt.Sprintf("line %d: %s", e.Line, text)
	}
	return text
}

// Remedy says what to do about it; empty where there is nothing to add.
func (e *FileError) Remedy() string { return e.Fix }

// Unwrap gives the cause.
func (e *FileError) Unwrap() error { return e.Reason }
