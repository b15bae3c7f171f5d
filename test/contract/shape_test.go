package contract_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A shape checks one value of a JSON document, as [decode] returns it. It adds what is wrong to the
// reading.
type shape func(r *reading, path string, value any)

// fields has the shapes of an object's keys. The object must have exactly these keys, but a key
// that ends in "?" may be missing.
type fields map[string]shape

// reading collects the results of checking one document.
type reading struct {
	wrong []string
	null  map[string][2]bool // by path of a key that may be null: was it null, was it set?
}

func (r *reading) fail(path, format string, args ...any) {
	r.wrong = append(r.wrong, path+": "+fmt.Sprintf(format, args...))
}

// integer accepts an integer.
func integer(r *reading, path string, value any) {
	if n, ok := value.(json.Number); !ok || strings.ContainsAny(n.String(), ".eE") {
		r.fail(path, "%v is not an integer", value)
	}
}

func number(r *reading, path string, value any) {
	if _, ok := value.(json.Number); !ok {
		r.fail(path, "%v is not a number", value)
	}
}

func text(r *reading, path string, value any) {
	if _, ok := value.(string); !ok {
		r.fail(path, "%v is not a string", value)
	}
}

func boolean(r *reading, path string, value any) {
	if _, ok := value.(bool); !ok {
		r.fail(path, "%v is not a boolean", value)
	}
}

// anything accepts every value.
func anything(*reading, string, any) {}

// timestamp accepts an RFC 3339 time in UTC.
func timestamp(r *reading, path string, value any) {
	s, ok := value.(string)
	if _, err := time.Parse(time.RFC3339Nano, s); !ok || err != nil || !strings.HasSuffix(s, "Z") {
		r.fail(path, "%v is not a time of RFC 3339 in UTC", value)
	}
}

// matching accepts a string that the whole expression matches.
func matching(expression string) shape {
	re := regexp.MustCompile(`^(?:` + expression + `)$`)
	return func(r *reading, path string, value any) {
		if s, ok := value.(string); !ok || !re.MatchString(s) {
			r.fail(path, "%v does not match %s", value, expression)
		}
	}
}

// oneOf accepts one of the words, which spaces separate.
func oneOf(words string) shape { return matching(strings.ReplaceAll(words, " ", "|")) }

// exactly accepts only the value that is written in JSON.
func exactly(want string) shape {
	return func(r *reading, path string, value any) {
		if got, err := json.Marshal(value); err != nil || string(got) != want {
			r.fail(path, "%s, want %s", got, want)
		}
	}
}

// orNull also accepts null. It records whether the value was null or set, for [documents.bothWays].
func orNull(of shape) shape {
	return func(r *reading, path string, value any) {
		seen := r.null[path]
		seen[0], seen[1] = seen[0] || value == nil, seen[1] || value != nil
		r.null[path] = seen
		if value != nil {
			of(r, path, value)
		}
	}
}

// list accepts an array, also an empty one.
func list(of shape) shape {
	return func(r *reading, path string, value any) {
		items, ok := value.([]any)
		if !ok {
			r.fail(path, "%v is not an array", value)
		}
		for _, item := range items {
			of(r, path+"[]", item)
		}
	}
}

// counts accepts an object with any keys whose values are integers.
func counts(r *reading, path string, value any) {
	all, ok := value.(object)
	if !ok {
		r.fail(path, "%v is not an object", value)
	}
	for key, n := range all {
		integer(r, path+"."+key, n)
	}
}

// texts accepts an object with any keys whose values are strings.
func texts(r *reading, path string, value any) {
	all, ok := value.(object)
	if !ok {
		r.fail(path, "%v is not an object", value)
	}
	for key, s := range all {
		text(r, path+"."+key, s)
	}
}

