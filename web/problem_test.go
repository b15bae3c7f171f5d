package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestChooseColumn: where nobody can tell which column holds the addresses, the
// page has those that may in a menu, and reads the file as is chosen.
func TestChooseColumn(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	for name, c := range map[string]struct{ text, says, column, lacks string }{
		"none.csv": {"Name,Wohin\nJane,jane@example.com\n", "No e-mail column", "Wohin", ""},
		"two.csv":  {"email,Name,E-Mail\na@example.com,A,b@example.com\nc@example.com,C,d@example.com\n", "More than one e-mail column", "E-Mail", ">Name</option>"},
	} {
		a := w.draft(name, c.text).want(http.StatusOK).says(c.says, ">"+c.column+"</option>")
		if strings.Contains(a.body, "--map") || c.lacks != "" && strings.Contains(a.body, c.lacks) {
			t.Errorf("%s: a flag or a column that can't be meant:\n%s", name, a.body)
		}
		path := strings.Split(a.location, "?")[0]
		w.again(path, url.Values{"email": {c.column}}).want(http.StatusOK).says("to invite", `<option value="email" selected>`)
	}
	if n := b.count(`select count(*) from results where email in ('jane@example.com', 'b@example.com', 'd@example.com')`); n != 3 {
		t.Errorf("%d of the addresses that were meant", n)
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
