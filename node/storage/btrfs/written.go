package btrfs

import (
	"context"
	"strconv"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// Written implements storage.Streams: every extent of a file knows in which transaction it was made.
func (p *Pool) Written(ctx context.Context, id, base string) (int64, error) {
	f, err := p.find(id)
	if err != nil {
		return 0, err
	}
	s, err := f.base(base)
	if err != nil {
		return 0, err
	}
	if !isSubvolume(f.tree()) { // it was only received so far
		return 0, nil
	}
	then, err := show(f.snapshot(s.Name) + "/data")
	if err != nil {
		return 0, err
	}
	// The command first writes out what is in memory.
	out, err := btrfs(ctx, "subvolume", "find-new", f.tree(), strconv.FormatUint(then.generation+1, 10))
	if err != nil {
		return 0, err
	}
	return newExtents(out)
}

// newExtents sums up what `btrfs subvolume find-new` prints: a line for each extent, such as
//
//	inode 257 file offset 0 len 4096 disk start 13631488 offset 0 gen 8 flags NONE body
func newExtents(out string) (total int64, err error) {
	for line := range strings.Lines(out) {
		extent, is := strings.CutPrefix(line, "inode ")
		if !is {
			continue // its last line tells of the transaction
		}
		_, rest, _ := strings.Cut(extent, " len ")
		text, _, _ := strings.Cut(rest, " ")
		length, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, api.Errorf(api.CodeVolumePoolFailed, "btrfs subvolume find-new printed no length but %q", line)
		}
		total += length + length/writeSize*writeOverhead
	}
	return total, nil
}
