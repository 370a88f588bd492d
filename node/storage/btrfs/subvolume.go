package btrfs

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
)

// firstInode is the inode number of every sub-volume's root folder, and of no other folder.
const firstInode = 256

// isSubvolume reports whether a path is a sub-volume's root.
func isSubvolume(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && st.Ino == firstInode && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// subvolume is what `btrfs subvolume show` says of one.
type subvolume struct {
	uuid, receivedUUID string
	// generation is the last transaction that changed it, born the one that made it.
	generation, born uint64
}

// guid is the same for a snapshot and for what was received from it.
func (s subvolume) guid() string {
	if s.receivedUUID != "" {
		return s.receivedUUID
	}
	return s.uuid
}

func show(ctx context.Context, path string) (subvolume, error) {
	out, err := btrfs(ctx, "subvolume", "show", path)
	if err != nil {
		return subvolume{}, err
	}
	fields := map[string]string{}
	for line := range strings.Lines(out) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[key] = strings.Trim(strings.TrimSpace(value), "-")
		}
	}
	// Trim takes the "-" that stands for none, and no dash at an end of a UUID is lost: it has none there.
	s := subvolume{uuid: fields["UUID"], receivedUUID: fields["Received UUID"]}
	var e1, e2 error
	s.generation, e1 = strconv.ParseUint(fields["Generation"], 10, 64)
	s.born, e2 = strconv.ParseUint(fields["Gen at creation"], 10, 64)
	if s.uuid == "" || e1 != nil || e2 != nil {
		return s, api.Errorf(api.CodeVolumePoolFailed, "btrfs subvolume show %s said %q", path, out)
	}
	return s, nil
}

// deleteSubvolume deletes one for good; one that is not there is no error.
func deleteSubvolume(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	_, err := btrfs(ctx, "subvolume", "delete", "--commit-after", path)
	return err
}

// quota is the group of one sub-volume: what it refers to, what of that is its own, and its limit (0: none).
type quota struct{ used, own, limit int64 }

func readQuota(ctx context.Context, path string, fresh bool) (quota, error) {
	args := []string{"qgroup", "show", "--raw", "-re", "-f"}
	if fresh {
		args = append(args, "--sync")
	}
	out, err := btrfs(ctx, append(args, path)...)
	if err != nil {
		return quota{}, err
	}
	for line := range strings.Lines(out) {
		// qgroupid, referenced, exclusive, most referenced, most exclusive
		f := strings.Fields(line)
		if len(f) < 5 || !strings.HasPrefix(f[0], "0/") {
			continue
		}
		return quota{used: bytesOf(f[1]), own: bytesOf(f[2]), limit: bytesOf(f[3])}, nil
	}
	return quota{}, api.Errorf(api.CodeVolumePoolFailed, "btrfs has no quota group for %s", path).
		WithHint("quotas must be on: btrfs quota enable %s", path)
}

// bytesOf reads a column; "none" is 0.
func bytesOf(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// limit sets the quota of a sub-volume; 0 takes it away.
func limit(ctx context.Context, path string, sizeBytes int64) error {
	size := "none"
	if sizeBytes > 0 {
		size = strconv.FormatInt(sizeBytes, 10)
	}
	_, err := btrfs(ctx, "qgroup", "limit", size, path)
	return err
}
