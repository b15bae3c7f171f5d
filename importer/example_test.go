package importer_test

import (
	"context"
	"fmt"
	"strings"

	"bulkinvite/importer"
)

func ExampleRead() {
	file := strings.NewReader("Name;E-Mail-Adresse\n\"Doe; Jane\";Jane Doe <jane@example.com>\nJoe;joe at example.com\n;\nJane;JANE@example.com\n")
	summary, err := importer.Read(context.Background(), file, importer.Options{}, func(row *importer.Row) error {
		switch {
		case row.Problem != nil:
			fmt.Printf("line %d, %s: %s\n", row.Line, row.Problem.Column, row.Problem.Code)
		case row.DuplicateOf > 0:
			fmt.Printf("line %d: the same as row %d\n", row.Line, row.DuplicateOf)
		default:
			fmt.Printf("line %d: %s\n", row.Line, row.Email)
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(summary.Rows, "rows,", summary.Blank, "blank")
	// Output:
	// line 2: jane@example.com
	// line 3, E-Mail-Adresse: no_at
	// line 5: the same as row 1
	// 3 rows, 1 blank
}