// keyed accepts an object with these fields and no others.
func keyed(want fields) shape {
	return func(r *reading, path string, value any) {
		got, ok := value.(object)
		if !ok {
			r.fail(path, "%v is not an object", value)
			return
		}
		for name, of := range want {
			key, optional := strings.CutSuffix(name, "?")
			switch v, has := got[key]; {
			case has:
				of(r, path+"."+key, v)
			case !optional:
				r.fail(path, "the key %q is missing", key)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(got)) {
			if want[key] == nil && want[key+"?"] == nil {
				r.fail(path, "the contract has no key %q", key)
			}
		}
	}
}

// with returns the fields together with more fields.
func (f fields) with(more fields) fields {
	all := maps.Clone(f)
	maps.Copy(all, more)
	return all
}

// both applies two shapes to one value, such as [keyed] and a check of its sums.
func both(a, b shape) shape {
	return func(r *reading, path string, value any) {
		a(r, path, value)
		b(r, path, value)
	}
}

// at returns the part of a document at a path such as "certificate.rows" or "limits[0].free", or
// nil if there is none.
func at(value any, path string) any {
	for _, key := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		switch v := value.(type) {
		case object:
			value = v[key]
		case []any:
			var i int
			if _, err := fmt.Sscan(key, &i); err != nil || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

// mayBeNull also accepts null. Unlike with [orNull], no test has to show the key both as null and
// set.
func mayBeNull(of shape) shape {
	return func(r *reading, path string, value any) {
		if value != nil {
			of(r, path, value)
		}
	}
}

// documents checks documents against shapes. It records for each key with [orNull] whether it was
// null or set.
type documents struct {
	*check
	seen map[string][2]bool // by kind and path, such as "status.eta": was it null, was it set?
}

func (c *check) documents() *documents { return &documents{c, map[string][2]bool{}} }

// read decodes what a run wrote to standard output, and checks it against a shape.
// [documents.bothWays] looks at all documents of a kind together.
func (d *documents) read(kind string, of shape, o outcome) any {
	d.Helper()
	doc := decode(d, o.out)
	d.hold(kind+" of bulkinvite "+strings.Join(o.args, " "), kind, of, doc)
	return doc
}

// hold checks a document against a shape. The text from says where the document comes from.
func (d *documents) hold(from, kind string, of shape, doc any) {
	d.Helper()
	r := &reading{null: map[string][2]bool{}}
	of(r, "", doc)
	for _, wrong := range r.wrong {
		d.Errorf("%s: %s", from, wrong)
	}
	for path, now := range r.null {
		before := d.seen[kind+path]
		d.seen[kind+path] = [2]bool{before[0] || now[0], before[1] || now[1]}
	}
}

// bothWays fails the test for each [orNull] key that was null in every document of its kind, or in
// none.
func (d *documents) bothWays() {
	d.Helper()
	for _, path := range slices.Sorted(maps.Keys(d.seen)) {
		switch d.seen[path] {
		case [2]bool{true, false}:
			d.Errorf("%s was null in every document: no case shows its value", path)
		case [2]bool{false, true}:
			d.Errorf("%s was null in no document: no case shows it so, or it can't be", path)
		}
	}
}

// null fails the test unless these paths, with spaces between them, are null. The method set is the
// opposite.
func (c *check) null(doc any, paths string) {
	c.Helper()
	for path := range strings.FieldsSeq(paths) {
		if v := at(doc, path); v != nil {
			c.Errorf("%s is %v, want null", path, v)
		}
	}
}

func (c *check) set(doc any, paths string) {
	c.Helper()
	for path := range strings.FieldsSeq(paths) {
		if at(doc, path) == nil {
			c.Errorf("%s is null", path)
		}
	}
}

// holds fails the test unless these paths of a document have these values, such as "state running,
// undecided 3".
func (c *check) holds(doc any, want string) {
	c.Helper()
	for pair := range strings.SplitSeq(want, ",") {
		path, value, _ := strings.Cut(strings.TrimSpace(pair), " ")
		if got := fmt.Sprint(at(doc, path)); got != value {
			c.Errorf("%s is %s, want %s", path, got, value)
		}
	}
}
