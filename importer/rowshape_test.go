package importer

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"bulkinvite/internal/must"
)

// Rows that end early are read where nothing but an optional cell is missing, and
// are ragged where the row may be shifted.
func TestReadShortRows(t *testing.T) {
	t.Parallel()
	const people = "a@acme.com,Ann,Sales,x\nb@acme.com,Ben,Sales,y\n"
	for _, test := range []struct {
		name, text string
		o          Options
		want       string // of the last row
		warned     bool
	}{
		{name: "one cell missing", text: "email,name,team,note\n" + people + "c@acme.com,Cid,Sales\n",
			want: "c@acme.com", warned: true},
		{name: "all but the address missing", text: "email,name,team,note\n" + people + "c@acme.com\n",
			want: "c@acme.com", warned: true},
		{name: "a provider's domain", text: "email,name,team,note\n" + people + "c@gmail.com\n", want: "c@gmail.com",
			warned: true},
		{name: "a domain that nobody else has", text: "email,name,team,note\n" + people + "c@other.org,Cid\n",
			want: "c@other.org", warned: true},
		{name: "a line that is cut off", text: "email,name,team,note\n" + people + "c@acme.co", want: "!ragged_row"},
		{name: "an address and a cell in one", text: "email,name,team,note\n" + people + "c@acme.comCid,Sales,z\n",
			want: "!ragged_row"},
		{name: "an address and a website in one",
			text: "email,site,team,note\n" + people + "c@acme.comacme.com,Sales,z\n", want: "!ragged_row"},
		{name: "an address and a letter in one",
			text: "email,sex,team,note\na@acme.co,m,S,x\nb@acme.net,m,S,x\nc@other.com,S,x\n", want: "!ragged_row"},
		{name: "the address missing", text: "name,team,email\nAnn,Sales,a@acme.com\nBen,Sales\n",
			want: "!ragged_row"},
		{name: "an empty address",
			text: "id,first,email,phone,digest,hasher\n1,Ann,a@acme.com,,x,y\n2,,,+1 212 555 0100,\n",
			want: "!missing_email"},
		{name: "a neighbour's address in its place",
			text: "name,email,manager email,note\nAnn,a@acme.com,m@acme.com,x\nBen,m@acme.com,x\n", want: "!ragged_row"},
		{name: "a neighbour's address that has none yet",
			text: "name,email,manager email\nAnn,a@acme.com,\nBen,m@acme.com\n", want: "!ragged_row"},
		{name: "a neighbour that has its own",
			text: "name,email,manager email,note\nAnn,a@acme.com,m@acme.com,x\nBen,b@acme.com,m@acme.com\n",
			want: "b@acme.com", warned: true},
		{name: "a neighbour by its cells",
			text: "name,email,boss,note\nAnn,a@acme.com,m@acme.com,x\nBen,m@acme.com,x\n", want: "!ragged_row"},
		{name: "a neighbour by its name that has no addresses",
			text: "id,email,email_confirmed_at,note\n1,a@acme.com,2026-01-01,x\n2,b@acme.com,2026-01-01\n",
			want: "b@acme.com", warned: true},
		{name: "a neighbour by its name alone", text: "name,email,boss,note\nAnn,a@acme.com,,x\nBen,m@acme.com,x\n",
			want: "!ragged_row"},
		{name: "no complete row", text: "email,name,note\nb@acme.com,Ben\n", want: "b@acme.com", warned: true},
		{name: "all rows end early", text: "email,name,note\na@acme.com,Ann\nb@other.org,Ben\n", want: "b@other.org",
			warned: true},
		{name: "a bad row of another file",
			text: "bulkinvite_problem,name,email,boss\nno_at,Ann,acme.com,\nragged_row,Ben,m@acme.com\n",
			want: "!ragged_row"},
		{name: "a bad row that a spreadsheet filled up",
			text: "bulkinvite_problem,name,email,boss\nx (no_at),Ann,acme.com,\nx (ragged_row),Ben,m@acme.com,\n",
			want: "!ragged_row"},
		{name: "a bad row of a file with a nameless column",
			text: "bulkinvite_problem,boss,email,team,\nx (no_at),,a@acme.com,,\nx (ragged_row),Boss,m@acme.com,b@acme.com,S\n",
			o:    Options{Map: map[string]string{"email": "email"}}, want: "!ragged_row"},
		{name: "a bad row that is mended",
			text: "bulkinvite_problem,name,email,boss\nx (ragged_row),Ben,b@acme.com,m@acme.com\n", want: "b@acme.com"},
		{name: "a bad row whose mark is removed",
			text: "bulkinvite_problem,name,email,boss\n,Ben,b@acme.com,\n", want: "b@acme.com"},
		{name: "results whose bad row is filled up",
			text: "name,email,boss,bulkinvite_outcome,bulkinvite_reason\nBen,m@acme.com,,invalid,ragged_row\n",
			want: "!ragged_row"},
		{name: "an address elsewhere", text: "name,email,note\nAnn,a@acme.com,x\nBen b@acme.com,c@acme.com\n",
			want: "!ragged_row"},
		{name: "a cell that is sent", text: "email,name,redirect_url\na@acme.com,Ann,/x\nb@acme.com,Ben\n",
			want: "!ragged_row"},
		{name: "a cell that may have moved",
			text: "email,name,public_metadata.team,note\na@acme.com,Ann,Sales,x\nb@acme.com,Ben,Sales\n",
			want: "!ragged_row"},
		{name: "metadata that is asked for", text: "email,name,team\na@acme.com,Ann,Sales\nb@acme.com,Ben\n",
			o: Options{Metadata: []string{"team"}}, want: "!ragged_row"},
		{name: "what is sent stands before",
			text: "public_metadata.team,email,note\nSales,a@acme.com,x\nSales,b@acme.com\n", want: "b@acme.com",
			warned: true},
		{name: "too many cells", text: "email,name\na@acme.com,Ann\nb@acme.com,Ben,Sales\n", want: "!ragged_row"},
		{name: "nameless cells missing",
			text: "name,email,manager email,,\nAnn,a@acme.com,,,\nBen,b@acme.com,m@acme.com,\n", want: "b@acme.com"},
		{name: "nameless cells missing, shifted",
			text: "name,email,manager email,,\nAnn,a@acme.com,m@acme.com,,\nBen,m@acme.com,,\n", want: "!ragged_row"},
		{name: "nameless cells missing everywhere",
			text: "name,email,manager email,,\nAnn,a@acme.com,\nBen,b@acme.com,\n", want: "b@acme.com"},
		{name: "an empty cell more, shifted",
			text: "name,manager email,email,note\nAnn,m@acme.com,a@acme.com,\nDoe, Ben,m@acme.com,b@acme.com,\n",
			o:    Options{Map: map[string]string{"email": "email"}}, want: "!ragged_row"},
		{name: "an empty cell more, moved what is sent",
			text: "email,name,public_metadata.team\na@acme.com,Ann,Sales\nb@acme.com,Doe, Ben,\n", want: "!ragged_row"},
		{name: "an empty cell less than elsewhere",
			text: "name,email\nAnn,a@acme.com,\nBen,b@acme.com,\nCid,c@other.org\n", want: "c@other.org"},
		{name: "an empty cell less than elsewhere, shifted",
			text: "name,email,manager email\nAnn,a@acme.com,m@acme.com,\nBen,b@acme.com,,\nCid,m@acme.com,\n",
			want: "!ragged_row"},
		{name: "an empty cell more everywhere",
			text: "name,manager email,email\nAnn,,a@acme.com,\nBen,,b@acme.com,\n", want: "b@acme.com"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rows, s, err := read(t, test.text, test.o)
			must.OK(t, err)
			last := brief(rows[len(rows)-1:])
			if !strings.HasSuffix(last, " "+test.want+"\n") {
				t.Errorf("the last row is %swant %s", last, test.want)
			}
			warned := slices.ContainsFunc(s.Warnings,
				func(w Problem) bool { return w.Code == ShortRow && w.Row == len(rows) && w.Column == "" })
			if warned != test.warned {
				t.Errorf("warned: %t, want %t: %+v", warned, test.warned, s.Warnings)
			}
		})
	}
}

