package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"bulkinvite/internal/must"
)

// listOf is a file of columns with people in them. A column's cells are addresses
// at its domain; without one they are plain words.
func listOf(rows int, columns ...[2]string) string {
	var text strings.Builder
	for i := -1; i < rows; i++ {
		for j, c := range columns {
			if j > 0 {
				text.WriteByte(';')
			}
			switch {
			case i < 0:
				text.WriteString(`"` + strings.ReplaceAll(c[0], `"`, `""`) + `"`)
			case c[1] != "":
				fmt.Fprintf(&text, "p%d@%s", i, c[1])
			default:
				fmt.Fprintf(&text, "x%d", i)
			}
		}
		text.WriteByte('\n')
	}
	return text.String()
}

// TestPrivateAddresses: a column of private addresses, or of other people's, is never
// taken and never proposed, in any language and whichever stands first. Either the
// other one is taken, or a question names both.
func TestPrivateAddresses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ language, right, wrong, reads string }{
		{"English", "Official Email ID", "Personal Email", "right"},
		{"English", "Student Email", "Personal Email", "right"},
		{"English", "PrimarySmtpAddress", "Personal Email", "right"},
		{"English", "User principal name", "Personal Email", ""},
		{"English", "Work Contact: Work Email", "Personal Contact: Personal Email", "right"},
		{"English", "Newsletter Email", "Home Email", ""},
		{"English", "Email", "Manager Email", "right"},
		{"English", "Email", "Line manager's e-mail address", "right"},
		{"English", "Email", "Emergency Contact Email", "right"},
		{"English", "Email", "Parent/Guardian Email", "right"},
		{"English", "Email", "Recovery Email", "right"},
		{"English", "Email", "Alternate Email", "right"},
		{"English", "Work Email", "alternateEmailAddress", "right"},
		{"English", "Email", "Referred by", "right"},
		{"German", "E-Mail (Firma)", "E-Mail privat", "right"},
		{"German", "Dienstliche E-Mail", "Private E-Mail-Adresse", "right"},
		{"German", "Firmenmail", "E-Mail des Vorgesetzten", "right"},
		{"German", "E-Mail-Adresse", "Notfallkontakt E-Mail", "right"},
		{"German", "Zugang", "Private E-Mail", ""},
		{"Spanish", "Correo institucional", "Correo personal", "right"},
		{"Spanish", "Correo electrónico de la empresa", "Correo electrónico del jefe", "right"},
		{"Spanish", "Correo", "Correo de emergencia", "right"},
		{"Portuguese", "E-mail institucional", "E-mail pessoal", "right"},
		{"Portuguese", "E-mail corporativo", "E-mail do gestor", "right"},
		{"French", "Courriel professionnel", "Courriel personnel", "right"},
		{"French", "Adresse e-mail professionnelle", "Adresse e-mail du responsable", "right"},
		{"Italian", "E-mail aziendale", "E-mail personale", "right"},
		{"Italian", "Indirizzo di posta elettronica", "E-mail del responsabile", "right"},
		{"Dutch", "Zakelijk e-mailadres", "Persoonlijk e-mailadres", "right"},
		{"Dutch", "E-mail werk", "E-mail leidinggevende", "right"},
		{"Polish", "Służbowy e-mail", "Prywatny e-mail", "right"},
		{"Polish", "Adres e-mail", "E-mail przełożonego", "right"},
		{"Russian", "Рабочая почта", "Личная почта", "right"},
		{"Russian", "E-mail адрес", "Почта руководителя", "right"},
		{"Ukrainian", "Робоча пошта", "Особиста пошта", "right"},
		{"Swedish", "E-post arbete", "Privat e-post", "right"},
		{"Czech", "Pracovní e-mail", "Soukromý e-mail", "right"},
		{"Turkish", "Kurumsal e-posta", "Kişisel e-posta", "right"},
		{"Turkish", "İş e-posta adresi", "Yönetici e-posta", "right"},
		{"Japanese", "会社メールアドレス", "個人メールアドレス", "right"},
		{"Japanese", "メールアドレス", "上司のメールアドレス", "right"},
		{"Chinese", "工作邮箱", "个人邮箱", "right"},
		{"Chinese", "电子邮箱", "经理邮箱", "right"},
		{"Korean", "회사 이메일", "개인 이메일", "right"},
		{"Arabic", "البريد الإلكتروني للعمل", "البريد الإلكتروني الشخصي", "right"},
		{"Vietnamese", "Email công ty", "Email cá nhân", "right"},
		{"English", "", "Personal Email", ""},
		{"English", "", "Manager Email", ""},
		{"German", "", "Private E-Mail", ""},
		{"Japanese", "", "緊急連絡先メール", ""},
	} {
		for _, wrongFirst := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%s/%s/%t", test.language, test.right, test.wrong, wrongFirst), func(t *testing.T) {
				t.Parallel()
				columns := [][2]string{{"Name", ""}, {test.right, atWork}, {test.wrong, atHome}}
				if test.right == "" {
					columns[1] = [2]string{"Team", ""}
				}
				if wrongFirst {
					slices.Reverse(columns)
				}
				text := listOf(5, columns...)
				rows, s, err := read(t, text, Options{})
				if test.reads != "" {
					if err != nil || s.Columns.Mapped["email"] != test.right || s.Valid != 5 ||
						!strings.HasSuffix(rows[0].Email, "@"+atWork) {
						t.Errorf("%+v, %v: %s", s, err, errorRemedy(err))
					}
					return
				}
				var fault *FileError
				if !errors.As(err, &fault) {
					t.Fatalf("it was read: %+v", s.Columns.Mapped)
				}
				what, fix := fault.Error(), fault.Remedy()
				if !strings.Contains(what+fix, test.right) || !strings.Contains(what, test.wrong) {
					t.Errorf("%s: %s does not name both", what, fix)
				}
				proposed := test.right != "" && strings.Contains(fix, test.wrong) || strings.Contains(fix, "Manager")
				if proposed || !strings.Contains(fix, "--map email=") {
					t.Errorf("the remedy is: %s", fix)
				}
				for _, column := range []string{test.right, test.wrong} { // each can be mapped
					if column == "" {
						continue
					}
					_, s, err := read(t, text, Options{Map: map[string]string{"email": column}})
					if err != nil || s.Valid != 5 {
						t.Errorf("%q as the e-mail column: %+v, %v", column, s, err)
					}
				}
			})
		}
	}
}

