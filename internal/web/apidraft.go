package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"bulkinvite/importer"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
)

// fileTypes are what a file may be sent as; what it is, is found out by reading.
var fileTypes = []string{"text/csv", "text/tab-separated-values", "text/plain", "application/octet-stream", "application/gzip", "application/zip",
	"application/vnd.ms-excel", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}

// checkTime is how long a request waits for the check of its file.
const checkTime = 20 * time.Second

// uploadInput is a file and how it is to be read. The options of the draft are
// in the query, for a body that is a form too.
type uploadInput struct {
	Key           string   `header:"Idempotency-Key" maxLength:"255" doc:"The same key by the same actor is the same upload, however often it is sent. With another file or other options it is refused."`
	FileName      string   `query:"file_name" maxLength:"200" doc:"The file's name; a form's own name for it goes first. Default: upload.csv."`
	Map           []string `query:"map,explode" maxItems:"100" doc:"What a column is, as NAME=COLUMN: email, redirect_url, expires_in_days, public_metadata.NAME. The column by its header, or by its number: #7, as %237. Default: found by the header and what it holds."`
	Delimiter     string   `query:"delimiter" maxLength:"10" doc:"One character, or comma, semicolon, tab or pipe. Default: found out."`
	Encoding      string   `query:"encoding" maxLength:"40" doc:"Such as UTF-8 or Windows-1252. Default: found out."`
	Again         bool     `query:"again" doc:"Make a batch of it although the same file is one that is over. Nobody gets a second mail for that."`
	RevokeOn      string   `query:"revoke_on" maxLength:"1000" doc:"The column with the day after which a pending invitation is taken back."`
	RedirectURL   string   `query:"redirect_url" maxLength:"2048" doc:"Where the invitation leads."`
	Template      string   `query:"template" maxLength:"200" doc:"Clerk's template_slug."`
	ExpiresInDays int      `query:"expires_in_days" minimum:"1" maximum:"365" doc:"How long it is valid. Default: Clerk's, 30."`
	Priority      int      `query:"priority" minimum:"1" maximum:"4" doc:"1 goes first, 4 last. Default: 2."`
	Canary        int      `query:"canary" minimum:"1" doc:"Invite so many people first, and then pause."`
	OnDuplicate   string   `query:"on_duplicate" enum:"skip,resend" doc:"Who has a pending invitation is left alone, or it is revoked and they are invited again. Default: skip."`
	RevokeAfter   int      `query:"revoke_after_days" minimum:"1" maximum:"36500" doc:"After how many days a sweep takes a pending invitation back. Default: the sweep's own."`
	StartAt       string   `query:"start_at" maxLength:"40" doc:"Nothing is sent before: RFC 3339, 2026-11-24 08:00 in tz, or 08:00, the next one."`
	Hours         string   `query:"hours" maxLength:"10" doc:"The hours of the day in tz in which it is sent: 8-18."`
	TZ            string   `query:"tz" maxLength:"60" doc:"The time zone of start_at and hours: Europe/Berlin."`
}

// reading is how the file is to be read, and what its draft begins with.
func (in *uploadInput) reading(query url.Values) (reading, error) {
	o := reading{columnsBody{map[string]string{}, in.RevokeOn, in.Delimiter, in.Encoding}, in.Again, url.Values{}}
	for _, pair := range in.Map {
		name, column, ok := strings.Cut(pair, "=")
		if !ok || o.Map[name] != "" {
			return o, refuse(http.StatusUnprocessableEntity, "Write it once for each column: map=email=Work%20Address", "A map is NAME=COLUMN.")
		}
		o.Map[name] = column
	}
	for _, f := range optionNames {
		if query.Has(f) {
			o.Draft.Set(f, query.Get(f))
		}
	}
	return o, nil
}

// uploadOutput is a draft, or where to look for what becomes of the file.
type uploadOutput struct {
	Status     int
	Location   string `header:"Location" doc:"The batch, or the upload while it is checked."`
	RetryAfter int    `header:"Retry-After" doc:"In how many seconds to look again."`
	Body       any
}

// uploadDocument is a file that is no batch yet.
type uploadDocument struct {
	Upload   int64    `json:"upload"`
	FileName string   `json:"file_name"`
	Bytes    int64    `json:"bytes"`
	State    string   `json:"state" enum:"receiving,checking,refused,draft" doc:"draft: it is the batch named."`
	Batch    *int64   `json:"batch"`
	Problem  *problem `json:"problem" doc:"Why it is refused; of a draft: why it could not be read in another way since."`
}

