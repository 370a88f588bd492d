package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
)

func (a *app) deployCommand() *cobra.Command {
	var (
		from   source
		plan   string
		events bool
	)
	cmd := &cobra.Command{
		Use:   "deploy",
		Short: "Make a namespace what a Compose file asks for",
		Long: `Make a namespace what a Compose file asks for.

The new serves before the old stops; nothing is committed before it is ready, and a failure before
that puts everything back. Ctrl-C cancels and waits for that; a second Ctrl-C leaves it running.

Which keys of the file are supported, and why others are refused: ployzctl help compose`,
		Example: `  ployzctl deploy
  ployzctl deploy -f shop/compose.yaml --image web=shop/web:v2
  ployzctl preview && ployzctl deploy --plan 3f2a9c0d11e4b867`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body, err := a.deployRequest(cmd.Context(), from)
			if err != nil {
				return a.refuse(api.KindDeploy, err)
			}
			return a.operate(cmd.Context(), request{kind: api.KindDeploy, body: body, plan: plan, events: events})
		},
	}
	from.flags(cmd)
	cmd.Flags().StringVar(&plan, "plan", "", "apply exactly the plan with this `DIGEST`, which preview showed")
	cmd.Flags().BoolVar(&events, "events", false, "with --json: every event as a line before the outcome")
	return cmd
}

