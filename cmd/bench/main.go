// Command bench measures whether the fleet reaches what Clerk's limits allow,
// and no more, how fast it is where no limit is in the way, and how what that
// costs grows. It builds bulkinvite, starts a PostgreSQL of its own and the
// sandbox as a server, and runs real processes against them:
//
//	go run ./cmd/bench all           every figure beside its limit; writes docs/bench/README.md, import.md and invite.md
//	go run ./cmd/bench budget        bulkinvite beside plain loops; writes docs/bench/budget.md and .svg
//	go run ./cmd/bench show-budget   what the budget promises, line by line, with pass or fail
//	go run ./cmd/bench show-sweep    what sweeps promise, in the same way
//	go run ./cmd/bench show-roster   what a new version of a roster does, in the same way
//	go run ./cmd/bench show-drift    what reconciling finds, in the same way
//	go run ./cmd/bench show-web      what the pages of a batch of a million rows take, in the same way
//	go run ./cmd/bench invite        inviting without limits beside River's worker that does nothing; writes docs/bench/invite.md
//	go run ./cmd/bench show-audit    how long questions take of 10,000,000 rows, in the same way
//	go run ./cmd/bench import        bulkinvite import beside a bare loop; writes docs/bench/import.md
//
// It runs in the module's directory. An hour of Clerk's becomes a window of 6 s,
// but where the hour is the point.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: go run ./cmd/bench all [flags]
       go run ./cmd/bench budget [flags]
       go run ./cmd/bench show-budget [-list] [LINE…]
       go run ./cmd/bench show-sweep [-list] [LINE…]
       go run ./cmd/bench show-roster [-list] [LINE…]
       go run ./cmd/bench show-drift [-list] [LINE…]
       go run ./cmd/bench show-web [-list] [LINE…]
       go run ./cmd/bench show-audit [-list] [LINE…]
       go run ./cmd/bench import [flags]
       go run ./cmd/bench invite [flags]
`

// errFailed says that a promise was seen broken; what and how was printed.
var errFailed = errors.New("not all lines passed")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.As(err, new(usageError)):
		fmt.Fprintf(os.Stderr, "bench: %v\n%s", err, usage)
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// usageError says what is wrong with the command line.
type usageError struct{ error }

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return usageError{errors.New("which one?")}
	}
	switch args[0] {
	case "all":
		return allBench(ctx, args[1:])
	case "budget":
		return budget(ctx, args[1:])
	case "show-budget":
		return showLines(ctx, args[0], budgetLines, args[1:])
	case "show-sweep":
		return showLines(ctx, args[0], sweepLines, args[1:])
	case "show-roster":
		return showLines(ctx, args[0], rosterLines, args[1:])
	case "show-drift":
		return showLines(ctx, args[0], driftLines, args[1:])
	case "show-web":
		return showLines(ctx, args[0], webLines, args[1:])
	case "show-audit":
		return showLines(ctx, args[0], auditLines, args[1:])
	case "import":
		return importBench(ctx, args[1:])
	case "invite":
		return inviteBench(ctx, args[1:])
	}
	// What these run in processes of their own.
	switch {
	case args[0] == "bare-parse" && len(args) == 2:
		_, err := bareParse(args[1])
		return err
	case args[0] == "bare-import" && len(args) == 3:
		return bareImport(ctx, args[1], args[2])
	case args[0] == "noop" && len(args) == 3:
		return runNoop(ctx, args[1], args[2])
	}
	return usageError{fmt.Errorf("%q is no command", args[0])}
}

// parse reads a command's flags.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError{err}
	}
	return nil
}