func uploadState(u *upload) uploadDocument {
	d := uploadDocument{Upload: u.ID, FileName: u.FileName, Bytes: u.Bytes, State: "checking"}
	switch {
	case u.Received == nil:
		d.State = "receiving"
	case u.Checked == nil:
	case u.Batch != nil:
		d.State, d.Batch = "draft", u.Batch
	default:
		d.State = "refused"
	}
	if u.Failure != nil {
		d.Problem = failed(u)
	}
	return d
}

// failed says why an upload is no batch.
func failed(u *upload) *problem {
	status := http.StatusUnprocessableEntity
	if u.Failure.Batch > 0 {
		status = http.StatusConflict
	}
	p := newProblem(&refusal{Status: status, Title: u.Failure.What, Remedy: u.Failure.Remedy})
	p.Batch, p.Columns = u.Failure.Batch, u.Failure.Found
	switch {
	case len(p.Columns) > 0:
		p.Remedy = "If one of them holds the addresses to invite, name it in the query: map=email=COLUMN."
	case p.Batch > 0 && p.Remedy != "":
		p.Remedy = "With again=true it becomes a batch all the same; whoever was invited is still not mailed twice."
	case p.Batch > 0:
		p.Remedy = fmt.Sprintf("GET %s/batches/%d shows it.", apiRoot, p.Batch)
	}
	return p
}

// draftOperations are those on files and drafts.
func (a *api) draftOperations() {
	answer := func(description string, schema *huma.Schema) *huma.Response {
		return &huma.Response{Description: description, Content: map[string]*huma.MediaType{jsonType: {Schema: schema}}}
	}
	file := &huma.Schema{Type: huma.TypeString, Format: "binary"}
	body := &huma.RequestBody{Description: "The file: as it is, or as the part `file` of a form. It may be as large as the commands take.", Required: true, Content: map[string]*huma.MediaType{
		"multipart/form-data": {Schema: &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{"file": file}, Required: []string{"file"}}}}}
	for _, t := range fileTypes {
		body.Content[t] = &huma.MediaType{Schema: file}
	}
	register(a, Operator, huma.Operation{OperationID: "create-batch", Method: http.MethodPost, Path: "/batches", Tags: []string{"Drafts"},
		Summary:       "Upload a file as a draft",
		Description:   "The file is checked whole and becomes a draft: nothing is sent before it is started. The answer is the draft, or 202 where the check takes long: look at Location then. The same file again is refused with its batch.",
		DefaultStatus: http.StatusCreated,
		Responses: map[string]*huma.Response{
			"201": answer("The draft.", schemaOf[report.Document](a.huma)),
			"202": answer("It is being checked.", schemaOf[uploadDocument](a.huma)),
		}}, a.uploadBatch)
	a.huma.OpenAPI().Paths[apiRoot+"/batches"].Post.RequestBody = body // now: the library would read a body that it knows of whole
	type uploadPath struct {
		Upload int64 `path:"upload" minimum:"1" doc:"The upload's number."`
	}
	reply(a, Auditor, huma.Operation{OperationID: "get-upload", Method: http.MethodGet, Path: "/uploads/{upload}", Tags: []string{"Drafts"},
		Summary: "See what became of a file", Description: "One that is no batch is forgotten after a day."},
		func(ctx context.Context, in *uploadPath) (d uploadDocument, err error) {
			u, err := a.upload(ctx, in.Upload)
			if err != nil {
				return d, err
			}
			a.check(u) // by this server, should the one that received it be gone
			return uploadState(u), nil
		})
	reply(a, Auditor, huma.Operation{OperationID: "get-draft", Method: http.MethodGet, Path: "/batches/{batch}/draft", Tags: []string{"Drafts"},
		Summary: "See what a draft holds and what sending it takes", Description: "The same as `bulkinvite check FILE --json`, and who is skipped. People are looked up at Clerk in the background: ask again while `looking`."},
		ofBatch(a, a.draftDocument))
	register(a, Operator, huma.Operation{OperationID: "set-columns", Method: http.MethodPut, Path: "/batches/{batch}/columns", Tags: []string{"Drafts"},
		Summary: "Read a draft's file in another way", Description: "All of it is read again: what was said before about its columns does not count any more."},
		ofBatch(a, a.setColumns))
	reply(a, Auditor, huma.Operation{OperationID: "get-options", Method: http.MethodGet, Path: "/batches/{batch}/options", Tags: []string{"Drafts"},
		Summary: "See the options of a batch", Description: "As PATCH takes them; what is empty or 0 is the default."},
		ofBatch(a, func(_ context.Context, b *invitation.Batch, _ BatchPath) (options, error) {
			return optionsOf(b), nil
		}))
	type optionsInput struct {
		BatchPath
		Body optionsBody
	}
	reply(a, Operator, huma.Operation{OperationID: "set-options", Method: http.MethodPatch, Path: "/batches/{batch}/options", Tags: []string{"Drafts"},
		Summary: "Change options of a draft", Description: "Those that are not named stay."},
		func(ctx context.Context, in *optionsInput) (*report.Document, error) {
			form := in.Body.form()
			if err := areText(form); err != nil {
				return nil, err
			}
			_, err := a.setOptions(ctx, in.Batch, form, exchangeOf(ctx).who)
			return a.changed(ctx, in.Batch, err)
		})
	type startInput struct {
		BatchPath
		Body *startBody
	}
	reply(a, Operator, huma.Operation{OperationID: "start-batch", Method: http.MethodPost, Path: "/batches/{batch}/start", Tags: []string{"Drafts"},
		Summary: "Start a draft", Description: "Workers send it. With a live key it takes the number of people, as somebody would type it: with another number than the draft has nothing happens. What import --draft has had confirmed needs none, unless the draft was changed since. Of two starts one wins."},
		func(ctx context.Context, in *startInput) (*report.Document, error) {
			consent := invitation.Consent{Yes: true}
			if in.Body != nil {
				consent.Number, consent.Undelivered = in.Body.People, in.Body.AllowUndelivered
			}
			return a.changed(ctx, in.Batch, a.startDraft(ctx, in.Batch, consent, nil, exchangeOf(ctx).who))
		})
}

