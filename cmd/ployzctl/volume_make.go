package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

func (a *app) volumeSnapshot() *cobra.Command {
	var flags planFlags
	cmd := &cobra.Command{
		Use:   "snapshot NAMESPACE/NAME SNAPSHOT",
		Short: "Take a snapshot of a volume, and hold it until it is taken away",
		Long: `Take a snapshot of a volume, in a time that does not depend on its size, and hold it until it is taken
away with volume snapshot rm. What is written meanwhile is in it as after a power cut.`,
		Example: `  ployzctl volume snapshot shop/data before-upgrade
  ployzctl volume snapshot shop/data.db-0 before-upgrade    # of scope slot`,
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeVolumes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.snapshot(cmd, args, flags, api.KindVolumeSnapshot)
		},
	}
	flags.add(cmd)
	cmd.AddCommand(a.volumeSnapshotRm())
	return cmd
}

func (a *app) volumeSnapshotRm() *cobra.Command {
	var flags planFlags
	cmd := &cobra.Command{
		Use:     "rm NAMESPACE/NAME SNAPSHOT",
		Short:   "Take a snapshot away for good, unless a commit, another hold or a clone needs it",
		Long:    `Take a snapshot away for good, unless a commit, another hold or a clone needs it. NAME may be the ID of a kept volume.`,
		Example: `  ployzctl volume snapshot rm shop/data before-upgrade`,
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.completeVolumes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.snapshot(cmd, args, flags, api.KindVolumeSnapshotRemove)
		},
	}
	flags.add(cmd)
	return cmd
}

// snapshot asks for something about the snapshot args[1] of the volume args[0].
func (a *app) snapshot(cmd *cobra.Command, args []string, flags planFlags, kind string) error {
	of, err := volumeArg(args[0], "")
	if err != nil {
		return err
	}
	body := api.VolumeSnapshotRequest{Namespace: of.Namespace, Name: of.Name, Snapshot: args[1]}
	return a.planned(cmd.Context(), flags, kind, body)
}

func (a *app) volumeClone() *cobra.Command {
	var flags planFlags
	cmd := &cobra.Command{
		Use:   "clone NAMESPACE/NAME[@SNAPSHOT] NEWNAME",
		Short: "Make a volume that begins as another is, or was, at once and without a copy",
		Long: `Make a volume that begins as another is now, or was in one of its snapshots: in the same namespace, on
the same machine, in a time that does not depend on its size. NAME may be the ID of a kept volume. A
deploy that asks for NEWNAME mounts it.`,
		Example: `  ployzctl volume clone shop/data trial
  ployzctl volume clone shop/data@c12 data-of-commit-12`,
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeVolumes,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, snapshot, given := strings.Cut(args[0], "@")
			of, err := volumeArg(name, "")
			if err != nil {
				return err
			}
			if given && snapshot == "" {
				return api.Errorf(api.CodeUsage, "%q names no snapshot", args[0]).WithHint("those there are: ployzctl volume show %s", name)
			}
			body := api.VolumeCloneRequest{Namespace: of.Namespace, Name: of.Name, Snapshot: snapshot, As: args[1]}
			return a.planned(cmd.Context(), flags, api.KindVolumeClone, body)
		},
	}
	flags.add(cmd)
	return cmd
}

func (a *app) volumeCreate() *cobra.Command {
	var (
		flags                          planFlags
		machine, slot, size, own, mode string
	)
	cmd := &cobra.Command{
		Use:   "create NAMESPACE/NAME",
		Short: "Make an empty volume before a deploy asks for it",
		Long: `Make an empty volume before a deploy asks for it, to say where it is, or to fill it first. A deploy that
asks for its name takes it as its own, and gives it the size, owner and mode that it says.`,
		Example: `  ployzctl volume create shop/data --size 20G --owner 999:999 --mode 0700 --machine m2
  ployzctl volume create shop/cache --slot app-0    # of scope slot`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			of, err := volumeArg(args[0], slot)
			if err != nil {
				return err
			}
			body := api.VolumeCreateRequest{Namespace: of.Namespace, Name: of.Name, Machine: machine}
			if err := askFor(&body, size, own, mode); err != nil {
				return err
			}
			return a.planned(cmd.Context(), flags, api.KindVolumeCreate, body)
		},
	}
	cmd.Flags().StringVar(&size, "size", "", "the most that it may hold, as `SIZE` such as 20G (default: no limit)")
	cmd.Flags().StringVar(&own, "owner", "", "whose its root folder is, as `UID[:GID]` by number (default: left to the workload)")
	cmd.Flags().StringVar(&mode, "mode", "", "the permissions of its root folder, as `OCTAL` such as 0750 (default: left to the workload)")
	cmd.Flags().StringVar(&machine, "machine", "", "where it comes, by the machine's `NAME` (default: where the most space is free)")
	cmd.Flags().StringVar(&slot, "slot", "", "of scope slot: for this `SLOT`, such as db-0")
	flags.add(cmd)
	return cmd
}

// askFor reads what a new volume is to be.
func askFor(r *api.VolumeCreateRequest, size, own, mode string) (err error) {
	if r.SizeBytes, err = storage.ParseSize(size); err != nil {
		return api.Errorf(api.CodeUsage, "%q is no size", size).About("--size").WithHint("in powers of 1024: --size 20G")
	}
	if own != "" {
		uid, gid, both := strings.Cut(own, ":")
		if !both {
			gid = uid
		}
		u, err1 := strconv.Atoi(uid)
		g, err2 := strconv.Atoi(gid)
		if err1 != nil || err2 != nil || u < 0 || g < 0 {
			return api.Errorf(api.CodeUsage, "%q is no owner", own).About("--owner").WithHint("by number: --owner 999:999")
		}
		r.Owner = &api.Owner{UID: u, GID: g}
	}
	if mode != "" {
		bits, err := strconv.ParseUint(mode, 8, 12)
		if err != nil {
			return api.Errorf(api.CodeUsage, "%q are no permissions", mode).About("--mode").WithHint("in octal digits: --mode 0750")
		}
		r.Mode = uint32(bits)
	}
	return nil
}
