// Command bulkinvite takes a CSV of people and gets each of them one invitation
// through Clerk, in the shortest time that Clerk's limits allow, with proof of
// what happened to every row.
//
// This package is the only one that reads flags and the environment, and the
// only one that exits. Every command returns an error; run turns it into text
// and an exit status, in one place.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/term"
)

// cli is the whole command line.
type cli struct {
	settings

	Send       sendCmd       `cmd:"" help:"Check a file, show the plan, invite everyone in it, and report."`
	Check      checkCmd      `cmd:"" help:"Show what a file holds and what sending it would take. Writes and sends nothing."`
	Import     importCmd     `cmd:"" help:"Like send, but leave the work to workers that run elsewhere."`
	Work       workCmd       `cmd:"" help:"Be a worker: send what is waiting. Any number of them may run."`
	Serve      serveCmd      `cmd:"" help:"Serve the page on which people upload files and watch batches, and the JSON API."`
	User       userCmd       `cmd:"" help:"Make a line for serve's file of users."`
	Token      tokenCmd      `cmd:"" help:"Make, list and revoke what scripts sign their requests with."`
	Sessions   sessionsCmd   `cmd:"" help:"List who is signed in to the page, and sign people out."`
	Start      startCmd      `cmd:"" help:"Let a draft run."`
	Pause      pauseCmd      `cmd:"" help:"Stop a running batch until it is resumed."`
	Resume     resumeCmd     `cmd:"" help:"Let a paused batch go on."`
	Cancel     cancelCmd     `cmd:"" help:"Stop a batch for good. Who was invited stays invited."`
	Retry      retryCmd      `cmd:"" help:"Take up the rows of a batch that ended as failed."`
	Resend     resendCmd     `cmd:"" help:"Invite again the people of a batch who have not accepted."`
	Undo       undoCmd       `cmd:"" help:"Cancel a batch, and take back what it sent and nobody has accepted."`
	Correct    correctCmd    `cmd:"" help:"Take a mistyped invitation back, and invite the right address."`
	Batches    batchesCmd    `cmd:"" help:"List the batches."`
	Status     statusCmd     `cmd:"" help:"Say where a batch stands."`
	Results    resultsCmd    `cmd:"" help:"Print every row of a batch with its outcome, in the file's order."`
	Audit      auditCmd      `cmd:"" help:"Find rows across all batches."`
	Why        whyCmd        `cmd:"" help:"Tell one person's whole story, with the evidence."`
	Verify     verifyCmd     `cmd:"" help:"Hold a batch against the certificate of its end: was anything changed since?"`
	Sweep      sweepCmd      `cmd:"" help:"Revoke our invitations that nobody accepted. Shows what it would do, unless --apply."`
	Rescind    rescindCmd    `cmd:"" help:"Take back the people listed: revoke their invitations, stop those who still wait."`
	Reconcile  reconcileCmd  `cmd:"" help:"Read everything at Clerk, bring every status up to date, and say what no row explains."`
	Drift      driftCmd      `cmd:"" help:"List where Clerk and our rows tell different stories."`
	Erase      eraseCmd      `cmd:"" help:"Remove a person's address, name and original rows. What is left proves that it was done."`
	Purge      purgeCmd      `cmd:"" help:"Remove addresses and original rows of batches that ended long ago."`
	Sandbox    sandboxCmd    `cmd:"" help:"Run the stand-in for Clerk as a server."`
	Migrate    migrateCmd    `cmd:"" help:"Bring the database up to date."`
	Dump       dumpCmd       `cmd:"" help:"Write every row of the database to a file, to move it."`
	Load       loadCmd       `cmd:"" help:"Load what dump wrote into an empty database."`
	Limits     limitsCmd     `cmd:"" help:"Show what Clerk's limits have left and which are frozen, and end a freeze."`
	Doctor     doctorCmd     `cmd:"" help:"Look whether anything is wrong here, and say what to do."`
	Config     configCmd     `cmd:"" help:"Print the settings in force, and where each came from."`
	Completion completionCmd `cmd:"" help:"Print what makes a shell complete this program's command lines."`
	Version    versionCmd    `cmd:"" help:"Print the versions of the program, Go and PostgreSQL."`
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the program but for the process around it.
func run(args []string, in io.Reader, out, errs *os.File) int {
	signs = signsOf(os.Getenv)
	p := &program{
		in: in, out: out, errs: errs,
		json:   slices.Contains(args, "--json"),
		outTTY: term.IsTerminal(int(out.Fd())),
		errTTY: term.IsTerminal(int(errs.Fd())),
	}
	if f, ok := in.(*os.File); ok {
		p.inTTY = term.IsTerminal(int(f.Fd()))
	}
	ctx, stop := untilSignal(context.Background())
	defer stop()
	err := p.dispatch(ctx, args)
	if closing := p.close(); err == nil {
		err = closing
	}
	return p.report(ctx, err)
}

// dispatch parses the command line and runs the command it names. What Run takes as an
// argument Kong has opened before: commands that look at their flags first open it themselves.
func (p *program) dispatch(ctx context.Context, args []string) error {
	if err := dropEmptyVariables(); err != nil {
		return err
	}
	var c cli
	parser, err := newParser(&c, p.out)
	if err != nil {
		return err
	}
	if completed(parser) {
		return nil
	}
	args = commonArguments(args)
	command, err := parser.Parse(args)
	if err != nil {
		return usage(err)
	}
	p.place = placeGiven(command)
	if err := p.configure(&c.settings); err != nil {
		return err
	}
	command.Bind(&c)
	command.BindTo(ctx, (*context.Context)(nil))
	if err := errors.Join(
		command.BindToProvider(func() (*pgxpool.Pool, error) { return p.database(ctx) }),
		command.BindToProvider(func() (*takingBack, error) { return p.openTakingBack(ctx) }),
	); err != nil {
		return err
	}
	return command.Run(p)
}

// commonArguments turns what most programs answer, --version, help and help COMMAND, into ours.
func commonArguments(args []string) []string {
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case args[0] == "--version":
		return append([]string{"version"}, args[1:]...)
	case args[0] == "help":
		return append(slices.Clone(args[1:]), "--help")
	}
	return args
}

// newParser builds the parser for c; help goes to out.
func newParser(c *cli, out io.Writer) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("bulkinvite"),
		kong.Description(description),
		kong.Writers(out, out),
		kong.Help(printHelp),
		kong.Configuration(loadConfig),
		kong.ExplicitGroups([]kong.Group{{Key: settingsGroup, Title: "Settings"}}),
	)
}

const description = `Invite a file of people through Clerk, each of them once, every row accounted for.

Examples:
  bulkinvite send --sandbox hires.csv        rehearse: nothing leaves this machine
  bulkinvite check hires.csv                 what the file holds, how long it takes
  bulkinvite send hires.csv                  the real thing, with CLERK_SECRET_KEY set
  bulkinvite status 12                       where a batch stands
  bulkinvite results 12 --outcome rejected   the rows that Clerk refused
  bulkinvite why jane@example.com            one person's whole story

Exit status: 0 all decided · 1 the program failed · 2 wrong usage or an unreadable file · 3 all
decided, some rows failed, rejected or invalid · 4 refused or held · 130 interrupted.`

// untilSignal returns a context that ends at the first SIGINT, SIGTERM or SIGHUP
// (the terminal was closed; under nohup it stays ignored): what is in flight is then finished and recorded. A second signal ends the process
// at once.
func untilSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
			cancel(errInterrupted)
		case <-done:
			return
		}
		select {
		case <-signals:
			os.Exit(exitInterrupted)
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}
