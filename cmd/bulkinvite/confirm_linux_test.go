package main

import (
	"slices"
	"strings"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/revocation"
)

// answers types answers to questions, in their order.
func answers(pairs ...string) func(*terminal) {
	return func(term *terminal) {
		for i := 0; i < len(pairs); i += 2 {
			term.answer(pairs[i], pairs[i+1])
		}
	}
}

// Erasing needs a confirmation: --yes off a terminal, an answer on one. Anything but
// yes erases and revokes nothing.
func TestEraseAsks(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_test_erase", "BULKINVITE_SETTLE=1ms")
	b.run("send", "--yes", b.file("all.csv", listOf(0, 3))).want(t, exitOK)
	everybody := []string{"p000@example.com", "p001@example.com", "p002@example.com"}
	whole := func(what string) {
		t.Helper()
		for _, address := range everybody {
			b.run("why", address).want(t, exitOK)
		}
		if open := s.openTo(t); !slices.Equal(open, everybody) {
			t.Errorf("%s: open at Clerk: %v", what, open)
		}
	}
	for _, args := range [][]string{{}, {"--revoke"}} {
		o := b.run(append([]string{"erase", "p000@example.com", "--json"}, args...)...).want(t, exitHeld)
		refuses(t, o, "not_confirmed", "--yes")
		whole("off a terminal")
	}
	const revoke, erase = "Revoke it first? [y/N] ", "for good? [y/N] "
	for name, said := range map[string][]string{
		"no, no": {revoke, "n", erase, "n"}, "yes, no": {revoke, "y", erase, "n"}, "no, empty": {revoke, "", erase, ""},
	} {
		exit, text := b.sit(answers(said...), "erase", "p000@example.com")
		if exit != exitHeld || !strings.Contains(text, "nothing was erased") {
			t.Errorf("%s: %d\n%s", name, exit, text)
		}
		whole(name)
	}
	if exit, text := b.sit(answers(erase, "n"), "erase", "p000@example.com", "--revoke"); exit != exitHeld {
		t.Errorf("--revoke, no: %d\n%s", exit, text)
	}
	whole("--revoke, no")

	if exit, text := b.sit(answers(revoke, "n", erase, "y"), "erase", "p000@example.com"); exit != exitOK {
		t.Errorf("%d\n%s", exit, text)
	}
	if exit, text := b.sit(answers(revoke, "y", erase, "y"), "erase", "p001@example.com"); exit != exitOK {
		t.Errorf("%d\n%s", exit, text)
	}
	b.run("erase", "p002@example.com", "--yes").want(t, exitOK)
	for _, address := range everybody {
		b.run("why", address).want(t, exitUsage)
	}
	s.wantOpen(t, "p000@example.com", "p002@example.com")
}

// On a terminal rescind --apply and sweep --apply ask: of a production instance for
// the number. Elsewhere --apply is the confirmation, which schedulers rely on.
func TestTakingBackAsks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		environment, key, question, yes string
		no                              []string
	}{
		{"production", "sk_live_asks", "Type the number of invitations to revoke them: ", "2", []string{"n", "y", "3", ""}},
		{"development", "sk_test_asks", "Revoke 2 invitations? [y/N] ", "y", []string{"n", ""}},
	} {
		t.Run(c.environment, func(t *testing.T) {
			t.Parallel()
			b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY="+c.key, "BULKINVITE_SETTLE=1ms")
			b.run("send", "--yes", b.file("all.csv", listOf(0, 9))).want(t, exitOK)
			list := b.file("gone.csv", listOf(0, 2))
			for _, answer := range c.no {
				exit, text := b.sit(answers(c.question, answer), "rescind", list, "--apply")
				if exit != exitHeld || !strings.Contains(text, "nothing was revoked") {
					t.Errorf("%q: %d\n%s", answer, exit, text)
				}
			}
			if n := len(s.openTo(t)); n != 9 {
				t.Fatalf("%d of 9 are open after a no", n)
			}
			if exit, text := b.sit(answers(c.question, c.yes), "rescind", list, "--apply"); exit != exitOK {
				t.Errorf("%d\n%s", exit, text)
			}
			b.run("rescind", "--email", "p002@example.com", "--apply").want(t, exitOK)
			if exit, text := b.sit(func(*terminal) {}, "rescind", "--email", "p003@example.com", "--apply", "--yes"); exit != exitOK {
				t.Errorf("--yes: %d\n%s", exit, text)
			}
			// There is nothing to ask for where nothing is to be taken back, or where it is only shown.
			for _, args := range [][]string{{"--email", "p003@example.com", "--apply"}, {"--email", "p004@example.com"}} {
				if exit, text := b.sit(func(*terminal) {}, append([]string{"rescind"}, args...)...); exit != exitOK {
					t.Errorf("%v: %d\n%s", args, exit, text)
				}
			}
			if n := len(s.openTo(t)); n != 5 {
				t.Fatalf("%d are open, not 5", n)
			}

			sweeps := func() int {
				return len(decode[[]revocation.Sweep](t, b.run("sweep", "--list", "--json").want(t, exitOK)))
			}
			before := sweeps()
			question := strings.Replace(c.question, "2", "5", 1)
			for _, answer := range c.no {
				exit, text := b.sit(answers(question, answer), "sweep", "--older-than", "1ms", "--apply")
				if exit != exitHeld || !strings.Contains(text, "nothing was revoked") {
					t.Errorf("sweep, %q: %d\n%s", answer, exit, text)
				}
			}
			if n := len(s.openTo(t)); n != 5 || sweeps() != before {
				t.Fatalf("%d of 5 are open after a no, %d sweeps after %d", n, sweeps(), before)
			}
			if exit, text := b.sit(answers(question, strings.Replace(c.yes, "2", "5", 1)), "sweep", "--older-than", "1ms", "--apply"); exit != exitOK {
				t.Errorf("sweep: %d\n%s", exit, text)
			}
			if n := len(s.openTo(t)); n != 0 {
				t.Fatalf("%d are open after the sweep", n)
			}
		})
	}
}

// A held sweep that is allowed on a terminal asks too.
func TestAllowingASweepAsks(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_allows", "BULKINVITE_SETTLE=1ms")
	b.run("send", "--yes", b.file("all.csv", listOf(0, 25))).want(t, exitOK)
	b.run("sweep", "--older-than", "1ms", "--apply").want(t, exitHeld)
	const question = "Type the number of invitations to revoke them: "
	if exit, text := b.sit(answers(question, "24"), "sweep", "1", "--allow"); exit != exitHeld {
		t.Errorf("%d\n%s", exit, text)
	}
	if o := decode[revocation.Sweep](t, b.run("sweep", "1", "--json").want(t, exitOK)); !o.Held || len(s.openTo(t)) != 25 {
		t.Errorf("after a wrong number: %+v, %d open", o, len(s.openTo(t)))
	}
	if exit, text := b.sit(answers(question, "25"), "sweep", "1", "--allow"); exit != exitOK {
		t.Errorf("%d\n%s", exit, text)
	}
	expect.Equal(t, "invitations open", len(s.openTo(t)), 0)
}
