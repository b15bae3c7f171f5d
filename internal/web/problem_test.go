package web

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"bulkinvite/internal/must"
)

// TestChooseColumn: where nobody can tell which column holds the addresses, the
// page has those that may in a menu, and reads the file as is chosen.
func TestChooseColumn(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	for name, c := range map[string]struct{ text, says, column, sample, lacks string }{
		"none.csv": {"Name,Wohin\nJane,jane@example.com\n", "No e-mail column", "Wohin", "jane@example.com", ""},
		"two.csv": {"email,Name,E-Mail\na@example.com,A,b@example.com\nc@example.com,C,d@example.com\n",
			"More than one column may hold", "E-Mail", "d@example.com", ">Name</bdi>"},
		"private.csv": {"Name,Private E-Mail\n\"<script>\",e@example.com\n",
			"never chosen automatically", "Private E-Mail", "&lt;script&gt;", ""},
		"same.csv": {"Name,Zugang,Zugang\nJane,x,f@example.com\n", "No e-mail column", "#3", "f@example.com", ""},
	} {
		a := w.draft(name, c.text).want(http.StatusOK).says(c.says, "<bdi>"+c.sample+"</bdi>",
			`<input type="radio" name="email" value="`+c.column+`" required>`)
		for _, bad := range []string{"--map", " checked", "<script>", c.lacks} {
			if bad != "" && strings.Contains(a.body, bad) {
				t.Errorf("%s has %q: a flag, a choice made already, or a column that can't be meant:\n%s", name, bad, a.body)
			}
		}
		path := strings.Split(a.location, "?")[0]
		w.again(path, url.Values{"email": {c.column}}).want(http.StatusOK).says("to invite", `<option value="email" selected>`)
	}
	if n := b.count(`select count(*) from results
		where email in ('jane@example.com', 'b@example.com', 'd@example.com', 'e@example.com', 'f@example.com')`); n != 5 {
		t.Errorf("%d of the addresses that were meant", n)
	}
}

// TestColumnsOfOneName: of two columns of one name the page takes the one that was
// meant, also when something else is changed afterwards.
func TestColumnsOfOneName(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	columns := []string{"Email", "Email", ""}
	a := w.draft("same.csv", "Email,Email,\na@example.com,b@example.com,2026-12-24\n").want(http.StatusOK)
	a = w.again(strings.Split(a.location, "?")[0], url.Values{"email": {"#2"}}).want(http.StatusOK)
	if n := strings.Count(a.body, `<option value="email" selected>`); n != 1 {
		t.Errorf("%d columns are the address:\n%s", n, a.body)
	}
	w.again("/uploads/1", url.Values{"column": columns, "meaning": {"", "email", "revoke_on"}}).
		want(http.StatusOK).says(`<option value="revoke_on" selected>`)
	if n := b.count(`select count(*) from results where email = 'b@example.com' and revoke_on = '2026-12-24'`); n != 1 {
		t.Errorf("%d rows by the columns that were chosen", n)
	}
	w.post("/uploads/1", url.Values{"column": columns, "meaning": {"email", "email", ""}}).
		want(http.StatusUnprocessableEntity).says("#1", "#2")
}

// TestChoiceIsForOperators: an auditor sees why a file is no batch, and none of its cells.
func TestChoiceIsForOperators(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	a := b.as("olga").draft("none.csv", "Name,Wohin\nJane,jane@example.com\n").want(http.StatusOK)
	seen := b.as("alex").get(strings.Split(a.location, "?")[0]).want(http.StatusOK).says("No e-mail column")
	if strings.Contains(seen.body, "jane@example.com") || strings.Contains(seen.body, `type="radio"`) {
		t.Errorf("an auditor is given a choice:\n%s", seen.body)
	}
	if n := b.count(`select count(*) from uploads where failure::text like '%jane@%'`); n != 0 {
		t.Error("cells are kept with the failure")
	}
}

// TestProblems: every row that can't be sent is there, page by page and by what is
// wrong with it, however many there are.
func TestProblems(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	var text strings.Builder
	text.WriteString("email,name\n")
	for i := range 1300 {
		fmt.Fprintf(&text, "no-at-%d,<b>\n", i)
	}
	text.WriteString("good@example.com,G\nlast@localhost,L\n")
	a := w.draft("bad.csv", text.String()).want(http.StatusOK).says("1,301 rows can't be sent", "no @ in the address <b>1,300</b>", "no dot in the domain <b>1</b>", "no-at-99 · &lt;b&gt;", "more rows")
	if strings.Contains(a.body, "no-at-100 ") {
		t.Error("the first page has more than a hundred")
	}
	w.get("/batches/1/problems?code=no_at&after=1250").want(http.StatusOK).says("no-at-1299", "there is no @")
	a = w.get("/batches/1/problems?code=no_dot_domain").want(http.StatusOK).says("last@localhost", "the domain has no dot")
	if strings.Contains(a.body, "no-at-") || strings.Contains(a.body, "more rows") {
		t.Error("the filter lets others through")
	}
	w.get("/batches/1/problems?code=bad_quotes").want(http.StatusOK).says("No row has this problem")
	w.get("/batches/1/problems?code=nothing").want(http.StatusUnprocessableEntity).says("no problem of that code")
	w.get("/batches/1/problems?after=x").want(http.StatusNotFound)
	r := w.request(http.MethodGet, "/batches/1/problems?code=no_dot_domain", nil)
	r.Header.Set("HX-Request", "true")
	r.Header.Set("HX-Target", "div#problems")
	if a = w.do(r).want(http.StatusOK).says("last@localhost"); strings.Contains(a.body, "<html") {
		t.Error("the part is a whole page")
	}
}

