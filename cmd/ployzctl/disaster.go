package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
)

// lossFlags are planFlags in words for what may lose something.
func (p *planFlags) lossFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&p.dryRun, "preview", "n", false, "show what would be done and lost, and the plan's digest, and do nothing")
	cmd.Flags().StringVar(&p.plan, "plan", "", "apply exactly the plan with this `DIGEST`")
}

func (a *app) storeRecover() *cobra.Command {
	var body api.RecoverRequest
	var plan planFlags
	cmd := &cobra.Command{
		Use:   "recover --abandon NAME[,NAME]",
		Short: "Let the store go on without machines that are gone for good",
		Long: `Let the store go on without machines that are gone for good, where it cannot be written without them. Ask a
voter that is left. The machines are fenced off first, then removed from the core and from the cluster; what they
alone held is lost, and they must not come back: purge them before their network is given back.

It refuses while a majority is there, and while one of them answers. Where no voter is left, or another machine holds
facts that no voter that is left holds, it names the machine on which 'store reform' goes on from there.`,
		Example: "  ployzctl store recover --abandon m2 --preview",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.planned(cmd.Context(), plan, api.KindStoreRecover, body)
		},
	}
	cmd.Flags().StringSliceVar(&body.Abandon, "abandon", nil, "the machines that are gone for good")
	plan.lossFlags(cmd)
	return cmd
}

func (a *app) storeReform() *cobra.Command {
	var body api.ReformRequest
	var plan planFlags
	cmd := &cobra.Command{
		Use:   "reform --abandon NAME[,NAME]",
		Short: "Form the store anew from a machine's own copy of the facts, when no voter holds them",
		Long: `Form the store anew from the copy of the machine that is asked, when a majority of the voters is gone for good and no
voter that is left holds as much: every machine has a copy of all facts. It asks all machines how far their copies go,
and refuses on any but the one whose goes furthest. That one becomes the only voter of the store's next generation; the
machines that answer come along, and what serves goes on. Those that are given up are fenced off: they must be purged
before they join anew.`,
		Example: "  ployzctl --host ssh://root@m4 store reform --abandon m1,m2,m3 --preview",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.planned(cmd.Context(), plan, api.KindStoreReform, body)
		},
	}
	cmd.Flags().StringSliceVar(&body.Abandon, "abandon", nil, "the machines that are gone for good")
	plan.lossFlags(cmd)
	return cmd
}

func (a *app) storeRestore() *cobra.Command {
	var body api.RestoreRequest
	var plan planFlags
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Form the store anew from a backup, on a blank machine or on a member",
		Long: `Form the store anew from a backup, as its next generation with the machine that is asked as its only voter. What was
committed after the backup's moment is lost.

On a machine that belongs to no cluster it founds the backup's cluster anew: the machine comes in the place of the one
whose backup it is, or of another one (--as), under its name and addresses and with keys of its own. The cluster's other
machines are given up: they must be purged, and may then join.

On a member its workloads, gateway and resolver go on. The machines that answer come along, with the memberships that
they have now; those that do not have to be named (--abandon), and are fenced off.

--digest is the one that 'store backup' printed: a file that was changed on purpose is refused.`,
		Example: "  ployzctl store restore main.backup --preview",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			digest, err := a.upload(cmd.Context(), args[0], body.Digest)
			if err != nil {
				return a.refuse(api.KindStoreRestore, err)
			}
			body.Digest = digest
			return a.planned(cmd.Context(), plan, api.KindStoreRestore, body)
		},
	}
	cmd.Flags().StringSliceVar(&body.Abandon, "abandon", nil, "the machines that are given up")
	cmd.Flags().BoolVar(&body.Again, "again", false, "restore also the very backup that the store was formed from")
	cmd.Flags().StringVar(&body.As, "as", "", "the machine of the backup that a blank machine becomes")
	cmd.Flags().StringVar(&body.Digest, "digest", "", "the backup's `DIGEST`, as you kept it")
	plan.lossFlags(cmd)
	return cmd
}

// upload hands a backup over to the daemon, and returns its digest.
func (a *app) upload(ctx context.Context, path, digest string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", api.Errorf(api.CodeUsage, "the backup: %w", err).About(path)
	}
	defer file.Close()
	c, err := a.client()
	if err != nil {
		return "", err
	}
	defer c.Close()
	m, err := c.TakeBackup(ctx, file, digest)
	return m.Digest, err
}
