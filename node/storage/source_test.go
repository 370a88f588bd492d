package storage_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

func wantCode(t *testing.T, err error, code api.Code) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Errorf("%v, want %s", err, code)
	}
}

func TestParseSource(t *testing.T) {
	for _, text := range []string{"loop", "none", "btrfs:/mnt/x", "zfs:tank", "zfs:tank/a-b/c_d.e"} {
		s, err := storage.ParseSource(text)
		if err != nil || s.String() != text {
			t.Errorf("%s is read as %+v, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "loop:", "loop:/x", "none:x", "btrfs", "btrfs:", "btrfs:mnt", "zfs", "zfs:", "zfs:/tank", "zfs:tank/", "zfs:tank@s", "zfs:-f", "ext4:/x"} {
		_, err := storage.ParseSource(text)
		wantCode(t, err, api.CodeVolumeInvalid)
	}
	if s, err := storage.ParseSource("btrfs:/mnt//x/"); err != nil || s.At != "/mnt/x" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "0": 0, "4096": 4096, "20G": 20 << 30, "20g": 20 << 30, "3GiB": 3 << 30, "1T": 1 << 40, "512M": 512 << 20, "8k": 8 << 10} {
		if got, err := storage.ParseSize(text); err != nil || got != want {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"G", "-1", "1.5G", "1GB", "9000000T", "x", "1 G"} {
		_, err := storage.ParseSize(text)
		wantCode(t, err, api.CodeVolumeInvalid)
	}
}

func TestSourceOnDisk(t *testing.T) {
	state := t.TempDir()
	_, err := storage.LoadSource(state)
	wantCode(t, err, api.CodeVolumePoolAbsent)
	want := storage.Source{Kind: storage.SourceLoop, SizeBytes: 1 << 30}
	if err := want.Save(state); err != nil {
		t.Fatal(err)
	}
	if got, err := storage.LoadSource(state); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, damaged := range []string{"", "{", `{"kind":"tape"}`, `{"kind":"btrfs","at":"x"}`} {
		if err := os.WriteFile(filepath.Join(state, "pool.json"), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = storage.LoadSource(state)
		wantCode(t, err, api.CodeVolumePoolUnavailable)
	}
	for range 2 {
		if err := storage.RemoveSource(state); err != nil {
			t.Fatal(err)
		}
	}
	_, err = storage.LoadSource(state)
	wantCode(t, err, api.CodeVolumePoolAbsent)
}

// TestLateAnswersWhy: while there is no pool every call says so, and once there is one it is asked.
func TestLateAnswersWhy(t *testing.T) {
	opened := 0
	l := &storage.Late{OpenPool: func(context.Context) (storage.Pool, error) {
		opened++
		return nil, storage.PoolAbsent()
	}}
	ctx := t.Context()
	_, err := l.List(ctx)
	wantCode(t, err, api.CodeVolumePoolAbsent)
	_, err = l.Ensure(ctx, storage.Spec{})
	wantCode(t, err, api.CodeVolumePoolAbsent)
	wantCode(t, l.Destroy(ctx, "x"), api.CodeVolumePoolAbsent)
	wantCode(t, l.Send(ctx, storage.From{}, nil), api.CodeVolumePoolAbsent)
	if l.Capabilities() != (storage.Capabilities{}) || opened != 5 {
		t.Errorf("tried %d times", opened)
	}
}
