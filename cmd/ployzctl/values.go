package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
)

// valueCommand is `secret` or `config`, which differ in who may read them again.
func (a *app) valueCommand(what string) *cobra.Command {
	short := "Named configuration texts of a namespace"
	if what == "secret" {
		short = "Named secrets of a namespace, sealed to its machines"
	}
	cmd := &cobra.Command{Use: what, Short: short, Args: cobra.NoArgs, RunE: needsCommand}
	cmd.AddCommand(a.valueSet(what), a.valueLs(what), a.valueRm(what))
	return cmd
}

func (a *app) valueSet(what string) *cobra.Command {
	var keepNewline bool
	cmd := &cobra.Command{
		Use:   "set NAMESPACE/NAME [FILE]",
		Short: "Set a " + what + " from a file, or from standard input",
		Long: `Set a ` + what + ` from a file, or from standard input. Instances get it with the next deploy that refers
to it as external. One newline at the end of what is typed or piped in is dropped.`,
		Example: `  printf %s "$PASSWORD" | ployzctl ` + what + ` set shop/db-password`,
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ns, name, err := valueArg(args[0])
			if err != nil {
				return err
			}
			value, err := a.readValue(args[1:], keepNewline)
			if err != nil {
				return err
			}
			body := api.ValueRequest{Namespace: ns, Name: name, Value: value}
			return a.operate(cmd.Context(), request{kind: what + ".set", body: body})
		},
	}
	cmd.Flags().BoolVar(&keepNewline, "keep-newline", false, "keep a newline at the end of standard input")
	return cmd
}

// valueArg reads NAMESPACE/NAME.
func valueArg(text string) (ns, name string, err error) {
	if ns, name, err = serviceArg(text); err != nil {
		err = api.Errorf(api.CodeUsage, "%q is not NAMESPACE/NAME", text).WithHint("for example shop/db-password")
	}
	return ns, name, err
}

func (a *app) readValue(files []string, keepNewline bool) ([]byte, error) {
	if len(files) == 1 && files[0] != "-" {
		value, err := os.ReadFile(files[0])
		if err != nil {
			return nil, api.Errorf(api.CodeBadRequest, "%w", err).About(files[0])
		}
		return value, nil
	}
	if isTerminal(a.in) {
		a.note("type the value, then Ctrl-D on a line of its own")
	}
	value, err := io.ReadAll(a.in)
	if err != nil {
		return nil, api.Errorf(api.CodeBadRequest, "reading standard input: %w", err)
	}
	if !keepNewline {
		value = bytes.TrimSuffix(value, []byte("\n"))
	}
	return value, nil
}

func (a *app) valueLs(what string) *cobra.Command {
	return &cobra.Command{
		Use:               "ls NAMESPACE",
		Short:             "List them by name, with a fingerprint that tells values apart",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNamespaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			list := c.Configs
			if what == "secret" {
				list = c.Secrets
			}
			values, err := list(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.answer(values, func() error { return a.showValues(values) })
		},
	}
}

func (a *app) showValues(values []api.ValueSummary) error {
	var rows [][]string
	for _, v := range values {
		if a.quiet {
			fmt.Fprintln(a.out, v.Name)
			continue
		}
		rows = append(rows, []string{v.Name, v.Fingerprint, ago(v.Written), v.Operation})
	}
	if a.quiet {
		return nil
	}
	return a.table("NAME FINGERPRINT SET OPERATION", rows)
}

func (a *app) valueRm(what string) *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAMESPACE/NAME",
		Short: "Remove a " + what + "; what runs keeps it until its next deploy",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ns, name, err := valueArg(args[0])
			if err != nil {
				return err
			}
			body := api.ValueRemoveRequest{Namespace: ns, Name: name}
			return a.operate(cmd.Context(), request{kind: what + ".rm", body: body})
		},
	}
}
