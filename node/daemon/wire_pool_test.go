package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/btrfs"
)

// poolDaemon is a daemon of which only the pool's part is there.
func poolDaemon(t *testing.T) *Daemon {
	d := &Daemon{State: t.TempDir()}
	d.host = &host{daemon: d}
	d.pool = &storage.Late{OpenPool: d.openPool}
	return d
}

func choose(d *Daemon, r api.PoolRequest) (string, string, error) {
	s, why, err := d.host.asked(r).choosePool(context.Background())
	return s.String(), why, err
}

func TestPoolIsChosen(t *testing.T) {
	testenv.Require(t, testenv.Btrfs)
	d := poolDaemon(t)
	for _, c := range []struct {
		asked    api.PoolRequest
		settings string
		want     string
		code     api.Code
	}{
		{api.PoolRequest{}, "", "loop", ""},
		{api.PoolRequest{Pool: "none"}, "", "none", ""},
		{api.PoolRequest{}, "none", "none", ""},
		{api.PoolRequest{Pool: "loop"}, "none", "loop", ""},
		{api.PoolRequest{Pool: "tape"}, "", "", api.CodeVolumeInvalid},
		{api.PoolRequest{Pool: "btrfs:/proc"}, "", "btrfs:/proc", api.CodeVolumePoolUnavailable},
		{api.PoolRequest{Pool: "loop", PoolBytes: 1 << 20}, "", "loop", api.CodeMachineUnfit},
		{api.PoolRequest{Pool: "loop", PoolBytes: 1 << 60}, "", "loop", api.CodeMachineUnfit},
	} {
		d.Settings.Volumes.Pool = c.settings
		got, why, err := choose(d, c.asked)
		if api.CodeOf(err) != c.code || got != c.want {
			t.Errorf("asked for %+v, settings %q: %s (%s), %v", c.asked, c.settings, got, why, err)
		}
	}
}

// TestNoPoolWithoutItsPrograms: by itself a machine goes without; what was asked for is refused.
func TestNoPoolWithoutItsPrograms(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	d := poolDaemon(t)
	got, why, err := choose(d, api.PoolRequest{})
	if err != nil || got != "none" || !strings.Contains(why, "apt-get install btrfs-progs") {
		t.Errorf("%s (%s), %v", got, why, err)
	}
	change, err := d.host.Pool(t.Context())
	if err != nil || change.Action != "keep" || change.To != "none" {
		t.Errorf("%+v, %v", change, err)
	}
	for _, asked := range []string{"loop", "btrfs:/mnt"} {
		if e := d.host.asked(api.PoolRequest{Pool: asked}).unfitPool(t.Context()); e == nil || e.Code != api.CodeMachineUnfit || e.Hint != "apt-get install btrfs-progs" {
			t.Errorf("%s: %+v", asked, e)
		}
	}
	if e := d.host.asked(api.PoolRequest{Pool: "zfs:tank"}).unfitPool(t.Context()); e == nil || e.Code != api.CodeVolumePoolUnavailable {
		t.Errorf("%+v", e)
	}
}

func TestPoolThatIsThereIsKept(t *testing.T) {
	d := poolDaemon(t)
	if err := (storage.Source{Kind: storage.SourceLoop, SizeBytes: 1 << 30}).Save(d.State); err != nil {
		t.Fatal(err)
	}
	d.Settings.Volumes.Pool = "zfs:tank"
	for asked, code := range map[string]api.Code{"": "", "loop": "", "btrfs:/mnt": api.CodeMachineUnfit, "none": api.CodeMachineUnfit} {
		got, _, err := choose(d, api.PoolRequest{Pool: asked})
		if got != "loop" || api.CodeOf(err) != code {
			t.Errorf("asked for %q: %s, %v", asked, got, err)
		}
	}
	// Its file is gone: no new one takes its place.
	if err := d.newSource(t.Context(), storage.Source{Kind: storage.SourceLoop, SizeBytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	if exists(filepath.Join(d.State, "pool.img")) {
		t.Error("an empty pool took the place of the one that is gone")
	}
}

// TestDoctorLooksAtThePool walks through what may be wrong with a pool.
func TestDoctorLooksAtThePool(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	d, ctx := poolDaemon(t), t.Context()
	wantCheck := func(result string, code api.Code) {
		t.Helper()
		c := d.checkPool(ctx)
		if c.Result != result || api.CodeOf(asError(c.Error)) != code {
			t.Errorf("%+v: %v", c, c.Error)
		}
	}
	wantCheck(api.CheckWarning, api.CodeVolumePoolAbsent)
	s := storage.Source{Kind: storage.SourceLoop, SizeBytes: btrfs.MinFileBytes}
	file, folder := s.File(d.State), s.Folder(d.State)
	if err := d.newSource(ctx, s); err != nil {
		t.Fatal(err)
	}
	wantCheck(api.CheckFailed, api.CodeVolumePoolUnavailable) // not mounted
	if err := btrfs.Mount(file, folder); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := btrfs.Unmount(file, folder); err != nil {
			t.Error(err)
		}
	})
	wantCheck(api.CheckFailed, api.CodeVolumePoolUnavailable) // not marked
	if err := markSource(ctx, s, d.State); err != nil {
		t.Fatal(err)
	}
	wantCheck(api.CheckOK, "")
	empty := fill(t, filepath.Join(folder, "fill"))
	wantCheck(api.CheckWarning, api.CodeVolumeNoSpace)
	empty()
	if err := btrfs.Unmount(file, folder); err != nil {
		t.Fatal(err)
	}
	wantCheck(api.CheckFailed, api.CodeVolumePoolUnavailable) // it was open, and went
	if hint := d.checkPool(ctx).Error.Hint; !strings.Contains(hint, "systemctl restart ployz-pool") {
		t.Errorf("the hint is %q", hint)
	}
	if err := btrfs.Mount(file, folder); err != nil {
		t.Fatal(err)
	}
	wantCheck(api.CheckOK, "")
	for _, id := range []string{"a1", "b1"} {
		v, err := d.pool.Ensure(ctx, storage.Spec{ID: id, Namespace: "shop", Name: id})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(v.Path), "volume.json"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		wantCheck(api.CheckFailed, api.CodeVolumePoolFailed)
	}
	if c := d.checkPool(ctx); len(c.Error.Details) != 2 {
		t.Errorf("%+v", c.Error)
	}
	if err := os.WriteFile(filepath.Join(d.State, "pool.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.pool.Reopen()
	wantCheck(api.CheckFailed, api.CodeVolumePoolUnavailable)
	if units, err := d.poolUnit(); len(units) != 0 || err != nil {
		t.Errorf("%v, %v", units, err)
	}
}

func asError(e *api.Error) error {
	if e == nil {
		return nil
	}
	return e
}

// fill leaves a file system nothing that a file could have, until it is emptied.
func fill(t *testing.T, path string) (empty func()) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