// TestSuggestion: the page says which address was probably meant, which the upload
// does not keep.
func TestSuggestion(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("odd.csv", "name,email\nAnn,ann@acme–tools.example\nBen,ben@acme.example\nCid,no address\n").want(http.StatusOK).
		says("did you mean ann@acme-tools.example?", "there is no @")
	w.get("/batches/1/problems?code=bad_domain").want(http.StatusOK).says("did you mean ann@acme-tools.example?")
	b.script(Operator).get("/batches/1/problems").want(http.StatusOK).says("did you mean ann@acme-tools.example?")
	if n := b.count(`select count(*) from uploads where batch_id = 1 and summary::text not like '%@acme%' and summary::text like '%bad_domain%'`); n != 1 {
		t.Error("the upload keeps an address, or no problem")
	}
}

// TestProblemsAgain: the file of rows that can't be sent, uploaded again as it is, has
// the same problems. In a row that may be shifted, another person's address may stand
// in the e-mail column.
func TestProblemsAgain(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a cell missing": "Name,Email,Manager Email,Team\nAnn,ann@acme.com,boss@acme.com,Sales\nBen,boss@acme.com,Sales\n",
		"two missing":    "Email,CC,Buddy,Team\nann@acme.com,boss@acme.com,cid@acme.com,S\ncid@acme.com,S\n",
		"one too many":   "Manager Email,Email,Team\nboss@acme.com,ann@acme.com,Sales\nboss@acme.com,eve@acme.com,Sales\nBoss,boss@acme.com,ben@acme.com,Sales\n",
		"two too many":   "Manager Email,Email,Team\nboss@acme.com,ann@acme.com,Sales\nboss@acme.com,eve@acme.com,Sales\nA,boss@acme.com,ben@acme.com,Sales,x\n",
		"all of them":    "Manager Email,Email\nBoss,boss@acme.com,ben@acme.com\nBoss,boss@acme.com,cid@acme.com\nd@acme.com,e@acme.com\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			w := b.as("olga")
			w.draft("shifted.csv", text).want(http.StatusOK).says("too many or too few cells")
			file := w.get("/batches/1/problems.csv").want(http.StatusOK).body
			if api := b.script(Operator).get("/batches/1/problems.csv").want(http.StatusOK).body; api != file {
				t.Errorf("the API's file is\n%sand the page's\n%s", api, file)
			}
			for name, file := range map[string]string{"as it is": file, "saved by a spreadsheet": rectangular(t, file)} {
				w.draft(name+".csv", file).want(http.StatusOK)
				n := b.count(`select count(*) from results where batch_id > 1 and reason is distinct from 'ragged_row'`)
				if n != 0 {
					t.Errorf("%s: %d shifted rows are read:\n%s", name, n, file)
				}
			}
		})
	}
}

// TestProblemsMended: a row that was shifted is sent after its cells were mended, and
// the column that says what was wrong needs no change.
func TestProblemsMended(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("shifted.csv", "Name,Email,Manager Email,Team\nAnn,ann@acme.com,boss@acme.com,S\nEve,eve@acme.com,boss@acme.com,S\nBen,boss@acme.com,Sales\nCid,x,cid@acme.com,boss@acme.com,Sales\n").
		want(http.StatusOK)
	file := w.get("/batches/1/problems.csv").want(http.StatusOK).body
	file = strings.NewReplacer("Ben,boss", "Ben,ben@acme.com,boss", "Cid,x,", "Cid,").Replace(file)
	w.draft("mended.csv", file).want(http.StatusOK).says("Invite 2 people")
	if n := b.count(`select count(*) from results where email in ('ben@acme.com', 'cid@acme.com')`); n != 2 {
		t.Errorf("%d of 2 rows are read:\n%s", n, file)
	}
}

// rectangular gives each row of a CSV file as many cells as the longest one has, as
// spreadsheets do.
func rectangular(t *testing.T, file string) string {
	t.Helper()
	r := csv.NewReader(strings.NewReader(file))
	r.FieldsPerRecord = -1
	records, err := r.ReadAll()
	must.OK(t, err)
	width := 0
	for _, rec := range records {
		width = max(width, len(rec))
	}
	for i := range records {
		records[i] = append(records[i], make([]string, width-len(records[i]))...)
	}
	var text strings.Builder
	must.OK(t, csv.NewWriter(&text).WriteAll(records))
	return text.String()
}