// draft is what there is to see before a batch is started.
type draft struct {
	Batch int64 `json:"batch"`
	importer.Check
	ToInvite      int     `json:"to_invite" doc:"How many people are invited, as far as is known: what POST …/start takes as people."`
	Lapsed        int     `json:"lapsed" doc:"Those of them whose earlier invitations were revoked or have expired."`
	Looking       bool    `json:"looking" doc:"People are being looked up: the counts may change."`
	AskedClerk    bool    `json:"asked_clerk" doc:"Else only earlier batches were looked through."`
	LookupProblem *string `json:"lookup_problem" doc:"Why Clerk did not tell."`
	Confirm       bool    `json:"confirm" doc:"It sends real mail that nobody has confirmed: POST …/start needs people."`
	Undelivered   bool    `json:"undelivered" doc:"A development instance would not deliver all of it: POST …/start needs allow_undelivered."`
}

func (a *api) draftDocument(ctx context.Context, b *invitation.Batch, _ BatchPath) (*draft, error) {
	if b.State != invitation.Draft {
		return nil, refuse(http.StatusConflict, fmt.Sprintf("GET %s/batches/%d says where it stands.", apiRoot, b.ID), "Batch %d is %s: it is no draft any more.", b.ID, b.State)
	}
	tally, err := report.Tally(ctx, a.pool, b.ID)
	if err != nil {
		return nil, err
	}
	card, err := a.draftCard(ctx, b, tally.Undecided)
	if err != nil {
		return nil, err
	}
	found := importer.Summary{Blank: b.Blank, Encoding: b.Encoding, Delimiter: b.Delimiter, Columns: importer.Columns{Found: b.Columns, Mapped: map[string]string{}}}
	if u := card.Upload; u != nil && u.Summary != nil {
		found = *u.Summary
	}
	found.Rows, found.Valid, found.Invalid, found.DuplicateRow = tally.Rows(), tally.Undecided, tally.Outcomes[invitation.Invalid], tally.Outcomes[invitation.DuplicateRow]
	p := card.Preview
	d := &draft{Batch: b.ID, Check: importer.NewCheck(&found, p.Known, p.Plan), ToInvite: p.ToInvite, Lapsed: p.Lapsed,
		Looking: p.Looking(), AskedClerk: p.AskedClerk, Confirm: p.Typed, Undelivered: p.Limited}
	if p.Problem != "" {
		d.LookupProblem = &p.Problem
	}
	return d, nil
}

