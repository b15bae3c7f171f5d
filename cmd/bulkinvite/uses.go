package main

import (
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Settings by what they are for. Every command accepts all of them.
const (
	forAll      = " config json log-format log-level"
	forRunning  = " database-url data-dir" // a database that runs already
	forDatabase = forRunning + " postgres-from yes"
	forLimits   = " limit-create limit-bulk limit-general"
	forClerk    = " clerk-key-file clerk-url sandbox data-dir request-timeout" + forLimits
	forWork     = forDatabase + forClerk + " settle recover-after"
)

// settingsUsed are the settings that each command uses, beside those of forAll. Its help shows
// these alone, and a command that is suggested to a person has no flag that it does not use.
var settingsUsed = map[string]string{
	"send": forWork, "import": forWork, "work": forWork, "serve": forWork, "resend": forWork, "correct": forWork,
	"undo": forWork, "sweep": forWork, "rescind": forWork, "reconcile": forWork, "erase": forWork, "doctor": forWork,

	"check": forRunning + forClerk,
	"start": forDatabase + forLimits, "pause": forDatabase + forLimits, "resume": forDatabase + forLimits,
	"cancel": forDatabase + forLimits, "retry": forDatabase + forLimits, "status": forDatabase + forLimits,

	"limits show": forDatabase + forLimits + " request-timeout", "limits thaw": forDatabase,

	"token create": forDatabase, "token list": forDatabase, "token revoke": forDatabase,
	"sessions list": forDatabase, "sessions end": forDatabase,
	"batches": forDatabase, "results": forDatabase, "audit": forDatabase, "why": forDatabase, "verify": forDatabase,
	"drift": forDatabase, "purge": forDatabase, "migrate": forDatabase, "dump": forDatabase, "load": forDatabase,

	"sandbox": " data-dir" + forLimits,
	"config":  forWork, // it prints them
	"version": forRunning,
	"user":    "", "completion": "",
}

// uses reports whether a command, or one of its commands, uses a setting.
func uses(command *kong.Node, setting string) bool {
	of := func(n *kong.Node) bool { return uses(n, setting) }
	if command.Parent == nil || slices.ContainsFunc(command.Children, of) {
		return true
	}
	return slices.Contains(strings.Fields(forAll+settingsUsed[command.Path()]), setting)
}
