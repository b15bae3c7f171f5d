package words

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
)

// Chapter is something that happened to a person at a time. Its texts hold no
// times, so that whoever shows them shows all times in one zone.
type Chapter struct {
	At   time.Time
	Text string
	Made time.Time // when the invitation that Text names was created, by Clerk's clock; zero: it names none
	Then string    // what came of it; may be empty
}

// Story tells a person's story, in the order of events.
func Story(s *report.Story) []Chapter {
	var all []Chapter
	for i := range s.Rows {
		all = append(all, rowChapters(s, &s.Rows[i])...)
	}
	for i := range s.Attempts {
		all = append(all, attemptChapters(s, &s.Attempts[i])...)
	}
	for _, l := range s.LateAnswers {
		all = append(all, Chapter{At: l.ReceivedAt, Text: fmt.Sprintf("an answer to attempt %d came late (%s); it changes no outcome", l.AttemptID, statusText(l.HTTPStatus, l.ErrorCode))})
	}
	for i := range s.Sightings {
		all = append(all, sightingChapter(s, &s.Sightings[i]))
	}
	for _, e := range s.Events {
		if !slices.Contains(toldElsewhere, e.Action) {
			all = append(all, Chapter{At: e.At, Text: fmt.Sprintf("batch %d %s by %s", e.BatchID, strings.ReplaceAll(e.Action, "_", " "), e.Actor)})
		}
	}
	slices.SortStableFunc(all, func(a, b Chapter) int { return a.At.Compare(b.At) })
	return all
}

// toldElsewhere are what a row's, an attempt's or another row's chapter tells.
var toldElsewhere = []string{"imported", "started", "done", "certified", "corrected", "sweep_started"}

// rowChapters tell where a row came from and, unless an attempt or a sighting
// tells it, how it ended.
func rowChapters(s *report.Story, r *report.StoryRow) []Chapter {
	where := ""
	if r.Environment == sandbox {
		where = ", in the sandbox"
	}
	first := Chapter{At: r.ImportedAt, Text: fmt.Sprintf("row %d of %s (batch %d%s), uploaded by %s", r.RowNumber, r.FileName, r.BatchID, where, r.Actor)}
	if r.CorrectsID != nil {
		first.Text = fmt.Sprintf("batch %d%s sets row %d of batch %d right, asked for by %s", r.BatchID, where, *r.CorrectsRow, *r.CorrectsID, r.Actor)
	}
	if r.ResendOf != nil {
		first.Text = fmt.Sprintf("row %d of batch %d%s, which invites batch %d again, asked for by %s", r.RowNumber, r.BatchID, where, *r.ResendOf, r.Actor)
	}
	if len(s.Keys) > 1 && r.Email != nil {
		first.Text += ": " + *r.Email
	}
	switch {
	case r.Outcome == nil && r.RevokeSentAt != nil:
		first.Then = "undecided: to be invited again, whatever becomes of the batch"
	case r.Outcome == nil:
		first.Then = "undecided"
	case *r.Outcome == invitation.Invalid || *r.Outcome == invitation.DuplicateRow:
		first.Then = ending(s, r)
	}
	all := []Chapter{first}
	if first.Then == "" && !provedBy(s, r) {
		all = append(all, Chapter{At: *r.DecidedAt, Text: fmt.Sprintf("row %d of batch %d is decided", r.RowNumber, r.BatchID), Then: ending(s, r)})
	}
	if c, ok := statusChapter(r); ok {
		all = append(all, c)
	}
	return all
}

// Status says where an invitation stands, for people. A status may be whatever
// Clerk wrote there.
func Status(s invitation.Status) string {
	if s == invitation.Deleted {
		return "deleted at Clerk"
	}
	return Plain(string(s))
}

