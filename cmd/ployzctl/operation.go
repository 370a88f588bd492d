package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
)

func (a *app) operationCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "operation", Short: "The ledger: what was done, by whom, and how it ended", Args: cobra.NoArgs, RunE: needsCommand}
	cmd.AddCommand(a.operationLs(), a.operationShow(), a.operationWatch(), a.operationResolve())
	return cmd
}

func (a *app) operationLs() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "ls", Short: "List operations, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			list, err := c.Operations(cmd.Context(), limit)
			if err != nil {
				return err
			}
			return a.answer(list, func() error { return a.showOperations(list) })
		},
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "how many; 0 is all")
	return cmd
}

func (a *app) showOperations(list []api.OperationSummary) error {
	var rows [][]string
	for _, o := range list {
		if a.quiet {
			fmt.Fprintln(a.out, o.Operation)
			continue
		}
		remark := ""
		if o.Error != nil {
			remark = oneRow(firstLine(o.Error))
		}
		if o.ResolvedBy != "" {
			remark = "resolved by " + o.ResolvedBy
		}
		rows = append(rows, []string{o.Operation, o.Kind, o.Scope, o.State, ago(o.Opened), orDash(o.Caller), remark})
	}
	if a.quiet {
		return nil
	}
	return a.table("OPERATION KIND SCOPE STATE BEGUN BY REMARK", rows)
}

func (a *app) operationShow() *cobra.Command {
	return &cobra.Command{
		Use: "show OPERATION", Short: "Every entry of one operation", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeOperations,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := a.operation(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.answer(d, func() error { return a.showOperation(d) })
		},
	}
}

func (a *app) operation(ctx context.Context, id string) (api.OperationDetail, error) {
	c, err := a.client()
	if err != nil {
		return api.OperationDetail{}, err
	}
	defer c.Close()
	return c.Operation(ctx, id)
}

func (a *app) showOperation(d api.OperationDetail) error {
	fmt.Fprintf(a.out, "%s %s  %s, begun %s by %s\n", d.Kind, d.Scope, d.State, d.Opened.Format(time.RFC3339), orDash(d.Caller))
	if d.ResolvedBy != "" {
		fmt.Fprintf(a.out, "resolved by operation %s\n", d.ResolvedBy)
	}
	for _, e := range d.Entries {
		fmt.Fprintf(a.out, "%10s  %s\n", e.Elapsed, entryText(e))
		if e.Error != nil && e.Type != api.EventNotCommitted {
			fmt.Fprintf(a.out, "            %s\n", firstLine(e.Error))
		}
		if e.Outcome != nil {
			for _, l := range e.Outcome.Leftovers {
				fmt.Fprintf(a.out, "            left over: %s: %s → %s\n", l.Subject, l.Problem, l.Clear)
			}
		}
	}
	return nil
}

func entryText(e api.Event) string {
	words := []string{e.Type}
	switch {
	case e.Type == api.EventPhase:
		words = append(words, fmt.Sprintf("%d/%d %s", e.Index, e.Of, e.Phase))
	case e.Step != "":
		words = append(words, stepName(e))
	case e.Type == api.EventCommitSent, e.Type == api.EventCommitted:
		words = append(words, fmt.Sprintf("%s at revision %d", e.Witness, e.Expect))
	case e.Type == api.EventResolved:
		words = append(words, "by "+e.By+": "+e.Message)
	case e.Outcome != nil:
		words = append(words, string(e.Outcome.Outcome))
	}
	return strings.Join(words, " ")
}

func (a *app) operationWatch() *cobra.Command {
	return &cobra.Command{
		Use:   "watch OPERATION",
		Short: "Follow an operation to its outcome, whose exit status becomes this one's",
		Long: `Follow an operation, from its beginning to its outcome, whose exit status becomes this one's. Ctrl-C
stops watching and cancels nothing.`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeOperations,
		RunE: func(cmd *cobra.Command, args []string) error { return a.watch(cmd.Context(), args[0]) },
	}
}

