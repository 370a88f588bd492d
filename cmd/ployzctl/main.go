// Command ployzctl is the operator's command. It talks to ployzd over its socket or the operator's
// own ssh, and boots labs of machines (`dev`). It keeps no state but the file of contexts.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
)

// version is set by the linker.
var version = "dev"

func main() {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Getenv}
	os.Exit(a.main(context.Background(), os.Args[1:]))
}

// main runs one command line and returns the exit status: 0 done, 1 a defect, 2 usage, 3 refused with
// nothing changed, and the others as api.Result.Exit has them.
func (a *app) main(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	ran, err := root.ExecuteContextC(ctx)
	var (
		shown exitStatus
		inner dev.ExitStatus
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &shown):
		return int(shown)
	case errors.As(err, &inner):
		return int(inner)
	case !a.began:
		err = usageError(ran, args, err)
	}
	return a.failed(api.AsError(err))
}

// exitStatus is the error of a command that has already said everything.
type exitStatus int

// Error names the status, for whoever prints it all the same.
func (e exitStatus) Error() string { return "exit status" }

// failed shows an error and returns its exit status.
func (a *app) failed(e *api.Error) int {
	if a.json {
		a.writeJSON(map[string]*api.Error{"error": e})
	} else {
		a.showError("refused", e)
	}
	switch e.Code {
	case api.CodeUsage:
		return api.ExitUsage
	case api.CodeInternal:
		return api.Failed.Exit()
	}
	return api.Refused.Exit()
}
