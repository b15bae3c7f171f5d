package browsertest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/web"
)

// TestBadFiles: a file that is too large, of another kind, cut off, or empty is
// told so in words that say what to do, and nothing of it is a batch; what is
// sent while the connection is lost can be sent again.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	s := within(t, func(c *web.Config) { c.MaxUpload = 1 << 20 })
	p := s.as("maria")
	p.still()
	p.open("/")
	// Larger than what a connection takes in before the server breaks it off.
	p.attach(s.file("everybody.csv", "email\n"+strings.Repeat("someone@example.com\n", 1<<20)))
	p.sees("The file is larger than 1 MiB. Split it.")
	p.at("/")
	p.inspect("upload-too-large")
	p.sees("No batches yet.")

	workbook, err := os.ReadFile(filepath.Join("..", "..", "..", "examples", "hires.xlsx"))
	must.OK(t, err)
	for name, bad := range map[string]struct{ text, says string }{
		"notes.pdf":  {"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<</Type/Catalog>>\nendobj\n", "PDF"},
		"photo.csv":  {"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01\x00", "a picture"},
		"hires.xlsx": {string(workbook[:len(workbook)/2]), "The workbook is damaged"},
		"empty.csv":  {"", "empty"},
	} {
		p.open("/")
		p.attach(s.file(name, bad.text))
		p.sees("Upload another file")
		expect.Text(t, p.text(), bad.says)
		if name == "notes.pdf" {
			p.inspect("upload-wrong")
		}
	}
	p.open("/")
	p.sees("No batches yet.")

	p.expect("net::ERR_INTERNET_DISCONNECTED")
	p.offline(true)
	p.attach(s.file("hires.csv", "email\na@example.com\n"))
	p.sees("The connection was lost. Nothing was kept: send it once more.")
	p.offline(false)
	p.press("Check it")
	p.batch()
	p.sees("hires.csv", "1 row", "nothing has been sent")
}

// offline takes the network away from the tab, and gives it back.
func (p *tab) offline(is bool) {
	p.t.Helper()
	call(p, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: []*network.Conditions{
		{Offline: is, DownloadThroughput: -1, UploadThroughput: -1},
	}})
}
