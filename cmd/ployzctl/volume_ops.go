package main

import (
	"context"
	"strings"

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
