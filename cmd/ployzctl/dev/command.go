package dev

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
)

// ExitStatus is the error by which `dev exec` and `dev shell` hand on their command's own exit
// status. The main program exits with it and prints nothing.
type ExitStatus int

// Error names the status, for whoever prints it all the same.
func (e ExitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Command is `ployzctl dev`: labs of real systemd machines on this computer.
func Command() *cobra.Command {
	root := &cobra.Command{
		Use:   "dev",
		Short: "Run a cluster of real systemd machines on this computer",
		Long: `Run a cluster of real systemd machines on this computer, to try Ployz out or to test it.

A lab is a private network with machines m1, m2, ... on it. Each is a systemd-nspawn container that
boots from this computer's own root file system, without its services, users and data, and has the
.deb really installed. Nothing in a lab reaches the outside, and 'down' leaves nothing behind.`,
		Example: `  ployzctl dev up --name demo --machines 3
  ployzctl dev exec demo/m1 -- ployzctl init
  ployzctl dev exec demo/client -- curl http://m1/
  ployzctl dev down --name demo`,
	}
	root.PersistentFlags().Bool("json", false, "print one JSON object")
	root.AddCommand(upCommand(), downCommand(), lsCommand(), execCommand(), shellCommand(),
		partitionCommand(), blockCommand(), delayCommand(), healCommand(), cutCommand(), bootCommand(), readdressCommand(), wireCommand())
	return root
}

func upCommand() *cobra.Command {
	var o Options
	var bare bool
	cmd := &cobra.Command{
		Use:   "up [NAME]",
		Short: "Boot a lab and install the package in its machines; safe to repeat",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Name = nameOf(o.Name, args)
			if len(o.Debs) == 0 && !bare {
				o.Debs = builtDeb()
			}
			asJSON := wantsJSON(cmd)
			o.Progress = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), "ployzctl dev:", text) }
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			lab, err := Up(ctx, o)
			if err != nil {
				return err
			}
			return show(cmd, asJSON, lab, []Lab{*lab})
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "dev", "name of the lab")
	f.IntVar(&o.Machines, "machines", 0, "how many machines (default: as many as there are, or 1)")
	f.StringArrayVar(&o.Debs, "deb", nil, "package to install in each machine (default: the newest that 'make deb' left in dist/)")
	f.BoolVar(&bare, "bare", false, "install no package")
	f.StringVar(&o.Tree, "tree", "", "boot from this Debian root folder or tar instead of this computer's own root")
	f.BoolVar(&o.DiskImages, "disk-images", false, "give each machine's /var/lib/ployz a disk of its own, so that 'cut' loses what was not synced to it")
	f.StringSliceVar(&o.NAT, "nat", nil, "put this machine behind a router that masquerades: others can answer it and not call it")
	return cmd
}

func downCommand() *cobra.Command {
	var name string
	var all bool
	cmd := &cobra.Command{
		Use:   "down [NAME]",
		Short: "Remove a lab and everything of it",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			names := []string{nameOf(name, args)}
			if all {
				names = labNames()
			}
			for _, n := range names {
				if err := Down(n); err != nil {
					return err
				}
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, map[string]any{"removed": names})
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "dev", "name of the lab")
	cmd.Flags().BoolVar(&all, "all", false, "every lab of this computer")
	return cmd
}

func lsCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "ls [NAME]",
		Short: "List labs and their machines",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name = nameOf(name, args); name != "" {
				lab, err := Inspect(name)
				if err != nil {
					return err
				}
				return show(cmd, wantsJSON(cmd), lab, []Lab{*lab})
			}
			labs, err := List()
			if err != nil {
				return err
			}
			return show(cmd, wantsJSON(cmd), map[string]any{"labs": labs}, labs)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "only this lab")
	return cmd
}

func execCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "exec LAB/MACHINE -- COMMAND [ARG...]",
		Short: "Run a command in a machine, or at LAB/client in the lab's network",
		Long: `Run a command in a machine with this command's input, output, signals and exit status. LAB/client
stands for the lab's network outside of every machine, with this computer's files: what a user of
the cluster would see. With --json, what goes wrong before the command runs is JSON; its own output
stays its own.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, machine, err := splitPlace(args[0])
			if err != nil {
				return err
			}
			streams, stop := Terminal()
			defer stop()
			return ended(Exec(cmd.Context(), name, machine, args[1:], streams))
		},
	}
}

func shellCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "shell LAB/MACHINE",
		Short: "A root shell in a machine, or at LAB/client in the lab's network",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, machine, err := splitPlace(args[0])
			if err != nil {
				return err
			}
			streams, stop := Terminal()
			defer stop()
			return ended(Shell(cmd.Context(), name, machine, streams))
		},
	}
}

// splitPlace reads "LAB/MACHINE"; a lab alone means its first machine.
func splitPlace(place string) (name, machine string, err error) {
	name, machine, found := strings.Cut(place, "/")
	if !found {
		machine = "m1"
	}
	if name == "" || machine == "" {
		return "", "", api.Errorf(api.CodeDevOptions, "%q names no machine: say LAB/MACHINE", place).WithHint("ployzctl dev exec demo/m1 -- true")
	}
	return name, machine, nil
}

func ended(status int, err error) error {
	if err == nil && status != 0 {
		return ExitStatus(status)
	}
	return err
}

func nameOf(flag string, args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	return flag
}

func labNames() []string {
	names := []string{}
	for _, place := range []string{stateRoot(), "/run/ployz-dev"} {
		folders, err := os.ReadDir(place)
		if err != nil {
			continue // no labs have been there
		}
		for _, f := range folders {
			names = append(names, f.Name())
		}
	}
	return names
}

// builtDeb returns the newest package for this computer in dist/, beside the bin/ that this
// program is in or in the working folder; none when nothing was built.
func builtDeb() []string {
	places := []string{"dist"}
	if self, err := os.Executable(); err == nil {
		places = append([]string{filepath.Join(filepath.Dir(self), "..", "dist")}, places...)
	}
	for _, dir := range places {
		if deb := newest(filepath.Join(dir, "ployz_*_"+runtime.GOARCH+".deb")); deb != "" {
			return []string{deb}
		}
	}
	return nil
}

func newest(pattern string) string {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return ""
	}
	var best string
	var bestTime int64
	for _, file := range files {
		if st, err := os.Stat(file); err == nil && st.ModTime().UnixNano() > bestTime {
			best, bestTime = file, st.ModTime().UnixNano()
		}
	}
	return best
}

func wantsJSON(cmd *cobra.Command) bool {
	on, err := cmd.Flags().GetBool("json")
	return err == nil && on
}

func printJSON(cmd *cobra.Command, value any) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}

// show prints labs as JSON or as a table.
func show(cmd *cobra.Command, asJSON bool, value any, labs []Lab) error {
	if asJSON {
		return printJSON(cmd, value)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "MACHINE\tSTATE\tIPV4\tIPV6\tPACKAGES")
	for _, lab := range labs {
		for _, m := range lab.Machines {
			state := string(m.State)
			if len(m.Failed) > 0 {
				state += " (" + strings.Join(m.Failed, ", ") + ")"
			}
			if m.NAT {
				state += " behind NAT"
			}
			fmt.Fprintf(w, "%s/%s\t%s\t%s\t%s\t%s\n", lab.Name, m.Name, state, m.IPv4, m.IPv6, strings.Join(lab.Packages, " "))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	showFaults(cmd.OutOrStdout(), labs)
	return nil
}
