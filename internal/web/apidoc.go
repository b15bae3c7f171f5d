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
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"bulkinvite/importer"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/report"
	"bulkinvite/internal/revocation"
	"bulkinvite/internal/words"
)

const (
	schemaPrefix = "#/components/schemas/"
	jsonType     = "application/json"
	problemType  = "application/problem+json"
)

// schemaNames are those of types whose own names say something else. The others are
// called as their types.
var schemaNames = map[reflect.Type]string{
	reflect.TypeFor[report.Document]():           "Batch",
	reflect.TypeFor[report.Result]():             "Row",
	reflect.TypeFor[revocation.SweepDocument]():  "Sweep",
	reflect.TypeFor[report.PersonLine]():         "Person",
	reflect.TypeFor[uploadDocument]():            "Upload",
	reflect.TypeFor[importer.Problem]():          "FileProblem",
	reflect.TypeFor[revocation.RevocationLine](): "Revocation",
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
	reflect.TypeFor[revocation.SweepKind]():  anys(revocation.KindSweep, revocation.KindRescind, revocation.KindUndo, revocation.KindCorrect),
	reflect.TypeFor[revocation.SweepState](): anys(revocation.SweepDry, revocation.SweepHeld, revocation.SweepRunning, revocation.SweepDone),
	reflect.TypeFor[revocation.Revoking]():   anys(revocation.RevokeDone, revocation.RevokeBefore, revocation.RevokeAccepted, revocation.RevokeGone, revocation.RevokeFailed, revocation.RevokeSkipped),
	reflect.TypeFor[ledger.DriftKind]():      anys(ledger.Unexplained, ledger.Gone, ledger.PendingAgain),
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
	registry.RegisterTypeAlias(reflect.TypeFor[revocation.Sweep](), reflect.TypeFor[revocation.SweepDocument]())
	c.Components.Schemas = registry
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":   {Type: "http", Scheme: "bearer", Description: "A token of `bulkinvite token create NAME`, for scripts."},
		"session": {Type: "apiKey", In: "cookie", Name: "bulkinvite", Description: "The page's own session; over TLS its cookie is __Host-bulkinvite."},
	}
	c.Security = []map[string][]string{{"token": {}}, {"session": {}}}
	return c
}

// schemaOf returns the schema of a document.
func schemaOf[T any](api huma.API) *huma.Schema {
	return api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
}

// describe serves the API's description, which is written when the first client asks for it.
func (a *api) describe() {
	spec := a.huma.OpenAPI()
	mendSchemas(spec)
	serve := func(path, contentType string, write func() ([]byte, error)) {
		written := sync.OnceValues(write)
		a.mux.HandleFunc("GET "+apiRoot+path, func(w http.ResponseWriter, r *http.Request) {
			text, err := written()
			switch {
			case err != nil:
				a.log.Error("describe the API", "error", err)
				http.Error(w, "The API's description can't be written.", http.StatusInternalServerError)
			case contentType == "":
				sendHTML(w, r, http.StatusOK, text)
			default:
				w.Header().Set("Content-Type", contentType)
				_, _ = w.Write(text) // the client may be gone
			}
		})
	}
	serve("/openapi.json", "application/openapi+json", func() ([]byte, error) { return json.MarshalIndent(spec, "", "  ") })
	serve("/openapi.yaml", "application/openapi+yaml", spec.YAML)
	serve("/docs", "", func() ([]byte, error) {
		var page bytes.Buffer
		err := pages()["api"].ExecuteTemplate(&page, "content", docView(spec))
		return page.Bytes(), err
	})
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

// docPage is what the API's page shows: the description, and its operations by tag, each tag's in the order of
// their paths.
type docPage struct {
	*huma.OpenAPI
	Tagged map[string][]*huma.Operation
}

func docView(spec *huma.OpenAPI) docPage {
	page := docPage{spec, map[string][]*huma.Operation{}}
	for _, path := range slices.Sorted(maps.Keys(spec.Paths)) {
		for _, op := range operationsOf(spec.Paths[path]) {
			page.Tagged[op.Tags[0]] = append(page.Tagged[op.Tags[0]], op)
		}
	}
	return page
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
