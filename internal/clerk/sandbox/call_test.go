package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

func TestCreateAnswersAnInvitation(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var got map[string]any
	b.ok("POST", "/v1/invitations", `{"email_address":"Ann@example.com","public_metadata":{"team":"a"},"redirect_url":"https://app.example.com/welcome",
		"notify":true,"ignore_existing":false,"expires_in_days":7,"template_slug":"invitation"}`, &got)
	id, url := got["id"].(string), got["url"].(string)
	if !strings.HasPrefix(id, "inv_") || !strings.Contains(url, "ticket=") {
		t.Errorf("id %q, url %q", id, url)
	}
	created := float64(b.clock.now().UnixMilli())
	same(t, "invitation", got, map[string]any{
		"object": "invitation", "id": id, "email_address": "Ann@example.com", "public_metadata": map[string]any{"team": "a"},
		"revoked": false, "status": "pending", "url": url,
		"created_at": created, "updated_at": created, "expires_at": created + 7*24*3600*1000,
	})
	same(t, "default expiry", b.invite("bob@example.com").ExpiresAt, b.clock.now().AddDate(0, 0, 30).UnixMilli())
	r := b.post("/v1/invitations", item("eve@example.com"))
	if len(r.header.Get("Clerk-Trace-Id")) != 32 || r.header.Get("Date") != "Sun, 22 Nov 2026 12:00:00 GMT" || r.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", r.header)
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	with := func(more string) string { return `{"email_address":"new@example.com",` + more + `}` }
	param := func(name string) map[string]any { return map[string]any{"param_name": name} }
	for name, test := range map[string]struct {
		config Config
		body   string
		want   failure
	}{
		"no body":               {body: "", want: failure{400, "request_body_invalid", nil}},
		"no JSON":               {body: "{", want: failure{400, "request_body_invalid", nil}},
		"null":                  {body: "null", want: failure{400, "request_body_invalid", nil}},
		"an array":              {body: "[]", want: failure{400, "request_body_invalid", nil}},
		"too long":              {body: `{"email_address":"` + strings.Repeat("a", maxBody) + `"}`, want: failure{400, "request_body_invalid", nil}},
		"no address":            {body: "{}", want: failure{422, "form_param_missing", param("email_address")}},
		"null address":          {body: `{"email_address":null}`, want: failure{422, "form_param_missing", param("email_address")}},
		"empty address":         {body: item(""), want: failure{422, "form_param_missing", param("email_address")}},
		"invalid address":       {body: item("nobody"), want: failure{422, "form_param_format_invalid", param("email_address")}},
		"no dot":                {body: item("a@localhost"), want: failure{422, "form_param_format_invalid", param("email_address")}},
		"display name":          {body: item("A <a@example.com>"), want: failure{422, "form_param_format_invalid", param("email_address")}},
		"address is a number":   {body: `{"email_address":7}`, want: failure{422, "form_param_format_invalid", param("email_address")}},
		"unknown field":         {body: with(`"emial":"x"`), want: failure{422, "form_param_unknown", param("emial")}},
		"metadata no object":    {body: with(`"public_metadata":[1]`), want: failure{422, "form_param_value_invalid", param("public_metadata")}},
		"metadata too large":    {body: with(`"public_metadata":{"a":"` + strings.Repeat("x", maxMetadata) + `"}`), want: failure{422, "form_param_exceeds_allowed_size", param("public_metadata")}},
		"redirect relative":     {body: with(`"redirect_url":"welcome"`), want: failure{422, "form_param_format_invalid", param("redirect_url")}},
		"expires in 0 days":     {body: with(`"expires_in_days":0`), want: failure{422, "form_param_value_invalid", param("expires_in_days")}},
		"expires in 366 days":   {body: with(`"expires_in_days":366`), want: failure{422, "form_param_value_invalid", param("expires_in_days")}},
		"expires in text":       {body: with(`"expires_in_days":"7"`), want: failure{422, "form_param_value_invalid", param("expires_in_days")}},
		"notify is text":        {body: with(`"notify":"no"`), want: failure{422, "form_param_value_invalid", param("notify")}},
		"template":              {body: with(`"template_slug":"magic"`), want: failure{422, "form_param_value_invalid", param("template_slug")}},
		"a user":                {body: item("user@example.com"), want: failure{422, "form_identifier_exists", param("email_address")}},
		"a user, other case":    {body: item("User@Example.com"), want: failure{422, "form_identifier_exists", param("email_address")}},
		"pending":               {body: item("pending@example.com"), want: failure{400, "duplicate_record", map[string]any{"email_addresses": []any{"pending@example.com"}}}},
		"pending, other case":   {body: item("PENDING@example.com"), want: failure{400, "duplicate_record", map[string]any{"email_addresses": []any{"PENDING@example.com"}}}},
		"blocked":               {body: item("bad@example.com"), want: failure{403, "not_allowed_access", map[string]any{"identifiers": []any{"bad@example.com"}}}},
		"blocked domain":        {body: item("any@Blocked.example"), want: failure{403, "not_allowed_access", map[string]any{"identifiers": []any{"any@Blocked.example"}}}},
		"user quota":            {config: Config{Switches: Switches{Quota: "user_quota_exceeded"}}, body: item("a@example.com"), want: failure{403, "user_quota_exceeded", nil}},
		"quota":                 {config: Config{Switches: Switches{Quota: "quota_exceeded"}}, body: item("a@example.com"), want: failure{403, "quota_exceeded", nil}},
		"not supported":         {config: Config{Switches: Switches{NotSupported: true}}, body: item("a@example.com"), want: failure{400, "invitations_not_supported", nil}},
		"names offenders alone": {config: Config{Switches: Switches{Offenders: "none"}}, body: item("pending@example.com"), want: failure{400, "duplicate_record", map[string]any{"email_addresses": []any{"pending@example.com"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.config.Users = []string{"user@example.com"}
			test.config.Invitations = []string{"pending@example.com"}
			test.config.Blocked = []string{"Bad@example.com", "*@blocked.example"}
			b := setup(t, test.config)
			same(t, "answer", b.post("/v1/invitations", test.body).failure(t), test.want)
			same(t, "mails", b.mailbox().Mails, 0)
		})
	}
}

func TestIgnoreExistingCreatesAnother(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	first := b.invite("a@example.com")
	var second invitationBody
	b.ok("POST", "/v1/invitations", `{"email_address":"A@example.com","ignore_existing":true}`, &second)
	if first.ID == second.ID {
		t.Error("the same invitation")
	}
	same(t, "mailbox", b.mailbox(), box{2, map[string]int{"a@example.com": 2}, []string{"a@example.com"}})
}

func TestExistingUserSwitch(t *testing.T) {
	t.Parallel()
	ignoring := `{"email_address":"user@example.com","ignore_existing":true}`
	for setting, want := range map[string]struct{ plain, ignoring int }{
		"refused":                {422, 422},
		"refused_unless_ignored": {422, 200},
		"allowed":                {200, 200},
	} {
		b := setup(t, Config{Users: []string{"user@example.com"}, Switches: Switches{ExistingUser: setting}})
		same(t, setting, b.post("/v1/invitations", item("user@example.com")).status, want.plain)
		same(t, setting+", ignoring", b.post("/v1/invitations", ignoring).status, want.ignoring)
	}
}

func TestNotifyFalseSendsNoMail(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var in invitationBody
	b.ok("POST", "/v1/invitations", `{"email_address":"quiet@example.com","notify":false}`, &in)
	b.invite("loud@example.com")
	same(t, "mailbox", b.mailbox(), box{1, map[string]int{"loud@example.com": 1}, []string{}})
	var one box
	b.ok("GET", "/sandbox/mailbox?address=Quiet@example.com", "", &one)
	same(t, "one address", one, box{0, map[string]int{}, []string{}})
	b.ok("GET", "/sandbox/mailbox?address=Loud@example.com", "", &one)
	same(t, "one address", one, box{1, map[string]int{"loud@example.com": 1}, []string{}})
}

func TestMailCapIsByMonth(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Switches: Switches{MailCap: 2}})
	b.post("/v1/invitations/bulk", items("a@example.com", "b@example.com", "c@example.com"))
	b.invite("d@example.com")
	same(t, "mails in November", b.mailbox().Mails, 2)
	b.clock.advance(9 * 24 * time.Hour)
	b.invite("e@example.com")
	same(t, "mails in December", b.mailbox().Mails, 3)
}

