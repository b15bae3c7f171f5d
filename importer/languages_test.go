package importer

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"bulkinvite/internal/must"
)

// spoken are made-up people of a language: given names and family names, none of
// which the letters' statistics were made of.
var spoken = map[string][2]string{
	"Czech":               {"Eliška Bořivoj Soňa Miloš Růžena Přemysl Alžběta Řehoř Zdislava Oldřich Tereza Ctibor", "Šlechta Bílková Doležal Kopřiva Řezníček Vondráčková Chládek Žižka Hůlka Třešňák Zajíčková Šťovíček"},
	"Slovak":              {"Ľubica Ondrej Žigmund Želmíra Dušan Eliška Vratislav Ľudovít Božena Radoslav", "Ďurčanský Slivková Čierny Jánošík Ťažký Hrušovský Vĺčková Krčméry Žiak Podhradský"},
	"Polish":              {"Wiesław Bożena Grażyna Zdzisław Bogusława Mieczysław Elżbieta Świętosława Sławomir Kacper", "Sikorski Śliwiński Czyż Brzęczyszczykiewicz Łuczak Zając Późniak Dębska Gawęda Kędzierski Nowińska Żuraw"},
	"Hungarian":           {"Béla Árpád Boglárka Hunor Örs Réka Ödön Gergő Ildikó Szilárd Tünde Kincső", "Bíró Pásztor Csáki Pintér Hajdú Győri Somogyi Vörös Dudás Őze Fehérvári Erdődi Szűrös Kőműves Lőrincz Süle"},
	"Croatian":            {"Božidar Nenad Žaklina Krešimir Dražen Ružica Tihana Anđela Siniša Željka", "Šimunić Župan Čačić Đurić Lončar Mikulić Špoljarić Hadžić Žigman Brčić"},
	"Romanian":            {"Gheorghiţă Anişoara Veronica Sânziana Costică Lăcrămioara Iancu Smărăndiţa Mihnea Bogdana", "Ţurcan Brătianu Văcărescu Şuţu Hârşu Dănilă Moţoc Bărbulescu Ghiţescu Stănescu"},
	"Greek":               {"Αριστείδης Ευτυχία Θεόδωρος Καλλιόπη Μιχάλης Ζωή Φώτης Πηνελόπη", "Καζαντζάκης Σεφέρης Τριανταφύλλου Ψαρράς Κουτσούκος Μαυρίδης Φωτιάδου Ζαχαρίου"},
	"Turkish":             {"Gökhan Şebnem Çağatay Tuğrul Nurgül Berkay İlknur Özge Tülay Görkem Sıla Ayşegül", "Karadağ Beyazıt Çalışkan Güngör Sezgin Ağaoğlu Tekeş İnönü Şengül Başaran Gökçe Büyükkaya"},
	"Arabic":              {"عادل منى سلوى زياد رانيا ماجد شيماء غسان دعاء نبيل", "العتيبي القحطاني البغدادي شاهين الحربي فرحات قاسم التميمي الزهراني عساف"},
	"Latvian":             {"Žubīte Aigars Vēsma Ēriks Guntis Skaidrīte Jēkabs Ļubova Ināra", "Ķēniņš Šķēle Mežaks Priedīte Dzērve Lācis Strautiņa Čakste Ziediņš Gaņģis"},
	"Lithuanian":          {"Česlovas Žydrūnas Aušra Šarūnė Vaidotas Rasuolė Gražina Ąžuolė Algimantas Jonė", "Gedvilaitė Šeškus Žvirblis Vėlavičius Bružas Kučinskienė Grybauskaitė Čiurlionis Šližys Pažemeckas"},
	"Russian":             {"Геннадий Любовь Святослав Вероника Ярослав Людмила Всеволод Инна", "Щербаков Цветкова Быстров Жаркова Юдин Ёлкина Чернышёв Хомякова"},
	"French":              {"Raphaël Solène Maëlys Clément Océane Timothée Héloïse Rémy Maïté Adrien", "Lemaître Bérenger Guérin Château Mérimée Forêt Delaunay Duchêne Crépeau Besançon"},
	"German":              {"Sören Detlef Lüder Hänsel Margarethe Rüdiger Gisela Tönnies Dörte Jörn", "Schön Kürschner Wäger Grünwald Mößner Löffler Käfer Büttner Voß Hölderlin"},
	"Spanish":             {"Belén Joaquín Ramón Araceli Germán Encarnación Fermín Rocío Agustín Nicolás", "Zúñiga Cárdenas Nuño Bolaños Valdés Quiñones Cortázar Miró Galdós Escribá"},
	"Japanese":            {"大介 千尋 雅人 奈々 俊介 茜 哲也 ひろし 彩 健太", "星野 黒田 矢沢 北川 細川 浜崎 本間 片山 荒木 白石"},
	"traditional Chinese": {"雅琪 政勳 曉薇 冠廷 怡萱 育德 馨儀 彥博", "孔 邢 岳 蘇 鄔 談 甘 駱 湛 龍"},
	"simplified Chinese":  {"雪松 玉兰 振华 婉婷 立群 爱民 小燕 志远", "柴 骆 柏 欧 翟 华 甘 岳 葛 詹"},
	"Korean":              {"효진 경숙 병철 두현 세영 찬호 나래 승우 은지 태웅", "피 봉 사 경 온 빙 형 예 갈 남궁"},
}

