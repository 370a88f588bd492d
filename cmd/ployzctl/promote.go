package main

import (
	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
)

func (a *app) promoteCommand() *cobra.Command {
	var (
		body  api.PromoteRequest
		flags planFlags
	)
	cmd := &cobra.Command{
		Use:   "promote BRANCH [NAMESPACE]",
		Short: "Make a namespace run what a branch of it runs, and with --with-data hold the branch's data",
		Long: `Make a namespace run what a branch of it runs: the very images, by digest, and the branch's configuration.
Without NAMESPACE it is what the branch was made of. What it changed since is undone by that; --preview names those commits.

These stay the target's own: hostnames (a route of the branch goes to the hostname that it was made of; one that was
made of none is refused), gateway and published ports that the branch does not have, secrets by name, and, of each
service that the target has too, the number of instances: change that with 'service scale'. What only the target has
is taken away, as by a deploy. Jobs run as in a deploy, but those for branches.

Volumes keep the target's data, and are never made smaller; one that only the branch has is new and empty. With
--with-data each volume that the branch has begins as the branch's is now, in a time that does not depend on its size:
all that mounts it in the target stops first, the branch goes on running, and what writes there holds still for the
moment as its service says. What the target wrote since the branch began is not in what comes; it is kept, and
'rollback NAMESPACE --with-data' gives it back. Both have to be on one machine.

The branch stays as it is: take it away with 'branch rm BRANCH'.`,
		Example: `  ployzctl promote try --preview
  ployzctl promote try --with-data --plan 3f2a9c0d11e4b867
  ployzctl promote try staging --secrets copy`,
		Args: cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 1 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeAnyNamespace(cmd, args, prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			body.Branch = args[0]
			if len(args) == 2 {
				body.Namespace = args[1]
			}
			err := a.planned(cmd.Context(), flags, api.KindPromote, body)
			if err == nil && !flags.dryRun {
				a.note("%s goes on as it is; when it is no longer needed: ployzctl branch rm %s", body.Branch, body.Branch)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&body.WithData, "with-data", false, "also give volumes the branch's data as it is now; the present data is kept")
	cmd.Flags().StringVar(&body.Secrets, "secrets", "", "copy: take the secrets that only the branch has from it (default: refuse, and name them)")
	a.completeFlag(cmd, "secrets", cobra.FixedCompletions([]string{api.BranchSecretsCopy}, cobra.ShellCompDirectiveNoFileComp))
	flags.add(cmd)
	return cmd
}