func TestBulkRefuses(t *testing.T) {
	t.Parallel()
	var eleven []string
	for i := range 11 {
		eleven = append(eleven, fmt.Sprintf("n%d@example.com", i))
	}
	for name, test := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"no JSON":      {"[", 400, "request_body_invalid"},
		"an object":    {item("a@example.com"), 400, "request_body_invalid"},
		"empty":        {"[]", 400, "request_body_invalid"},
		"not objects":  {`["a@example.com"]`, 400, "request_body_invalid"},
		"eleven":       {items(eleven...), 400, "bulk_size_exceeded"},
		"one bad form": {items("a@example.com", "nobody"), 422, "form_param_format_invalid"},
		"one a user":   {items("a@example.com", "user@example.com"), 422, "form_identifier_exists"},
		"one pending":  {items("a@example.com", "pending@example.com"), 400, "duplicate_record"},
		"one blocked":  {items("a@example.com", "bad@example.com"), 403, "not_allowed_access"},
		"form first":   {items("user@example.com", "pending@example.com", "bad@example.com", "nobody"), 422, "form_param_format_invalid"},
		"block second": {items("user@example.com", "pending@example.com", "bad@example.com"), 403, "not_allowed_access"},
		"users third":  {items("pending@example.com", "user@example.com"), 422, "form_identifier_exists"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, Config{Users: []string{"user@example.com"}, Invitations: []string{"pending@example.com"}, Blocked: []string{"bad@example.com"}})
			b.post("/v1/invitations/bulk", test.body).wants(t, test.status, test.code)
			same(t, "mails", b.mailbox().Mails, 0)
		})
	}
}

