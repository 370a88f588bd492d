package daemon_test

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/memworld"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/sdk"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/btrfs"
	"github.com/ployz/ployz/node/store"
)

// newPool makes a real pool, in a file.
func newPool(t *testing.T) (pool *btrfs.Pool, folder string) {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	dir := t.TempDir()
	file, folder := filepath.Join(dir, "pool.img"), filepath.Join(dir, "pool")
	must(t, btrfs.CreateFile(t.Context(), file, btrfs.MinFileBytes))
	must(t, btrfs.Mount(file, folder))
	t.Cleanup(func() { must(t, btrfs.Unmount(file, folder)) })
	pool, err := btrfs.Create(folder)
	must(t, err)
	return pool, folder
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestVolumesOfAMachineWithout(t *testing.T) {
	_, c := open(t)
	list, err := c.Volumes(t.Context(), "", "")
	if err != nil || len(list.Volumes) != 0 || len(list.Pools) != 1 || list.Pools[0].State != api.StateAbsent || list.Pools[0].Machine != "m1" {
		t.Errorf("%+v %v", list, err)
	}
	_, err = c.Volume(t.Context(), "shop/data", "")
	want(t, err, api.CodeVolumeNotFound)
	_, err = c.Volumes(t.Context(), "", "m9")
	want(t, err, api.CodeNotFound)
}

// family makes shop/data (a1) with a snapshot, a copy of it on the far side, a clone, and a stranger.
func family(t *testing.T, near, far *btrfs.Pool) storage.Snapshot {
	t.Helper()
	ctx := t.Context()
	data := storage.Spec{ID: "a1", Namespace: "shop", Name: "data", SizeBytes: 32 << 20}
	_, err := near.Ensure(ctx, data)
	must(t, err)
	taken, err := near.Snapshot(ctx, "c1", "a1")
	must(t, err)
	must(t, near.Hold(ctx, "a1", "c1", "commit-1"))
	_, err = near.Clone(ctx, "a1", "c1", storage.Spec{ID: "b1", Namespace: "try", Name: "data"}, false)
	must(t, err)
	_, err = near.Ensure(ctx, storage.Spec{ID: "z1", Namespace: "shop", Name: "other"})
	must(t, err)
	r, pipe := io.Pipe()
	go func() { pipe.CloseWithError(near.Send(ctx, storage.From{Volume: "a1", Snapshot: "c1"}, pipe)) }()
	_, err = far.Receive(ctx, data, r)
	must(t, err)
	return taken[0]
}

// TestVolumesEverywhere lists, and shows with their relatives, volumes that lie on two machines.
func TestVolumesEverywhere(t *testing.T) {
	near, _ := newPool(t)
	far, _ := newPool(t)
	w, second, c := two(t)
	w.Volumes.UsePool(near)
	second.Volumes.UsePool(far)
	ctx := t.Context()
	taken := family(t, near, far)

	t.Run("listed", func(t *testing.T) {
		wantVolumes := func(ns, machine, wanted string) {
			t.Helper()
			list, err := c.Volumes(ctx, ns, machine)
			must(t, err)
			if got := said(list.Volumes); got != wanted || list.Uncertain != "" {
				t.Errorf("%q on %q has %s, want %s (%s)", ns, machine, got, wanted, list.Uncertain)
			}
		}
		wantVolumes("", "", "shop/data:a1:m1:live shop/data:a1:m2:kept shop/other:z1:m1:live try/data:b1:m1:live")
		wantVolumes("shop", "m1", "shop/data:a1:m1:live shop/other:z1:m1:live")
		wantVolumes("", "m2", "shop/data:a1:m2:kept")
		list, err := c.Volumes(ctx, "", "")
		if err != nil || len(list.Pools) != 2 || list.Pools[0].State != api.StateUp || list.Pools[0].PromisedBytes != 32<<20 || list.Pools[1].Volumes["kept"] != 1 {
			t.Errorf("%+v %v", list.Pools, err)
		}
	})
	t.Run("shown", func(t *testing.T) {
		v, err := c.Volume(ctx, "shop/data", "")
		if err != nil || v.ID != "a1" || v.Machine != "m1" || said(v.Family) != "shop/data:a1:m1:live shop/data:a1:m2:kept try/data:b1:m1:live" {
			t.Errorf("%+v %v", v, err)
		}
		if len(v.Snapshots) != 1 || v.Snapshots[0].GUID != taken.GUID || len(v.Snapshots[0].Holds) != 1 {
			t.Errorf("%+v", v.Snapshots)
		}
		if v, err = c.Volume(ctx, "b1", ""); err != nil || v.Origin == nil || v.Origin.GUID != taken.GUID || len(v.Family) != 3 {
			t.Errorf("%+v %v", v, err)
		}
		if v, err = c.Volume(ctx, "a1", "m2"); err != nil || v.State != "kept" || len(v.Snapshots) != 1 || v.Snapshots[0].GUID != taken.GUID {
			t.Errorf("%+v %v", v, err)
		}
		if v, err = c.Volume(ctx, "z1", ""); err != nil || said(v.Family) != "shop/other:z1:m1:live" {
			t.Errorf("%+v %v", v, err)
		}
	})
	t.Run("of two it must be said which", func(t *testing.T) {
		must(t, near.Retire(ctx, "a1"))
		_, err := c.Volume(ctx, "shop/data", "")
		want(t, err, api.CodeBadRequest)
		must(t, near.Restore(ctx, "a1"))
	})
	t.Run("compared with the facts", func(t *testing.T) { compared(t, w, c) })
	second.Stop()
	list, err := c.Volumes(ctx, "", "")
	if err != nil || len(list.Pools) != 1 || !strings.Contains(list.Uncertain, "m2") {
		t.Errorf("with m2 away: %+v %v", list, err)
	}
	if got := claimed(list.Volumes); !strings.Contains(got, "shop/data:m2:lost:copy:deploy.machine-silent") {
		t.Errorf("with m2 away: %s", got)
	}
	_, err = c.Volume(ctx, "nowhere", "")
	want(t, err, api.CodeMachineSilent)
}

// TestDamagedVolumeIsListed: what cannot say who it is is shown by where it lies, beside the others.
func TestDamagedVolumeIsListed(t *testing.T) {
	pool, folder := newPool(t)
	w, c := open(t)
	w.Volumes.UsePool(pool)
	for _, name := range []string{"data", "sound"} {
		_, err := pool.Ensure(t.Context(), storage.Spec{ID: name + "1", Namespace: "shop", Name: name})
		must(t, err)
	}
	must(t, os.WriteFile(filepath.Join(folder, "volumes/shop.data/volume.json"), []byte("{"), 0o600))
	list, err := c.Volumes(t.Context(), "shop", "")
	must(t, err)
	if got := said(list.Volumes); got != "shop/data::m1:live shop/sound:sound1:m1:live" || api.CodeOf(list.Volumes[0].Error) != api.CodeVolumePoolFailed {
		t.Errorf("%s: %v", got, list.Volumes[0].Error)
	}
	v, err := c.Volume(t.Context(), "shop/data", "")
	if err != nil || v.Error == nil {
		t.Errorf("%+v %v", v, err)
	}
}

// said is a list in one line.
func said(list []api.VolumeEntry) string {
	var words []string
	for _, v := range list {
		words = append(words, v.Namespace+"/"+v.Name+":"+v.ID+":"+v.Machine+":"+v.State)
	}
	return strings.Join(words, " ")
}

// compared wants what pools have told apart by what facts say of it, and what no pool has shown as lost.
func compared(t *testing.T, w *memworld.World, c *sdk.Client) {
	copies := []api.VolumeCopy{{Machine: "m2", Snapshot: "c1", GUID: "g", Reason: api.CopySent}}
	for _, v := range []api.VolumeFact{
		{ID: "a1", Namespace: "shop", Name: "data", Machine: "m1", State: api.VolumeLive, Copies: copies},
		{ID: "l1", Namespace: "shop", Name: "gone", Machine: "m1", State: api.VolumeLive},
		{ID: "l2", Namespace: "shop", Name: "left", Machine: "m9", State: api.VolumeKept},
		{ID: "l3", Namespace: "shop", Name: "went", Machine: "m9", State: api.VolumeLive},
	} {
		text, err := json.Marshal(v)
		must(t, err)
		_, err = w.Store.Facts().Commit(t.Context(), store.Batch{ID: v.ID, Puts: []store.Put{{Key: store.Volume("shop", v.ID), Value: text}}})
		must(t, err)
	}
	list, err := c.Volumes(t.Context(), "shop", "")
	must(t, err)
	want := "shop/data:m1:live shop/data:m2:kept:copy shop/gone:m1:lost:volume.not-found shop/left:m9:lost:machine.not-found shop/other:m1:live:volume.unclaimed shop/went:m9:lost:machine.not-found"
	if got := claimed(list.Volumes); got != want {
		t.Errorf("listed are\n%s\nwant\n%s", got, want)
	}
	for _, v := range list.Volumes {
		for _, e := range []*api.Error{v.Error, v.Unclaimed} {
			if e != nil && e.Hint == "" {
				t.Errorf("%s on %s: %v names no next command", v.Name, v.Machine, e)
			}
		}
	}
	v, err := c.Volume(t.Context(), "shop/data", "")
	if err != nil || len(v.Copies) != 1 || v.Copies[0].Machine != "m2" || v.Copy != nil {
		t.Errorf("%+v %v", v, err)
	}
	if v, err = c.Volume(t.Context(), "a1", "m2"); err != nil || v.Copy == nil || len(v.Copies) != 0 {
		t.Errorf("%+v %v", v, err)
	}
	if _, err = c.Volume(t.Context(), "shop/left", ""); api.CodeOf(err) != api.CodeMachineAbsent {
		t.Errorf("lost: %v", err)
	}
}

// claimed is a list in one line, with what facts say of each.
func claimed(list []api.VolumeEntry) string {
	var words []string
	for _, v := range list {
		word := v.Namespace + "/" + v.Name + ":" + v.Machine + ":" + v.State
		if v.Copy != nil {
			word += ":copy"
		}
		for _, e := range []*api.Error{v.Error, v.Unclaimed} {
			if e != nil {
				word += ":" + string(e.Code)
			}
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}
