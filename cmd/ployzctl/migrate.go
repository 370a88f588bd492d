package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/sdk"
	"github.com/ployz/ployz/node/storage"
)

func (a *app) migrateCommand() *cobra.Command {
	var (
		body    api.MigrateRequest
		flags   planFlags
		limit   string
		maxStop time.Duration
		all     bool
	)
	cmd := &cobra.Command{
		Use:   "migrate NAMESPACE[/SERVICE] --to MACHINE",
		Short: "Move volumes, and the services that mount them, to another machine",
		Long: `Move volumes, and the services that mount them, to another machine: those of a service, or all that a
namespace has on a machine. Who shares a volume moves as well, and --preview says so.

The data is carried while it is written, in rounds, until what is left is so little that the services can be stopped for
it. How long that stop will take is said before it begins, and how long it took at the end. With --max-stop it is refused
before anything is stopped where it would take longer. A failure brings everything back to where it was; what was
carried stays, and the next try begins there.

The old machine keeps a copy until a volume prune. With it the way back sends only what was written since.

--all moves all that a machine has, one namespace after another, and ends at the first that fails. Without --to each goes
where the most space is free.`,
		Example: `  ployzctl migrate shop/db --to m2 --preview
  ployzctl migrate shop --from m1 --to m2 --max-stop 5s --limit 50M
  ployzctl migrate --all --from m1`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if body.BytesPerSecond, err = rateArg(limit); err != nil {
				return err
			}
			if cmd.Flags().Changed("max-stop") && maxStop <= 0 {
				return api.Errorf(api.CodeUsage, "--max-stop: nothing can be moved without a stop").WithHint("such as --max-stop 5s; left out it is the shortest that can be had")
			}
			body.MaxStop = api.Duration(maxStop)
			if err := checkMigrate(args, body, all, flags); err != nil {
				return err
			}
			if all {
				return a.migrateAll(cmd.Context(), body, flags.dryRun)
			}
			body.Namespace, body.Service, _ = strings.Cut(args[0], "/")
			if flags.dryRun {
				return a.planned(cmd.Context(), flags, api.KindMigrate, body)
			}
			out, err := a.migrate(cmd.Context(), body, flags.plan)
			if err != nil {
				return err
			}
			return exitOf(out)
		},
	}
	cmd.Flags().StringVar(&body.To, "to", "", "the `MACHINE` that is to have them")
	cmd.Flags().StringVar(&body.From, "from", "", "the `MACHINE` that has them (default: the one there is)")
	cmd.Flags().DurationVar(&maxStop, "max-stop", 0, "refuse before the stop where it would take longer (default: the shortest that can be had)")
	cmd.Flags().BoolVar(&body.Hold, "hold", false, "let gateways hold requests during the stop instead of refusing them")
	cmd.Flags().StringVar(&limit, "limit", "", "the most that is sent before the stop, as `BYTES` a second such as 50M (default: no limit)")
	cmd.Flags().BoolVar(&all, "all", false, "all volumes of the machine --from, one namespace after another")
	a.completeFlag(cmd, "to", a.completeMachines)
	a.completeFlag(cmd, "from", a.completeMachines)
	flags.add(cmd)
	return cmd
}

func checkMigrate(args []string, body api.MigrateRequest, all bool, flags planFlags) error {
	switch {
	case all && (len(args) > 0 || body.From == "" || flags.plan != ""):
		return api.Errorf(api.CodeUsage, "--all is about a machine, and takes neither a namespace nor a plan").WithHint("ployzctl migrate --all --from MACHINE")
	case all:
		return nil
	case len(args) == 0:
		return api.Errorf(api.CodeUsage, "nothing is named that is to move").WithHint("a namespace or a service: ployzctl migrate shop/db --to m2; or a machine's worth: --all --from m1")
	case body.To == "":
		return api.Errorf(api.CodeUsage, "it is not said where to").WithHint("ployzctl migrate %s --to MACHINE; those there are: ployzctl machine ls", args[0])
	case strings.Count(args[0], "/") > 1 || strings.HasPrefix(args[0], "/") || strings.HasSuffix(args[0], "/"):
		return api.Errorf(api.CodeUsage, "%q is not NAMESPACE[/SERVICE]", args[0]).WithHint("list them: ployzctl service ls")
	}
	return nil
}

// migrate runs one and says what it took.
func (a *app) migrate(ctx context.Context, body api.MigrateRequest, plan string) (api.Outcome, error) {
	out, err := a.run(ctx, request{kind: api.KindMigrate, body: body, plan: plan})
	if err != nil {
		return out, err
	}
	var r api.MigrateResult
	if !a.json && !a.quiet && json.Unmarshal(out.Value, &r) == nil {
		if len(r.Volumes) == 0 {
			a.note("nothing had to move: %s has it already", body.To)
		}
		a.showMigrated(r)
	}
	if err := a.showOutcome(out); exitOf(out) == nil {
		return out, err
	}
	return out, nil
}