func TestBulkSwitch(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]struct{ status, mails, answered int }{
		"all_or_nothing": {400, 0, 0},
		"partial":        {400, 2, 0},
		"partial_200":    {200, 2, 2},
	} {
		b := setup(t, Config{Invitations: []string{"pending@example.com"}, Switches: Switches{Bulk: setting}})
		r := b.post("/v1/invitations/bulk", items("a@example.com", "pending@example.com", "b@example.com"))
		same(t, setting+": status", r.status, want.status)
		same(t, setting+": mails", b.mailbox().Mails, want.mails)
		if r.status == http.StatusOK {
			var list []invitationBody
			expect.OK(t, json.Unmarshal([]byte(r.body), &list))
			same(t, setting+": answered", len(list), want.answered)
		}
		b.post("/v1/invitations/bulk", items("pending@example.com")).wants(t, 400, "duplicate_record")
	}
}

func TestOffendersSwitch(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string][]any{"all": {"p@example.com", "q@example.com"}, "first": {"p@example.com"}, "none": nil} {
		b := setup(t, Config{Invitations: []string{"p@example.com", "q@example.com"}, Blocked: []string{"*@blocked.example"}, Switches: Switches{Offenders: setting}})
		r := b.post("/v1/invitations/bulk", items("p@example.com", "a@example.com", "q@example.com"))
		meta := r.wants(t, 400, "duplicate_record").meta
		if want == nil {
			same(t, setting, meta, map[string]any(nil))
			if strings.Contains(r.body, "example.com") {
				t.Errorf("%s: the message names somebody: %s", setting, r.body)
			}
		} else {
			same(t, setting, meta, map[string]any{"email_addresses": want})
		}
		meta = b.post("/v1/invitations/bulk", items("x@blocked.example", "y@blocked.example")).wants(t, 403, "not_allowed_access").meta
		named, _ := meta["identifiers"].([]any)
		same(t, setting+": blocked", len(named), len(want))
	}
}

func TestBulkOrderSwitch(t *testing.T) {
	t.Parallel()
	var sent []string
	for i := range 10 {
		sent = append(sent, fmt.Sprintf("n%d@example.com", i))
	}
	reversed := slices.Clone(sent)
	slices.Reverse(reversed)
	for _, setting := range []string{"same", "reversed", "shuffled"} {
		b := setup(t, Config{Switches: Switches{BulkOrder: setting}})
		var list []invitationBody
		b.ok("POST", "/v1/invitations/bulk", items(sent...), &list)
		got := emails(list)
		switch setting {
		case "same":
			same(t, setting, got, sent)
		case "reversed":
			same(t, setting, got, reversed)
		}
		slices.Sort(got)
		same(t, setting, got, sent)
	}
}

