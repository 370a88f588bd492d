package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
)

func (a *app) machineUpdate() *cobra.Command {
	var (
		file, plan string
		dryRun     bool
	)
	cmd := &cobra.Command{
		Use:   "update [MACHINE...]",
		Short: "Install another version of Ployz on machines, one after the other",
		Long: `Install another version of Ployz on all machines, or on those that are named: one after the other, voters of the
store last, and the one that is asked at the very end. Each must run the new version, with all that serves on it, and every
voter must be current again before the next one begins. The first that fails stops the rest.

Without --package it goes on with the last update. Instances go on, and so do gateways and resolvers.`,
		Example: "  ployzctl machine update --package dist/ployz_0.2.0_amd64.deb --preview",
		Args:    cobra.ArbitraryArgs,
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
			return a.completeMachines(cmd, nil, prefix) // there may be more than one
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			body := api.MachineUpdateRequest{Machines: args}
			if file != "" {
				sent, err := a.sendPackage(cmd.Context(), file)
				if err != nil {
					return a.refuse(api.KindMachineUpdate, err)
				}
				body.Digest = sent.Digest
			}
			if dryRun {
				return a.previewUpdate(cmd.Context(), body)
			}
			return a.update(cmd.Context(), request{kind: api.KindMachineUpdate, body: body, plan: plan})
		},
	}
	cmd.Flags().StringVar(&file, "package", "", "the `FILE` to install, as make deb leaves it in dist/ (default: that of the last update)")
	cmd.Flags().BoolVarP(&dryRun, "preview", "n", false, "show versions, order and what restarts, and change nothing")
	cmd.Flags().StringVar(&plan, "plan", "", "apply exactly the plan with this `DIGEST`")
	return cmd
}

func (a *app) sendPackage(ctx context.Context, file string) (api.Package, error) {
	f, err := os.Open(file)
	if err != nil {
		return api.Package{}, api.Errorf(api.CodePackageInvalid, "%w", err).About(file)
	}
	defer f.Close()
	c, err := a.client()
	if err != nil {
		return api.Package{}, err
	}
	defer c.Close()
	sent, err := c.SendPackage(ctx, f)
	if err != nil {
		return sent, err
	}
	a.note("sent: %s, version %s, %s", file, sent.Version, size(sent.Bytes))
	return sent, nil
}

func (a *app) previewUpdate(ctx context.Context, body api.MachineUpdateRequest) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	plan, err := c.Preview(ctx, api.KindMachineUpdate, body)
	if err != nil {
		return err
	}
	return a.showPlan(plan)
}

// update runs the operation, and then waits for the machine that coordinated it, whose daemon is the last to be replaced.
func (a *app) update(ctx context.Context, req request) error {
	out, err := a.run(ctx, req)
	if err != nil {
		return err
	}
	var result api.MachineUpdateResult
	if len(out.Value) > 0 {
		if err := json.Unmarshal(out.Value, &result); err != nil {
			return api.Errorf(api.CodeInternal, "the update's result cannot be read: %w", err)
		}
	}
	if result.Detached == "" {
		return a.showOutcome(out)
	}
	a.note("%s installs it by itself now; waiting for its new daemon", result.Detached)
	if err := a.awaitUpdate(ctx, result); err != nil {
		out.Outcome = api.CommittedLeftovers
		out.Leftovers = append(out.Leftovers, api.Leftover{Subject: "update " + result.Detached, Problem: err.Error(), Clear: "ployzctl machine update"})
		return a.showOutcome(out)
	}
	result.Updated, result.Detached = append(result.Updated, result.Detached), ""
	if out.Value, err = json.Marshal(result); err != nil {
		return api.Errorf(api.CodeInternal, "the update's result: %w", err)
	}
	return a.showOutcome(out)
}

// The machine that coordinated gets as long as the others did.
const (
	updateWithin = 5 * time.Minute
	updateAgain  = 500 * time.Millisecond
)

func (a *app) awaitUpdate(ctx context.Context, result api.MachineUpdateResult) error {
	ctx, cancel := context.WithTimeout(ctx, updateWithin)
	defer cancel()
	for {
		missing, failed := a.updateLacks(ctx, result)
		if failed != nil || missing == "" {
			return failed
		}
		select {
		case <-ctx.Done():
			return api.Errorf(api.CodePackageFailed, "it is not done: %s", missing).About(result.Detached).
				WithHint("on %s: journalctl -u ployz-update -u ployzd", result.Detached)
		case <-time.After(updateAgain):
		}
	}
}

// updateLacks says what the machine that coordinated still lacks, or that it has failed. While it does not answer
// its daemon is being replaced.
func (a *app) updateLacks(ctx context.Context, result api.MachineUpdateResult) (missing string, failed error) {
	bounded, cancel := context.WithTimeout(ctx, versionPatience)
	defer cancel()
	c, err := a.client()
	if err != nil {
		return err.Error(), nil
	}
	defer c.Close()
	v, err := c.Update(bounded)
	switch i := v.Install; {
	case err != nil:
		return err.Error(), nil
	case i != nil && i.Digest == result.Package.Digest && i.State == api.InstallFailed:
		return "", api.Errorf(api.CodePackageFailed, "dpkg could not install it: %s", strings.Join(i.Log, " ")).About(result.Detached)
	case v.Version != result.Package.Version || !v.Adopted || i == nil || i.State != api.InstallDone:
		return fmt.Sprintf("it runs %s", v.Version), nil
	case len(v.Problems) > 0:
		return "", api.Errorf(api.CodePackageFailed, "not everything of it runs the new version: %s", strings.Join(v.Problems, "; ")).About(result.Detached)
	}
	return "", nil
}