// TestColumnByContent: what the cells hold decides between columns, and a column
// of addresses is never passed over in silence.
func TestColumnByContent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, reads, what, fix string }{
		{name: "another column of addresses",
			text: listOf(3, [2]string{"Email", atWork}, [2]string{"Zugang", others}),
			what: "Email (#1), Zugang (#2)", fix: `--map email="Email"`},
		{name: "the work address is named",
			text:  listOf(3, [2]string{"Email", others}, [2]string{"Zugang", others}, [2]string{"Work Email", atWork}),
			reads: "Work Email"},
		{name: "two work addresses",
			text: listOf(3, [2]string{"Business Email", others}, [2]string{"Work Email", atWork}),
			what: "Business Email (#1), Work Email (#2)", fix: `--map email="Business Email"`},
		{name: "a note with an address",
			text: "Email,Note\na@x.com,see above\nb@x.com,c@x.com\nd@x.com,on leave\n", reads: "Email"},
		{name: "e-mail that means something else", text: "Email,Zugang\nyes,a@x.com\nno,b@x.com\n",
			what: "no address in the e-mail column: Email (#1)", fix: `Zugang (#2) holds addresses`},
		{name: "an e-mail column of yes and no", text: "E-Mail,Mail\na@x.com,yes\nb@x.com,no\n", reads: "E-Mail"},
		{name: "an empty e-mail column", text: "Work Email,Personal Email\n,a@x.com\n,b@x.com\n",
			what: "no address in the e-mail column: Work Email (#1)", fix: "Fill it in"},
		{name: "a broken address beside a private one", text: "Email,Personal Email\nnobody,a@x.com\n", reads: "Email"},
		{name: "header alone", text: "Email,Work Email,Personal Email\n", reads: "Work Email"},
		{name: "header alone, two", text: "Email,E-Mail\n", what: "Email (#1), E-Mail (#2)",
			fix: `--map email="Email"`},
		{name: "header alone, two of a name", text: "Email,Email\n", what: "Email (#1), Email (#2)",
			fix: "--map email=#1"},
		{name: "nothing near", text: "Name,Team\nJane,IT\n", what: "no e-mail column. Found: Name, Team",
			fix: "--map email=COLUMN"},
		// Directories write the address as the login too: where a second column says the same,
		// there is nothing to ask. Work addresses that are fewer than the people are a
		// department's.
		{name: "a login", text: "login,email,name\nann@acme.com,Ann@acme.com,Ann\nben@acme.com,ben@acme.com,Ben\n", reads: "email"},
		{name: "a principal name", text: "userPrincipalName,mail\nann@acme.com,ann@acme.com\nben@acme.com,ben@acme.com\n", reads: "mail"},
		{name: "a confirmation", text: "Name,Email,Email confirm\nAnn,ann@acme.com,ann@acme.com\nBen,ben@acme.com,\n", reads: "Email"},
		{name: "another login", text: "login,email\nann@acme.com,ann@acme.com\nben@acme.net,ben@acme.com\n", what: "more than one column"},
		{name: "a login alone", text: "login,email\nann@acme.com,ann@acme.com\nben@acme.com,\n", what: "more than one column"},
		{name: "an office", text: "Name,Email,Office Email\nAnn,ann@acme.com,berlin@acme.com\nBen,ben@acme.com,berlin@acme.com\n", what: "more than one column"},
		{name: "a work address each", text: "Name,Email,Work Email\nAnn,a@home.com,ann@acme.com\nBen,b@home.com,ben@acme.com\n", reads: "Work Email"},
		{name: "a person twice", text: "Name,Email,Work Email\nAnn,a@home.com,ann@acme.com\nAnn,a@home.com,ann@acme.com\n", reads: "Work Email"},
		{name: "few work addresses", text: "Name,Email,Work Email\nAnn,a@home.com,ann@acme.com\nBen,b@home.com,\n", reads: "Work Email"},
		{name: "mapped to something else", text: "Name,Email\nJane,a@x.com\n", reads: "Email"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.reads == "" {
				_ = refuse(t, test.text, Options{}, test.what, test.fix)
				return
			}
			if _, s, err := read(t, test.text, Options{}); err != nil || s.Columns.Mapped["email"] != test.reads {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

// TestRemedyWorks: what the question proposes works as it is printed, and takes the
// right column, whatever the header is.
func TestRemedyWorks(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("The address at which we reach you during the first week ", 2)
	for _, test := range []struct{ name, header, says string }{
		{"plain", "Zugang", `"Zugang"`},
		{"over 40 characters", strings.TrimSpace(long[:80]), strings.TrimSpace(long[:80])},
		{"over 120 characters", strings.TrimSpace(strings.Repeat(long, 3)), "#2"},
		{"a dollar", "Zugang $USER", "#2"},
		{"quotation marks", `Zugang "neu"`, "#2"},
		{"a semicolon", "Zugang; neu", "#2"},
		{"an at", "Zugang @ Firma", ""},
		{"a line break", "Zugang\nneu", "#2"},
		{"no name", "", "#2"},
		{"another of the name", "Team", "#2"},
		{"another number", "#1", `"#1"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			text := listOf(4, [2]string{"Team", ""}, [2]string{test.header, atWork},
				[2]string{"Manager Email", others}, [2]string{"Personal Email", atHome})
			fault := refuse(t, text, Options{}, "", test.says)
			if test.says == "" { // no header may hold an @: it would be shown
				return
			}
			rows, s, err := read(t, text, Options{Map: map[string]string{"email": flagValue(t, fault.Remedy())}})
			if err != nil || s.Valid != 4 || rows[0].Email != "p0@"+atWork || s.Columns.Numbers["email"] != 2 {
				t.Errorf("with the remedy %s: %+v, %v", fault.Remedy(), s, err)
			}
		})
	}
}

// TestColumnNumber: #3 is the third column, unless a header is that to the letter.
func TestColumnNumber(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ header, want, reads, fault, fix string }{
		{header: "a,b,c", want: "#2", reads: "b@x.com"},
		{header: "#2,b,c", want: "#2", reads: "a@x.com"},
		{header: "a,b,b", want: "#3", reads: "c@x.com"},
		{header: "a,b,", want: "#3", reads: "c@x.com"},
		{header: "Email,b,c", want: "#3", reads: "c@x.com"},
		{header: "Email,b,c", want: " #3 ", reads: "c@x.com"},
		{header: "Email,b,c", want: "#4", fault: "the header has 3 columns"},
		{header: "Email,b,c", want: "#0", fault: `no column "#0"`},
		{header: "a,b,b", want: "b", fault: "2 columns are called", fix: "--map email=#2 or --map email=#3"},
	} {
		t.Run(test.header+" "+test.want, func(t *testing.T) {
			t.Parallel()
			o := Options{Map: map[string]string{"email": test.want}}
			text := test.header + "\na@x.com,b@x.com,c@x.com\n"
			if test.fault != "" {
				_ = refuse(t, text, o, test.fault, test.fix)
				return
			}
			rows, _, err := read(t, text, o)
			if err != nil || rows[0].Email != test.reads {
				t.Errorf("%v, %v: %s", rows, err, errorRemedy(err))
			}
		})
	}
	o := Options{Map: map[string]string{"public_metadata.team": "#3"}, Metadata: []string{"#2"}, RevokeOn: "#4"}
	rows, s, err := read(t, "email,Site,,\na@x.com,Oslo,IT,2026-12-01\n", o)
	if err != nil || string(rows[0].PublicMetadata) != `{"Site":"Oslo","team":"IT"}` || rows[0].RevokeOn.IsZero() {
		t.Errorf("%+v, %v", s, err)
	}
	_ = refuse(t, "email,\na@x.com,Oslo\n", Options{Metadata: []string{"#2"}}, "", "--map public_metadata.NAME=#2")
}

// TestTablesAbove: titles and a small table over the header are no rows, and are told
// of where they hold an address. What may be people is not passed over.
func TestTablesAbove(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text, want, fault string
		line, warned            int // of the header; of the first address above it, 0: none
	}{
		{name: "a title with an address", text: "Report by,hr@x.com,,\nName,Email,Team,Site\nA,a@x.com,T,S\n",
			want: "1@3 a@x.com\n", line: 2, warned: 1},
		{name: "three of them",
			text: "By,h@x.com,,\nFor,i@x.com,,\nCc,j@x.com,,\nName,Email,Team,Site\nA,a@x.com,T,S\n",
			want: "1@5 a@x.com\n", line: 4, warned: 1},
		{name: "four are people", text: "h@x.com\ni@x.com\nj@x.com\nk@x.com\nName,Email\nA,a@x.com\n",
			fault: "no header"},
		{name: "as wide as the table", text: "Name,hr@x.com\nName,Email\nA,a@x.com\n", fault: "no header"},
		{name: "a small table", text: "Room,Host\nOslo,h@x.com\n\nName,Email\nA,a@x.com\n",
			want: "1@5 a@x.com\n", line: 4, warned: 2},
		{name: "a small table with an e-mail column",
			text: "Room,Email\nOslo,h@x.com\n\nEmail,Name\na@x.com,A\n", want: "1@5 a@x.com\n",
			line: 4, warned: 2},
		{name: "two tables", text: "Name,Email\nA,a@x.com\nB,b@x.com\n\nEmail,Name\nc@x.com,C\n",
			fault: "a second table begins here"},
		{name: "the same header twice", text: "Name,Email\nA,a@x.com\nB,b@x.com\n\nName,Email\nC,c@x.com\n",
			want: "1@2 a@x.com\n2@3 b@x.com\n3@5 !no_at\n4@6 c@x.com\n", line: 1},
		{name: "a blank line among people", text: "Name,Email\nA,a@x.com\n\nB,b@x.com\n",
			want: "1@2 a@x.com\n2@4 b@x.com\n", line: 1},
		{name: "labels under the header", text: "STATUS,EMAIL\nStatus,Email\nactive,a@x.com\n",
			want: "1@2 !no_at\n2@3 a@x.com\n", line: 1},
		{name: "a title that is the word", text: "Email\n\nName,Email\nA,a@x.com\n", want: "1@4 a@x.com\n", line: 3},
		{name: "unknown headers behind a title", text: "New hires\nName,Student Mail Box\nA,a@x.com\n",
			fault: "no e-mail column"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.fault != "" {
				_ = refuse(t, test.text, Options{}, test.fault, "")
				return
			}
			rows, s, err := read(t, test.text, Options{})
			must.OK(t, err)
			if got := brief(rows); got != test.want || s.HeaderLine != test.line {
				t.Errorf("header on line %d, got:\n%swant:\n%s", s.HeaderLine, got, test.want)
			}
			warned := 0
			if len(s.Warnings) > 0 && s.Warnings[0].Code == AddressesAbove {
				warned = s.Warnings[0].Line
			}
			if warned != test.warned {
				t.Errorf("warnings %+v, want line %d", s.Warnings, test.warned)
			}
		})
	}
}

// TestChoices: where a file needs an answer, the columns to choose among come with
// some of their cells.
func TestChoices(t *testing.T) {
	t.Parallel()
	text := "Name,Zugang,Personal Email,Team\n,a@x.com,a@y.com,\nB,,b@y.com,\nC,c@x.com,,\n" +
		"D,d@x.com,d@y.com,\nE,e@x.com,e@y.com,\n"
	choices, err := Choices(context.Background(), strings.NewReader(text), Options{})
	must.OK(t, err)
	var got strings.Builder
	for _, c := range choices {
		fmt.Fprintf(&got, "%d %s %q %t %s\n", c.Number, c.Name, c.Map, c.Avoided, strings.Join(c.Samples, " "))
	}
	want := "2 Zugang \"Zugang\" false a@x.com c@x.com d@x.com\n" +
		"3 Personal Email \"Personal Email\" true a@y.com b@y.com d@y.com\n" +
		"1 Name \"Name\" false B C D\n4 Team \"Team\" false \n"
	if got.String() != want {
		t.Errorf("got:\n%swant:\n%s", got.String(), want)
	}
	choices, err = Choices(context.Background(), strings.NewReader("email\na@x.com\n"), Options{})
	if err != nil || len(choices) > 0 {
		t.Errorf("a file that reads well: %+v, %v", choices, err)
	}
	choices, err = Choices(context.Background(), strings.NewReader("%PDF-1.7"), Options{})
	if err == nil || len(choices) > 0 {
		t.Errorf("no file of people: %+v, %v", choices, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Choices(ctx, strings.NewReader(text), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v", err)
	}
	broken := errors.New("broken")
	_, err = Choices(context.Background(), io.MultiReader(strings.NewReader("Na"), iotest.ErrReader(broken)), Options{})
	if !errors.Is(err, broken) {
		t.Errorf("a reader that fails: %v", err)
	}
}

// emailHeaders are headers for the address of a person, by language.
const emailHeaders = `email,mail,email address,email adress,mail address,email id,mail id,emails,work email,work mail,
	work email address,email work,email address work,business email,business email address,company email,
	company email address,corporate email,corporate email address,office email,professional email,official email,
	primary email,primary email address,email primary,primary work email,email primary work,user email,
	employee email,employee email address,contact email,login email,email login,email adresse,mail adresse,
	emailanschrift,email dienstlich,dienstliche email,dienstliche email adresse,geschäftliche email,
	geschäftliche email adresse,email geschäftlich,email arbeit,elektronische post,correo,correos,
	correo electrónico,correo e,direccion de correo,dirección de correo electrónico,dirección de email,
	email de trabajo,correo de trabajo,correo corporativo,correo laboral,correo empresarial,courriel,adresse mail,
	adresse email,adresse e mail,adresse courriel,adresse électronique,adresse de courriel,mél,email professionnel,
	mail professionnel,courriel professionnel,adresse email professionnelle,adresse de messagerie,mail pro,
	email pro,posta elettronica,indirizzo email,indirizzo e mail,indirizzo mail,indirizzo di posta elettronica,
	email aziendale,mail aziendale,correio eletrônico,correio electrónico,endereço de email,endereço de e mail,
	endereço eletrônico,email corporativo,email profissional,emailadres,mailadres,zakelijk emailadres,
	zakelijke email,werk email,email werk,epost,epostadresse,epostadress,epost adresse,mailadresse,email adress,
	sähköposti,sähköpostiosoite,netfang,tölvupóstur,tölvupóstfang,adres email,adres e mail,adres mailowy,
	poczta elektroniczna,adres poczty elektronicznej,mejl,emailová adresa,elektronická adresa,elektronická pošta,
	mailová adresa,e pošta,epošta,elektronska pošta,e naslov,email cím,emailcím,adresa de email,adresă de email,
	adresă email,poștă electronică,e posta,eposta,e posta adresi,eposta adresi,elektronik posta,el paštas,
	elektroninis paštas,epasts,e pasta adrese,e meil,meil,meiliaadress,почта,эл почта,электронная почта,
	адрес электронной почты,адрес почты,имейл,емейл,емэйл,емайл,мейл,мэйл,рабочая почта,корпоративная почта,пошта,
	електронна пошта,електронна адреса,ел пошта,електронна поща,имейл адрес,електронска пошта,
	ηλεκτρονικό ταχυδρομείο,ηλεκτρονική διεύθυνση,διεύθυνση email,メール,メールアドレス,eメール,eメールアドレス,電子メール,電子メールアドレス,メアド,
	会社メール,邮箱,电子邮箱,邮箱地址,电子邮箱地址,邮件,电子邮件,邮件地址,电子邮件地址,工作邮箱,公司邮箱,企业邮箱,电邮,电邮地址,郵箱,電子郵箱,電子郵件,電子郵件地址,電子信箱,信箱,電郵,電郵地址,郵件地址,
	이메일,이메일 주소,전자우편,전자 메일,메일,메일 주소,회사 이메일,البريد الإلكتروني,البريد,بريد إلكتروني,דואר אלקטרוני,דואל,כתובת אימייל,
	אימייל,ईमेल,ई मेल,ईमेल पता,อีเมล,ที่อยู่อีเมล,địa chỉ email,thư điện tử,alamat email,surel,emel,alamat emel,
	barua pepe,Official Email ID,Preferred Email,Email 1,Email / Username,Work Contact: Work Email,
	Email address to invite [inviteeEmail],Correo electrónico corporativo,Służbowy e-mail,E-mail адрес,
	PrimarySmtpAddress,EmailID,workEmail,user_email`

// TestEmailHeaders: a header that is one of the usual words is enough, and a word
// for a private address or another person before or behind it is enough not to take it.
func TestEmailHeaders(t *testing.T) {
	t.Parallel()
	for word := range strings.SplitSeq(emailHeaders, ",") {
		word = strings.TrimSpace(word)
		for _, cell := range []string{
			word, strings.ToUpper(word), word + " [Required]", word + "*", "\u200b" + word + " ",
			strings.ReplaceAll(word, " ", "_"), strings.ReplaceAll(word, " ", "-"),
		} {
			if h := readHeaderCell(cell); !h.isEmail() {
				t.Errorf("%q is %+v", cell, h)
			}
		}
		for _, cell := range []string{"Manager " + word, word + " (private)", word + " Vorgesetzter", "recovery_" + word} {
			if h := readHeaderCell(cell); !h.avoided() {
				t.Errorf("%q is %+v", cell, h)
			}
		}
	}
	for _, cell := range []string{
		"", "Name", "Address", "Mailing address", "Home address", "Work phone", "Email opt-in", "Email verified",
		"Mail stop", "Hotmail", "Postal address", "E-Signature", "Login", "Emails sent", strings.Repeat("email ", 100), "Work", "Office", "邮编", "почтовый индекс",
	} {
		if h := readHeaderCell(cell); h.isEmail() {
			t.Errorf("%q is taken for the address", cell)
		}
	}
	if h := readHeaderCell("Work Email"); h.kind != workHeader {
		t.Errorf("Work Email is %+v", h)
	}
	if h := (header{}); !h.avoided() {
		t.Error("a header that was not read is taken for the address")
	}
}