func TestTwiceSwitch(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]struct{ status, mails int }{"refuse": {400, 0}, "both": {200, 3}, "one": {200, 2}} {
		b := setup(t, Config{Switches: Switches{Twice: setting}})
		r := b.post("/v1/invitations/bulk", items("a@example.com", "b@example.com", "A@example.com"))
		same(t, setting+": status", r.status, want.status)
		same(t, setting+": mails", b.mailbox().Mails, want.mails)
		if want.status != http.StatusOK {
			same(t, setting, r.wants(t, 400, "duplicate_record").meta, map[string]any{"email_addresses": []any{"A@example.com"}})
		}
	}
}

func TestCaseSwitch(t *testing.T) {
	t.Parallel()
	for _, apart := range []bool{false, true} {
		b := setup(t, Config{Users: []string{"User@example.com"}, Switches: Switches{CaseSensitive: apart}})
		b.invite("Jo@example.com")
		status, users, found := 400, 1, 1
		if apart {
			status, users, found = 200, 0, 0
		}
		same(t, "query", len(b.list("query=jo@example.com")), found)
		same(t, "the other case", b.post("/v1/invitations", item("jo@example.com")).status, status)
		var list []userBody
		b.ok("GET", "/v1/users?email_address=user@example.com", "", &list)
		same(t, "users", len(list), users)
	}
}

func TestExpirySwitches(t *testing.T) {
	t.Parallel()
	for _, yes := range []bool{false, true} {
		b := setup(t, Config{Switches: Switches{ExpiredBlocks: yes, ExpiredNotRevocable: yes}})
		in := b.invite("a@example.com")
		b.clock.advance(30*24*time.Hour - time.Second)
		same(t, "status before", b.list("")[0].Status, "pending")
		b.clock.advance(time.Second)
		same(t, "status after", b.list("")[0].Status, "expired")
		again := b.post("/v1/invitations", item("a@example.com"))
		revoke := b.post("/v1/invitations/"+in.ID+"/revoke", "null")
		if yes {
			again.wants(t, 400, "duplicate_record")
			revoke.wants(t, 404, "resource_not_found")
		} else {
			same(t, "invited again", again.status, 200)
			same(t, "revoked", revoke.status, 200)
		}
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	a, c := b.invite("a@example.com"), b.invite("c@example.com")
	b.clock.advance(time.Minute)
	var got invitationBody
	b.ok("POST", "/v1/invitations/"+a.ID+"/revoke", "", &got)
	if !got.Revoked || got.Status != "revoked" || got.UpdatedAt != b.clock.now().UnixMilli() || got.ID != a.ID {
		t.Errorf("revoked: %+v", got)
	}
	b.post("/v1/invitations/"+a.ID+"/revoke", "").wants(t, 400, "invitation_already_revoked")
	b.post("/sandbox/accept", `{"addresses":["c@example.com"]}`)
	b.post("/v1/invitations/"+c.ID+"/revoke", "").wants(t, 400, "invitation_already_accepted")
	b.post("/v1/invitations/inv_none/revoke", "").wants(t, 404, "resource_not_found")
	same(t, "invited after revoking", b.post("/v1/invitations", item("a@example.com")).status, 200)
}

func TestList(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	ids := map[string]string{}
	for _, name := range []string{"b", "d", "a", "c", "e"} {
		ids[name] = b.invite(name + "@example.com").ID
		b.clock.advance(time.Second)
	}
	b.post("/v1/invitations/"+ids["d"]+"/revoke", "")
	b.post("/sandbox/accept", `{"addresses":["a@example.com"]}`)
	b.post("/sandbox/invitations", `[{"email":"old@example.com","age":"960h"},{"email":"short@example.com","age":"1h","expires_in_days":2}]`)
	for query, want := range map[string]string{
		"":                              "e c a b short old",
		"order_by=-created_at":          "e c a b short old",
		"order_by=created_at":           "old short b a c e",
		"order_by=%2Bcreated_at":        "old short b a c e",
		"order_by=+created_at":          "old short b a c e",
		"order_by=email_address":        "a b c e old short",
		"order_by=-email_address":       "short old e c b a",
		"order_by=expires_at":           "old short b a c e",
		"limit=2":                       "e c",
		"limit=2&offset=2":              "a b",
		"limit=500&offset=5":            "old",
		"offset=6":                      "",
		"status=pending":                "e c b short",
		"status=accepted":               "a",
		"status=expired":                "old",
		"status=revoked":                "d",
		"status=revoked&status=pending": "e c d b short",
		"query=old@example.com":         "old",
		"query=d@example.com":           "old", // all but the revoked one, by substring
		"query=D@EXAMPLE":               "old",
		"query=nobody":                  "",
	} {
		var got []string
		for _, email := range emails(b.list(query)) {
			got = append(got, strings.TrimSuffix(email, "@example.com"))
		}
		same(t, "list "+query, strings.Join(got, " "), want)
	}
	same(t, "by id", emails(b.list("query="+ids["b"])), []string{"b@example.com"})
	var page struct {
		Data       []invitationBody `json:"data"`
		TotalCount int              `json:"total_count"`
	}
	b.ok("GET", "/v1/invitations?paginated=true&limit=1&status=pending&offset=1", "", &page)
	same(t, "page", emails(page.Data), []string{"c@example.com"})
	same(t, "total", page.TotalCount, 4)
	b.ok("GET", "/v1/invitations?paginated=true&offset=100", "", &page)
	if page.Data == nil || len(page.Data) != 0 || page.TotalCount != 6 {
		t.Errorf("page past the end: %+v", page)
	}
}

func TestListRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for _, query := range []string{"limit=0", "limit=501", "limit=x", "offset=-1", "status=open", "order_by=url"} {
		f := b.get("/v1/invitations?"+query).wants(t, 422, "form_param_value_invalid")
		name, _, _ := strings.Cut(query, "=")
		same(t, query, f.meta, map[string]any{"param_name": name})
	}
}

