package importer

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Our names of columns, which Options.Map and headers may use.
const (
	emailColumn    = "email"
	redirectColumn = "redirect_url"
	expiresColumn  = "expires_in_days"
	revokeColumn   = "revoke_on"
	metadataPrefix = "public_metadata."
)

// titleLines is how many records above the header are looked through for it.
const titleLines = 20

// synonyms are the words for an e-mail column, as normal writes them. Only a
// header that is one of these is taken for it: a column Manager Email must not be.
var synonyms = func() map[string]bool {
	synonyms := map[string]bool{}
	for word := range strings.SplitSeq(`email,mail,email address,email adress,mail address,email id,mail id,emails,
		work email,work mail,work email address,email work,email address work,business email,business email address,company email,company email address,
		corporate email,corporate email address,office email,professional email,official email,personal email,personal email address,email personal,
		private email,private email address,home email,home email address,email home,primary email,primary email address,email primary,
		primary work email,email primary work,user email,employee email,employee email address,contact email,login email,email login,
		email adresse,mail adresse,emailanschrift,email dienstlich,dienstliche email,dienstliche email adresse,geschäftliche email,
		geschäftliche email adresse,email geschäftlich,email privat,private email adresse,email arbeit,elektronische post,
		correo,correos,correo electrónico,correo e,direccion de correo,dirección de correo electrónico,dirección de email,email de trabajo,correo de trabajo,
		correo corporativo,correo laboral,correo empresarial,correo personal,
		courriel,adresse mail,adresse email,adresse e mail,adresse courriel,adresse électronique,adresse de courriel,mél,email professionnel,mail professionnel,
		courriel professionnel,adresse email professionnelle,adresse de messagerie,mail pro,email pro,
		posta elettronica,indirizzo email,indirizzo e mail,indirizzo mail,indirizzo di posta elettronica,email aziendale,mail aziendale,
		correio eletrônico,correio electrónico,endereço de email,endereço de e mail,endereço eletrônico,email corporativo,email profissional,email pessoal,
		emailadres,mailadres,zakelijk emailadres,zakelijke email,werk email,email werk,
		epost,epostadresse,epostadress,epost adresse,mailadresse,email adress,sähköposti,sähköpostiosoite,netfang,tölvupóstur,tölvupóstfang,
		adres email,adres e mail,adres mailowy,poczta elektroniczna,adres poczty elektronicznej,mejl,
		emailová adresa,elektronická adresa,elektronická pošta,mailová adresa,e pošta,epošta,elektronska pošta,e naslov,
		email cím,emailcím,adresa de email,adresă de email,adresă email,poștă electronică,
		e posta,eposta,e posta adresi,eposta adresi,elektronik posta,el paštas,elektroninis paštas,epasts,e pasta adrese,e meil,meil,meiliaadress,
		почта,эл почта,электронная почта,адрес электронной почты,адрес почты,имейл,емейл,емэйл,емайл,мейл,мэйл,рабочая почта,корпоративная почта,
		пошта,електронна пошта,електронна адреса,ел пошта,електронна поща,имейл адрес,електронска пошта,
		ηλεκτρονικό ταχυδρομείο,ηλεκτρονική διεύθυνση,διεύθυνση email,
		メール,メールアドレス,eメール,eメールアドレス,電子メール,電子メールアドレス,メアド,会社メール,
		邮箱,电子邮箱,邮箱地址,电子邮箱地址,邮件,电子邮件,邮件地址,电子邮件地址,工作邮箱,公司邮箱,企业邮箱,电邮,电邮地址,
		郵箱,電子郵箱,電子郵件,電子郵件地址,電子信箱,信箱,電郵,電郵地址,郵件地址,
		이메일,이메일 주소,전자우편,전자 메일,메일,메일 주소,회사 이메일,
		البريد الإلكتروني,البريد,بريد إلكتروني,דואר אלקטרוני,דואל,כתובת אימייל,אימייל,
		ईमेल,ई मेल,ईमेल पता,อีเมล,ที่อยู่อีเมล,địa chỉ email,thư điện tử,alamat email,surel,emel,alamat emel,barua pepe`, ",") {
		synonyms[normal(word)] = true
	}
	return synonyms
}()

