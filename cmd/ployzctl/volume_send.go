package main

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

func (a *app) volumeSend() *cobra.Command {
	var (
		flags     planFlags
		to, limit string
	)
	cmd := &cobra.Command{
		Use:   "send NAMESPACE/NAME --to MACHINE",
		Short: "Bring a copy of a volume to another machine, or the one there up to date",
		Long: `Bring a copy of a volume, as it is now, to the pool of another machine, where nothing mounts it: in full
once, and then what was written since the last time. What is written meanwhile is in it as after a power
cut. NAME may be the ID of a kept volume. When it breaks off, repeat it: what has arrived is not sent again
where the pools can tell.

The copy stays until it is pruned by name; volume ls and volume show list it.`,
		Example: `  ployzctl volume send shop/data --to m2
  ployzctl volume send shop/data --to m2 --limit 50M    # at most 50 MiB in a second`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVolumes,
		RunE: func(cmd *cobra.Command, args []string) error {
			of, err := volumeArg(args[0], "")
			if err != nil {
				return err
			}
			if to == "" {
				return api.Errorf(api.CodeUsage, "it is not said where to").WithHint("ployzctl volume send %s --to MACHINE; those there are: ployzctl machine ls", args[0])
			}
			body := api.VolumeSendRequest{Namespace: of.Namespace, Name: of.Name, To: to}
			if body.BytesPerSecond, err = rateArg(limit); err != nil {
				return err
			}
			if flags.dryRun {
				return a.planned(cmd.Context(), flags, api.KindVolumeSend, body)
			}
			out, err := a.run(cmd.Context(), request{kind: api.KindVolumeSend, body: body, plan: flags.plan})
			if err != nil {
				return err
			}
			a.noteSent(out)
			if err := a.showOutcome(out); err != nil {
				return err
			}
			return exitOf(out)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the `MACHINE` that is to have the copy")
	cmd.Flags().StringVar(&limit, "limit", "", "the most that is sent, as `BYTES` a second such as 50M (default: no limit)")
	a.completeFlag(cmd, "to", a.completeMachines)
	flags.add(cmd)
	return cmd
}

// rateArg reads a flag of bytes in a second; "" is no limit.
func rateArg(limit string) (int64, error) {
	rate, err := storage.ParseSize(strings.TrimSuffix(limit, "B"))
	if err != nil {
		return 0, api.Errorf(api.CodeUsage, "%q is no rate", limit).About("--limit").WithHint("in bytes a second: --limit 50M")
	}
	return rate, nil
}

// noteSent says what was sent.
func (a *app) noteSent(out api.Outcome) {
	var r api.VolumeSendResult
	if json.Unmarshal(out.Value, &r) != nil || r.Copy.Machine == "" {
		return
	}
	var took time.Duration
	for _, round := range r.Move.Rounds {
		took += round.Took.D(0)
	}
	a.note("%s has %s as of %s (guid %s): %s sent in %s", r.Copy.Machine, r.Name, r.Copy.Snapshot, r.Copy.GUID, size(r.Move.Bytes), took.Round(time.Millisecond))
}
