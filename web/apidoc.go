package web

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"bulkinvite/importer"
	"bulkinvite/invitation"
	"bulkinvite/words"
)

const (
	schemaPrefix = "#/components/schemas/"
	jsonType     = "application/json"
	problemType  = "application/problem+json"
)

// schemaNames are those of types whose own names say too little, or whose names
// are ours alone.
var schemaNames = map[reflect.Type]string{
	reflect.TypeFor[invitation.Document]():       "Batch",
	reflect.TypeFor[invitation.BatchLine]():      "BatchLine",
	reflect.TypeFor[invitation.Result]():         "Row",
	reflect.TypeFor[invitation.SweepDocument]():  "Sweep",
	reflect.TypeFor[invitation.PersonLine]():     "Person",
	reflect.TypeFor[rowDocument]():               "RowWithCells",
	reflect.TypeFor[uploadDocument]():            "Upload",
	reflect.TypeFor[budgetDocument]():            "Budget",
	reflect.TypeFor[draftDocument]():             "Draft",
	reflect.TypeFor[importer.Problem]():          "FileProblem",
	reflect.TypeFor[undoDocument]():              "UndoState",
	reflect.TypeFor[courseDocument]():            "Course",
	reflect.TypeFor[optionsDocument]():           "Options",
	reflect.TypeFor[reconcileDocument]():         "Reconcile",
	reflect.TypeFor[invitation.RevocationLine](): "Revocation",
	reflect.TypeFor[night]():                     "Schedule",
	reflect.TypeFor[kind]():                      "ProblemKind",
	reflect.TypeFor[problemRow]():                "ProblemRow",
	reflect.TypeFor[columnsBody]():               "SetColumns",
	reflect.TypeFor[optionsBody]():               "SetOptions",
	reflect.TypeFor[startBody]():                 "Start",
	reflect.TypeFor[undoBody]():                  "Undo",
	outcomeCounts:                                "Outcomes",
}

// outcomeCounts is [invitation.Counts] as it is written: every outcome, always.
var outcomeCounts = func() reflect.Type {
	var fields []reflect.StructField
	for i, o := range invitation.Outcomes {
		fields = append(fields, reflect.StructField{Name: "Outcome" + strconv.Itoa(i), Type: reflect.TypeFor[int](), Tag: reflect.StructTag(fmt.Sprintf(`json:%q`, o))})
	}
	return reflect.StructOf(fields)
}()

// words that a field of a type can hold.
var enums = map[reflect.Type][]any{
	reflect.TypeFor[invitation.Outcome]():    anys(invitation.Outcomes...),
	reflect.TypeFor[invitation.Status]():     anys(invitation.Statuses...),
	reflect.TypeFor[invitation.State]():      anys(invitation.Draft, invitation.Running, invitation.Paused, invitation.StateCancelled, invitation.Done),
	reflect.TypeFor[invitation.Pauser]():     anys(invitation.ByPerson, invitation.ByCanary, invitation.ByBreaker, invitation.ByClerk, invitation.ByZone),
	reflect.TypeFor[invitation.SweepKind]():  anys(invitation.KindSweep, invitation.KindRescind, invitation.KindUndo, invitation.KindCorrect),
	reflect.TypeFor[invitation.SweepState](): anys(invitation.SweepDry, invitation.SweepHeld, invitation.SweepRunning, invitation.SweepDone),
	reflect.TypeFor[invitation.Revoking]():   anys(invitation.RevokeDone, invitation.RevokeBefore, invitation.RevokeAccepted, invitation.RevokeGone, invitation.RevokeFailed, invitation.RevokeSkipped),
	reflect.TypeFor[invitation.DriftKind]():  anys(invitation.Unexplained, invitation.Gone, invitation.PendingAgain),
}

func anys[T ~string](all ...T) []any {
	out := make([]any, len(all))
	for i, one := range all {
		out[i] = string(one)
	}
	return out
}

