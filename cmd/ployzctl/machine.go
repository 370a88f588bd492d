package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
)

func (a *app) initCommand() *cobra.Command {
	var body api.InitRequest
	var pool poolFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Found a cluster on this machine",
		Long: `Found a cluster on this machine: its identity, its store, the bridge for workloads, the gateway
and the resolver. All of it boots by itself from then on.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := pool.into(&body.PoolRequest); err != nil {
				return a.refuse(api.KindMachineInit, err)
			}
			out, err := a.run(cmd.Context(), request{kind: api.KindMachineInit, body: body})
			if err != nil {
				return err
			}
			err = a.showOutcome(out)
			a.notePool(out)
			if err == nil {
				a.note("next: ployzctl status; ployzctl deploy")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&body.Name, "name", "", "the machine's `NAME` (default: the host's)")
	cmd.Flags().StringVar(&body.ClusterName, "cluster-name", "", "the cluster's `NAME` (default: main)")
	cmd.Flags().StringVar(&body.CIDR, "cidr", "", "`RANGE` that machines' IPv4 subnets are taken from (default: as in /etc/ployz/config.toml)")
	pool.add(cmd)
	return cmd
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "What the machine and its parts are doing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			return a.answer(s, func() error { return a.showStatus(s) })
		},
	}
}

func (a *app) showStatus(s api.Status) error {
	if a.quiet {
		_, err := fmt.Fprintln(a.out, worst(s))
		return err
	}
	fmt.Fprintf(a.out, "machine %s%s", s.Machine.Name, joined(" ", s.Machine.Addresses))
	if s.Cluster.ID != "" {
		fmt.Fprintf(a.out, ", cluster %s (machines: %d, voters: %s)", s.Cluster.Name, s.Cluster.Machines, strings.Join(s.Cluster.Voters, " "))
	}
	fmt.Fprintln(a.out)
	rows := [][]string{
		{"daemon", a.state(s.Daemon.State), "-", pid(s.Daemon.PID), ago(s.Daemon.Since), orDash(s.Daemon.Version)},
		{"store", a.state(s.Store.State), sequence(s.Store.Sequence), "-", "-", orDash(s.Store.Why)},
		a.servingRow("gateway", s.Gateway),
		a.servingRow("dns", s.DNS),
	}
	if err := a.table("PART STATE SEQUENCE PID SINCE REMARKS", rows); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "workloads: %d, %d running\n", s.Workloads.Count, s.Workloads.Running)
	fmt.Fprintln(a.out, "volumes:", poolLine(s.Pool))
	for _, d := range s.Workloads.Drift {
		fmt.Fprintf(a.out, "drift: %s: %s\n", d.Subject, strings.Join(d.Reasons, "; "))
	}
	for _, v := range s.Daemon.Adopted {
		if v.Verdict != "adopt" {
			fmt.Fprintf(a.out, "at start: %s: %s: %s\n", v.Unit, v.Verdict, strings.Join(v.Reasons, "; "))
		}
	}
	for _, n := range s.Notes {
		fmt.Fprintln(a.out, "note:", n)
	}
	return nil
}

func (a *app) servingRow(name string, s api.ServingStatus) []string {
	remarks := strings.Join(s.Listen, " ")
	if s.Why != "" {
		remarks = strings.TrimSpace(remarks + " " + s.Why)
	}
	for _, ns := range s.Rejected {
		remarks += " rejected: " + ns
	}
	return []string{name, a.state(s.State), sequence(s.Sequence), pid(s.PID), ago(s.Since), orDash(remarks)}
}

// state paints nothing in tables: tabwriter counts the escape codes as text.
func (a *app) state(s string) string { return orDash(s) }

// worst is the one word for all parts.
func worst(s api.Status) string {
	word := api.StateUp
	for _, state := range []string{s.Daemon.State, s.Store.State, s.Gateway.State, s.DNS.State} {
		if state != api.StateUp {
			word = state
		}
		if state == api.StateDown {
			return state
		}
	}
	return word
}

func joined[T fmt.Stringer](sep string, list []T) string {
	var text string
	for _, v := range list {
		text += sep + v.String()
	}
	return text
}

func pid(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func sequence(n uint64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Look at everything the machine needs; the exit status is 3 when something failed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			checks, err := c.Doctor(cmd.Context())
			if err != nil {
				return err
			}
			if err := a.answer(map[string][]api.Check{"checks": checks}, func() error { return a.showChecks(checks) }); err != nil {
				return err
			}
			for _, check := range checks {
				if check.Result == api.CheckFailed {
					return exitStatus(api.Refused.Exit())
				}
			}
			return nil
		},
	}
}

func (a *app) showChecks(checks []api.Check) error {
	colours := map[string]string{api.CheckOK: good, api.CheckWarning: odd, api.CheckFailed: bad, api.CheckSkipped: odd}
	for _, c := range checks {
		if a.quiet && c.Result == api.CheckOK {
			continue
		}
		word := a.paint(a.out, colours[c.Result], fmt.Sprintf("%-8s", c.Result))
		line := word + " " + c.Name
		if c.Seen != "" {
			line += ": " + c.Seen
		}
		fmt.Fprintln(a.out, line)
		if c.Error != nil {
			fmt.Fprintf(a.out, "         %s\n", firstLine(c.Error))
			if c.Error.Hint != "" {
				fmt.Fprintf(a.out, "         → %s\n", c.Error.Hint)
			}
		}
	}
	return nil
}

// versionPatience is how long `version` waits for a daemon that may not be there.
const versionPatience = 5 * time.Second

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "The versions of this command and of the daemon",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			versions := struct {
				Client api.Version  `json:"client"`
				Daemon *api.Version `json:"daemon,omitempty"`
				Error  *api.Error   `json:"error,omitempty"`
			}{Client: api.Version{Version: version, Go: runtime.Version(), API: "v1"}}
			daemon, err := a.daemonVersion(cmd.Context())
			if err == nil {
				versions.Daemon = &daemon
			}
			versions.Error = api.AsError(err)
			return a.answer(versions, func() error {
				fmt.Fprintln(a.out, "ployzctl", version)
				if err != nil {
					a.note("ployzd: %s", versions.Error.Message)
					return nil
				}
				_, err := fmt.Fprintln(a.out, "ployzd  ", daemon.Version)
				return err
			})
		},
	}
}

func (a *app) daemonVersion(ctx context.Context) (api.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, versionPatience)
	defer cancel()
	c, err := a.client()
	if err != nil {
		return api.Version{}, err
	}
	defer c.Close()
	return c.Version(ctx)
}
