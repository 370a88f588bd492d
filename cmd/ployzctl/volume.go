package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

func (a *app) volumeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "volume", Short: "The volumes of all machines", Args: cobra.NoArgs, RunE: needsCommand}
	cmd.AddCommand(a.volumeLs(), a.volumeShow(), a.volumeRm(), a.volumeRestore(), a.volumePrune(),
		a.volumeSnapshot(), a.volumeClone(), a.volumeCreate(), a.volumeSend())
	return cmd
}

// poolFlags are what an operator may say of where a new member keeps its volumes.
type poolFlags struct{ pool, size string }

func (p *poolFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.pool, "pool", "", "where the machine keeps volumes, as `POOL`: loop (a file of its own), btrfs:FOLDER, zfs:DATASET or none (default: as in its /etc/ployz/config.toml, else loop if btrfs-progs is there)")
	cmd.Flags().StringVar(&p.size, "pool-size", "", "the `SIZE` of the file of a loop pool, such as 20G (default: half of what is free)")
}

func (p *poolFlags) into(r *api.PoolRequest) (err error) {
	if p.pool != "" {
		if _, err := storage.ParseSource(p.pool); err != nil {
			return err
		}
	}
	r.Pool = p.pool
	r.PoolBytes, err = storage.ParseSize(p.size)
	return err
}

// notePool says where a new member keeps its volumes.
func (a *app) notePool(out api.Outcome) {
	var made struct{ Pool string }
	if json.Unmarshal(out.Value, &made) == nil && made.Pool != "" {
		a.note("volumes: %s", made.Pool)
	}
}

// poolLine is a pool in one line.
func poolLine(p api.PoolStatus) string {
	switch p.State {
	case api.StateUp:
		return fmt.Sprintf("%s at %s, %s free of %s, %s promised, %d live", p.Backend, p.Pool, size(p.FreeBytes), size(p.SizeBytes), size(p.PromisedBytes), p.Volumes[string(storage.StateLive)])
	case api.StateDown:
		return "the pool is down: " + p.Error.Message
	}
	return "no pool"
}

func (a *app) volumeLs() *cobra.Command {
	var machine string
	cmd := &cobra.Command{
		Use:   "ls [NAMESPACE]",
		Short: "List the volumes of a namespace, or of all, as the machines have them now",
		Args:  cobra.MaximumNArgs(1), ValidArgsFunction: a.completeNamespaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			list, err := c.Volumes(cmd.Context(), strings.Join(args, ""), machine)
			if err != nil {
				return err
			}
			return a.answer(list, func() error { return a.showVolumes(list) })
		},
	}
	cmd.Flags().StringVar(&machine, "machine", "", "only what this machine has, by its `NAME`")
	return cmd
}

func (a *app) showVolumes(list api.VolumeList) error {
	if a.quiet {
		for _, v := range list.Volumes {
			fmt.Fprintln(a.out, v.ID)
		}
		return nil
	}
	var rows [][]string
	for _, v := range list.Volumes {
		rows = append(rows, []string{v.Namespace + "/" + v.Name, orDash(v.ID), v.Machine, a.state(v.State), limitOf(v), size(v.UsedBytes), size(v.OwnBytes), ago(v.Created), orDash(remark(v))})
	}
	if err := a.table("VOLUME ID MACHINE STATE SIZE USED OWN CREATED REMARKS", rows); err != nil {
		return err
	}
	for _, p := range list.Pools {
		fmt.Fprintf(a.out, "pool of %s: %s\n", p.Machine, poolLine(p))
	}
	if list.Uncertain != "" {
		fmt.Fprintln(a.out, "uncertain:", list.Uncertain)
	}
	return nil
}

// remark is what is particular about a volume, with the next command where something is wrong.
func remark(v api.VolumeEntry) string {
	var parts []string
	for _, err := range []*api.Error{v.Error, v.Unclaimed} {
		if err != nil {
			parts = append(parts, err.Message, err.Hint)
		}
	}
	if v.Copy != nil {
		parts = append(parts, "a copy, "+copyText(*v.Copy))
	}
	if v.Origin != nil {
		parts = append(parts, "began as "+v.Origin.Volume+"@"+v.Origin.Snapshot)
	}
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), "; ")
}

func copyText(c api.VolumeCopy) string {
	if c.Reason == api.CopyMoved {
		return "left by a migration " + ago(c.Since)
	}
	return "sent " + ago(c.Since)
}

func limitOf(v api.VolumeEntry) string {
	if v.SizeBytes == 0 {
		return "no limit"
	}
	return size(v.SizeBytes)
}