// statusChapter tells where the invitation stands since, unless that came with
// the outcome or an attempt tells it.
func statusChapter(r *report.StoryRow) (Chapter, bool) {
	if r.Status == nil || r.StatusAt == nil {
		return Chapter{}, false
	}
	text := string(*r.Status)
	switch {
	case *r.Status == invitation.Deleted:
		text = "deleted at Clerk (read by its id, in every status)"
	case r.StatusReadID != nil && *r.Status == invitation.Revoked:
		text = "revoked by somebody else (read by reconciling)"
	case r.StatusReadID != nil:
		text += " (read by reconciling)"
	case *r.Status != invitation.Accepted && *r.Status != invitation.Expired:
		return Chapter{}, false
	}
	return Chapter{At: *r.StatusAt, Text: text}, true
}

// provedBy reports whether a chapter about an attempt or a sighting says how
// the row ended.
func provedBy(s *report.Story, r *report.StoryRow) bool {
	return slices.ContainsFunc(s.Attempts, func(a report.StoryAttempt) bool { return proves(&a, r) }) ||
		slices.ContainsFunc(s.Sightings, func(g report.StorySighting) bool { return shows(&g, r) })
}

// proves reports whether the answer to an attempt decided the row.
func proves(a *report.StoryAttempt, r *report.StoryRow) bool {
	return r.Outcome != nil && r.ReadID == nil && r.AttemptID != nil && *r.AttemptID == a.AttemptID
}

// shows reports whether a sighting is what the row's deciding read showed.
func shows(g *report.StorySighting, r *report.StoryRow) bool {
	return r.Outcome != nil && r.ReadID != nil && (g.ClerkID == or(r.ClerkInvitationID) || g.ClerkID == or(r.ClerkUserID))
}

// ending says how a row ended and what proves it.
func ending(s *report.Story, r *report.StoryRow) string {
	text := Outcomes[*r.Outcome]
	if len(s.Rows) > 1 {
		text = fmt.Sprintf("row %d of batch %d: %s", r.RowNumber, r.BatchID, text)
	}
	if why := endText(r); why != "" {
		text += " (" + why + ")"
	}
	return text
}

// endText says what proves a row's outcome.
func endText(r *report.StoryRow) string {
	var parts []string
	if r.DuplicateOf != nil {
		parts = append(parts, fmt.Sprintf("row %d has the same address", *r.DuplicateOf))
	}
	if r.Reason != nil && *r.Reason != "" {
		parts = append(parts, Reason(*r.Reason))
	}
	if r.ClerkInvitationID != nil {
		parts = append(parts, "invitation "+*r.ClerkInvitationID)
	}
	if r.ClerkUserID != nil {
		parts = append(parts, "user "+*r.ClerkUserID)
	}
	switch {
	case r.ReadID != nil:
		parts = append(parts, fmt.Sprintf("read %d", *r.ReadID))
	case r.AttemptID != nil:
		parts = append(parts, fmt.Sprintf("attempt %d", *r.AttemptID))
	}
	return strings.Join(parts, ", ")
}

// Reason puts problems and the commonest other reasons into words; what it does
// not know stands as it is.
func Reason(code string) string {
	if said, ok := Problems[code]; ok {
		return said
	}
	if said, ok := ourReasons[code]; ok {
		return said
	}
	if base, param, found := strings.Cut(code, ":"); found {
		return fmt.Sprintf("Clerk refuses %s (%s)", param, base)
	}
	if said := clerkSays[code]; said != "" {
		return said + " (" + code + ")"
	}
	return code
}

// ourReasons are the program's own, but for problems of the file.
var ourReasons = map[string]string{
	"invited_by_another_row":     "another row invited them",
	"pending_at_clerk":           "Clerk had a pending invitation",
	"user_at_clerk":              "Clerk had them as a user",
	"invited_again_recently":     "invited again lately",
	"corrected":                  "given up: its address was set right",
	"revoked_elsewhere":          "the invitation that was to be sent again was taken back",
	"made_since_the_batch_began": "Clerk shows an invitation made since the batch began",
}