// apiConfig describes the API as a whole.
func apiConfig() huma.Config {
	c := huma.DefaultConfig("bulkinvite", "1")
	c.CreateHooks = nil // no $schema in the answers: they are the commands' own documents
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.RejectUnknownQueryParameters = true
	c.Info.Description = "Invites the people of a file through Clerk, each of them once, and says what became of every row. The documents are those that the commands print with --json. Times are RFC 3339 in UTC; errors are application/problem+json (RFC 9457)."
	registry := huma.NewMapRegistry(schemaPrefix, func(t reflect.Type, hint string) string {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if name, ok := schemaNames[t]; ok {
			return name
		}
		return huma.DefaultSchemaNamer(t, hint)
	})
	registry.RegisterTypeAlias(reflect.TypeFor[invitation.Counts](), outcomeCounts)
	registry.RegisterTypeAlias(reflect.TypeFor[invitation.Sweep](), reflect.TypeFor[invitation.SweepDocument]())
	c.Components.Schemas = registry
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":   {Type: "http", Scheme: "bearer", Description: "A token of `bulkinvite token create`, for scripts."},
		"session": {Type: "apiKey", In: "cookie", Name: "bulkinvite", Description: "The page's own session; over TLS its cookie is __Host-bulkinvite."},
	}
	c.Security = []map[string][]string{{"token": {}}, {"session": {}}}
	return c
}

// schemaOf returns the schema of a document.
func schemaOf[T any](api huma.API) *huma.Schema {
	return api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
}

// describe serves the API's description, which is made of its operations once.
func (a *api) describe() error {
	spec := a.huma.OpenAPI()
	mendSchemas(spec)
	text, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return fmt.Errorf("describe the API: %w", err)
	}
	yaml, err := spec.YAML()
	if err != nil {
		return fmt.Errorf("describe the API: %w", err)
	}
	var page bytes.Buffer
	if err := pages()["api"].ExecuteTemplate(&page, "content", docView(spec)); err != nil {
		return fmt.Errorf("describe the API: %w", err)
	}
	serve := func(path, contentType string, text []byte) {
		a.mux.HandleFunc("GET "+apiRoot+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write(text) // who asked may be gone
		})
	}
	serve("/openapi.json", "application/openapi+json", text)
	serve("/openapi.yaml", "application/openapi+yaml", yaml)
	a.mux.HandleFunc("GET "+apiRoot+"/docs", func(w http.ResponseWriter, r *http.Request) {
		_ = sendHTML(w, r, http.StatusOK, page.Bytes()) // never fails
	})
	return nil
}

// mendSchemas says in the schemas what the library can't find out: what may be
// null, which words there are, and that answers may get fields more.
func mendSchemas(spec *huma.OpenAPI) {
	problems := spec.Components.Schemas.Schema(reflect.TypeFor[problem](), true, "")
	asked := map[string]bool{} // schemas of what is sent to us
	for _, item := range spec.Paths {
		for _, op := range operationsOf(item) {
			op.Responses["default"] = &huma.Response{Description: "What is wrong, and what to do about it.", Content: map[string]*huma.MediaType{problemType: {Schema: problems}}}
			if op.RequestBody == nil {
				continue
			}
			for _, media := range op.RequestBody.Content {
				asked[strings.TrimPrefix(media.Schema.Ref, schemaPrefix)] = true
			}
		}
	}
	for name, schema := range spec.Components.Schemas.Map() {
		if !asked[name] {
			schema.AdditionalProperties = nil
		}
		for _, field := range reflect.VisibleFields(spec.Components.Schemas.TypeFromRef(schemaPrefix + name)) {
			key, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			property := schema.Properties[key]
			if property == nil {
				continue
			}
			t, pointer := field.Type, field.Type.Kind() == reflect.Pointer
			if pointer {
				t = t.Elem()
			}
			if words := enums[t]; words != nil {
				property.Enum = slices.Clone(words)
				if pointer {
					property.Enum = append(property.Enum, nil)
				}
			}
			if key == "code" && slices.Contains([]string{"FileProblem", "ProblemKind", "ProblemRow"}, name) {
				property.Description = problemCodes()
			}
			if pointer && property.Ref != "" && !strings.Contains(options, "omitempty") {
				schema.Properties[key] = &huma.Schema{OneOf: []*huma.Schema{property, {Type: "null"}}, Description: property.Description}
			}
		}
	}
}