func (a *app) previewCommand() *cobra.Command {
	var from source
	cmd := &cobra.Command{
		Use:   "preview",
		Short: "Show what deploy would do, and why, without doing any of it",
		Long: `Show what deploy would do, and why, without doing any of it. Its digest binds a later
'deploy --plan DIGEST' to exactly this plan. The exit status is 3 when the deploy would be refused.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body, err := a.deployRequest(cmd.Context(), from)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			plan, err := c.Preview(cmd.Context(), api.KindDeploy, body)
			if err != nil {
				return err
			}
			return a.showPlan(plan)
		},
	}
	from.flags(cmd)
	return cmd
}

// showPlan prints a plan; its exit status says whether it would be refused.
func (a *app) showPlan(plan api.Plan) error {
	err := a.answer(plan, func() error { return a.planText(plan) })
	if err == nil && len(plan.Unmet) > 0 {
		return exitStatus(api.Refused.Exit())
	}
	return err
}

func (a *app) planText(plan api.Plan) error {
	if a.quiet {
		fmt.Fprintln(a.out, plan.Digest)
	} else if err := a.planDetails(plan); err != nil {
		return err
	}
	if len(plan.Unmet) > 0 {
		e := api.Errorf(api.CodeUnmet, "it would be refused for %d reason(s)", len(plan.Unmet)).About(plan.Scope)
		e.Details = plan.Unmet
		a.showError("refused", e)
	}
	return nil
}

func (a *app) planDetails(plan api.Plan) error {
	rows := make([][]string, len(plan.Changes))
	for i, c := range plan.Changes {
		rows[i] = []string{c.Action, c.Subject, orDash(c.Machine), fromTo(c), c.Reason}
	}
	if err := a.table("ACTION WHAT MACHINE FROM→TO WHY", rows); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	for i, phase := range plan.Phases {
		fmt.Fprintf(a.out, "%d. %s: %s\n", i+1, phase.Name, strings.Join(phase.Steps, ", "))
	}
	_, err := fmt.Fprintf(a.out, "\nplan %s of %s %s\n", plan.Digest, plan.Kind, plan.Scope)
	return err
}

func fromTo(c api.Change) string {
	switch {
	case c.From == "" && c.To == "":
		return "-"
	case c.From == "" || c.From == c.To:
		return c.To
	case c.To == "":
		return c.From + " →"
	}
	return c.From + " → " + c.To
}

func (a *app) historyCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "history NAMESPACE",
		Short:             "List a namespace's commits, newest first",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNamespaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			commits, err := c.History(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.answer(commits, func() error { return a.showHistory(commits) })
		},
	}
}

func (a *app) showHistory(commits []api.CommitSummary) error {
	var rows [][]string
	for _, c := range commits {
		number := strconv.Itoa(c.Number)
		if a.quiet {
			fmt.Fprintln(a.out, number)
			continue
		}
		if c.Current {
			number += " *"
		}
		what := c.Kind
		switch {
		case c.Branch != "":
			what += fmt.Sprintf(" of %s %d", c.Branch, c.Of)
		case c.Of != 0:
			what += fmt.Sprintf(" to %d", c.Of)
		}
		rows = append(rows, []string{number, what, ago(c.Time), orDash(c.Caller), c.Operation, orDash(images(c.Images)), orDash(moments(c.Volumes))})
	}
	if a.quiet {
		return nil
	}
	return a.table("COMMIT KIND WHEN BY OPERATION IMAGES DATA", rows)
}

// moments are the snapshots that a commit names, each with its volumes: "c7 (data, uploads)".
func moments(volumes map[string]string) string {
	of := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(volumes)) {
		of[volumes[name]] = append(of[volumes[name]], name)
	}
	var all []string
	for _, snapshot := range slices.Sorted(maps.Keys(of)) {
		if snapshot != "" {
			all = append(all, snapshot+" ("+strings.Join(of[snapshot], ", ")+")")
		}
	}
	return strings.Join(all, ", ")
}

func (a *app) diffCommand() *cobra.Command {
	var with string
	cmd := &cobra.Command{
		Use:   "diff NAMESPACE (A B | [--with NAMESPACE])",
		Short: "Compare what two commits asked for, or a branch with what it was made of",
		Long: `Compare what two commits of a namespace asked for. Without commits the namespace is a branch, and its present one is
compared with the present one of what it was made of, or of another namespace: what stands there as + is what a promote
would bring, and what stands there as - is what it would take away. Secrets compare by name only.`,
		Example: `  ployzctl diff shop 6 7
  ployzctl diff try
  ployzctl diff try --with staging`,
		Args:              oneOrThree,
		ValidArgsFunction: a.completeNamespaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := a.differences(cmd.Context(), args, with)
			if err != nil {
				return err
			}
			return a.answer(list, func() error { return a.showDiff(list) })
		},
	}
	cmd.Flags().StringVar(&with, "with", "", "the `NAMESPACE` to compare with (default: what the branch was made of)")
	a.completeFlag(cmd, "with", a.completeAnyNamespace)
	return cmd
}

func oneOrThree(cmd *cobra.Command, args []string) error {
	if len(args) == 2 {
		return wrongArguments(cmd, args)
	}
	return cobra.RangeArgs(1, 3)(cmd, args)
}

func (a *app) differences(ctx context.Context, args []string, with string) ([]api.Difference, error) {
	if len(args) == 3 && with != "" {
		return nil, api.Errorf(api.CodeUsage, "two commits are compared, or two namespaces, and both are given").About("--with").
			WithHint("ployzctl diff %s --with %s", args[0], with)
	}
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if len(args) == 1 {
		return c.DiffBranch(ctx, args[0], with)
	}
	from, err := number("commit", args[1])
	if err != nil {
		return nil, err
	}
	to, err := number("commit", args[2])
	if err != nil {
		return nil, err
	}
	return c.Diff(ctx, args[0], from, to)
}

func (a *app) showDiff(list []api.Difference) error {
	for _, d := range list {
		fmt.Fprintln(a.out, strings.TrimPrefix(d.Path, "."))
		if d.From != "" {
			fmt.Fprintln(a.out, a.paint(a.out, bad, "  - "+d.From))
		}
		if d.To != "" {
			fmt.Fprintln(a.out, a.paint(a.out, good, "  + "+d.To))
		}
	}
	if len(list) == 0 {
		a.note("no difference")
	}
	return nil
}

func (a *app) rollbackCommand() *cobra.Command {
	var body api.RollbackRequest
	var plan planFlags
	cmd := &cobra.Command{
		Use:   "rollback NAMESPACE",
		Short: "Go back to an earlier commit: code, configuration and secrets, and with --with-data its data",
		Long: `Go back to an earlier commit: code, configuration and secrets as they were. The result is a
new commit, so a rollback can be rolled back. Without --to it is the commit before the present one.

Volumes stay as they are now, and --preview says which were written since, unless --with-data is given. Then each
volume of commit N gets the data as N left it: a clone of the snapshot that commit N+1 took just before its new
instances started, when those that it replaced had stopped. (What ran on through that commit wrote meanwhile: of that
the snapshot is as after a power cut.) What was written after commit N+1 began is not in it.

All that mounts such a volume stops first; the present data set is snapshot once more and kept, so that
'rollback NAMESPACE --with-data', without --to, undoes the rollback with the newer data. It is refused, with what to
do, where that snapshot is gone, was never taken, or is on another machine than the present data.`,
		Example: `  ployzctl rollback shop
  ployzctl rollback shop --to 7 --with-data --preview`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNamespaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			body.Namespace = args[0]
			if cmd.Flags().Changed("to") && body.To < 1 {
				return api.Errorf(api.CodeUsage, "--to: there is no commit %d", body.To).WithHint("list them: ployzctl history %s", args[0])
			}
			return a.planned(cmd.Context(), plan, api.KindRollback, body)
		},
	}
	cmd.Flags().IntVar(&body.To, "to", 0, "the commit to go back to")
	cmd.Flags().BoolVar(&body.WithData, "with-data", false, "also give volumes the data as that commit left it; the present data is kept")
	plan.lossFlags(cmd)
	return cmd
}

func (a *app) removeCommand() *cobra.Command {
	var plan string
	cmd := &cobra.Command{
		Use:               "rm NAMESPACE",
		Short:             "Take everything of a namespace away but its history",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNamespaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.operate(cmd.Context(), request{kind: api.KindRemove, body: api.NamespaceRequest{Namespace: args[0]}, plan: plan})
		},
	}
	cmd.Flags().StringVar(&plan, "plan", "", "apply exactly the plan with this `DIGEST`")
	return cmd
}

func number(what, text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, api.Errorf(api.CodeUsage, "%q is not a number", text).About(what)
	}
	return n, nil
}
