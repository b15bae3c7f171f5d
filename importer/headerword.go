package importer

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// headerKind is what a header says of the addresses in its column.
type headerKind uint8

const (
	plainHeader   headerKind = iota // nothing: Name, Login
	unsureHeader                    // e-mail, and words that this package doesn't know: Invoice Email
	neutralHeader                   // e-mail, and nothing of whose or which: Email Address
	workHeader                      // the work address: Work Email
	privateHeader                   // a private or second address of the person: Personal Email
	othersHeader                    // an address of somebody else: Manager Email
)

// header is what the words of a header cell say.
type header struct {
	kind  headerKind
	mail  bool // it has a word for e-mail
	known bool // it has no word that this package doesn't know
}

// isEmail reports whether a header alone is enough to take its column for the one
// with the addresses.
func (h header) isEmail() bool { return h.kind == neutralHeader || h.kind == workHeader }

// avoided reports whether a header says that its column holds other addresses than
// the ones to invite. Such a column is read only when --map names it.
func (h header) avoided() bool { return h.kind == privateHeader || h.kind == othersHeader }

// wordClass is what a word of a header means.
type wordClass uint8

const (
	unknownWord    wordClass = iota
	fillerWord               // says nothing: id, required, of
	mailWord                 // e-mail
	electronicWord           // makes e-mail of post and address: electronic, the e of e-post
	postWord                 // is e-mail after an electronic word
	addressWord              // is e-mail after an electronic word
	workWord
	privateWord
	othersWord
)

