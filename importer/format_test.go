package importer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// export is the shape of a file as some system writes it or asks for it. The people
// in it are made up.
type export struct {
	system, source string
	above          []string          // lines over the header
	header         string            // the header line, with commas
	holds          map[string]string // columns with addresses, by header: the domain of these
	reads          string            // the column that is taken
	asks           []string          // or the columns that the question names, the likeliest first
	warns          string            // the code of the warning
}

const (
	atWork = "work.example"
	atHome = "home.example"
	others = "other.example"
)

// exports are formats that were found in November 2026 in the documentation of the
// systems, or in public samples and programs that read or write such files; where none
// was found, they are made of the fields that the product shows. Lines that begin with
// two spaces go on with the one before.
const exports = `
system: Google Workspace, template of bulk updates
source: support.google.com/a/answer/40057
header: First Name [Required],Last Name [Required],Email Address [Required],Password [Required],
  Password Hash Function [UPLOAD ONLY],Org Unit Path [Required],New Primary Email [UPLOAD ONLY],Recovery Email,
  Home Secondary Email,Work Secondary Email,Recovery Phone [MUST BE IN THE E.164 FORMAT],Work Phone,Home Phone,
  Mobile Phone,Work Address,Home Address,Employee ID,Employee Type,Employee Title,Manager Email,Department,
  Cost Center
work: Email Address [Required]
home: Recovery Email | Home Secondary Email
other: Work Secondary Email | Manager Email
reads: Email Address [Required]

system: Google Workspace, template of 2019
source: support.google.com/a/answer/40057
header: First Name,Last Name,Email Address,Password,Secondary Email,Work Phone 1,Home Phone 1,Manager,Department
work: Email Address
home: Secondary Email
other: Manager
reads: Email Address

system: Google Contacts
source: public programs that write it
header: Name,Given Name,Family Name,E-mail 1 - Type,E-mail 1 - Value,Phone 1 - Value
work: E-mail 1 - Value
reads: E-mail 1 - Value

system: Microsoft Entra, bulk invite
source: learn.microsoft.com/entra/external-id/tutorial-bulk-invite
above: version:v1.0,,,
header: Email address to invite [inviteeEmail] Required,Redirection url [inviteRedirectURL] Required,
  Send invitation message (true or false) [sendEmail],Customized invitation message [customizedMessageBody]
work: Email address to invite [inviteeEmail] Required
reads: Email address to invite [inviteeEmail] Required

system: Microsoft Entra, bulk create
source: learn.microsoft.com/entra/identity/users/users-bulk-add
above: version:v1.0
header: Name [displayName] Required,User name [userPrincipalName] Required,
  Initial password [passwordProfile] Required,Block sign in (Yes/No) [accountEnabled] Required,
  First name [givenName],Last name [surname]
work: User name [userPrincipalName] Required
asks: User name [userPrincipalName] Required

system: Microsoft Entra, download of users
source: learn.microsoft.com/entra/identity/users/users-bulk-download
header: userPrincipalName,displayName,surname,mail,givenName,id,userType,jobTitle,department,
  alternateEmailAddress
work: mail
home: alternateEmailAddress
other: userPrincipalName
asks: mail | userPrincipalName

system: Microsoft 365, active users
source: learn.microsoft.com/microsoft-365/enterprise/view-user-accounts
header: Block credential,City,Country/Region,Department,Display name,First name,Last name,Licenses,Title,
  User principal name
work: User principal name
asks: User principal name

system: Exchange, Get-Mailbox | Export-Csv
source: learn.microsoft.com/powershell/module/exchange/get-mailbox
above: #TYPE Selected.Microsoft.Exchange.Data.Directory.Management.Mailbox
header: DisplayName,PrimarySmtpAddress,RecipientTypeDetails,ForwardingSmtpAddress
work: PrimarySmtpAddress
home: ForwardingSmtpAddress
reads: PrimarySmtpAddress

system: Exchange, Get-Mailbox with sign-in names
source: learn.microsoft.com/powershell/module/exchange/get-mailbox
header: DisplayName,UserPrincipalName,PrimarySmtpAddress
work: PrimarySmtpAddress
other: UserPrincipalName
asks: PrimarySmtpAddress | UserPrincipalName

system: Outlook contacts
source: public programs that read it
header: First Name,Last Name,Company,E-mail Address,E-mail Type,E-mail Display Name,E-mail 2 Address,
  Manager's Name
work: E-mail Address
reads: E-mail Address

system: Outlook contacts with two addresses
source: public programs that read it
header: First Name,Last Name,E-mail Address,E-mail 2 Address
work: E-mail Address
home: E-mail 2 Address
asks: E-mail Address | E-mail 2 Address

system: Okta, template of people
source: help.okta.com, import users from a CSV file
header: login,firstName,lastName,middleName,email,title,displayName,secondEmail,mobilePhone,manager
work: email
home: secondEmail
reads: email

system: Okta, template of people with addresses as logins
source: help.okta.com, import users from a CSV file
header: login,firstName,lastName,email,secondEmail
work: email
home: secondEmail
other: login
asks: email | login

system: Oracle Cloud, user attributes
source: docs.oracle.com/iaas/Content/Identity/datatransfer/list-user-attributes-csv-column-headers.htm
header: User Name,Active,Display Name,Work Email,Home Email,Primary Email Type,Other Email,Recovery Email,
  Work Email Verified,First Name,Last Name,Manager
work: Work Email
home: Home Email | Other Email | Recovery Email
other: User Name | Manager
reads: Work Email

system: Clerk, sample of users
source: github.com/clerk/migration-script/samples/clerk.csv
header: id,first_name,last_name,username,email_addresses,phone_numbers,totp_secret,password_digest,
  password_hasher,unsafe_metadata,public_metadata,private_metadata
work: email_addresses
reads: email_addresses

system: Clerk, export of the dashboard
source: public programs that read it
header: id,first_name,last_name,username,primary_email_address,primary_phone_number,verified_email_addresses,
  unverified_email_addresses,totp_secret
work: primary_email_address | verified_email_addresses
home: unverified_email_addresses
reads: primary_email_address

system: Auth0, export of users
source: fields of the product; no public export was found
header: Id,Given Name,Family Name,Nickname,Name,Email,Email Verified,Picture,Connection,Created At
work: Email
reads: Email

system: Supabase, auth.users
source: github.com/clerk/migration-script/samples/supabase.csv
header: id,aud,role,email,encrypted_password,email_confirmed_at,invited_at,email_change,phone
work: email
reads: email

system: Slack, members
source: public programs that read it
header: username,email,status,billing-active,has-2fa,has-sso,userid,fullname,displayname,expiration-timestamp
work: email
reads: email

system: ADP Workforce Now, custom report
source: public programs that read it
header: Position Status,First Name,Last Name,Job Title Description,Home Department Description,
  Work Contact: Work Email,Work Contact: Use Work Email for Notification,Personal Contact: Personal Email,
  Personal Contact: Home Phone,Reports To Name
work: Work Contact: Work Email
home: Personal Contact: Personal Email
reads: Work Contact: Work Email

system: ADP Workforce Now, labels with profiles
source: public programs that read it
header: Payroll Name (Personal Profile),Work Contact: Work Email (Personal Profile),
  Position Status (Employment Profile)
work: Work Contact: Work Email (Personal Profile)
reads: Work Contact: Work Email (Personal Profile)

system: BambooHR, report
source: fields of the product; no public export was found
header: Employee #,First Name,Last Name,Work Email,Home Email,Department,Supervisor,Supervisor email,Hire Date
work: Work Email
home: Home Email
other: Supervisor email
reads: Work Email

system: BambooHR, directory with managers
source: public samples
header: Employee #,First Name,Last Name,Job Title,Department,Division,Location,Status,Hire Date,Work Email,
  Reports To,Reports To Email
work: Work Email
other: Reports To Email
reads: Work Email

system: Workday, custom report
source: public programs that read it
above: Active Workers,,,,
above: ,,,,
header: Employee ID,Worker,Email - Primary Work,Email - Primary Home,Worker's Manager
work: Email - Primary Work
home: Email - Primary Home
other: Worker's Manager
reads: Email - Primary Work

system: Workday, preferred address
source: fields of the product; no public export was found
header: Employee_ID,Full_Name,Preferred Email,Manager_Email
work: Preferred Email
other: Manager_Email
reads: Preferred Email

system: Rippling, employees
source: docs.kombo.dev/hris/connectors/rippling
header: employee_number,first_name,last_name,display_full_name,work_email,personal_email,manager_id
work: work_email
home: personal_email
reads: work_email

system: Gusto, employees
source: fields of the product; no public export was found
header: Last name,First name,Personal email,Work email,Manager,Department,Start date
work: Work email
home: Personal email
other: Manager
reads: Work email

system: Gusto, employees who have only a personal address
source: fields of the product; no public export was found
header: Last name,First name,Personal email,Manager
home: Personal email
asks: Personal email

system: Personio, employees
source: fields of the product; no public export was found
header: ID,Vorname,Nachname,E-Mail,Private E-Mail,Vorgesetzter,Abteilung
work: E-Mail
home: Private E-Mail
other: Vorgesetzter
reads: E-Mail

system: HiBob, people
source: fields of the product; no public export was found
header: Email,First name,Last name,Start date,Reports to,Personal email
work: Email
home: Personal email
other: Reports to
reads: Email

system: SAP SuccessFactors, basic user import
source: public programs that read it
header: STATUS,USERID,USERNAME,FIRSTNAME,LASTNAME,MI,GENDER,EMAIL,MANAGER,HR,DEPARTMENT
work: EMAIL
reads: EMAIL

system: UKG Pro, employees
source: fields of the product; no public export was found
header: Employee Number,First Name,Last Name,Email Address,Alternate Email Address,Supervisor Email
work: Email Address
home: Alternate Email Address
other: Supervisor Email
reads: Email Address

system: Paycom, employees
source: fields of the product; no public export was found
header: EE_Code,Legal_Firstname,Legal_Lastname,Work_Email,Personal_Email,Supervisor_Primary
work: Work_Email
home: Personal_Email
other: Supervisor_Primary
reads: Work_Email

system: Zoho People, employees
source: zoho.com/people/api/adding-employees.html
header: EmployeeID,FirstName,LastName,EmailID,Reporting To,Other Email
work: EmailID
home: Other Email
other: Reporting To
reads: EmailID

system: Indian HR lists
source: public samples
header: Emp Code,Name,Official Email ID,Personal Email ID,Reporting Manager Email ID
work: Official Email ID
home: Personal Email ID
other: Reporting Manager Email ID
reads: Official Email ID

system: Zoom, meeting participants with the meeting
source: support.zoom.com, KB0082659; public samples
above: Meeting ID,Topic,Start Time,End Time,User Email,Duration (Minutes),Participants
above: 812 3456 7890,Induction,11/02/2026 10:00,11/02/2026 11:00,host@other.example,60,3
above: 
header: Name (Original Name),User Email,Join Time,Leave Time,Duration (Minutes),Guest
work: User Email
reads: User Email
warns: addresses_above

system: Zoom, meeting participants, short
source: support.zoom.com, KB0082659
above: Meeting ID,Topic,Start Time,End Time,Host,Duration (Minutes),Participants
above: 812 3456 7890,Induction,11/02/2026 10:00,11/02/2026 11:00,host@other.example,60,3
above: 
header: Name (Original Name),User Email,Total Duration (Minutes),Guest
work: User Email
reads: User Email
warns: addresses_above

system: reports with who made them
source: a report with a title
above: New hires,,,
above: Created by,hr@other.example,,
header: No.,Name,E-mail,Team
work: E-mail
reads: E-mail
warns: addresses_above

system: Google Forms
source: a form's questions are its headers
header: Timestamp,Email Address,Your name,Please enter your work email
work: Please enter your work email
other: Email Address
reads: Please enter your work email

system: Calendly, events
source: public programs that read it
header: Team,User Name,User Email,Invitee Name,Invitee Email
work: Invitee Email
other: User Email
asks: User Email | Invitee Email

system: web shops and member lists
source: public samples
header: Name,Email (required),Phone
work: Email (required)
reads: Email (required)

system: sign-up lists
source: public samples
header: Name,Email / Username,Role
work: Email / Username
reads: Email / Username

system: contact lists
source: public samples
header: Name,Email 1,Email 2
work: Email 1
reads: Email 1

system: Spanish HR lists
source: public samples
header: Nombre,Correo electrónico corporativo,Correo electrónico personal,Jefe inmediato
work: Correo electrónico corporativo
home: Correo electrónico personal
other: Jefe inmediato
reads: Correo electrónico corporativo

system: Polish HR lists
source: public samples
header: Imię,Nazwisko,Służbowy e-mail,Prywatny e-mail,Przełożony
work: Służbowy e-mail
home: Prywatny e-mail
other: Przełożony
reads: Służbowy e-mail

system: Russian HR lists
source: public samples
header: ФИО,E-mail адрес,Руководитель
work: E-mail адрес
other: Руководитель
reads: E-mail адрес

system: lists with the number of a column for a name
source: public samples
header: Name,#7,Email
work: Email
reads: Email
`

