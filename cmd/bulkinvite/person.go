package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"bulkinvite/internal/erased"
	"bulkinvite/internal/report"
	"bulkinvite/internal/words"
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
	story, err := report.Why(ctx, pool, key)
	if err != nil {
		return err
	}
	if len(story.Rows)+len(story.Attempts) == 0 {
		return fail(exitUsage, "no_person", "see that the address is spelt as in the file; bulkinvite batches lists the files", "nobody by that address is in any file")
	}
	return p.show(story, storyText(story, shownZone()))
}

// storyText is the story as a person reads it, in the order of events. zone names
// the zone of its times.
func storyText(s *report.Story, zone string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (times: %s)\n\n", plain(s.Key), plain(zone))
	indent := strings.Repeat(" ", len("  Mon _2 Jan 15:04:05  "))
	if slices.ContainsFunc(s.Keys, erased.Removed) {
		b.WriteString("  A purge removed the addresses and cells of some rows. " +
			"Their outcomes, requests and Clerk's ids are left.\n\n")
	}
	for _, c := range words.Story(s) {
		text := plain(c.Text)
		if !c.Made.IsZero() {
			text += ", created " + c.Made.Local().Format("2 Jan 15:04:05")
		}
		fmt.Fprintf(&b, "  %s  %s\n", c.At.Local().Format("Mon _2 Jan 15:04:05"), text)
		if c.Then != "" {
			fmt.Fprintf(&b, "%s%s %s\n", indent, signs.arrow, plain(c.Then))
		}
	}
	b.WriteString("\n")
	for _, sum := range s.Summary {
		b.WriteString("  " + words.Summary(sum) + "\n")
	}
	if len(s.Summary) > 0 {
		b.WriteString("  --json for all of it\n")
	}
	return b.String()
}
