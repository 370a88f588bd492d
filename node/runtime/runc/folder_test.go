package runc

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/runtime"
)

const folderID = "web-0-x7k2"

func someInstance() Instance {
	return Instance{Spec: runtime.Spec{ID: folderID}, Identity: "0123"}
}

// TestDamagedInstance: a folder of ours that does not say what we wrote is neither absent nor believed.
func TestDamagedInstance(t *testing.T) {
	dir := filepath.Join(t.TempDir(), folderID)
	if _, err := readInstance(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if err := writeFolder(dir, nil, someInstance()); err != nil {
		t.Fatal(err)
	}
	if in, err := readInstance(dir); err != nil || in.Identity != "0123" {
		t.Fatalf("as written: %+v, %v", in, err)
	}
	good, err := os.ReadFile(filepath.Join(dir, instanceFile))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"half of it":       good[:len(good)/2],
		"another's":        bytes.ReplaceAll(good, []byte(folderID), []byte("web-1-y8m3")),
		"without identity": bytes.ReplaceAll(good, []byte("0123"), nil),
	} {
		if err := os.WriteFile(filepath.Join(dir, instanceFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readInstance(dir); api.CodeOf(err) != api.CodeRuntimeDamaged {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDiskFull fills a small file system: the instance is not there afterwards, as instance.json comes last.
func TestDiskFull(t *testing.T) {
	testenv.Require(t, testenv.Root)
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	dir := filepath.Join(disk, folderID)
	err := writeFolder(dir, []content{{name: "files/0", text: make([]byte, 1<<20), mode: 0o600}}, someInstance())
	if api.CodeOf(err) != api.CodeRuntimeDiskFull || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if _, err := readInstance(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half an instance is there: %v", err)
	}
	if err := writeFolder(dir, []content{{name: "files/0", text: []byte("small"), mode: 0o600}}, someInstance()); err != nil {
		t.Errorf("with less to write: %v", err)
	}
}