// The shape of the sample that a provider of logins publishes for imports: people who
// have a phone alone, and rows that lack the last cell.
func TestReadSampleOfPhones(t *testing.T) {
	t.Parallel()
	text := "# Password of all: secret\nid,first_name,last_name,username,primary_email_address,primary_phone_number,verified_email_addresses," +
		"unverified_email_addresses,verified_phone_numbers,unverified_phone_numbers,totp_secret,password_digest,password_hasher\n"
	for i := range 59 {
		text += fmt.Sprintf("u%d,Jane,Doe,,p%d@acme.com,,p%d@acme.com,,,,,$2b$10$x,bcrypt\n", i, i, i)
	}
	for i := range 10 {
		text += fmt.Sprintf("u%d,,,phone%d,,+1212555010%d,,,+1212555010%d,,,\n", 60+i, i, i, i)
	}
	text += "u70,Jane,Doe,,last@acme.com,,last@acme.com,,,,,$2b$10$x\n"
	_, s, err := read(t, text, Options{})
	must.OK(t, err)
	codes := map[string]int{}
	for _, p := range s.Problems {
		codes[p.Code]++
	}
	if s.Valid != 60 || len(codes) != 1 || codes[MissingEmail] != 10 || len(s.Warnings) != 1 || s.Warnings[0].Code != ShortRow {
		t.Errorf("%d valid, problems %v, warnings %+v", s.Valid, codes, s.Warnings)
	}
}