func (a *app) watch(ctx context.Context, id string) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	view := a.newLive()
	out, err := c.Watch(ctx, id, func(e api.Event) {
		if a.json && e.Type != api.EventOutcome {
			a.writeJSON(e)
		}
		view.show(e)
	})
	view.end()
	if err != nil {
		return err
	}
	return a.showOutcome(out)
}

func (a *app) operationResolve() *cobra.Command {
	return &cobra.Command{
		Use:   "resolve OPERATION",
		Short: "Clear what an interrupted, stranded or uncertain operation left behind",
		Long: `Clear what an interrupted, stranded or uncertain operation left behind in its namespace: the
present commit is made whole again, and everything else of the namespace is taken away.`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeOperations,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := a.operation(cmd.Context(), args[0])
			if err != nil {
				return a.refuse(api.KindClear, err)
			}
			ns, err := resolvable(d.OperationSummary)
			if err != nil {
				return a.refuse(api.KindClear, err)
			}
			body := api.NamespaceRequest{Namespace: ns}
			a.noteCleared(cmd.Context(), body)
			return a.operate(cmd.Context(), request{kind: api.KindClear, body: body})
		},
	}
}

// noteCleared says what clearing a namespace is about to do. Where nobody can tell, the clearing itself says why.
func (a *app) noteCleared(ctx context.Context, body api.NamespaceRequest) {
	c, err := a.client()
	if err != nil {
		return
	}
	defer c.Close()
	plan, err := c.Preview(ctx, api.KindClear, body)
	if err != nil || len(plan.Unmet) > 0 {
		return
	}
	left := slices.DeleteFunc(plan.Changes, func(c api.Change) bool { return c.Action == "keep" })
	for _, change := range left {
		a.note("%s %s: %s", change.Action, change.Subject, change.Reason)
	}
	if len(left) == 0 {
		a.note("nothing of it is left; %s is committed as it is", body.Namespace)
	}
}

// resolvable returns the namespace that clearing an operation would clear.
func resolvable(o api.OperationSummary) (string, error) {
	no := func(format string, args ...any) *api.Error {
		return api.Errorf(api.CodeNotResolvable, format, args...).About("operation " + o.Operation)
	}
	switch api.Result(o.State) {
	case "running":
		return "", no("it is still running").WithHint("watch it: ployzctl operation watch %s", o.Operation)
	case api.Committed, api.Refused, api.RolledBack:
		return "", no("it ended %s and left nothing to clear", o.State)
	}
	ns, found := strings.CutPrefix(o.Scope, "ns/")
	if found && !strings.Contains(ns, "/") {
		return ns, nil
	}
	hint := "repeat it: " + o.Kind + " deals with what an earlier one left"
	if o.Kind == api.KindMachineInit {
		hint = "repeat it: ployzctl init"
	}
	return "", no("its scope %s is not a namespace, so there is nothing to clear by itself", o.Scope).WithHint("%s", hint)
}

func (a *app) eventsCommand() *cobra.Command {
	var following bool
	cmd := &cobra.Command{
		Use:   "events",
		Short: "What happened lately: operations and routing, one line each",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			err = c.Events(ctx, following, a.showEvent)
			if ctx.Err() != nil {
				return nil // Ctrl-C ends a follow, and is no error
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&following, "follow", "f", false, "go on until Ctrl-C")
	return cmd
}

func (a *app) showEvent(e api.ClusterEvent) error {
	if a.json {
		return a.writeJSON(e)
	}
	text := ""
	switch {
	case e.Operation != nil:
		text = fmt.Sprintf("%s %s %s  %s", e.Operation.Operation, e.Operation.Kind, e.Operation.Scope, entryText(*e.Operation))
	case e.Routing != nil && e.Routing.Removed:
		text = fmt.Sprintf("routing of %s withdrawn (revision %d)", e.Routing.Namespace, e.Routing.Revision)
	case e.Routing != nil:
		text = fmt.Sprintf("routing of %s: commit %s, %d instance(s) (revision %d)", e.Routing.Namespace, e.Routing.Commit, e.Routing.Instances, e.Routing.Revision)
	}
	_, err := fmt.Fprintf(a.out, "%s %s\n", e.Time.Local().Format("15:04:05.000"), text)
	return err
}