// clerkSays is what is meant by the codes that people meet, Clerk's and those of
// requests without its answer; the code stays beside it, for whoever asks Clerk.
var clerkSays = map[string]string{
	"not_allowed_access":               "Clerk's allow or block list keeps the address out",
	"form_param_format_invalid":        "Clerk takes it for no address",
	"user_quota_exceeded":              "Clerk's quota of users is used up",
	"quota_exceeded":                   "a quota of Clerk's is used up",
	"invitations_not_supported":        "the instance takes no e-mail addresses",
	"request_body_too_large":           "Clerk finds the request too large",
	"bad_request":                      "Clerk refuses the request and does not say why",
	"dev_monthly_email_limit_exceeded": "the development instance has sent its e-mails of the month",
	"resource_locked":                  "something else at Clerk had hold of it",
	"internal_clerk_error":             "Clerk had a fault of its own",
	"connection_closed":                "the connection to Clerk was closed",
	"timeout":                          "Clerk did not answer in time",
	"connection_refused":               "Clerk could not be reached",
	"connection_failed":                "Clerk could not be reached",
	"connect_timeout":                  "Clerk could not be reached",
	"lookup_failed":                    "Clerk could not be reached",
}

// attemptChapters tell what Clerk was asked, how that was resolved, and of the read
// that resolved it where it showed nothing: a read that showed something has a
// chapter of its own.
func attemptChapters(s *report.Story, a *report.StoryAttempt) []Chapter {
	call := map[string]string{"create": "single request", "bulk": "bulk request", "revoke": "revocation"}[a.Call]
	asked := "asked Clerk"
	if again(s, a) {
		asked += " again"
	}
	text := fmt.Sprintf("%s, %s %d", asked, call, a.AttemptID)
	if a.Others > 0 {
		text += fmt.Sprintf(" with %s", Counted(a.Others, "other", "others"))
	}
	if a.AskedBy != nil {
		text += fmt.Sprintf(" (sweep %d, by %s)", *a.SweepID, *a.AskedBy)
	}
	c := Chapter{At: a.StartedAt, Text: text + ": " + answerText(a)}
	for _, create := range s.Attempts { // an earlier version's, sent before the create under whose claim it ran
		if a.Under != nil && create.AttemptID == *a.Under {
			c.At = create.StartedAt.Add(-time.Nanosecond)
		}
	}
	switch {
	case a.Open:
		c.Then = "open: whether it did anything is not known yet; only reading Clerk will tell"
	case a.Resolution != nil:
		c.Then = resolutionWords(a)
	}
	for i := range s.Rows {
		if proves(a, &s.Rows[i]) {
			c.Then = ending(s, &s.Rows[i])
		}
	}
	if a.Resolution == nil || *a.Resolution != "not_there" || a.ClosedAt == nil || a.Call == "revoke" {
		return []Chapter{c}
	}
	c.Then = "whether it invited them, only reading Clerk tells"
	read := "read Clerk"
	if a.SettledBy != nil {
		read += fmt.Sprintf(" (read %d)", *a.SettledBy)
	}
	return []Chapter{c, {At: *a.ClosedAt, Text: fmt.Sprintf("%s: no invitation of attempt %d is there", read, a.AttemptID), Then: "it made nothing, and they may be asked for again"}}
}

// again reports whether Clerk was asked to invite the person before, for the same row.
func again(s *report.Story, a *report.StoryAttempt) bool {
	return a.Call != "revoke" && a.BatchID != nil && slices.ContainsFunc(s.Attempts, func(b report.StoryAttempt) bool {
		return b.AttemptID < a.AttemptID && b.Call != "revoke" && b.BatchID != nil && *b.BatchID == *a.BatchID && *b.RowNumber == *a.RowNumber
	})
}

// answerText says what Clerk's answer was.
func answerText(a *report.StoryAttempt) string {
	switch {
	case a.Resolution != nil && *a.Resolution == "not_sent":
		return "it was never sent"
	case a.AnsweredAt == nil && a.Open:
		return "no answer yet"
	case a.AnsweredAt == nil:
		return "no answer was written down before it was too late"
	case a.HTTPStatus == nil:
		return fmt.Sprintf("the answer was lost (%s)", strings.ReplaceAll(or(a.ErrorCode), "_", " "))
	}
	return "answered " + statusText(a.HTTPStatus, a.ErrorCode)
}

