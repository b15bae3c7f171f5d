package importer

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// redirectURL checks a redirect_url as Clerk does: absolute, http or https.
func redirectURL(cell string) (string, bool) {
	text := strings.TrimFunc(cell, isSpace)
	if text == "" {
		return "", true
	}
	if strings.ContainsFunc(text, func(r rune) bool { return isSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar }) {
		return "", false
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", false
	}
	return text, true
}

// expiresInDays checks an expires_in_days as Clerk does: 1 to 365.
func expiresInDays(cell string) (int, bool) {
	text := strings.TrimFunc(cell, isSpace)
	if text == "" {
		return 0, true
	}
	days, err := strconv.Atoi(text)
	if err != nil || days < 1 || days > 365 || text[0] == '+' {
		return 0, false
	}
	return days, true
}

// metadata makes a JSON object of a row's metadata cells; empty ones are left out.
func metadata(cells []string, columns []metaColumn) (json.RawMessage, bool) {
	values := map[string]string{}
	for _, c := range columns {
		if c.index < len(cells) && !blankCell(cells[c.index]) {
			values[c.name] = strings.TrimFunc(cells[c.index], isSpace)
		}
	}
	if len(values) == 0 {
		return nil, true
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false) // the size is Clerk's to count, not a browser's
	if err := encoder.Encode(values); err != nil {
		return nil, false
	}
	text := bytes.TrimSuffix(out.Bytes(), []byte{'\n'})
	return text, len(text) <= MaxMetadata
}