// headerWords are the words of headers by language. A star at the end stands for
// any ending; a word of two parts stands for these parts one after the other. The
// lists are written as people write them: the words are compared as [normal] writes
// them, so that case, accents of Latin letters and hyphens don't matter.
var headerWords = []struct {
	class wordClass
	words string
}{
	{mailWord, `
		email,emails,mail,mails,smtp,emailov*,mailov*,emailow*,mailow*,correo,correos,courriel,courriels,mél,
		messagerie,netfang,sähköposti,sähköpostin,tölvupóstur,tölvupóstfang,mejl,epasts,meil,meili,meiliaadress,
		surel,emel,barua pepe,почта,почты,почте,пошта,пошти,поща,имейл,имейла,емейл,емэйл,емайл,мейл,мэйл,майл,
		メール,メアド,邮箱,邮件,电邮,郵箱,郵件,電郵,信箱,이메일,메일,전자우편,البريد,بريد,إيميل,الإيميل,דואל,אימייל,מייל,ईमेल,मेल,อีเมล,
		อีเมล์`},
	{electronicWord, `
		e,el,electronic,elektron*,electron*,électron*,elettron*,eletrón*,eletrôn*,эл,ел,электрон*,електрон*,
		ηλεκτρον*,電子,电子,전자,الإلكتروني,إلكتروني,אלקטרוני,ई,điện tử`},
	{postWord, `
		post,posti,posta,postă,pošta,pošty,posten,poczt*,correio,paštas,pašto,pasts,pasta,ταχυδρομείο,
		ταχυδρομείου,דואר,thư`},
	{addressWord, `
		address,addresses,adress,adresses,addr,adresse,adressen,anschrift,dirección,direcciones,indirizzo,
		indirizzi,endereço,endereços,adres,adresy,adressi,adresa,adresă,adresu,adresi,adresas,adrese,aadress,
		naslov,cím,címe,osoite,alamat,anwani,адрес,адреса,адресу,διεύθυνση,アドレス,地址,位址,주소,عنوان,כתובת,पता,
		ที่อยู่,địa chỉ`},
	{fillerWord, `
		id,ids,required,optional,mandatory,primary,main,preferred,default,principal,principale,principali,
		primär*,primaire,primario,primaria,primário,haupt,hoofd,główny,hlavní,основн*,value,the,your,please,
		enter,to,of,for,invite,invitee,new hire,hire,user,users,username,user name,employee,employees,worker,
		staff,member,participant,attendee,student,person,people,contact,login,account,upload only,read only,
		personal profile,employment profile,a,de,del,della,di,du,des,do,da,la,le,l,d,von,der,den,van,het,av,til,
		na,pflichtfeld,erforderlich,obligatorio,obligatoire,requis,requerido,obrigatório,obbligatorio,verplicht,
		wymagane,обязательно,必須,必填,필수,任意,mitarbeiter,mitarbeiters,mitarbeitende,benutzer,nutzer,kontakt,
		kontaktu,empleado,usuario,contacto,employé,utilisateur,salarié,dipendente,utente,contatto,funcionário,
		colaborador,contato,medewerker,gebruiker,pracownik*,użytkownik*,zaměstnan*,uživatel*,çalışan,kullanıcı,
		сотрудник*,пользовател*,работник*,従業員,社員,ユーザー,の,用,员工,員工,用户,用戶,联系,聯絡,직원,사용자,الموظف,nhân viên,người dùng,
		karyawan,pegawai,pengguna,pekerja`},
	{workWord, `
		work,business,company,companys,corporate,corp,office,professional,official,enterprise,institution,
		institutional,organization,organizational,organisation,organisational,org,employer,job,arbeit,arbeits,
		dienst,dienstlich*,geschäftlich*,geschäfts,firma,firmen,betrieb*,beruflich*,unternehmen,büro,trabajo,
		corporativ*,laboral,empresa,empresarial,profesional,oficial,institucional,oficina,professionnel,
		professionnelle,pro,travail,entreprise,société,bureau,institutionnel,institutionnelle,officiel,
		officielle,lavoro,lavorativ*,aziendale,azienda,professionale,istituzionale,ufficio,ufficiale,trabalho,
		profissional,comercial,firmy,zakelijk*,werk,bedrijf*,kantoor,jobb,arbete,arbets,arbeid,arbeids,arbejde,
		arbejds,företag,företags,bedrift,bedrifts,työ,työpaikan,yritys,yrityksen,vinnu,vinnunetfang,fyrirtækis,
		służbow*,firmow*,korporacyjn*,pracovn*,firemn*,služebn*,munkahelyi,céges,vállalati,hivatalos,serviciu,
		muncă,companie,instituțional*,iş,kurumsal,şirket,ofis,darbo,darba,töö,služben*,poslovn*,рабоч*,
		корпоратив*,служебн*,робоч*,службов*,служеб*,послов*,εργασία*,εργασίας,εταιρικ*,επαγγελματικ*,会社,勤務先,仕事,
		業務,職場,社用,企業,ビジネス,工作,公司,企业,单位,單位,办公,辦公,商务,商務,회사,업무,직장,사내,العمل,عمل,للعمل,الشركة,الرسمي,עבודה,העבודה,חברה,
		החברה,कार्य,कार्यालय,ऑफिस,ที่ทำงาน,บริษัท,งาน,công ty,công việc,cơ quan,kantor,kerja,perusahaan,pejabat,
		syarikat,kazi,ofisi`},
	{privateWord, `
		personal*,private,privat*,privé*,priv,perso,personnel,personnelle,home,recovery,recover,alternate,
		alternative,alternativ*,secondary,second,secondaire,secondari*,secund*,sekund*,backup,other,others,
		additional,old,former,previous,verified,unverified,aliases,proxy,forward*,family,persönlich*,zuhause,
		ersatz,zweite,wiederherstellung*,casa,hogar,particular*,recuperación,adicional,domicile,maison,
		récupération,secours,recupero,pessoal,pessoais,recuperação,residencial,persoonlijk*,thuis,herstel,
		personlig*,hem,hjem,hjemme,reserv,henkilökohtai*,yksityi*,koti,einka,prywatn*,domow*,osobist*,zapasow*,
		soukrom*,osobn*,záložn*,súkromn*,domác*,magán,személyes,otthoni,másodlagos,acasă,kişisel,özel,şahsi,ev,
		yedek,ikincil,kurtarma,asmenin*,isiklik,личн*,лични,личен,персональн*,домашн*,частн*,резервн*,запасн*,
		дополнительн*,альтернативн*,восстановлен*,особист*,приватн*,додатков*,προσωπικ*,ιδιωτικ*,個人,私用,自宅,
		プライベート,私的,予備,个人,私人,家庭,备用,備用,恢复,次要,其他,개인,사적,자택,보조,복구,الشخصي,شخصي,الخاص,خاص,المنزل,بديل,احتياطي,אישי,פרטי,
		בית,חלופי,व्यक्तिगत,निजी,घर,ส่วนตัว,บ้าน,สำรอง,cá nhân,riêng,dự phòng,pribadi,peribadi,rumah,cadangan,
		alternatif,binafsi,nyumbani`},
	{othersWord, `
		manager*,mgr,supervis*,superior,boss,leader*,team lead,head,approver*,mentor*,buddy,recruiter*,hr,hrbp,
		refer*,sponsor*,host,hosts,owner*,creator,requester,requestor,submitter,sender,inviter,assistant*,
		secretary,delegate*,admin*,parent*,guardian*,mother*,father*,spouse*,partner*,wife,husband,kin,relative,
		emergenc*,ice,dependent*,child,billing,invoic*,reports to,reporting to,report to,created by,modified by,
		updated by,invited by,added by,cc,bcc,vorgesetzt*,führungskraft,leiter*,teamleiter*,chef*,eltern*,
		erziehungsberecht*,vormund,ehepartner*,notfall*,ansprechpartner*,jefe*,gerente*,responsable*,encargado*,
		padre*,madre,tutor*,cónyuge,emergencia*,gestionnaire*,supérieur*,tuteur*,conjoint*,urgence*,
		responsabile,capo,genitor*,tutore,coniuge,emergenza,gestor*,chefe*,responsável,pai,pais,mãe,cônjuge,
		emergência,leidinggevende*,ouder*,voogd,nood*,förälder*,vårdnadshavare*,nöd*,leder*,forelder*,foresatt*,
		esimie*,esihenkilö*,huoltaja*,hätä*,przełożon*,kierownik*,menedżer*,menadżer*,rodzic*,opiekun*,małżon*,
		awaryjn*,nadříz*,nadriad*,vedouc*,vedúc*,manažer*,manažér*,rodič*,nouzov*,núdzov*,felettes*,vezető*,
		szülő*,gondviselő*,vészhelyzet*,șef*,părinte*,urgenț*,yönetici*,amir*,müdür*,ebeveyn*,veli,acil,
		руковод*,начальник*,менеджер*,родител*,супруг*,опекун*,экстренн*,директор*,керівник*,батьк*,опікун*,
		екстрен*,ръководител*,nadređen*,nadrejen*,rukovoditelj*,roditelj*,starš*,hitn*,προϊστάμεν*,διευθυντ*,
		γονέα*,γονε*,上司,管理者,マネージャー,責任者,保護者,親,配偶者,緊急,经理,經理,主管,上级,上級,领导,領導,家长,家長,父母,监护人,監護人,配偶,紧急,推荐人,관리자,매니저,상사,
		팀장,부모,보호자,배우자,비상,긴급,المدير,مدير,المشرف,ولي,الوالد,الطوارئ,מנהל,המנהל,הורה,חירום,प्रबंधक,मैनेजर,माता,
		पिता,अभिभावक,आपातकालीन,ผู้จัดการ,หัวหน้า,ผู้ปกครอง,ฉุกเฉิน,quản lý,cấp trên,phụ huynh,khẩn cấp,atasan,
		manajer,penyelia,orang tua,wali,darurat,meneja,mzazi,msimamizi,dharura`},
}

