package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
)

// planFlags show a plan without doing it, and bind an operation to a plan that was shown.
type planFlags struct {
	plan   string
	dryRun bool
}

func (p *planFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&p.dryRun, "preview", "n", false, "show what would be done, and its plan's digest, and do nothing")
	cmd.Flags().StringVar(&p.plan, "plan", "", "do exactly what the plan with this `DIGEST` shows")
}

// planned previews an operation, or runs it.
func (a *app) planned(ctx context.Context, p planFlags, kind string, body any) error {
	if !p.dryRun {
		return a.operate(ctx, request{kind: kind, body: body, plan: p.plan})
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	shown, err := c.Preview(ctx, kind, body)
	if err != nil {
		return err
	}
	return a.showPlan(shown)
}

// volumeArg reads NAMESPACE/NAME, of which slot, where it is given, says which data set of scope slot.
func volumeArg(text, slot string) (api.VolumeRequest, error) {
	ns, name, err := serviceArg(text)
	if err != nil {
		return api.VolumeRequest{}, api.Errorf(api.CodeUsage, "%q is not NAMESPACE/NAME", text).WithHint("for example shop/data; those there are: ployzctl volume ls")
	}
	if slot != "" {
		name += "." + slot
	}
	return api.VolumeRequest{Namespace: ns, Name: name}, nil
}

func (a *app) volumeRm() *cobra.Command {
	var (
		slot  string
		flags planFlags
	)
	cmd := &cobra.Command{
		Use:   "rm NAMESPACE/NAME",
		Short: "Take the name from a volume that nothing mounts; it is kept until it is pruned",
		Long: `Take the name from a volume that nothing mounts. Its data is kept: volume restore gives it the name
back, volume prune destroys it. What a service mounts is refused: a deploy that no longer asks for it
keeps it in the same way.`,
		Example: `  ployzctl volume rm shop/uploads
  ployzctl volume rm shop/cache --slot app-1    # of scope slot: the same as shop/cache.app-1`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVolumes,
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := volumeArg(args[0], slot)
			if err != nil {
				return err
			}
			return a.planned(cmd.Context(), flags, api.KindVolumeRemove, body)
		},
	}
	cmd.Flags().StringVar(&slot, "slot", "", "of a volume of scope slot: the data set of this `SLOT`, such as db-0")
	flags.add(cmd)
	return cmd
}

func (a *app) volumeRestore() *cobra.Command {
	var flags planFlags
	cmd := &cobra.Command{
		Use:     "restore ID",
		Short:   "Give a kept volume its name back, if no other has it",
		Example: `  ployzctl volume restore v4k2mzq7x3w5tehbn`,
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeVolumes,
		RunE: func(cmd *cobra.Command, args []string) error {
			ns, err := a.namespaceOf(cmd.Context(), args[0])
			if err != nil {
				return a.refuse(api.KindVolumeRestore, err)
			}
			return a.planned(cmd.Context(), flags, api.KindVolumeRestore, api.VolumeRestoreRequest{Namespace: ns, ID: args[0]})
		},
	}
	flags.add(cmd)
	return cmd
}

// namespaceOf finds the namespace of a volume by its ID.
func (a *app) namespaceOf(ctx context.Context, id string) (string, error) {
	c, err := a.client()
	if err != nil {
		return "", err
	}
	defer c.Close()
	all, err := c.Volumes(ctx, "", "")
	if err != nil {
		return "", err
	}
	for _, v := range all.Volumes {
		if v.ID == id {
			return v.Namespace, nil
		}
	}
	if all.Uncertain != "" {
		return "", api.Errorf(api.CodeMachineSilent, "no machine that answers has it; that is %s", all.Uncertain).About(id).Again()
	}
	err = api.Errorf(api.CodeVolumeNotFound, "no machine has a volume with the ID %s", id).About(id).WithHint("those there are: ployzctl volume ls")
	if strings.Contains(id, "/") {
		err = api.Errorf(api.CodeUsage, "%q is a name, and a kept volume is known by its ID", id).WithHint("those there are: ployzctl volume ls")
	}
	return "", err
}