// problemCodes says in words what each code of a problem means.
func problemCodes() string {
	var all []string
	for _, code := range slices.Sorted(maps.Keys(words.Problems)) {
		all = append(all, code+": "+words.Problems[code])
	}
	return strings.Join(all, "; ")
}

// operationsOf lists what can be asked of a path.
func operationsOf(item *huma.PathItem) []*huma.Operation {
	return slices.DeleteFunc([]*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete}, func(op *huma.Operation) bool { return op == nil })
}

// docPage is the API's document as its page shows it.
type docPage struct {
	About    string
	Sections []docSection
	Schemas  []docSchema
}

type docSection struct {
	Name       string
	Operations []docOperation
}

type docOperation struct {
	ID, Method, Path, Summary, Description string
	Fields                                 []docField // of path, query, header and body
	Takes                                  []string   // content types of the body
	Answers                                []docAnswer
}

type docField struct {
	Name, In, Type, Description string
	Required                    bool
}

type docAnswer struct {
	Status, Description, Type, Schema string
}

type docSchema struct {
	Name   string
	Fields []docField
}

// docView lays the description out for its page.
func docView(spec *huma.OpenAPI) docPage {
	page := docPage{About: spec.Info.Description}
	paths := make([]string, 0, len(spec.Paths))
	for path := range spec.Paths {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		for _, op := range operationsOf(spec.Paths[path]) {
			at := slices.IndexFunc(page.Sections, func(s docSection) bool { return s.Name == op.Tags[0] })
			if at < 0 {
				at, page.Sections = len(page.Sections), append(page.Sections, docSection{Name: op.Tags[0]})
			}
			page.Sections[at].Operations = append(page.Sections[at].Operations, docOf(op))
		}
	}
	for name, schema := range spec.Components.Schemas.Map() {
		page.Schemas = append(page.Schemas, docSchema{name, docFields(schema)})
	}
	slices.SortFunc(page.Schemas, func(a, b docSchema) int { return cmp.Compare(a.Name, b.Name) })
	return page
}

func docOf(op *huma.Operation) docOperation {
	d := docOperation{ID: op.OperationID, Method: op.Method, Path: op.Path, Summary: op.Summary, Description: op.Description}
	for _, p := range op.Parameters {
		d.Fields = append(d.Fields, docField{p.Name, p.In, typeOf(p.Schema), p.Description, p.Required})
	}
	if op.RequestBody != nil {
		for kind, media := range op.RequestBody.Content {
			d.Takes = append(d.Takes, strings.TrimSpace(kind+" "+strings.TrimPrefix(media.Schema.Ref, schemaPrefix)))
		}
		slices.Sort(d.Takes)
	}
	for status, answer := range op.Responses {
		one := docAnswer{Status: status, Description: answer.Description}
		for kind, media := range answer.Content {
			one.Type, one.Schema = kind, typeOf(media.Schema)
		}
		d.Answers = append(d.Answers, one)
	}
	slices.SortFunc(d.Answers, func(a, b docAnswer) int { return cmp.Compare(a.Status, b.Status) })
	return d
}

func docFields(schema *huma.Schema) []docField {
	var fields []docField
	for name, property := range schema.Properties {
		fields = append(fields, docField{name, "", typeOf(property), property.Description, slices.Contains(schema.Required, name)})
	}
	slices.SortFunc(fields, func(a, b docField) int { return cmp.Compare(a.Name, b.Name) })
	return fields
}

// typeOf says in words what a schema takes.
func typeOf(s *huma.Schema) string {
	var text string
	switch {
	case s == nil:
		return ""
	case s.Ref != "":
		return strings.TrimPrefix(s.Ref, schemaPrefix)
	case len(s.OneOf) > 0:
		return typeOf(s.OneOf[0]) + " or null"
	case s.Type == huma.TypeArray:
		return "list of " + typeOf(s.Items)
	case len(s.Enum) > 0:
		var words []string
		for _, e := range s.Enum {
			if e != nil {
				words = append(words, fmt.Sprint(e))
			}
		}
		text = strings.Join(words, ", ")
	case s.Format == "date-time":
		text = "time"
	default:
		text = cmp.Or(s.Type, "any")
	}
	if s.Nullable {
		text += " or null"
	}
	return text
}