// dictionary is headerWords, to look words up in.
var dictionary = func() (d struct {
	words   map[string]wordClass // by the normal parts of the word, with a space between
	endings map[string]wordClass // by the beginning
	parts   int                  // of the word with the most of them
	longest int                  // the word with the most runes
}) {
	d.words, d.endings = map[string]wordClass{}, map[string]wordClass{}
	for _, list := range headerWords {
		for word := range strings.SplitSeq(list.words, ",") {
			into := d.words
			if strings.HasSuffix(word, "*") {
				into = d.endings
			}
			parts := splitWords(word, false)
			key := strings.Join(parts, " ")
			into[key] = max(into[key], list.class) // rather private than work
			d.parts, d.longest = max(d.parts, len(parts)), max(d.longest, utf8.RuneCountInString(key))
		}
	}
	return d
}()

// splitWords cuts a header into words as [normal] writes them, numbers apart. With
// camel set a capital begins a word too: userPrincipalName.
func splitWords(text string, camel bool) (words []string) {
	runes := []rune(norm.NFKD.String(strings.ToValidUTF8(text, " ")))
	var word []rune
	end := func() {
		if n := normal(string(word)); n != "" {
			words = append(words, n)
		}
		word = word[:0]
	}
	for i, r := range runes {
		switch {
		case unicode.IsMark(r):
			word = append(word, r)
			continue
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			if !strings.ContainsRune(`'’"״׳`, r) { // dipendente dell'azienda, דוא"ל
				end()
			}
			continue
		case len(word) > 0 && unicode.IsDigit(r) != unicode.IsDigit(runes[i-1]) && !unicode.IsMark(runes[i-1]):
			end()
		case camel && len(word) > 0 && unicode.IsUpper(r):
			if !unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]) {
				end()
			}
		}
		word = append(word, r)
	}
	end()
	return words
}

