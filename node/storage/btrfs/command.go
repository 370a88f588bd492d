package btrfs

import (
	"bytes"
	"context"
	"io"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// btrfs runs the command and returns what it printed.
func btrfs(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	err := stream(ctx, nil, &out, args...)
	return out.String(), err
}

// stream runs the command between a reader and a writer.
func stream(ctx context.Context, in io.Reader, out io.Writer, args ...string) error {
	said, err := storage.Run(ctx, in, out, "btrfs", args...)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return failure(args, said, err)
}

// failure types what the command said: it has one exit status for everything.
func failure(args []string, said string, err error) error {
	last := strings.TrimPrefix(storage.LastLine(said), "ERROR: ")
	if strings.Contains(said, "No space left on device") || strings.Contains(said, "Disk quota exceeded") {
		return api.Errorf(api.CodeVolumeNoSpace, "the pool is full: %s", last).
			WithHint("destroy what was removed: ployzctl volume prune")
	}
	if last == "" { // such as of one that was killed
		last = "it said nothing"
	}
	return api.Errorf(api.CodeVolumePoolFailed, "btrfs %s: %w: %s", args[0], err, last).
		WithHint("the kernel's own words: journalctl -k --grep BTRFS")
}
