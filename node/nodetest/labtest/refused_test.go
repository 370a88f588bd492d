package labtest_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// TestUnfitComputer: a computer without the programs is told all that it lacks, and keeps nothing of the lab.
func TestUnfitComputer(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	name := labtest.FreshName()
	_, err := dev.Up(t.Context(), dev.Options{Name: name})
	if api.CodeOf(err) != api.CodeDevHost {
		t.Fatalf("got %v", err)
	}
	if os.Geteuid() == 0 && (!strings.Contains(err.Error(), "systemd-container") || !strings.Contains(err.Error(), "iproute2")) {
		t.Errorf("the packages are not named: %v", err)
	}
	if _, err := dev.Inspect(name); api.CodeOf(err) != api.CodeDevNoLab {
		t.Errorf("the lab is there: %v", err)
	}
}

// brokenLab makes the folder of a lab whose own file cannot be read, and returns the folder.
func brokenLab(t *testing.T, name string) string {
	t.Helper()
	state := t.TempDir()
	t.Setenv("PLOYZ_DEV_STATE", state)
	dir := filepath.Join(state, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lab.json"), []byte(`{"machines":`), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestBrokenState: a lab whose file is damaged is not guessed at, but can be taken down.
func TestBrokenState(t *testing.T) {
	testenv.Require(t, testenv.Root)
	name := labtest.FreshName()
	dir := brokenLab(t, name)
	if _, err := dev.Inspect(name); api.CodeOf(err) != api.CodeDevBroken {
		t.Errorf("inspect: %v", err)
	}
	if err := dev.Down(name); err != nil || exists(dir) {
		t.Errorf("down: %v", err)
	}
}

// TestLeftovers: what down cannot remove it names, and a second down removes it once that is possible.
func TestLeftovers(t *testing.T) {
	testenv.Require(t, testenv.Root)
	name := labtest.FreshName()
	busy := filepath.Join(brokenLab(t, name), "busy")
	if err := os.Mkdir(busy, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", busy, "tmpfs", 0, "size=4k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(busy, syscall.MNT_DETACH) })
	if err := dev.Down(name); api.CodeOf(err) != api.CodeDevLeftovers || !strings.Contains(err.Error(), busy) {
		t.Errorf("with something mounted in it: %v", err)
	}
	if err := syscall.Unmount(busy, 0); err != nil {
		t.Fatal(err)
	}
	if err := dev.Down(name); err != nil || exists(filepath.Dir(busy)) {
		t.Errorf("again: %v", err)
	}
}

// TestBootFails boots a tree in which there is nothing to boot.
func TestBootFails(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Nspawn, testenv.Overlay)
	name, tree := labtest.FreshName(), t.TempDir()
	for _, dir := range []string{"usr", "etc"} {
		if err := os.Mkdir(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := dev.Down(name); err != nil {
			t.Error(err)
		}
	})
	_, err := dev.Up(t.Context(), dev.Options{Name: name, Machines: 1, Tree: tree})
	if api.CodeOf(err) != api.CodeDevBoot || !strings.Contains(err.Error(), name+"/m1") {
		t.Errorf("got %v", err)
	}
}
