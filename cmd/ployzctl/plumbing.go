package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy/compose"
	"github.com/ployz/ployz/node/sdk"
)

// dialCommand is the far end of --host ssh://…: it pipes its input and output to the daemon's socket.
func (a *app) dialCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "dial [SOCKET]",
		Short: "Pipe standard input and output to the daemon's socket, for ployzctl --host ssh://…",
		Args:  cobra.MaximumNArgs(1), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := dial(cmd.Context(), a.in, a.out, strings.Join(args, ""))
			if err == nil {
				return nil
			}
			// Standard output is the connection; the far client reads the last line of the error stream.
			if a.json {
				json.NewEncoder(a.err).Encode(map[string]*api.Error{"error": api.AsError(err)})
			} else {
				a.showError("refused", api.AsError(err))
			}
			return exitStatus(api.Refused.Exit())
		},
	}
}

func dial(ctx context.Context, in io.Reader, out io.Writer, path string) error {
	if path == "" {
		u, err := url.Parse(sdk.DefaultHost)
		if err != nil {
			return err
		}
		path = u.Path
	}
	conn, err := sdk.DialSocket(ctx, path)
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() {
		io.Copy(conn, in)
		if half, ok := conn.(*net.UnixConn); ok {
			half.CloseWrite() // the daemon answers what it was asked, then closes
		}
	}()
	_, err = io.Copy(out, conn)
	return err
}

// errorsTopic is `ployzctl help errors`.
func errorsTopic() *cobra.Command {
	var text strings.Builder
	text.WriteString("What every error code means. Codes never change their meaning.\n\n")
	for _, c := range api.Codes() {
		fmt.Fprintf(&text, "  %-32s %s\n", c.Code, c.Meaning)
	}
	text.WriteString(`
Exit statuses: 0 done, 1 a defect of ours, 2 the command line cannot be understood, 3 refused and
nothing changed, 4 rolled back, 5 stranded or interrupted: leftovers are named, 6 uncertain,
7 committed with leftovers.
`)
	return &cobra.Command{Use: "errors", Short: "What every error code and exit status means", Long: text.String()}
}

// composeTopic is `ployzctl help compose`.
func composeTopic() *cobra.Command {
	return &cobra.Command{
		Use: "compose", Short: "Which keys of a Compose file are understood, which are refused, and why",
		Long: "Which keys of a Compose file are understood, which are refused, and why. None is ignored in silence.\n\n" + compose.Table(),
	}
}