// spokenIn are the encodings in which files of a language are met.
var spokenIn = []struct{ language, encoding string }{
	{"Czech", "Windows-1250"}, {"Slovak", "Windows-1250"}, {"Polish", "Windows-1250"}, {"Hungarian", "Windows-1250"},
	{"Croatian", "Windows-1250"}, {"Romanian", "Windows-1250"}, {"Czech", "ISO-8859-2"}, {"Polish", "ISO-8859-2"},
	{"Greek", "Windows-1253"}, {"Turkish", "Windows-1254"}, {"Arabic", "Windows-1256"},
	{"Latvian", "Windows-1257"}, {"Lithuanian", "Windows-1257"}, {"Russian", "Windows-1251"}, {"Russian", "KOI8-R"},
	{"French", "Windows-1252"}, {"German", "Windows-1252"}, {"Spanish", "Windows-1252"},
	{"French", "macintosh"}, {"German", "macintosh"}, {"Spanish", "macintosh"}, {"French", "IBM850"}, {"Polish", "IBM852"},
	{"Japanese", "Shift-JIS"}, {"Japanese", "EUC-JP"}, {"traditional Chinese", "Big5"},
	{"simplified Chinese", "GB18030"}, {"Korean", "EUC-KR"},
}

// file makes a file of so many rows, of which every fifth is of a person whose
// name has other letters than English; of a file of one row, that one.
func (people speakers) file(t *testing.T, c charset, rows, variant int) (file string, names []string) {
	t.Helper()
	var out strings.Builder
	out.WriteString("Email,Name,Team\n")
	for i := range rows {
		name := fmt.Sprintf("%s %s", []string{"James", "Olivia", "Peter", "Grace"}[i%4], []string{"Smith", "Walker", "Hill"}[i%3])
		if i%5 == 0 {
			n := i/5 + 7*variant
			name = people.given[(n*5+n/len(people.given))%len(people.given)] + " " + people.family[(n*3+variant)%len(people.family)]
		}
		encoded, err := c.codec.NewEncoder().String(name)
		if err != nil {
			t.Fatalf("%s in %s: %v", name, c.name, err)
		}
		fmt.Fprintf(&out, "person%d@example.com,%s,Sales\n", i, encoded)
		names = append(names, name)
	}
	return out.String(), names
}

type speakers struct{ given, family []string }

// languageSizes says how many files of how many rows are read in each language.
var languageSizes = []struct{ rows, files int }{{1, 40}, {10, 20}, {100, 10}, {1000, 3}, {3000, 2}}

// tally reads the files of one language in one encoding, and returns a line of counts.
func tally(t *testing.T, language, encoding string) string {
	t.Helper()
	var out strings.Builder
	c, err := charsetNamed(encoding)
	must.OK(t, err)
	people := speakers{strings.Fields(spoken[language][0]), strings.Fields(spoken[language][1])}
	fmt.Fprintf(&out, "%-20s %-13s", language, encoding)
	for _, size := range languageSizes {
		right, first, other, wrong := 0, 0, 0, 0
		for variant := range size.files {
			file, names := people.file(t, c, size.rows, variant)
			rows, s, err := read(t, file, Options{})
			if err != nil || s.Valid != size.rows {
				t.Fatalf("%d rows: %d valid, %v", size.rows, s.Valid, err)
			}
			same := true
			for i, row := range rows {
				same = same && row.Cells[1] == names[i]
			}
			switch unsure := len(s.EncodingGuesses) > 0; {
			case same && !unsure:
				right++
			case same:
				first++
			case unsure:
				other++
			default:
				wrong++
				t.Logf("%d rows: read as %s, %q", size.rows, s.Encoding, rows[0].Cells[1])
			}
		}
		fmt.Fprintf(&out, " | %2d/%2d/%2d/%2d", right, first, other, wrong)
		if wrong > 0 && size.rows > 1 || wrong > size.files/20 {
			t.Errorf("%d of %d files of %d rows are read wrong without a warning", wrong, size.files, size.rows)
		}
		if size.rows >= 1000 && right < size.files || size.rows >= 100 && 2*right < size.files {
			t.Errorf("%d of %d files of %d rows are read without doubt", right, size.files, size.rows)
		}
	}
	return out.String() + "\n"
}

// TestReadLanguages reads files of made-up people in the encodings of their
// languages. A file is read right, or uncertain with the right encoding as the
// first guess or another. Of one row some may be read wrong without a warning, since
// a name of one language may be one of another; of more rows none.
func TestReadLanguages(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	out.WriteString("read right / uncertain, right guess first / uncertain, another guess first / read wrong without a warning\n")
	fmt.Fprintf(&out, "%-20s %-13s", "language", "encoding")
	for _, size := range languageSizes {
		fmt.Fprintf(&out, " | %12s", fmt.Sprintf("%d rows", size.rows))
	}
	out.WriteString("\n")
	lines := make([]string, len(spokenIn))
	t.Run("files", func(t *testing.T) {
		for i, in := range spokenIn {
			t.Run(in.language+" in "+in.encoding, func(t *testing.T) {
				t.Parallel()
				lines[i] = tally(t, in.language, in.encoding)
			})
		}
	})
	out.WriteString(strings.Join(lines, ""))
	const golden = "testdata/languages.golden"
	if *update {
		must.OK(t, os.WriteFile(golden, []byte(out.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	must.OK(t, err)
	if out.String() != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", &out, want)
	}
}

// TestReadLanguagesIsNoCircle: names that the letters' statistics know would show
// nothing.
func TestReadLanguagesIsNoCircle(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for language, names := range commonNames {
		if language == "ja" || language == "zh" || language == "zh-Hant" || language == "ko" {
			continue // characters, which all names share
		}
		for name := range strings.FieldsSeq(names) {
			known[strings.ToLower(name)] = true
		}
	}
	for language, names := range spoken {
		for name := range strings.FieldsSeq(names[0] + " " + names[1]) {
			if ascii([]byte(name)) < len(name) && known[strings.ToLower(name)] {
				t.Errorf("%s, a name of the %s test, is in the statistics", name, language)
			}
		}
	}
}
