package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkinvite/invitation"
)

type whyCmd struct {
	Email string `arg:"" help:"The person's address, in any spelling."`
}

// Help is shown before the flags.
func (whyCmd) Help() string {
	return `Examples:

    bulkinvite why jane@example.com
    bulkinvite why jane@example.com --json

With --json: every row, attempt, answer, read and event, with ids. Exit status 2 if no file names the person.`
}

// Run tells a person's story.
func (c *whyCmd) Run(ctx context.Context, p *program) error {
	key, err := personKey(c.Email)
	if err != nil {
		return err
	}
	pool, err := p.database(ctx)
	if err != nil {
		return err
	}
	story, err := invitation.NewReader(pool).Why(ctx, key)
	if err != nil {
		return err
	}
	if len(story.Rows)+len(story.Attempts) == 0 {
		return fail(exitUsage, "no_person", "see that the address is spelt as in the file; bulkinvite batches lists the files", "nobody by that address is in any file")
	}
	if p.json {
		return p.printJSON(story)
	}
	return p.print(storyText(story))
}

// chapter is something that happened at a time.
type chapter struct {
	at   time.Time
	text string
	then string // what came of it
}

// storyText is the story as a person reads it, in the order of events.
func storyText(s *invitation.Story) string {
	var all []chapter
	for i := range s.Rows {
		all = append(all, rowChapters(s, &s.Rows[i])...)
	}
	for i := range s.Attempts {
		all = append(all, attemptChapter(s, &s.Attempts[i]))
	}
	for _, l := range s.LateAnswers {
		all = append(all, chapter{at: l.ReceivedAt, text: fmt.Sprintf("an answer to attempt %d came late (%s); it changes no outcome", l.AttemptID, statusText(l.HTTPStatus, l.ErrorCode))})
	}
	for i := range s.Sightings {
		all = append(all, sightingChapter(s, &s.Sightings[i]))
	}
	for _, e := range s.Events {
		if e.Action != "imported" && e.Action != "started" && e.Action != "done" {
			all = append(all, chapter{at: e.At, text: fmt.Sprintf("batch %d %s by %s", e.BatchID, e.Action, e.Actor)})
		}
	}
	slices.SortStableFunc(all, func(a, b chapter) int { return a.at.Compare(b.at) })
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", plain(s.Key))
	indent := strings.Repeat(" ", len("  Mon _2 Jan 15:04:05  "))
	for _, c := range all {
		fmt.Fprintf(&b, "  %s  %s\n", c.at.Local().Format("Mon _2 Jan 15:04:05"), plain(c.text))
		if c.then != "" {
			fmt.Fprintf(&b, "%s→ %s\n", indent, plain(c.then))
		}
	}
	b.WriteString("\n")
	for _, sum := range s.Summary {
		b.WriteString("  " + summaryText(sum) + "\n")
	}
	if len(s.Summary) > 0 {
		b.WriteString("  --json for all of it\n")
	}
	return b.String()
}

// rowChapters tell where a row came from and, unless an attempt or a sighting
// tells it, how it ended.
func rowChapters(s *invitation.Story, r *invitation.StoryRow) []chapter {
	where := ""
	if r.Environment == sandboxInstance {
		where = ", in the sandbox"
	}
	first := chapter{at: r.ImportedAt, text: fmt.Sprintf("row %d of %s (batch %d%s), uploaded by %s", r.RowNumber, r.FileName, r.BatchID, where, r.Actor)}
	switch {
	case r.Outcome == nil:
		first.then = "undecided"
	case *r.Outcome == invitation.Invalid || *r.Outcome == invitation.DuplicateRow:
		first.then = ending(s, r)
	}
	all := []chapter{first}
	if first.then == "" && !provedBy(s, r) {
		all = append(all, chapter{at: *r.DecidedAt, text: fmt.Sprintf("row %d of batch %d is decided", r.RowNumber, r.BatchID), then: ending(s, r)})
	}
	if told := r.Status != nil && (*r.Status == invitation.Accepted || *r.Status == invitation.Expired); told && r.StatusAt != nil {
		all = append(all, chapter{at: *r.StatusAt, text: string(*r.Status)})
	}
	return all
}

// provedBy reports whether a chapter about an attempt or a sighting says how
// the row ended.
func provedBy(s *invitation.Story, r *invitation.StoryRow) bool {
	return slices.ContainsFunc(s.Attempts, func(a invitation.StoryAttempt) bool { return proves(&a, r) }) ||
		slices.ContainsFunc(s.Sightings, func(g invitation.StorySighting) bool { return shows(&g, r) })
}

// proves reports whether the answer to an attempt decided the row.
func proves(a *invitation.StoryAttempt, r *invitation.StoryRow) bool {
	return r.Outcome != nil && r.ReadID == nil && r.AttemptID != nil && *r.AttemptID == a.AttemptID
}

// shows reports whether a sighting is what the row's deciding read showed.
func shows(g *invitation.StorySighting, r *invitation.StoryRow) bool {
	return r.Outcome != nil && r.ReadID != nil && (g.ClerkID == or(r.ClerkInvitationID) || g.ClerkID == or(r.ClerkUserID))
}