// age is a flag's duration that may be in days.
type age time.Duration

// String implements pflag.Value.
func (g *age) String() string {
	d := time.Duration(*g)
	if days := d / (24 * time.Hour); d > 0 && d%(24*time.Hour) == 0 {
		return strconv.Itoa(int(days)) + "d"
	}
	return d.String()
}

// Set implements pflag.Value.
func (g *age) Set(text string) error {
	if days, found := strings.CutSuffix(text, "d"); found {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return fmt.Errorf("%q is no number of days", days)
		}
		*g = age(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	if text == "0" {
		text = "0s"
	}
	d, err := time.ParseDuration(text)
	if err == nil && d < 0 {
		err = fmt.Errorf("%s is less than nothing", text)
	}
	*g = age(d)
	return err
}

// Type implements pflag.Value.
func (g *age) Type() string { return "AGE" }

func (a *app) volumePrune() *cobra.Command {
	var (
		body  api.VolumePruneRequest
		flags planFlags
	)
	var older age
	cmd := &cobra.Command{
		Use:   "prune [NAMESPACE]",
		Short: "Destroy kept volumes and old snapshots for good; --preview lists them, with why each goes or stays",
		Long: `Destroy for good what a namespace, or each one, keeps beyond what it states under x-ployz.retention, or
beyond what is asked for here for this once; one operation for each namespace.

Volumes that lost their name go once they were kept for long enough. Snapshots of the others go if commits
took them that no longer keep their data, or operations that are over. What one of the commits that keep
theirs can be gone back to with, what somebody holds and what a clone depends on stays, and so do the
snapshots that volume snapshot took. What a pool has and no fact names goes only if an operation that is
over, and never committed, made it.`,
		Example: `  ployzctl volume prune shop --preview
  ployzctl volume prune shop --older-than 36h --keep-commits 3
  ployzctl volume prune shop --id v4k2mzq7x3w5tehbn      # just this one, whenever it was kept`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeNamespaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("older-than") {
				body.OlderThan = (*api.Duration)(&older)
			}
			if len(args) == 0 && (body.ID != "" || flags.plan != "") {
				return api.Errorf(api.CodeUsage, "--id and --plan are about one namespace").WithHint("say which: ployzctl volume prune NAMESPACE")
			}
			return a.pruneEach(cmd.Context(), args, flags, body)
		},
	}
	cmd.Flags().StringVar(&body.Machine, "machine", "", "only what this machine has, by its `NAME`")
	cmd.Flags().StringVar(&body.ID, "id", "", "only the one with this `ID`, or a refusal that says why not")
	cmd.Flags().Var(&older, "older-than", "leave what lost its name within this time, such as 36h or 7d (default: as the namespace states, else 7d)")
	cmd.Flags().Lookup("older-than").DefValue = "" // the usage says it
	cmd.Flags().IntVar(&body.KeepCommits, "keep-commits", 0, "how many commits, the present one among them, can be gone back to with their data (default: as the namespace states, else 10)")
	flags.add(cmd)
	return cmd
}

// pruneEach prunes one namespace after another; the first that fails decides how the command ends.
func (a *app) pruneEach(ctx context.Context, namespaces []string, flags planFlags, body api.VolumePruneRequest) (first error) {
	if len(namespaces) == 0 {
		var err error
		if namespaces, err = a.holding(ctx, body.Machine); err != nil {
			return a.refuse(api.KindVolumePrune, err)
		}
		if len(namespaces) == 0 {
			a.note("no machine that answers has a volume")
		}
	}
	for _, ns := range namespaces {
		body.Namespace = ns
		if err := a.planned(ctx, flags, api.KindVolumePrune, body); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// holding are the namespaces of which a machine has anything.
func (a *app) holding(ctx context.Context, machine string) ([]string, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	all, err := c.Volumes(ctx, "", machine)
	set := map[string]bool{}
	for _, v := range all.Volumes {
		set[v.Namespace] = true
	}
	return sorted(set), err
}