func statusText(code *int, errorCode *string) string {
	if code == nil {
		return "no status"
	}
	text := fmt.Sprint(*code)
	if errorCode != nil && *errorCode != "" {
		text += " " + *errorCode
	}
	return text
}

// resolutionWords say how an attempt was closed for the person.
func resolutionWords(a *report.StoryAttempt) string {
	invitationID := ""
	if a.ClerkInvitationID != nil {
		invitationID = " " + *a.ClerkInvitationID
	}
	answered := map[string]string{
		"created": "made invitation" + invitationID, "exists": "made nothing: a pending invitation stands",
		"user": "made nothing: they are a user", "rejected": "made nothing: Clerk refuses them",
		"refused": "made nothing", "revoked": "revoked invitation" + invitationID,
		"gone": "nothing to revoke", "accepted": "not revoked: they had accepted",
	}
	if *a.Resolution == "answered" {
		return answered[or(a.Answer)]
	}
	return cmp.Or(map[string]string{
		"not_sent":  "nothing was done",
		"refused":   "the answer proves that nothing was done",
		"ours":      "a read showed that it made an invitation" + invitationID,
		"not_there": "a read showed that it made nothing",
		"exists":    "a read showed another invitation" + invitationID,
		"user":      "a read showed that they are a user",
	}[*a.Resolution], "settled by a read")
}

// sightingChapter tells what a read of Clerk showed.
func sightingChapter(s *report.Story, g *report.StorySighting) Chapter {
	c := Chapter{At: g.FirstSeen, Text: "read Clerk: "}
	if g.Kind == "user" {
		c.Text += "user " + g.ClerkID
	} else {
		c.Text += fmt.Sprintf("%s invitation %s", or(g.Status), g.ClerkID)
		if ours(s, g) {
			c.Text += ", ours"
		}
		if g.CreatedAt != nil {
			c.Made = *g.CreatedAt
		}
	}
	for i := range s.Rows {
		if shows(g, &s.Rows[i]) {
			c.Then = ending(s, &s.Rows[i])
		}
	}
	return c
}

func ours(s *report.Story, g *report.StorySighting) bool {
	return slices.ContainsFunc(s.Summary, func(sum report.StorySum) bool {
		return sum.InstanceID == g.InstanceID && slices.Contains(sum.Sent, g.ClerkID)
	})
}

// Summary says how many invitations are proven, and what is not known.
func Summary(sum report.StorySum) string {
	var text string
	n := len(sum.Sent)
	switch {
	case n == 0:
		text = "No invitation sent."
	case sum.Environment == sandbox:
		text = fmt.Sprintf("%s in the sandbox; nobody was mailed.", upperFirst(Counted(n, "invitation", "invitations")))
	case n == 1:
		text = "One invitation sent, one e-mail."
	default:
		text = fmt.Sprintf("%s invitations sent, as many e-mails.", Thousands(n))
	}
	if n == 0 && sum.Environment == sandbox {
		text = "No invitation in the sandbox."
	}
	if n == 0 && sum.Open > 0 {
		text = "No invitation is proven."
	}
	if sum.Open > 0 {
		text += fmt.Sprintf(" Of %s it is not known yet whether one went out.", Counted(sum.Open, "request", "requests"))
	}
	if sum.Late > 0 {
		text += fmt.Sprintf(" %s may have made one more.", upperFirst(Counted(sum.Late, "request whose answer came late", "requests whose answers came late")))
	}
	if len(sum.AttemptIDs) > 0 {
		ids := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(sum.AttemptIDs)), ", "), "[]")
		text += " Attempts " + ids + "."
		if len(sum.AttemptIDs) == 1 {
			text = strings.Replace(text, " Attempts ", " Attempt ", 1)
		}
	}
	return text
}

func upperFirst(s string) string {
	if strings.HasPrefix(s, "1 ") {
		return "One " + s[2:]
	}
	return s
}