// normal writes a header so that spellings of one name meet: small letters and
// digits alone, without the accents of Latin letters.
func normal(header string) string {
	var out strings.Builder
	for _, r := range norm.NFKD.String(strings.ToValidUTF8(header, "")) {
		switch {
		case '\u0300' <= r && r <= '\u036f':
		case r == 'ı':
			out.WriteByte('i')
		case unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r):
			out.WriteRune(unicode.ToLower(r))
		}
	}
	return norm.NFKD.String(out.String()) // marks that were apart may stand together now
}

// title is a header cell as it is shown: nothing invisible around or in it.
func title(cell string) string {
	return strings.TrimFunc(strings.Map(visible, cell), func(r rune) bool { return isSpace(r) || r == '"' })
}

type metaColumn struct {
	index int
	name  string
}

// columns tells which cell of a row is what; -1: none.
type columns struct {
	names            []string // the header, as it is shown
	line             int      // on which it begins
	email            int
	redirect, expire int
	revoke           int
	metadata         []metaColumn
	unused           []int // other columns with an e-mail header, empty as far as was looked
	mapped           map[string]string
}

func (c *columns) report() Columns {
	found := Columns{Found: c.names, Mapped: c.mapped, Ignored: []string{}}
	used := map[int]bool{c.email: true, c.redirect: true, c.expire: true, c.revoke: true}
	for _, m := range c.metadata {
		used[m.index] = true
	}
	for i, name := range c.names {
		if !used[i] && name != "" {
			found.Ignored = append(found.Ignored, name)
		}
	}
	return found
}

// isHeader tells whether a record has a name for the e-mail column in it.
func isHeader(rec record, o Options) bool {
	if rec.code == BadQuotes {
		return false
	}
	if want := o.Map[emailColumn]; want != "" {
		return len(named(rec.cells, want)) > 0
	}
	return slices.ContainsFunc(rec.cells, isSynonym)
}

func isSynonym(cell string) bool {
	// No synonym is as long as this, and a cell may be a megabyte.
	return len(cell) < 200 && synonyms[normal(cell)]
}