// parseExports reads exports.
func parseExports(t *testing.T) (all []export) {
	t.Helper()
	for block := range strings.SplitSeq(strings.ReplaceAll(strings.TrimSpace(exports), "\n  ", ""), "\n\n") {
		e := export{holds: map[string]string{}}
		for line := range strings.Lines(block) {
			name, value, ok := strings.Cut(strings.TrimRight(line, "\n"), ": ")
			columns := strings.Split(value, " | ")
			switch name {
			case "system":
				e.system = value
			case "source":
				e.source = value
			case "above":
				e.above = append(e.above, value)
			case "header":
				e.header = value
			case "work", "home", "other":
				for _, column := range columns {
					e.holds[column] = name + ".example"
				}
			case "reads":
				e.reads = value
			case "asks":
				e.asks = columns
			case "warns":
				e.warns = value
			default:
				ok = false
			}
			if !ok {
				t.Fatalf("what is %q?", line)
			}
		}
		for column := range e.holds {
			if !slices.Contains(strings.Split(e.header, ","), column) {
				t.Fatalf("%s has no column %q", e.system, column)
			}
		}
		if e.source == "" || (e.reads == "") == (len(e.asks) == 0) {
			t.Fatalf("of %s it isn't said where it was found, or what is made of it", e.system)
		}
		all = append(all, e)
	}
	return all
}

