package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
)

func (a *app) branchRm() *cobra.Command {
	var flags planFlags
	cmd := &cobra.Command{
		Use:   "rm BRANCH",
		Short: "Take a branch away; its volumes are kept until they are pruned",
		Long: `Take a branch away, and nothing that is none. Its volumes are kept, as those of any namespace that is removed:
volume prune BRANCH destroys them. To do both at once: ployzctl branch prune BRANCH`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeBranches,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := a.planned(cmd.Context(), flags, api.KindBranchRemove, api.NamespaceRequest{Namespace: args[0]})
			if err == nil && !flags.dryRun {
				a.note("its volumes are kept; to destroy them: %s", pruneCommand(args[0]))
			}
			return err
		},
	}
	flags.add(cmd)
	return cmd
}

// pruneCommand destroys what a branch that was taken away has left.
func pruneCommand(ns string) string {
	return "ployzctl volume prune " + ns + " --older-than 0 --keep-commits 1"
}

func (a *app) branchPrune() *cobra.Command {
	var preview bool
	cmd := &cobra.Command{
		Use:   "prune [BRANCH...]",
		Short: "Take away the branches that have expired, or these, and destroy their volumes for good",
		Long: `Take away the branches that have expired, or the named ones whether they have or not, and destroy their volumes
for good: for each a branch rm and then a volume prune of its namespace. Nothing does that by itself. A volume that
somebody holds, or that a branch of the branch depends on, stays, and the outcome says so.`,
		Example: `  ployzctl branch prune --preview
  ployzctl branch prune try`,
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
			return a.completeBranches(cmd, nil, prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := a.branches(cmd.Context())
			if err != nil {
				return a.refuse(api.KindBranchRemove, err)
			}
			return a.pruneBranches(cmd.Context(), doomed(list.Branches, args), preview)
		},
	}
	cmd.Flags().BoolVarP(&preview, "preview", "n", false, "show which would go, and do nothing")
	return cmd
}

// doomed are the branches to take away: those that have expired, or those with a name, of which one that is no branch
// is refused by the operation. What was made from another comes before it.
func doomed(all []api.BranchEntry, names []string) (list []api.BranchEntry) {
	for _, b := range all {
		if slices.Contains(names, b.Namespace) || len(names) == 0 && b.Expired {
			list = append(list, b)
		}
	}
	slices.SortStableFunc(list, func(a, b api.BranchEntry) int { return b.Created.Compare(a.Created) })
	for _, name := range names {
		if !slices.ContainsFunc(list, func(b api.BranchEntry) bool { return b.Namespace == name }) {
			list = append(list, api.BranchEntry{BranchFact: api.BranchFact{Namespace: name}, Machines: []string{}})
		}
	}
	return list
}

func (a *app) pruneBranches(ctx context.Context, list []api.BranchEntry, preview bool) error {
	if len(list) == 0 {
		a.note("no branch has expired")
	}
	if preview {
		return a.answer(api.BranchList{Branches: list}, func() error { return a.showDoomed(list) })
	}
	var first error
	for _, b := range list {
		pruned, err := a.pruneBranch(ctx, b.Namespace)
		if err == nil {
			err = a.showPruned(pruned)
		}
		if err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (a *app) showDoomed(list []api.BranchEntry) error {
	if a.quiet {
		return a.showBranches(api.BranchList{Branches: list})
	}
	var rows [][]string
	for _, b := range list {
		from, why := "-", "it is no branch: this would be refused"
		if b.From != "" {
			from, why = fmt.Sprintf("%s@%d", b.From, b.Commit), "it was named"
		}
		if b.Expired {
			why = "it expired " + ago(b.Expires)
		}
		rows = append(rows, []string{b.Namespace, from, size(b.OwnBytes), why})
	}
	return a.table("BRANCH FROM OWN WHY", rows)
}

// pruneBranch takes one branch away, and then its volumes.
func (a *app) pruneBranch(ctx context.Context, ns string) (api.BranchPruned, error) {
	out := api.BranchPruned{Branch: ns}
	var err error
	out.Removed, err = a.run(ctx, request{kind: api.KindBranchRemove, body: api.NamespaceRequest{Namespace: ns}})
	if err != nil || out.Removed.Outcome.Exit() != 0 {
		return out, err
	}
	volumes, err := a.run(ctx, request{kind: api.KindVolumePrune, body: api.VolumePruneRequest{Namespace: ns, KeepCommits: 1, OlderThan: new(api.Duration)}})
	out.Volumes = &volumes
	return out, err
}

// showPruned ends with the status of what went wrong first.
func (a *app) showPruned(p api.BranchPruned) error {
	outcomes := []api.Outcome{p.Removed}
	if p.Volumes != nil {
		outcomes = append(outcomes, *p.Volumes)
	}
	if a.json {
		if err := a.writeJSON(p); err != nil {
			return err
		}
	}
	var first error
	for _, out := range outcomes {
		err := exitOf(out)
		if !a.json {
			err = a.showOutcome(out)
		}
		if err != nil && first == nil {
			first = err
		}
	}
	if p.Volumes != nil && first != nil {
		a.note("the branch is gone; for its volumes: %s", pruneCommand(p.Branch))
	}
	return first
}
