// Command ployzctl is the operator's command.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
)

func main() {
	root := &cobra.Command{Use: "ployzctl", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(dev.Command())
	os.Exit(status(root.Execute()))
}

// status prints an error in the form the caller asked for and returns the exit status.
func status(err error) int {
	var exit dev.ExitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	}
	e := api.AsError(err)
	for _, arg := range os.Args {
		if arg == "--json" {
			json.NewEncoder(os.Stdout).Encode(map[string]any{"error": e})
			return 3
		}
	}
	fmt.Fprintln(os.Stderr, "ployzctl:", e.Error())
	if e.Hint != "" {
		fmt.Fprintln(os.Stderr, "  try:", e.Hint)
	}
	return 3
}