// file writes an export with people.
func (e *export) file(people int) string {
	var text strings.Builder
	for _, line := range e.above {
		text.WriteString(line + "\n")
	}
	text.WriteString(e.header + "\n")
	for i := range people {
		var cells []string
		for _, name := range strings.Split(e.header, ",") {
			if domain := e.holds[name]; domain != "" {
				cells = append(cells, fmt.Sprintf("p%d@%s", i, domain))
			} else {
				cells = append(cells, fmt.Sprintf("x%d", i))
			}
		}
		text.WriteString(strings.Join(cells, ",") + "\n")
	}
	return text.String()
}

// TestFormats: of each format the right column is read, or the right question is
// asked. Nobody is lost.
func TestFormats(t *testing.T) {
	t.Parallel()
	const people = 12
	for _, e := range parseExports(t) {
		t.Run(e.system, func(t *testing.T) {
			t.Parallel()
			rows, s, err := read(t, e.file(people), Options{})
			var fault *FileError
			if len(e.asks) > 0 {
				if !errors.As(err, &fault) || len(fault.Columns) < len(e.asks) ||
					!slices.Equal(fault.Columns[:len(e.asks)], e.asks) {
					t.Fatalf("%+v, %v: it should ask about %q first", s, err, e.asks)
				}
				o := Options{Map: map[string]string{"email": flagValue(t, fault.Remedy())}}
				_, s, err = read(t, e.file(people), o)
				if err != nil || s.Valid != people || s.Columns.Mapped["email"] != e.asks[0] {
					t.Errorf("with %v: %+v, %v", o.Map, s, err)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v: %s", err, errorRemedy(err))
			}
			if s.Columns.Mapped["email"] != e.reads || s.Valid != people || s.Rows != people {
				t.Errorf("%+v was read, with %d of %d rows valid, want %q", s.Columns.Mapped, s.Valid, s.Rows, e.reads)
			}
			for _, row := range rows {
				if !strings.HasSuffix(row.Email, "@"+atWork) {
					t.Fatalf("row %d goes to %s", row.Number, row.Email)
				}
			}
			warned := ""
			for _, w := range s.Warnings {
				warned += w.Code
			}
			if warned != e.warns {
				t.Errorf("warnings %+v, want %q", s.Warnings, e.warns)
			}
		})
	}
}

// flagValue is what the remedy's --map email= takes in a shell.
func flagValue(t *testing.T, remedy string) string {
	t.Helper()
	_, value, ok := strings.Cut(remedy, "--map email=")
	if !ok {
		t.Fatalf("the remedy has no --map email=: %s", remedy)
	}
	if rest, quoted := strings.CutPrefix(value, `"`); quoted {
		value, _, ok = strings.Cut(rest, `"`)
		if !ok || strings.ContainsAny(value, "$`\\!;") {
			t.Fatalf("the remedy is no shell word: %s", remedy)
		}
		return value
	}
	value, _, _ = strings.Cut(value, " ")
	return value
}

func errorRemedy(err error) string {
	var fault *FileError
	if errors.As(err, &fault) {
		return fault.Remedy()
	}
	return ""
}