// longHeader is how many bytes of a header are looked at. No header that says
// anything is as long, and a cell may be a megabyte.
const longHeader = 200

// readHeaderCell tells what a header cell says.
func readHeaderCell(cell string) header {
	if len(cell) > longHeader {
		return header{}
	}
	h := weigh(splitWords(cell, true))
	if !h.known || !h.mail {
		if plain := weigh(splitWords(cell, false)); plain.avoided() || plain.known && plain.mail && !h.avoided() {
			return plain // EMAILadresse
		}
	}
	return h
}

// weigh puts together what the words of a header mean.
func weigh(words []string) header {
	var seen [othersWord + 1]bool
	any := false
	for len(words) > 0 {
		n, classes := lookUp(words)
		for _, class := range classes {
			seen[class] = true
		}
		words, any = words[n:], true
	}
	h := header{
		known: any && !seen[unknownWord],
		mail:  seen[mailWord] || seen[electronicWord] && (seen[postWord] || seen[addressWord]),
	}
	switch {
	case seen[othersWord]:
		h.kind = othersHeader
	case seen[privateWord]:
		h.kind = privateHeader
	case !h.mail:
	case !h.known:
		h.kind = unsureHeader
	case seen[workWord]:
		h.kind = workHeader
	default:
		h.kind = neutralHeader
	}
	return h
}

// lookUp tells what the first of some words mean, and how many they are.
func lookUp(words []string) (n int, classes []wordClass) {
	for n := min(dictionary.parts, len(words)); n > 0; n-- {
		if class, ok := dictionary.words[strings.Join(words[:n], " ")]; ok {
			return n, []wordClass{class}
		}
	}
	word := words[0]
	if strings.IndexFunc(word, func(r rune) bool { return !unicode.IsDigit(r) }) < 0 {
		return 1, []wordClass{fillerWord}
	}
	classes = compound([]rune(word))
	if slices.Contains(classes, unknownWord) {
		for i := range len(word) + 1 { // the longest beginning first
			if class, ok := dictionary.endings[word[:len(word)-i]]; ok {
				return 1, []wordClass{class}
			}
		}
	}
	return 1, classes
}

// compound takes a word apart that is written without spaces: Firmenmailadresse,
// 会社メール. In scripts that have no spaces a part of it may be unknown.
func compound(word []rune) []wordClass {
	spaceless := slices.ContainsFunc(word, func(r rune) bool {
		return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Thai)
	})
	// At each place: the fewest runes that no word covers, and how to get there.
	type step struct {
		unknown, from int
		class         wordClass
	}
	best := make([]step, len(word)+1)
	for at := 1; at <= len(word); at++ {
		best[at] = step{best[at-1].unknown + 1, at - 1, unknownWord}
		for from := max(0, at-dictionary.longest); from < at; from++ {
			class, ok := dictionary.words[string(word[from:at])]
			short := at-from < 3 && !spaceless && !(at == 1 && class == electronicWord) && string(word[from:at]) != "id"
			if ok && !short && best[from].unknown <= best[at].unknown {
				if best[from].unknown < best[at].unknown || best[at].class == unknownWord || from < best[at].from {
					best[at] = step{best[from].unknown, from, class}
				}
			}
		}
	}
	if best[len(word)].unknown > 0 && !spaceless {
		return []wordClass{unknownWord}
	}
	var classes []wordClass
	for at := len(word); at > 0; at = best[at].from {
		classes = append(classes, best[at].class)
	}
	return classes
}
