package storage

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
)

// Source is where a machine's pool comes from. It is chosen once, when the machine gets its pool, and stands on
// the machine's own disk from then on, so that boot puts the pool back without ployzd.
type Source struct {
	Kind Kind `json:"kind"`
	// At is the ZFS pool or dataset under which ours lies, or the folder of a Btrfs file system; "" for a file.
	At string `json:"at,omitempty"`
	// SizeBytes is the size of the file.
	SizeBytes int64 `json:"sizeBytes,omitempty"`
}

// Kind is what sort of pool a machine has.
type Kind string

// The kinds of pools. None is no pool: nothing with a volume can be placed on the machine.
const (
	SourceLoop  Kind = "loop"
	SourceBtrfs Kind = "btrfs"
	SourceZFS   Kind = "zfs"
	SourceNone  Kind = "none"
)

// String is the source as an operator writes it.
func (s Source) String() string {
	if s.At == "" {
		return string(s.Kind)
	}
	return string(s.Kind) + ":" + s.At
}

// ParseSource reads "loop", "none", "btrfs:FOLDER" or "zfs:DATASET". Errors: volume.invalid.
func ParseSource(text string) (Source, error) {
	kind, at, named := strings.Cut(text, ":")
	s := Source{Kind: Kind(kind), At: at}
	switch {
	case !named && (s.Kind == SourceLoop || s.Kind == SourceNone):
		return s, nil
	case s.Kind == SourceBtrfs && folderForm.MatchString(at):
		s.At = path.Clean(at)
		return s, nil
	case s.Kind == SourceZFS && datasetForm.MatchString(at):
		return s, nil
	}
	return Source{}, api.Errorf(api.CodeVolumeInvalid, "%q cannot be a pool: loop, btrfs:/a/folder, zfs:a/dataset or none", text).
		About("--pool").WithHint("a file of its own, on any Linux: ployzctl init --pool loop")
}

// ParseSize reads a size in bytes, or with K, M, G or T behind it for powers of 1024; "" is 0. Errors:
// volume.invalid.
func ParseSize(text string) (int64, error) {
	digits, shift := text, 0
	for i, unit := range []string{"K", "M", "G", "T"} {
		for _, suffix := range []string{unit, unit + "iB"} {
			if rest, ok := strings.CutSuffix(strings.ToUpper(text), strings.ToUpper(suffix)); ok {
				digits, shift = rest, 10*(i+1)
			}
		}
	}
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, api.Errorf(api.CodeVolumeInvalid, "%q is no size", text).About("--pool-size").WithHint("in powers of 1024: --pool-size 20G")
	}
	return n << shift, nil
}

// zfsMounts is under what a reboot empties: a mount point that were left would look like an empty volume until the
// dataset is mounted.
const zfsMounts = "/run/ployz/pool"

// Folder is where the pool is in the machine's file system: the folder of a Btrfs pool, or under which the
// volumes of a ZFS pool are mounted. state is the machine's state folder.
func (s Source) Folder(state string) string {
	switch s.Kind {
	case SourceBtrfs:
		return s.At
	case SourceZFS:
		return zfsMounts
	}
	return filepath.Join(state, "pool")
}

// File is the pool's file, where it has one.
func (s Source) File(state string) string { return filepath.Join(state, "pool.img") }

// sourceFile is the source's name in the state folder.
const sourceFile = "pool.json"

// LoadSource reads which pool the machine has, from its state folder. Errors: volume.pool-absent where it has
// none; volume.pool-unavailable where the file is damaged.
func LoadSource(state string) (Source, error) {
	file := filepath.Join(state, sourceFile)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Source{}, PoolAbsent()
	}
	var s Source
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil {
		_, err = ParseSource(s.String())
	}
	if err != nil {
		return Source{}, api.Errorf(api.CodeVolumePoolUnavailable, "%s, which says where this machine's pool is, cannot be read: %w", file, err).
			About("pool").WithHint("write it anew, as {\"kind\":\"loop\"}, then: systemctl restart ployz-pool")
	}
	return s, nil
}

// Save writes the source so that after a power cut it is whole or not there.
func (s Source) Save(state string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = durable.WriteFile(filepath.Join(state, sourceFile), append(text, '\n'), 0o644)
	}
	if err != nil {
		return api.Errorf(api.CodeInternal, "writing where the pool is: %w", err)
	}
	return nil
}

// RemoveSource makes the machine one without a pool; safe where it is one.
func RemoveSource(state string) error {
	if err := os.Remove(filepath.Join(state, sourceFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// PoolAbsent says that a machine was never given a pool.
func PoolAbsent() *api.Error {
	return api.Errorf(api.CodeVolumePoolAbsent, "this machine has no pool: volumes cannot be here").About("pool").
		WithHint("apt-get install btrfs-progs, set pool = \"loop\" under [volumes] in /etc/ployz/config.toml, then: systemctl restart ployzd")
}