func TestQuerySwitch(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]int{"substring": 2, "exact": 1} {
		b := setup(t, Config{Switches: Switches{Query: setting}})
		b.invite("ann@example.com")
		b.invite("joann@example.com")
		same(t, setting, len(b.list("query=Ann@example.com")), want)
	}
}

func TestListLagSwitch(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Switches: Switches{ListLag: Duration(10 * time.Second)}})
	in := b.invite("a@example.com")
	same(t, "at once", len(b.list("")), 0)
	b.post("/v1/invitations", item("a@example.com")).wants(t, 400, "duplicate_record")
	b.clock.advance(10 * time.Second)
	same(t, "after the lag", len(b.list("status=pending")), 1)
	b.post("/v1/invitations/"+in.ID+"/revoke", "")
	same(t, "revoked, pending", len(b.list("status=pending")), 1)
	same(t, "revoked, revoked", len(b.list("status=revoked")), 0)
	same(t, "revoked field", b.list("")[0].Revoked, false)
	b.clock.advance(10 * time.Second)
	same(t, "later, pending", len(b.list("status=pending")), 0)
	same(t, "later, revoked", len(b.list("status=revoked")), 1)
	b.configure(`{"switches":{"list_lag":"0s"}}`)
	b.invite("b@example.com")
	same(t, "without lag", len(b.list("status=pending")), 1)
}

func TestUsers(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var seeds, asked []string
	for i := range 30 {
		seeds = append(seeds, fmt.Sprintf(`{"email":"u%02d@example.com","age":"%dh"}`, i, i))
		asked = append(asked, fmt.Sprintf("email_address=U%02d@example.com", i))
	}
	b.post("/sandbox/users", "["+strings.Join(seeds, ",")+"]")
	var users []userBody
	b.ok("GET", "/v1/users?email_address=u07@example.com&email_address=nobody@example.com&limit=500", "", &users)
	if len(users) != 1 || users[0].EmailAddresses[0].EmailAddress != "u07@example.com" || !strings.HasPrefix(users[0].ID, "user_") || users[0].Object != "user" {
		t.Errorf("one user: %+v", users)
	}
	b.ok("GET", "/v1/users?"+strings.Join(asked, "&"), "", &users)
	same(t, "default limit", len(users), 10)
	same(t, "newest first", users[0].EmailAddresses[0].EmailAddress, "u00@example.com")
	b.ok("GET", "/v1/users?limit=500&"+strings.Join(asked, "&"), "", &users)
	same(t, "all of them", len(users), 30)
	b.ok("GET", "/v1/users?limit=500&offset=28", "", &users)
	same(t, "without address", len(users), 2)
	var count struct {
		TotalCount int `json:"total_count"`
	}
	b.ok("GET", "/v1/users/count?"+asked[3], "", &count)
	same(t, "count", count.TotalCount, 1)
	b.get("/v1/users?"+strings.Repeat("email_address=a@example.com&", 101)).wants(t, 422, "form_param_value_invalid")
	b.get("/v1/users?limit=501").wants(t, 422, "form_param_value_invalid")
}