// named finds the columns with a name: those that have it to the letter, else
// those that have it but for case, accents and punctuation.
func named(cells []string, want string) []int {
	var exact, near []int
	for i, cell := range cells {
		if len(cell) > 4*len(want)+200 {
			continue
		}
		if title(cell) == strings.TrimSpace(want) {
			exact = append(exact, i)
		} else if n := normal(cell); n != "" && n == normal(want) {
			near = append(near, i)
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return near
}

// holdsAddress tells whether a record is a person's rather than a header.
func holdsAddress(rec record) bool {
	return slices.ContainsFunc(rec.cells, isAddress)
}

func isAddress(cell string) bool {
	if len(cell) > 4*maxAddress || strings.IndexByte(cell, '@') < 0 {
		return false
	}
	_, _, code := clean(cell)
	return code == ""
}

func filled(cells []string) (n int) {
	for _, cell := range cells {
		if !blankCell(cell) {
			n++
		}
	}
	return n
}

// readHeader finds the header, under title lines where there are some, and
// leaves the table at the first row.
func readHeader(t *table, o Options) (*columns, error) {
	header, above, err := findHeader(t, o)
	switch {
	case err != nil:
		return nil, err
	case header != nil:
		return resolve(t, header, o)
	case len(above) == 0 && len(t.ahead) == 0:
		return nil, emptyFile()
	}
	return nil, noColumn(t, above, o)
}

// findHeader gives the record that has a name for the e-mail column; where there
// is none, the records that might have been one.
func findHeader(t *table, o Options) (header *record, above []record, err error) {
	for len(above) < titleLines {
		rec, err := t.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		rec.cells = slices.Clone(rec.cells)
		if holdsAddress(rec) {
			t.ahead = append(t.ahead, rec)
			break
		}
		// A title has fewer cells than the table under it. A row that happens to
		// have the word email in it is no header for the rows above.
		if isHeader(rec, o) && !slices.ContainsFunc(above, func(a record) bool {
			return filled(a.cells) > 1 && filled(a.cells) >= filled(rec.cells)
		}) {
			return &rec, nil, nil
		}
		above = append(above, rec)
	}
	return nil, above, nil
}

// resolve maps a header's columns.
func resolve(t *table, rec *record, o Options) (*columns, error) {
	c := &columns{line: rec.line, redirect: -1, expire: -1, revoke: -1, mapped: map[string]string{}}
	for _, cell := range rec.cells {
		c.names = append(c.names, title(cell))
	}
	for _, name := range slices.Sorted(maps.Keys(o.Map)) {
		if err := c.mapOne(name, o.Map[name]); err != nil {
			return nil, err
		}
	}
	for _, name := range o.Metadata {
		if err := c.addMetadata(name); err != nil {
			return nil, err
		}
	}
	for i, name := range c.names {
		if err := c.recognise(i, name); err != nil {
			return nil, err
		}
	}
	if err := c.findRevoke(o.RevokeOn); err != nil {
		return nil, err
	}
	slices.SortFunc(c.metadata, func(a, b metaColumn) int { return strings.Compare(a.name, b.name) })
	if _, chosen := o.Map[emailColumn]; chosen {
		return c, nil
	}
	var candidates []int
	for i, cell := range rec.cells {
		if isSynonym(cell) && !c.taken(i) {
			candidates = append(candidates, i)
		}
	}
	if len(candidates) == 0 {
		return nil, &FileError{What: "no e-mail column but one that is mapped to something else. Found: " + list(c.names), Fix: suggestion(emailColumn, likely(t, c.names)), Columns: titled(c.names)}
	}
	if err := c.choose(t, candidates); err != nil {
		return nil, err
	}
	c.mapped[emailColumn] = c.names[c.email]
	return c, nil
}

func (c *columns) taken(i int) bool {
	return i == c.redirect || i == c.expire
}

// mapOne follows one entry of Options.Map.
func (c *columns) mapOne(ours, theirs string) error {
	found := named(c.names, theirs)
	switch {
	case !isOurs(ours):
		return &FileError{What: fmt.Sprintf("--map knows no %q", ours), Fix: "Its names are email, redirect_url, expires_in_days and public_metadata.NAME."}
	case len(found) == 0:
		return &FileError{What: fmt.Sprintf("no column %q for %s. Found: %s", theirs, ours, list(c.names)), Fix: suggestion(ours, nearest(c.names, []string{normal(theirs)}))}
	case len(found) > 1:
		return &FileError{What: fmt.Sprintf("%d columns are called %q", len(found), theirs), Fix: "Give the right one another name in the file."}
	}
	return c.set(ours, found[0])
}

// addMetadata follows one entry of Options.Metadata.
func (c *columns) addMetadata(theirs string) error {
	i, err := c.find("--metadata", theirs)
	if err != nil {
		return err
	}
	name := c.names[i]
	if strings.HasPrefix(strings.ToLower(name), metadataPrefix) {
		return nil // it is taken for that by its header
	}
	return c.set(metadataPrefix+name, i)
}

// findRevoke follows Options.RevokeOn. The column may be another one of ours too.
func (c *columns) findRevoke(theirs string) (err error) {
	if theirs == "" {
		return nil
	}
	if c.revoke, err = c.find("--revoke-on", theirs); err == nil {
		c.mapped[revokeColumn] = c.names[c.revoke]
	}
	return err
}

// find finds the column that a flag names.
func (c *columns) find(flag, theirs string) (int, error) {
	found := named(c.names, theirs)
	switch {
	case len(found) == 0:
		fix := flag + " takes the names of columns."
		if near := nearest(c.names, []string{normal(theirs)}); near != "" {
			fix = fmt.Sprintf("If one of them is meant, name it: %s %q", flag, shortened(near))
		}
		return -1, &FileError{What: fmt.Sprintf("no column %q for %s. Found: %s", theirs, flag, list(c.names)), Fix: fix}
	case len(found) > 1:
		return -1, &FileError{What: fmt.Sprintf("%d columns are called %q", len(found), theirs), Fix: "Give the right one another name in the file."}
	}
	return found[0], nil
}

func isOurs(name string) bool {
	after, ok := strings.CutPrefix(name, metadataPrefix)
	return name == emailColumn || name == redirectColumn || name == expiresColumn || ok && after != ""
}

// recognise takes a column for one of the options by its header.
func (c *columns) recognise(i int, name string) error {
	lower := strings.ToLower(strings.NewReplacer(" ", "_", "-", "_").Replace(name))
	switch {
	case lower == redirectColumn || lower == expiresColumn:
		if _, mapped := c.mapped[lower]; mapped {
			return c.again(lower, i)
		}
		return c.set(lower, i)
	case strings.HasPrefix(lower, metadataPrefix) && len(name) > len(metadataPrefix):
		return c.set(metadataPrefix+name[len(metadataPrefix):], i)
	}
	return nil
}

func (c *columns) set(ours string, i int) error {
	switch ours {
	case emailColumn:
		c.email = i
	case redirectColumn:
		c.redirect = i
	case expiresColumn:
		c.expire = i
	default:
		meta := metaColumn{i, ours[len(metadataPrefix):]}
		if slices.Contains(c.metadata, meta) {
			return nil // named by the map and by its own header
		}
		if _, mapped := c.mapped[ours]; mapped {
			return c.again(ours, i)
		}
		c.metadata = append(c.metadata, meta)
	}
	c.mapped[ours] = c.names[i]
	return nil
}

// again refuses a second column for one name, unless it is the first once more.
func (c *columns) again(ours string, i int) error {
	if ours == redirectColumn && i == c.redirect || ours == expiresColumn && i == c.expire {
		return nil
	}
	return &FileError{What: fmt.Sprintf("two columns could be %s: %s", ours, list([]string{c.mapped[ours], c.names[i]})), Fix: "Rename one of them in the file."}
}

// choose picks the e-mail column among those whose header says so. Where there
// are several, all but one have to be empty in the next thousand records; should
// one of those be filled in a row further down, that row is invalid.
func (c *columns) choose(t *table, candidates []int) error {
	if len(candidates) == 1 {
		c.email = candidates[0]
		return nil
	}
	inUse, err := usage(t, candidates)
	if err != nil {
		return err
	}
	if len(inUse) == 1 {
		c.email = inUse[0]
		c.unused = slices.DeleteFunc(candidates, func(i int) bool { return i == c.email })
		return nil
	}
	names := make([]string, 0, len(candidates))
	for _, i := range candidates {
		names = append(names, c.names[i])
	}
	if slices.Contains(names[1:], names[0]) {
		return &FileError{What: "more than one e-mail column: " + list(names), Fix: "Rename or take out all but one of them in the file."}
	}
	return &FileError{What: "more than one e-mail column: " + list(names), Fix: fmt.Sprintf("Name the right one: --map email=%q", names[0]), Columns: names}
}

// usage tells which of some columns have anything in them near the top.
func usage(t *table, columns []int) ([]int, error) {
	records, err := t.look()
	if err != nil {
		return nil, err
	}
	seen := map[int]bool{}
	for _, rec := range records {
		for _, i := range columns {
			if rec.code == "" && !blankCell(cell(rec.cells, i)) {
				seen[i] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(columns), func(i int) bool { return !seen[i] }), nil
}

// noColumn says what a file has instead of an e-mail column.
func noColumn(t *table, above []record, o Options) error {
	if len(above) == 0 {
		return noHeader(t.ahead[0].line)
	}
	header := above[0]
	for _, rec := range above {
		if filled(rec.cells) > filled(header.cells) {
			header = rec
		}
	}
	if header.code == BadQuotes {
		return &FileError{Line: header.line, What: "the header's quotation marks are not closed", Fix: "Mend that line; a quotation mark inside a quoted name is doubled."}
	}
	names := make([]string, 0, len(header.cells))
	for _, cell := range header.cells {
		if strings.ContainsRune(cell, '@') {
			return noHeader(header.line) // and an address, if a bad one, is not to be shown
		}
		names = append(names, title(cell))
	}
	if want := o.Map[emailColumn]; want != "" {
		return &FileError{What: fmt.Sprintf("no column %q. Found: %s", want, list(names)), Fix: suggestion(emailColumn, nearest(names, []string{normal(want)}))}
	}
	return &FileError{What: "no e-mail column. Found: " + list(names), Fix: suggestion(emailColumn, likely(t, names)), Columns: titled(names)}
}

// titled are the names of columns that have one, each once: those that a person
// can choose among.
func titled(names []string) []string {
	var all []string
	for _, name := range names {
		if name != "" && !slices.Contains(all, name) && len(all) < chosenAmong {
			all = append(all, name)
		}
	}
	return all
}

// chosenAmong is how many columns a person can choose among.
const chosenAmong = 200

func noHeader(line int) *FileError {
	return &FileError{Line: line, What: "no header: this line holds an address, not the names of columns", Fix: "Write a line above it with a name for each column, one of them email."}
}

// likely finds the column that somebody may have meant for addresses: one that
// holds some, else the one whose name comes nearest, else any.
func likely(t *table, names []string) string {
	for range titleLines {
		rec, err := t.next()
		if err != nil {
			break
		}
		if i := slices.IndexFunc(rec.cells, isAddress); i >= 0 && i < len(names) && names[i] != "" {
			return names[i]
		}
	}
	words := make([]string, 0, len(synonyms))
	for word := range synonyms {
		words = append(words, word)
	}
	return nearest(names, words)
}

func suggestion(ours, name string) string {
	if name == "" {
		return "Write the names of the columns in the first line."
	}
	if ours == emailColumn {
		return fmt.Sprintf("If one of them holds addresses, name it: --map email=%q", shortened(name))
	}
	return fmt.Sprintf("If one of them is meant, name it: --map %s=%q", ours, shortened(name))
}

// nearest finds the name with the fewest edits to one of some words, in relation
// to its length; the first of equals.
func nearest(names, words []string) string {
	best, least := "", 2.0
	for _, name := range names[:min(len(names), 100)] {
		plain := []rune(normal(name))
		if len(plain) == 0 || len(plain) > 60 {
			continue
		}
		for _, word := range words {
			w := []rune(word)
			if d := float64(edits(plain, w)) / float64(max(len(plain), len(w))); d < least {
				best, least = name, d
			}
		}
	}
	return best
}

// edits is Levenshtein's distance.
func edits(a, b []rune) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i, x := range a {
		before := row[0]
		row[0] = i + 1
		for j, y := range b {
			cost := before
			if x != y {
				cost++
			}
			before, row[j+1] = row[j+1], min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// list names columns for a message, a screenful at most.
func list(names []string) string {
	var shown []string
	for _, name := range names {
		if name == "" {
			continue
		}
		if len(shown) == 20 {
			return strings.Join(shown, ", ") + ", …"
		}
		shown = append(shown, shortened(name))
	}
	if len(shown) == 0 {
		return "none with a name"
	}
	return strings.Join(shown, ", ")
}

func shortened(name string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, name)
	if utf8.RuneCountInString(name) > 40 {
		return string([]rune(name)[:39]) + "…"
	}
	return name
}
