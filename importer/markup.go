package importer

import (
	"bytes"
	"regexp"
)

// markups are the kinds of files that many systems write under the name of an Excel file
// (.xls), by how they begin.
var markups = []struct {
	what string
	like *regexp.Regexp
}{
	{"a spreadsheet in XML (Excel 2003)", regexp.MustCompile(
		`(?is)^(<\?xml|<(ss:)?workbook).*urn:schemas-microsoft-com:office:spreadsheet`)},
	{"a web page (HTML)", regexp.MustCompile(
		`(?is)^(<!doctype html|<html|<head|<meta|<style|<body|<div|<table|<!--|<\?xml.*<html)`)},
	{"a web archive (MHTML)", regexp.MustCompile(`(?i)^mime-version:`)},
	{"an XML document", regexp.MustCompile(`(?i)^<\?xml`)},
}

// markup refuses HTML and XML. Excel opens them with a warning, so that people take them
// for workbooks. Read as CSV, their first line would be taken for a header.
func markup(sample []byte) error {
	text := bytes.TrimLeft(sample, "\ufeff \t\r\n")
	for _, m := range markups {
		if m.like.Match(text) {
			return &FileError{
				What: "this is " + m.what + ", also if its name ends in .xls, and not a CSV file or an Excel workbook",
				Fix:  "Open it in Excel and save it as .xlsx or CSV (UTF-8).",
			}
		}
	}
	return nil
}
