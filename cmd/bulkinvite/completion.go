package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/posener/complete"
	"github.com/willabides/kongplete"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is shown before the flags.
func (completionCmd) Help() string {
	return `Examples:

    bulkinvite completion bash >> ~/.bashrc
    bulkinvite completion zsh >> ~/.zshrc
    bulkinvite completion fish > ~/.config/fish/completions/bulkinvite.fish

Prints what makes the shell complete commands, flags, their values and files. The shell asks the program itself, so that it need not be done again for a new version.`
}

// completions are what makes each shell ask the program, which stands for %s.
var completions = map[string]string{
	"bash": "complete -o bashdefault -o default -C %s bulkinvite\n",
	"zsh":  "autoload -U +X bashcompinit && bashcompinit\ncomplete -o bashdefault -o default -C %s bulkinvite\n",
	"fish": `function __complete_bulkinvite
    set -lx COMP_LINE (commandline -cp)
    test -z (commandline -ct)
    and set COMP_LINE "$COMP_LINE "
    %s
end
complete -f -c bulkinvite -a "(__complete_bulkinvite)"
`,
}

// Run prints the lines for a shell.
func (c *completionCmd) Run(p *program) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program's own path: %w", err)
	}
	quoted := "'" + strings.ReplaceAll(self, "'", `'\''`) + "'"
	return p.printAsIs(fmt.Sprintf(completions[c.Shell], quoted))
}

// completed answers a shell that asks how a line may go on, and reports whether
// one did.
func completed(parser *kong.Kong) bool {
	done := false
	kongplete.Complete(parser,
		kongplete.WithPredictor("file", complete.PredictFiles("*")),
		kongplete.WithExitFunc(func(int) { done = true }))
	return done
}
