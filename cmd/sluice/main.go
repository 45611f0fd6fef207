// Command sluice decides payments before they settle. See `sluice --help`.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // policies name time zones, and not every machine has them

	"github.com/spf13/cobra"
)

// The exit statuses of every command.
const (
	exitFine  = 0
	exitBad   = 1 // the thing that was checked is bad
	exitUsage = 2 // wrong usage, or it could not run
)

// errBad is returned by a command that has said itself what is bad.
var errBad = errors.New("bad")

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	root := &cobra.Command{
		Use:           "sluice",
		Short:         "The gate that every payment passes before it settles",
		Long:          "Sluice decides, in real time and before settlement, what happens to a payment: approve, hold or block.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(sandboxCommand(), runCommand(), replayCommand(), rulesCommand(), listsCommand(), outageCommand(), logCommand(), deadLettersCommand(), holdsCommand(),
		statusCommand(), benchCommand())
	root.SetArgs(args)
	switch err := root.ExecuteContext(ctx); {
	case err == nil:
		return exitFine
	case errors.Is(err, errBad):
		return exitBad
	default:
		fmt.Fprintln(os.Stderr, "sluice:", err)
		return exitUsage
	}
}