func (a *app) volumeShow() *cobra.Command {
	var machine string
	cmd := &cobra.Command{
		Use:   "show NAMESPACE/NAME|ID",
		Short: "One volume with its snapshots, what needs them, and its lineage",
		Args:  cobra.ExactArgs(1), ValidArgsFunction: a.completeVolumes,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			v, err := c.Volume(cmd.Context(), args[0], machine)
			if err != nil {
				return err
			}
			return a.answer(v, func() error { return a.showVolume(v) })
		},
	}
	cmd.Flags().StringVar(&machine, "machine", "", "the one that this machine has, by its `NAME`")
	return cmd
}

func (a *app) showVolume(v api.VolumeDetail) error {
	if a.quiet {
		_, err := fmt.Fprintln(a.out, v.ID)
		return err
	}
	fmt.Fprintf(a.out, "volume %s/%s  id %s  on %s  %s\n", v.Namespace, v.Name, orDash(v.ID), v.Machine, v.State)
	if v.Error != nil {
		a.showError("damaged", v.Error)
		return nil
	}
	fmt.Fprintf(a.out, "path %s\nsize %s, %s used, %s its own\ncreated %s\n", orDash(v.Path), limitOf(v.VolumeEntry), size(v.UsedBytes), size(v.OwnBytes), ago(v.Created))
	switch {
	case v.Copy != nil:
		fmt.Fprintf(a.out, "a copy, %s: the volume itself is on another machine\n", copyText(*v.Copy))
	case v.Unclaimed != nil:
		a.showError("unclaimed", v.Unclaimed)
	}
	for _, c := range v.Copies {
		fmt.Fprintf(a.out, "copy on %s, %s, up to %s (guid %s)\n", c.Machine, copyText(c), c.Snapshot, c.GUID)
	}
	if v.Move != nil {
		fmt.Fprintf(a.out, "moved %s\n", moveText(*v.Move))
	}
	if len(v.Snapshots) > 0 {
		var rows [][]string
		for _, s := range v.Snapshots {
			rows = append(rows, []string{s.Name, s.GUID, ago(s.Created), orDash(strings.Join(s.Holds, " ")), orDash(strings.Join(s.Clones, " "))})
		}
		if err := a.table("SNAPSHOT GUID CREATED HELD-BY NEEDED-BY", rows); err != nil {
			return err
		}
	}
	fmt.Fprintln(a.out, "lineage")
	writeLineage(a.out, v)
	if v.Uncertain != "" {
		fmt.Fprintln(a.out, "uncertain:", v.Uncertain)
	}
	return nil
}

// writeLineage draws a volume's family as a tree: whoever began as a snapshot of another stands below it. Copies of
// one data set on several machines are one entry.
func writeLineage(w io.Writer, v api.VolumeDetail) {
	tree := lineage{of: v.ID, entries: map[string][]api.VolumeEntry{}, children: map[string][]api.VolumeEntry{}}
	for _, e := range v.Family {
		tree.entries[e.ID] = append(tree.entries[e.ID], e)
		if e.Origin != nil && len(tree.entries[e.ID]) == 1 {
			tree.children[e.Origin.Volume] = append(tree.children[e.Origin.Volume], e)
		}
	}
	roots := map[string]bool{}
	for _, e := range v.Family {
		switch {
		case e.Origin == nil:
			roots[e.ID] = true
		case tree.entries[e.Origin.Volume] == nil:
			roots[e.Origin.Volume] = true
		}
	}
	for _, id := range sorted(roots) {
		fmt.Fprintln(w, "  "+tree.name(id))
		tree.below(w, id, "  ")
	}
}

func sorted(set map[string]bool) (list []string) {
	for id := range set {
		list = append(list, id)
	}
	slices.Sort(list)
	return list
}

// lineage is a family by ID and by parent. Origins are older than what began as them, so it has no circles.
type lineage struct {
	of                string
	entries, children map[string][]api.VolumeEntry
}

func (l lineage) below(w io.Writer, id, indent string) {
	children := l.children[id]
	slices.SortFunc(children, func(a, b api.VolumeEntry) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	for i, c := range children {
		branch, next := "├─ ", "│  "
		if i == len(children)-1 {
			branch, next = "└─ ", "   "
		}
		fmt.Fprintf(w, "%s%s@%s → %s\n", indent, branch, c.Origin.Snapshot, l.name(c.ID))
		l.below(w, c.ID, indent+next)
	}
}

func (l lineage) name(id string) string {
	all := l.entries[id]
	if len(all) == 0 {
		return id + "  gone"
	}
	var places []string
	for _, e := range all {
		places = append(places, e.State+" on "+e.Machine)
	}
	text := fmt.Sprintf("%s/%s  %s  %s", all[0].Namespace, all[0].Name, id, strings.Join(places, ", "))
	if id == l.of {
		text += "  ← this one"
	}
	return text
}
