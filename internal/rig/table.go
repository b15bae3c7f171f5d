package rig

import (
	"fmt"
	"io"
	"strings"
)

// WriteTable writes rows of cells as a Markdown table. The second row has the alignment of the
// columns.
func WriteTable(w io.Writer, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			switch {
			case n == 1 && strings.HasSuffix(cell, ":"):
				cell = strings.Repeat("-", width[i]-1) + ":"
			case n == 1:
				cell = strings.Repeat("-", width[i])
			case strings.HasSuffix(rows[1][i], ":"):
				cell = strings.Repeat(" ", width[i]-len([]rune(cell))) + cell
			default:
				cell += strings.Repeat(" ", width[i]-len([]rune(cell)))
			}
			_, _ = fmt.Fprintf(w, "| %s ", cell) // a strings.Builder or standard output
		}
		_, _ = fmt.Fprintln(w, "|") // likewise
	}
}