// mutated are files of the kinds that people send, with empty cells where they have
// them: more columns of addresses on either side, options, cells without a name.
var mutated = []string{
	"email,name,team\na@acme.com,Ann,Sales\nb@acme.com,Ben,\nc@other.org,Cid,IT\nd@acme.co,,\n,Eve,Sales\n",
	"name,email,manager email\nAnn,a@acme.com,m@acme.com\nBen,b@acme.com,\nCid,,m@acme.com\nDoe,d@acme.com,m@acme.com\n",
	"name,email,manager email,note\nAnn,a@acme.com,m@acme.com,x\nBen,b@acme.com,,\nCid,,m@acme.com,\nDoe,d@acme.com,m@acme.com,y\n",
	"manager email,name,email,note\nm@acme.com,Ann,a@acme.com,x\n,Ben,b@acme.com,\nm@acme.com,Cid,,\n",
	"name,manager email,email,note,\nAnn,m@acme.com,a@acme.com,x,\nBen,,b@acme.com,,\nCid,m@acme.com,,,\nDoe,m@acme.com,d@acme.com,,\n",
	"name,email,second email,third email,note\nAnn,a@acme.com,a2@acme.com,a3@acme.com,x\nBen,b@acme.com,,b3@acme.com,\nCid,,c2@acme.com,c3@acme.com,\n",
	"name,email,boss,,\nAnn,a@acme.com,m@acme.com,,\nBen,b@acme.com,,,\nCid,,m@acme.com,,\n",
	"name,email,boss,,\nAnn,a@acme.com,m@acme.com,,\n",
	"name,email,manager email\nAnn,a@acme.com,m@acme.com,\nBen,b@acme.com,,\nCid,,m@acme.com,\n",
	"email,name,public_metadata.team\na@acme.com,Ann,Sales,,\nb@acme.com,Ben,,,\nc@acme.com,,IT,,\n",
	"email,sex,site,note\na@acme.co,m,acme.com,x\nb@acme.com,f,acme.com,\nc@other.co,m,,\nd@third.co,,third.de,z\ne@acme.com,f,,\n",
	"email,site,sex\na@one.co,one.com,m\nb@two.de,two.design,f\nc@three.in,,m\nd@four.com,four.com,\n",
	"id,email,redirect_url,expires_in_days,public_metadata.team,note\n1,a@acme.com,/a,7,Sales,x\n2,b@acme.com,,,Sales,\n3,c@acme.com,/c,,,\n4,,/d,4,IT,m@acme.com\n",
	"public_metadata.team,public_metadata.level,email,note,\nSales,1,a@acme.com,x,\nIT,,b@acme.com,,\n,3,c@acme.com,,\n",
	"email;name;team;\na@acme.com;Doe, Ann;Sales;\nb@acme.com;;;\nc@acme.com;Cid;;\n",
	"\"email\",\"name\",\"manager email\"\n\"a@acme.com\",\"Doe, Ann\",\"m@acme.com\"\n\"b@acme.com\",\"\",\"\"\n\"\",\"Cid\",\"m@acme.com\"\n",
}

// No row that lost a delimiter, or two, or has one too many, is sent to an address
// that is not in its own e-mail column, or with another column's options.
func TestMutatedRows(t *testing.T) {
	t.Parallel()
	kinds := map[string]int{}
	for _, text := range mutated {
		email := map[string]string{"email": "email"}
		right, _, err := read(t, text, Options{Map: email})
		must.OK(t, err)
		comma := byte(',')
		if strings.Contains(text, "email;") {
			comma = ';'
		}
		lines := strings.SplitAfter(text, "\n")
		try := func(kind string, line int, changed string) {
			t.Helper()
			all := slices.Clone(lines)
			all[line] = changed
			rows, _, err := read(t, strings.Join(all, ""), Options{Map: email, Delimiter: string(comma)})
			must.OK(t, err)
			for _, row := range rows {
				if row.Line != line+1 || row.Problem != nil {
					continue
				}
				kinds[kind]++
				own := right[line-1]
				if row.Email != own.Email || row.RedirectURL != own.RedirectURL || row.ExpiresInDays != own.ExpiresInDays ||
					string(row.PublicMetadata) != string(own.PublicMetadata) {
					t.Errorf("%s in %q makes %q, which is sent to %s, %q, %d, %s; its own are %q, %q, %d, %s", kind,
						lines[line], changed,
						row.Email, row.RedirectURL, row.ExpiresInDays, row.PublicMetadata, own.Email, own.RedirectURL,
						own.ExpiresInDays, own.PublicMetadata)
				}
			}
		}
		for line := 1; line < len(lines)-1; line++ {
			old := lines[line]
			for i := range len(old) - 1 {
				if old[i] != comma {
					// Inside an address, a delimiter makes another one: of the other cells.
					if !strings.Contains(strings.Split(old, string(comma))[strings.Count(old[:i], string(comma))],
						"@") {
						try("a delimiter more", line, old[:i]+string(comma)+old[i:])
					}
					continue
				}
				try("a delimiter less", line, old[:i]+old[i+1:])
				for j := i + 1; j < len(old)-1; j++ {
					if old[j] == comma {
						try("two delimiters less", line, old[:i]+old[i+1:j]+old[j+1:])
					}
				}
			}
			for i := range len(old) {
				try("a line cut off", line, old[:i]+"\n")
			}
		}
	}
	for _, kind := range []string{"a delimiter more", "a delimiter less", "two delimiters less", "a line cut off"} {
		t.Logf("%s: %d rows were still sent, to their own address", kind, kinds[kind])
		if kinds[kind] == 0 {
			t.Errorf("%s: no row was read, so that this shows nothing", kind)
		}
	}
}
