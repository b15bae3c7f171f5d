package web

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxForm is how large a form may be, in bytes, but for one that has a file or all
// columns of one.
const maxForm = 64 << 10

var (
	errAddress = refuse(http.StatusBadRequest, "Write it anew; what is no letter of it is written as UTF-8, with percent signs.", "The address can't be read: it has bytes in it that are no text.")
	errForm    = refuse(http.StatusBadRequest, "Go back and try again.", "The form could not be read.")
	errNoText  = refuse(http.StatusUnprocessableEntity, "Type it anew.", "What was sent has bytes in it that are no text.")
)

// isText reports whether the database can hold a text: UTF-8 without NUL.
func isText(text string) bool { return utf8.ValidString(text) && !strings.Contains(text, "\x00") }

// areText refuses values, or their names, of which any is no text.
func areText(values url.Values) error {
	for name, all := range values {
		if !isText(name) || !isText(strings.Join(all, "")) {
			return errNoText
		}
	}
	return nil
}

// checkAddress refuses an address of which a part is no text: no page has to look
// whether the words that it searches for are any.
func checkAddress(u *url.URL) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || !isText(u.Path) || areText(query) != nil {
		return errAddress
	}
	return nil
}

// keyNumber reads the number that a page goes on after, or is about; 0: there is none.
func keyNumber(q url.Values, name string, invalid error) (int64, error) {
	text := q.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, invalid
	}
	return n, nil
}

// readForm reads a form of at most so many bytes.
func readForm(w http.ResponseWriter, r *http.Request, most int64) error {
	r.Body = http.MaxBytesReader(w, r.Body, most)
	err := r.ParseForm()
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return err
	case err != nil:
		return errForm
	}
	return areText(r.PostForm)
}
