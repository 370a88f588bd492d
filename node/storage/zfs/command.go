package zfs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	gozfs "github.com/mistifyio/go-zfs/v3"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// zfs runs the command and returns what it printed.
func zfs(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	err := stream(ctx, nil, &out, args...)
	return out.String(), err
}

// stream runs the command between a reader and a writer.
func stream(ctx context.Context, in io.Reader, out io.Writer, args ...string) error {
	said, err := storage.Run(ctx, in, out, "zfs", args...)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return failure(args[0], said, err)
}

// done types the error of a call of go-zfs.
func done(err error) error {
	var e *gozfs.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return failure("command", strings.TrimSpace(e.Stderr), e.Err)
	}
	return failure("command", "", err)
}

// sayings are what the commands say of a failure, with what it means: they have one exit status for all.
var sayings = []struct {
	text string
	code api.Code
	hint string
}{
	{"out of space", api.CodeVolumeNoSpace, "destroy what was removed: ployzctl volume prune"},
	{"quota exceeded", api.CodeVolumeNoSpace, "give the volume more, or delete files in it"},
	{"is busy", api.CodeVolumeInUse, "stop what uses it"},
	{"Device busy", api.CodeVolumeInUse, "stop what uses it"},
	{"I/O is currently suspended", api.CodeVolumePoolUnavailable, "look at its disks: zpool status"},
	{"no such pool", api.CodeVolumePoolUnavailable, "is it imported? zpool import"},
	{"modules", api.CodeVolumePoolUnavailable, "load the kernel's module: modprobe zfs"},
	{"modified", api.CodeVolumeBaseMissing, "send it in full, to a new volume"},
	{"does not match incremental source", api.CodeVolumeBaseMissing, "send it from an older snapshot that both sides have, or in full"},
	{"checksum mismatch", api.CodeVolumeStreamDamaged, "send it again"},
	{"incomplete stream", api.CodeVolumeStreamDamaged, "send it again"},
	{"invalid stream", api.CodeVolumeStreamDamaged, "send it again"},
	{"invalid backup stream", api.CodeVolumeStreamDamaged, "send it again"},
	{"failed to read from stream", api.CodeVolumeStreamDamaged, "send it again"},
}

func failure(what, said string, err error) error {
	for _, s := range sayings {
		if strings.Contains(said, s.text) {
			return api.Errorf(s.code, "zfs %s: %w: %s", what, err, said).WithHint("%s", s.hint)
		}
	}
	return api.Errorf(api.CodeVolumePoolFailed, "zfs %s: %w: %s", what, err, said).WithHint("the pool's state: zpool status")
}

// typed gives an error of a system call its code.
func typed(err error) error {
	if err == nil {
		return nil
	}
	return api.Errorf(api.CodeVolumePoolFailed, "%w", err).WithHint("the pool's state: zpool status")
}