func (a *app) showMigrated(r api.MigrateResult) {
	for _, name := range slices.Sorted(maps.Keys(r.Volumes)) {
		fmt.Fprintf(a.out, "volume %s: %s\n", name, moveText(r.Volumes[name]))
	}
	if r.Stop > 0 {
		fmt.Fprintf(a.out, "the stop took %s, and was said to take %s: %s to stop, %s for the last changes, %s to start, %s besides\n",
			inTenths(r.Stop), inTenths(r.StopStated),
			inTenths(r.StopParts.Stop), inTenths(r.StopParts.LastChanges), inTenths(r.StopParts.Start), inTenths(r.StopParts.Rest))
	}
}

// moveText is how a volume came to another machine.
func moveText(m api.VolumeMove) string {
	return fmt.Sprintf("%s from %s to %s in %d rounds, as %s (guid %s)", size(m.Bytes), m.From, m.To, len(m.Rounds), m.Snapshot, m.GUID)
}

// inTenths is a time as precise as anybody can tell a stop.
func inTenths(d api.Duration) string { return time.Duration(d).Round(10 * time.Millisecond).String() }

// migrateAll moves a machine's worth, and ends at the first that fails.
func (a *app) migrateAll(ctx context.Context, body api.MigrateRequest, dryRun bool) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.Volumes(ctx, "", "")
	if err != nil {
		return err
	}
	if list.Uncertain != "" {
		return api.Errorf(api.CodeMachineSilent, "not all machines say what they have: %s", list.Uncertain).About(body.From).Again()
	}
	names := livingOn(list, body.From)
	if len(names) == 0 {
		if err := isMember(ctx, c, body.From); err != nil {
			return err
		}
		a.note("%s has no live volume", body.From)
		return nil
	}
	for i, ns := range names {
		one := body
		one.Namespace = ns
		if one.To == "" {
			if one.To, err = a.roomiest(ctx, c, body.From); err != nil {
				return err
			}
		}
		a.note("%d of %d: %s to %s", i+1, len(names), ns, one.To)
		if dryRun {
			if err := a.planned(ctx, planFlags{dryRun: true}, api.KindMigrate, one); err != nil {
				return err
			}
			continue
		}
		out, err := a.migrate(ctx, one, "")
		if err == nil {
			err = exitOf(out)
		}
		if err != nil {
			a.note("%d of %d namespaces were moved; the rest, from %s on: ployzctl migrate --all --from %s", i, len(names), ns, body.From)
			return err
		}
	}
	return nil
}

// isMember refuses a name that no machine of the cluster has. Errors: machine.not-found.
func isMember(ctx context.Context, c *sdk.Client, name string) error {
	machines, err := c.Machines(ctx)
	if err != nil || slices.ContainsFunc(machines, func(m api.MachineEntry) bool { return m.Name == name }) {
		return err
	}
	return api.Errorf(api.CodeMachineAbsent, "no member of the cluster has that name").About(name).WithHint("list them: ployzctl machine ls")
}

// livingOn are the namespaces with live volumes on a machine.
func livingOn(list api.VolumeList, machineName string) (names []string) {
	for _, v := range list.Volumes {
		if v.Machine == machineName && v.State == string(storage.StateLive) && !slices.Contains(names, v.Namespace) {
			names = append(names, v.Namespace)
		}
	}
	slices.Sort(names)
	return names
}

// roomiest is the machine, other than one, that takes instances and whose pool of the same kind has the most free.
func (a *app) roomiest(ctx context.Context, c *sdk.Client, from string) (string, error) {
	list, err := c.Volumes(ctx, "", "")
	if err != nil {
		return "", err
	}
	machines, err := c.Machines(ctx)
	if err != nil {
		return "", err
	}
	takes := map[string]bool{}
	for _, m := range machines {
		takes[m.Name] = machine.Role(m.Role).Takes()
	}
	var backend string
	for _, p := range list.Pools {
		if p.Machine == from {
			backend = p.Backend
		}
	}
	best := api.PoolStatus{FreeBytes: -1}
	for _, p := range list.Pools {
		if p.Machine != from && takes[p.Machine] && p.State == api.StateUp && p.Backend == backend && p.FreeBytes > best.FreeBytes {
			best = p
		}
	}
	if best.Machine == "" {
		return "", api.Errorf(api.CodeNoMachine, "no other machine takes instances and has a pool of %s", orDash(backend)).About(from).
			WithHint("those there are: ployzctl volume ls; ployzctl machine ls")
	}
	return best.Machine, nil
}