// columnsBody is how a draft's file is to be read.
type columnsBody struct {
	Map       map[string]string `json:"map,omitempty" doc:"Our name to the column's header, or its number, such as #7: email, redirect_url, expires_in_days, public_metadata.NAME."`
	RevokeOn  string            `json:"revoke_on,omitempty" maxLength:"1000" doc:"The column with the day after which a pending invitation is taken back."`
	Delimiter string            `json:"delimiter,omitempty" maxLength:"10" doc:"One character, or comma, semicolon, tab or pipe."`
	Encoding  string            `json:"encoding,omitempty" maxLength:"40" doc:"Such as UTF-8 or Windows-1252."`
}

// optionsBody are options of a draft, as its form has them. Nil is one that stays.
type optionsBody struct {
	RedirectURL   *string `json:"redirect_url,omitempty" maxLength:"2048" doc:"Where the invitation leads; empty: nowhere in particular."`
	Template      *string `json:"template,omitempty" maxLength:"200" doc:"Clerk's template_slug."`
	ExpiresInDays *int    `json:"expires_in_days,omitempty" minimum:"0" maximum:"365" doc:"How long it is valid; 0: Clerk's default."`
	Priority      *int    `json:"priority,omitempty" minimum:"1" maximum:"4" doc:"1 goes first, 4 last."`
	Canary        *int    `json:"canary,omitempty" minimum:"0" doc:"How many people go first; 0: all at once."`
	OnDuplicate   *string `json:"on_duplicate,omitempty" enum:"skip,resend" doc:"Who has a pending invitation is left alone, or it is revoked and they are invited again."`
	RevokeAfter   *int    `json:"revoke_after_days,omitempty" minimum:"0" maximum:"36500" doc:"After how many days a sweep takes a pending invitation back; 0: the sweep's own."`
	StartAt       *string `json:"start_at,omitempty" maxLength:"40" doc:"Nothing is sent before: RFC 3339, 2026-11-24 08:00 in tz, or 08:00, the next one; empty: at once. Goes with hours and tz: one that is not named is none then."`
	Hours         *string `json:"hours,omitempty" maxLength:"10" doc:"The hours of the day in tz in which it is sent: 8-18; empty: all."`
	TZ            *string `json:"tz,omitempty" maxLength:"60" doc:"The time zone of start_at and hours: Europe/Berlin."`
}

// options is [optionsBody] as it is read.
type options struct {
	RedirectURL   string                 `json:"redirect_url"`
	Template      string                 `json:"template"`
	ExpiresInDays int                    `json:"expires_in_days"`
	Priority      int                    `json:"priority"`
	Canary        int                    `json:"canary"`
	OnDuplicate   invitation.OnDuplicate `json:"on_duplicate" enum:"skip,resend"`
	RevokeAfter   int                    `json:"revoke_after_days"`
	StartAt       string                 `json:"start_at" doc:"RFC 3339."`
	Hours         string                 `json:"hours"`
	TZ            string                 `json:"tz"`
}

// wholeDays is a length of time in days.
func wholeDays(d time.Duration) int { return int(d / (24 * time.Hour)) }

func optionsOf(b *invitation.Batch) options {
	d := options{RedirectURL: b.Options.RedirectURL, Template: b.Options.Template, ExpiresInDays: b.Options.ExpiresInDays, Priority: b.Priority, Canary: b.Canary,
		OnDuplicate: cmp.Or(b.Duplicates, invitation.Skip), RevokeAfter: wholeDays(b.RevokeAfter), Hours: b.Hours.String(), TZ: b.Hours.TZ}
	if !b.StartAt.IsZero() {
		d.StartAt = b.StartAt.UTC().Format(time.RFC3339)
	}
	return d
}

// optionNames are the options of a draft in a query and its form, in the order in
// which [optionsBody] has them.
var optionNames = []string{"redirect_url", "template", "expires_in_days", "priority", "canary", "on_duplicate", "revoke_after_days", "start_at", "hours", "tz"}