// ending says how a row ended and what proves it.
func ending(s *invitation.Story, r *invitation.StoryRow) string {
	text := outcomeWords[*r.Outcome]
	if len(s.Rows) > 1 {
		text = fmt.Sprintf("row %d of batch %d: %s", r.RowNumber, r.BatchID, text)
	}
	if why := endText(r); why != "" {
		text += " (" + why + ")"
	}
	return text
}

// endText says what proves a row's outcome.
func endText(r *invitation.StoryRow) string {
	var parts []string
	if r.DuplicateOf != nil {
		parts = append(parts, fmt.Sprintf("row %d has the same address", *r.DuplicateOf))
	}
	if r.Reason != nil && *r.Reason != "" {
		parts = append(parts, reasonWords(*r.Reason))
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

// reasonWords puts the commonest reasons into words; others stand as they are.
func reasonWords(code string) string {
	switch code {
	case "invited_by_another_row":
		return "another row invited them"
	case "pending_at_clerk":
		return "Clerk had a pending invitation"
	case "user_at_clerk":
		return "Clerk had them as a user"
	case "made_since_the_batch_began":
		return "Clerk shows an invitation made since the batch began"
	}
	return code
}

// attemptChapter tells what Clerk was asked and how that was resolved.
func attemptChapter(s *invitation.Story, a *invitation.StoryAttempt) chapter {
	call := map[string]string{"create": "single request", "bulk": "bulk request", "revoke": "revocation"}[a.Call]
	text := fmt.Sprintf("asked Clerk, %s %d", call, a.Number)
	if a.Others > 0 {
		text += fmt.Sprintf(" with %s", counted(a.Others, "other", "others"))
	}
	if a.AskedBy != nil {
		text += fmt.Sprintf(" (sweep %d, by %s)", *a.SweepID, *a.AskedBy)
	}
	c := chapter{at: a.StartedAt, text: text + " · " + answerText(a)}
	switch {
	case a.Open:
		c.then = "open: whether it did anything is not known yet; only reading Clerk will tell"
	case a.Resolution != nil:
		c.then = resolutionWords(a)
	}
	for i := range s.Rows {
		if proves(a, &s.Rows[i]) {
			c.then = ending(s, &s.Rows[i])
		}
	}
	return c
}

// answerText says what Clerk's answer was.
func answerText(a *invitation.StoryAttempt) string {
	switch {
	case a.Resolution != nil && *a.Resolution == "not_sent":
		return "it was never sent"
	case a.AnsweredAt == nil && a.Open:
		return "no answer yet"
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
func resolutionWords(a *invitation.StoryAttempt) string {
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
	switch *a.Resolution {
	case "answered":
		return answered[or(a.Answer)]
	case "not_sent":
		return "nothing was done"
	case "refused":
		return "the answer proves that nothing was done"
	case "ours":
		return "a read showed that it made an invitation" + invitationID
	case "not_there":
		return "a read showed that it made nothing"
	case "exists":
		return "a read showed another invitation" + invitationID
	case "user":
		return "a read showed that they are a user"
	}
	return "settled by a read"
}

// sightingChapter tells what a read of Clerk showed.
func sightingChapter(s *invitation.Story, g *invitation.StorySighting) chapter {
	text := "read Clerk: "
	switch {
	case g.Kind == "user":
		text += "user " + g.ClerkID
	default:
		text += fmt.Sprintf("%s invitation %s", or(g.Status), g.ClerkID)
		if g.CreatedAt != nil {
			text += ", created " + g.CreatedAt.Local().Format("2 Jan 15:04:05")
		}
		if ours(s, g) {
			text += ", ours"
		}
	}
	c := chapter{at: g.FirstSeen, text: text}
	for i := range s.Rows {
		if shows(g, &s.Rows[i]) {
			c.then = ending(s, &s.Rows[i])
		}
	}
	return c
}

func ours(s *invitation.Story, g *invitation.StorySighting) bool {
	return slices.ContainsFunc(s.Summary, func(sum invitation.StorySum) bool {
		return sum.InstanceID == g.InstanceID && slices.Contains(sum.Sent, g.ClerkID)
	})
}

// summaryText says how many invitations are proven, and what is not known.
func summaryText(sum invitation.StorySum) string {
	var text string
	n := len(sum.Sent)
	switch {
	case n == 0:
		text = "No invitation sent."
	case sum.Environment == sandboxInstance:
		text = fmt.Sprintf("%s in the sandbox; nobody was mailed.", upperFirst(counted(n, "invitation", "invitations")))
	case n == 1:
		text = "One invitation sent, one e-mail."
	default:
		text = fmt.Sprintf("%s invitations sent, as many e-mails.", thousands(n))
	}
	if n == 0 && sum.Environment == sandboxInstance {
		text = "No invitation in the sandbox."
	}
	if n == 0 && sum.Open > 0 {
		text = "No invitation is proven."
	}
	if sum.Open > 0 {
		text += fmt.Sprintf(" Of %s it is not known yet whether one went out.", counted(sum.Open, "request", "requests"))
	}
	if sum.Late > 0 {
		text += fmt.Sprintf(" %s may have made one more.", upperFirst(counted(sum.Late, "request whose answer came late", "requests whose answers came late")))
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
