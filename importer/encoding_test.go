package importer

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"

	"bulkinvite/internal/must"
)

// TestCharsetNames: an encoding has the names of the Encoding Standard, and those that messages show.
func TestCharsetNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"utf-8": "UTF-8", "UTF8": "UTF-8", " latin1 ": "Windows-1252", "gbk": "GB18030", "ibm850": "IBM850",
		"Shift_JIS": "Shift-JIS", "shift-jis": "Shift-JIS", "sjis": "Shift-JIS", "ISO-8859-5": "iso-8859-5",
		"utf_8": "", "windows_1252": "", "gb_18030": "", "replacement": "", "klingon": "",
	} {
		if c, err := charsetNamed(name); c.name != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, want %q: %v", name, c.name, want, err)
		}
	}
}

// In files of three lines, with one name in them, the encoding is found; or the
// name makes as much sense in another, and that is said.
func TestReadShortFiles(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		encoding string
		codec    encoding.Encoding
		names    string
		unsure   string // of names: those that may be read wrong, but with a warning
	}{
		{"Windows-1252", charmap.Windows1252, "Müller,Jörg Weiß,François Lefèvre,José Núñez,Søren Ærø,Åsa Öberg,Conceição Simões,O’Neil,Šimon,ÅSE,Günther Größe,Þór Ægir,D’Arcy – Temp,Hélène Château-Rouge,Über,Bjørn Ødegård,Ángel,Íñigo,€500", "Zoë,Crème Brûlée,Mª José"},
		{"Windows-1251", charmap.Windows1251, "Иван,Иван Петров,Ольга Щукина,Ёлкин Пётр,Юлия,Василь Їжак,Жуков Я.,Анна-Мария Зайцева,№ 5 Отдел кадров,Ґалаґан Євген,Стоян Георгиев,Аня,Ия", "ИВАНОВ,Цой,Ян"},
		{"Shift-JIS", japanese.ShiftJIS, "山田太郎,鈴木,佐藤花子,高橋 健,田中,伊藤みさき,渡辺ソニー,中村,小林,加藤 翔太,ヤマダ,やまだ,営業部,東京,斎藤,清水,松本　一郎", "林,﨑"},
		{"GB18030", simplifiedchinese.GB18030, "张伟,王芳,刘洋,赵敏,欧阳娜娜,诸葛亮,技术部,人力资源部,王小明,司马懿,曾国藩,谭咏麟", "杨,镕,李娜,陈静,上海,龚俊,吕布"},
	} {
		for name := range strings.SplitSeq(test.names+","+test.unsure, ",") {
			for _, form := range []string{"Name,Email\n%s,a@x.com\n", "Name;Email;Dept\r\n%s;a.b@example.com;IT\r\nJoe;joe@x.com;HR", "\"email\"\t\"name\"\n\"a@x.com\"\t\"%s\"\n"} {
				text, err := test.codec.NewEncoder().String(fmt.Sprintf(form, name))
				must.OK(t, err)
				rows, s, err := read(t, text, Options{})
				must.OK(t, err)
				doubtful := strings.Contains(","+test.unsure+",", ","+name+",")
				warned := len(s.Warnings) > 0 && s.Warnings[0].Code == UncertainEncoding
				if warned != doubtful || !doubtful && s.Encoding != test.encoding {
					t.Errorf("%s in %s is read as %s, %q; warned: %t", name, test.encoding, s.Encoding, rows[0].Cells, warned)
				}
			}
		}
	}
}