// form is the body as the draft's form would send it.
func (o optionsBody) form() url.Values {
	form, named := url.Values{}, reflect.ValueOf(o)
	for i, name := range optionNames {
		if value := named.Field(i); !value.IsNil() {
			form.Set(name, fmt.Sprint(value.Elem()))
		}
	}
	return form
}

// startBody confirms a start.
type startBody struct {
	People           *int `json:"people,omitempty" minimum:"0" doc:"How many people are to be invited: the draft's to_invite."`
	AllowUndelivered bool `json:"allow_undelivered,omitempty" doc:"Start it although a development instance would not deliver all mails."`
}

// uploadBatch takes a file and waits for its check.
func (a *api) uploadBatch(ctx context.Context, in *uploadInput) (*uploadOutput, error) {
	e := exchangeOf(ctx)
	o, err := in.reading(e.r.URL.Query())
	if err == nil {
		err = a.knowsZone(ctx, o.Draft)
	}
	if err == nil {
		err = a.readOptions(&invitation.Batch{Priority: invitation.DefaultPriority}, o.Draft)
	}
	if err != nil {
		return nil, err
	}
	if !isText(in.Key) {
		return nil, refuse(http.StatusUnprocessableEntity, "Take letters and digits.", "This Idempotency-Key has bytes in it that are no text.")
	}
	file, name, err := fileOf(e.r)
	if err != nil {
		return nil, err
	}
	u, err := a.receive(ctx, file, e.who.Name, cmp.Or(name, in.FileName), o, in.Key, func() { extend(e.w, patience) })
	if err != nil {
		return nil, err
	}
	extend(e.w, patience)
	return a.checked(ctx, u, http.StatusCreated)
}

// fileOf finds the file in a request: its body, or the part of a form.
func fileOf(r *http.Request) (file io.Reader, name string, err error) {
	kind, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err == nil && slices.Contains(fileTypes, kind):
		return r.Body, "", nil
	case err != nil || kind != "multipart/form-data" || parameters["boundary"] == "":
		return nil, "", refuse(http.StatusUnsupportedMediaType, "Send it as Content-Type: text/csv, or as the part named file of a form: curl -F file=@hires.csv", "That is no file.")
	}
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, "", refuse(http.StatusBadRequest, "Send it as curl -F file=@hires.csv does.", "The form could not be read.")
	}
	part, err := parts.NextPart()
	switch {
	case errors.Is(err, io.EOF):
		return nil, "", errNoFile
	case err != nil:
		return nil, "", errCutOff
	case part.FormName() != "file" || part.FileName() == "":
		return nil, "", refuse(http.StatusUnprocessableEntity, "Send the file alone, as the part named file; its options go into the query.", "The form's first part is not the file.")
	}
	return part, part.FileName(), nil
}

// checked waits for the check of an upload, and tells what came of it.
func (a *api) checked(ctx context.Context, u *upload, status int) (*uploadOutput, error) {
	if c := a.check(u); c != nil {
		c.await(ctx, checkTime)
		var err error
		if u, err = a.upload(ctx, u.ID); err != nil {
			return nil, err
		}
	}
	switch {
	case u.Failure != nil && (u.Batch == nil || status != http.StatusCreated): // what it was uploaded for was done, whatever became of reading it again
		return nil, failed(u)
	case u.Batch == nil || u.Checked == nil:
		return &uploadOutput{Status: http.StatusAccepted, Location: fmt.Sprintf("%s/uploads/%d", apiRoot, u.ID), RetryAfter: 2, Body: uploadState(u)}, nil
	}
	d, err := a.changed(ctx, *u.Batch, nil)
	return &uploadOutput{Status: status, Location: fmt.Sprintf("%s/batches/%d", apiRoot, *u.Batch), Body: d}, err
}

// columnsInput is a draft, and how its file is to be read.
type columnsInput struct {
	BatchPath
	Body columnsBody
}

// setColumns has the file of a draft read in another way.
func (a *api) setColumns(ctx context.Context, b *invitation.Batch, in columnsInput) (*uploadOutput, error) {
	u, err := a.uploadOf(ctx, b.ID)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return nil, refuse(http.StatusConflict, "Import it again.", "Batch %d did not come by the page or the API: its file is not here.", b.ID)
	}
	o := u.Options
	o.columnsBody = in.Body
	if err := a.readAgain(exchangeOf(ctx).r, u, o); err != nil {
		return nil, err
	}
	return a.checked(ctx, u, http.StatusOK)
}