func TestInstance(t *testing.T) {
	t.Parallel()
	var got struct {
		ID          string `json:"id"`
		Environment string `json:"environment_type"`
	}
	for _, test := range []struct {
		config          Config
		key             string
		id, environment string
	}{
		{Config{}, "sk_test_x", "ins_sandbox", "development"},
		{Config{}, "sk_live_x", "ins_sandbox", "production"},
		{Config{InstanceID: "ins_other", Environment: "production"}, "sk_test_x", "ins_other", "production"},
	} {
		b := setup(t, test.config)
		b.key = test.key
		b.ok("GET", "/v1/instance", "", &got)
		same(t, "instance", []string{got.ID, got.Environment}, []string{test.id, test.environment})
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		config, key string
		status      int
	}{
		{"", "sk_test_a", 200}, {"", "sk_live_a", 200}, {"", "", 401}, {"", "pk_test_a", 401},
		{"sk_test_one", "sk_test_one", 200}, {"sk_test_one", "sk_test_two", 401},
	} {
		b := setup(t, Config{Key: test.config})
		b.key = test.key
		r := b.get("/v1/invitations")
		same(t, fmt.Sprintf("key %q for %q", test.key, test.config), r.status, test.status)
		if r.status != 200 {
			r.wants(t, 401, "clerk_key_invalid")
		}
	}
}

func TestUnlistedPaths(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for _, call := range []string{"GET /v1/organizations", "DELETE /v1/invitations", "PUT /v1/users", "GET /", "GET /v1/invitations/inv_1"} {
		method, path, _ := strings.Cut(call, " ")
		b.do(method, path, "").wants(t, 404, "resource_not_found")
	}
}

// FuzzBulk checks that for any body the answer is either every item, created, or one of Clerk's
// errors with nothing created.
func FuzzBulk(f *testing.F) {
	f.Add(items("a@example.com", "b@example.com"))
	f.Add(`[{"email_address":"a@example.com","public_metadata":{"a":1},"expires_in_days":1e2,"notify":null}]`)
	f.Add(`[{"email_address":"\"a b\"@example.com"},null]`)
	f.Fuzz(func(t *testing.T, body string) {
		s, err := New(Config{})
		must.OK(t, err)
		r := httptest.NewRequest("POST", "/v1/invitations/bulk", strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer sk_test_x")
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		var sent []struct{}
		var answered []invitationBody
		switch {
		case w.Code >= 500:
			t.Errorf("status %d", w.Code)
		case w.Code != http.StatusOK:
			reply{w.Code, w.Header(), w.Body.String()}.failure(t)
			same(t, "invitations", len(s.state.invitations), 0)
		case json.Unmarshal([]byte(body), &sent) != nil || json.Unmarshal(w.Body.Bytes(), &answered) != nil:
			t.Errorf("created from %s: %s", body, w.Body)
		default:
			same(t, "answered", len(answered), len(sent))
			same(t, "invitations", len(s.state.invitations), len(sent))
		}
	})
}

// TestDelete checks that a deleted invitation of any status is in no list, is found by no call, and
// blocks no new one.
func TestDelete(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"substring", "exact"} {
		b := setup(t, Config{Switches: Switches{Query: query}})
		for _, status := range []string{"pending", "revoked"} {
			email := status + "@example.com"
			id := b.invite(email).ID
			if status == "revoked" {
				same(t, "revoke", b.post("/v1/invitations/"+id+"/revoke", "").status, 200)
			}
			same(t, "by id", emails(b.list("status="+status+"&query="+id)), []string{email})
			same(t, "delete", b.do("DELETE", "/v1/invitations/"+id, "").status, 200)
			b.do("DELETE", "/v1/invitations/"+id, "").wants(t, 404, "resource_not_found")
			b.post("/v1/invitations/"+id+"/revoke", "").wants(t, 404, "resource_not_found")
			for _, filter := range []string{"", "status=pending&", "status=revoked&"} {
				same(t, "by id", len(b.list(filter+"query="+id)), 0)
			}
			b.invite(email)
		}
	}
}
