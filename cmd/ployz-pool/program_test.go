package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/btrfs"
)

func TestUsage(t *testing.T) {
	p := Program{State: t.TempDir()}
	for _, args := range [][]string{nil, {"down"}, {"up", "x"}, {"--state"}} {
		if err := p.Run(t.Context(), args); !errors.As(err, new(usageError)) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// up runs the program as its unit does.
func up(t *testing.T, state string) error {
	t.Helper()
	p := Program{}
	return p.Run(context.Background(), []string{"--state", state, "up"})
}

func wantCode(t *testing.T, err error, code api.Code) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Errorf("%v, want %s", err, code)
	}
}

// TestWhatIsNotThere is told in one line each.
func TestWhatIsNotThere(t *testing.T) {
	state := t.TempDir()
	wantCode(t, up(t, state), api.CodeVolumePoolAbsent)
	for _, s := range []storage.Source{
		{Kind: storage.SourceLoop}, {Kind: storage.SourceBtrfs, At: "/proc"}, {Kind: storage.SourceBtrfs, At: "/nowhere"}, {Kind: storage.SourceZFS, At: "ployznone"},
	} {
		must(t, s.Save(state))
		err := up(t, state)
		wantCode(t, err, api.CodeVolumePoolUnavailable)
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s is told in several lines: %v", s, err)
		}
	}
}

// TestBoot puts a pool's file back, twice, as after a power cut and a restart of the unit, and finds what was in it.
func TestBoot(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	state := t.TempDir()
	s := storage.Source{Kind: storage.SourceLoop, SizeBytes: btrfs.MinFileBytes}
	file, folder := s.File(state), s.Folder(state)
	must(t, btrfs.CreateFile(t.Context(), file, s.SizeBytes))
	must(t, s.Save(state))
	t.Cleanup(func() { must(t, btrfs.Unmount(file, folder)) })
	must(t, up(t, state))
	pool, err := btrfs.Create(folder)
	must(t, err)
	v, err := pool.Ensure(t.Context(), storage.Spec{ID: "a1", Namespace: "shop", Name: "data"})
	must(t, err)
	must(t, os.WriteFile(v.Path+"/file", []byte("kept"), 0o600))
	must(t, up(t, state))
	must(t, btrfs.Unmount(file, folder))
	must(t, up(t, state))
	if got, err := os.ReadFile(v.Path + "/file"); err != nil || string(got) != "kept" {
		t.Errorf("%q, %v", got, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
