package importer

import (
	"bytes"
	"strings"
)

// markup refuses HTML and XML, which many systems write under the name of an Excel file
// (.xls): Excel opens them with a warning, so that people take them for workbooks. Read
// as CSV, their first line would be taken for a header.
func markup(sample []byte) error {
	text := string(bytes.ToLower(bytes.TrimLeft(sample, "\ufeff \t\r\n")))
	what := ""
	begins := func(marks ...string) bool {
		for _, mark := range marks {
			if strings.HasPrefix(text, mark) {
				return true
			}
		}
		return false
	}
	switch {
	case begins("<?xml", "<workbook", "<ss:workbook") && strings.Contains(text,
		"urn:schemas-microsoft-com:office:spreadsheet"):
		what = "a spreadsheet in XML (Excel 2003)"
	case begins("<!doctype html", "<html", "<head", "<meta", "<style", "<body", "<div", "<table",
		"<!--") || begins("<?xml") && strings.Contains(text, "<html"):
		what = "a web page (HTML)"
	case begins("mime-version:"):
		what = "a web archive (MHTML)"
	case begins("<?xml"):
		what = "an XML document"
	default:
		return nil
	}
	return &FileError{
		What: "this is " + what + ", also if its name ends in .xls, and not a CSV file or an Excel workbook",
		Fix:  "Open it in Excel and save it as .xlsx or CSV (UTF-8).",
	}
}
