package storage

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// The refusals that every backend makes are worded here, so that an operator reads the same from each.

// SizeText is a size as operators write it: "10 GiB", "1.5 MiB".
func SizeText(bytes int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	n, unit := float64(bytes), 0
	for n >= 1024 && unit < len(units)-1 {
		n, unit = n/1024, unit+1
	}
	text := fmt.Sprintf("%.1f", n)
	return strings.TrimSuffix(text, ".0") + " " + units[unit]
}

// apart are two sizes that are compared, each in words, or in bytes where the words are the same.
func apart(a, b int64) (string, string) {
	if x, y := SizeText(a), SizeText(b); x != y || a == b {
		return x, y
	}
	return fmt.Sprintf("%d bytes", a), fmt.Sprintf("%d", b)
}

// CheckState refuses a volume that is in another state than the call needs. Errors: volume.not-live,
// volume.not-kept.
func CheckState(s Spec, is, want State) error {
	switch {
	case is == want:
		return nil
	case want == StateLive:
		return api.Errorf(api.CodeVolumeNotLive, "the volume %s (%s) is %s", s.FullName(), s.ID, is).About(s.FullName()).
			WithHint("give it its name back first: ployzctl volume restore %s", s.ID)
	}
	return api.Errorf(api.CodeVolumeNotKept, "the volume %s (%s) is %s", s.FullName(), s.ID, is).About(s.FullName()).
		WithHint("only a removed volume can be destroyed or take a name: ployzctl volume rm %s", s.FullName())
}

// CheckSwap refuses a swap of volumes that could not change places.
func CheckSwap(out Spec, state State, in Spec) error {
	if err := CheckState(out, state, StateLive); err != nil {
		return err
	}
	if out.FullName() != in.FullName() {
		return invalid("%s cannot take the place of %s: it is called %s", in.ID, out.FullName(), in.FullName())
	}
	return nil
}

// CheckSpace refuses a size that the pool could not hold even if nobody else wrote.
func CheckSpace(u Usage, s Spec) error {
	if s.SizeBytes <= u.FreeBytes {
		return nil
	}
	needs, free := apart(s.SizeBytes, u.FreeBytes)
	return api.Errorf(api.CodeVolumeNoSpace, "%s needs %s and the pool %s has %s free of %s", s.FullName(), needs, u.Pool, free, SizeText(u.SizeBytes)).
		About(s.FullName()).WithHint("ask for less, or destroy what was removed: ployzctl volume prune")
}

// CheckShrink refuses a size under what the volume holds.
func CheckShrink(s Spec, usedBytes int64) error {
	if s.SizeBytes == 0 || s.SizeBytes >= usedBytes {
		return nil
	}
	holds, most := apart(usedBytes, s.SizeBytes)
	return api.Errorf(api.CodeVolumeShrink, "%s holds %s and cannot be limited to %s", s.FullName(), holds, most).
		About(s.FullName()).WithHint("delete files in it first, or leave its size")
}

// NameTaken says which volume has the name that another was to get.
func NameTaken(holder Spec) error {
	return api.Errorf(api.CodeVolumeNameTaken, "the volume %s has the name %s", holder.ID, holder.FullName()).
		About(holder.FullName()).WithHint("look at it: ployzctl volume show %s", holder.FullName())
}

// NotOurs says that something without our mark is in the way.
func NotOurs(where string) error {
	return api.Errorf(api.CodeVolumeNotOurs, "%s is there and has no mark of ours; it is left alone", where).
		About(where).WithHint("move it away if nobody needs it, or choose another name")
}

// InUse says what a volume is used by.
func InUse(s Spec, by string) error {
	return api.Errorf(api.CodeVolumeInUse, "the volume %s (%s) is in use: %s", s.FullName(), s.ID, by).About(s.FullName()).
		Again().WithHint("stop what uses it: ployzctl volume show %s", s.ID)
}

// SnapshotNeeded says what a snapshot is needed by.
func SnapshotNeeded(s Snapshot) error {
	var by []string
	if len(s.Holds) > 0 {
		by = append(by, "it is held by "+strings.Join(s.Holds, ", "))
	}
	if len(s.Clones) > 0 {
		by = append(by, fmt.Sprintf("%s began as it", strings.Join(s.Clones, ", ")))
	}
	return api.Errorf(api.CodeVolumeSnapshotNeeded, "the snapshot %s of %s is needed: %s", s.Name, s.Volume, strings.Join(by, "; ")).
		About(s.Volume+"@"+s.Name).WithHint("what needs it: ployzctl volume show %s", s.Volume)
}

// SnapshotNotFound says that a volume has no such snapshot.
func SnapshotNotFound(volume, snapshot string) error {
	return api.Errorf(api.CodeVolumeSnapshotNotFound, "the volume %s has no snapshot %s", volume, snapshot).
		About(volume+"@"+snapshot).WithHint("those that it has: ployzctl volume show %s", volume)
}

// SnapshotTaken says that some volumes have a snapshot of that name, which others were to get.
func SnapshotTaken(snapshot string, volumes []string) error {
	return api.Errorf(api.CodeVolumeSnapshotTaken, "%s have a snapshot %s already, and the others do not", strings.Join(volumes, ", "), snapshot).
		About(snapshot).WithHint("use another name, or forget that one")
}

// CheckRename says whether a snapshot of a volume, which has those, may get another name; done says that it has it. Errors:
// those of Snapshots.RenameSnapshot.
func CheckRename(have []Snapshot, volume, from, to string) (done bool, err error) {
	is := func(name string) bool {
		return slices.ContainsFunc(have, func(s Snapshot) bool { return s.Name == name })
	}
	switch {
	case !is(from) && !is(to):
		return false, SnapshotNotFound(volume, from)
	case !is(from) || from == to:
		return true, nil
	case is(to):
		return false, SnapshotTaken(to, []string{volume})
	}
	return false, CheckName("snapshot", to)
}

// NotFound says that there is no such volume.
func NotFound(pool, id string) error {
	return api.Errorf(api.CodeVolumeNotFound, "there is no volume %s in %s", id, pool).About(id).WithHint("those there are: ployzctl volume ls")
}

// BaseMissing says that an incremental stream has nothing to stand on.
func BaseMissing(volume, base, why string) error {
	return api.Errorf(api.CodeVolumeBaseMissing, "the stream needs %s as the last state of %s here: %s", base, volume, why).
		About(volume).WithHint("send it from an older snapshot that both sides have, or in full")
}

// StreamDamaged says that a stream broke off or is not what it says it is.
func StreamDamaged(cause error) error {
	return api.Errorf(api.CodeVolumeStreamDamaged, "the stream cannot be received: %w", cause).Again().WithHint("send it again")
}

// MarkDamaged says that something of ours lies somewhere and cannot tell who it is.
func MarkDamaged(where string, cause error) error {
	return api.Errorf(api.CodeVolumePoolFailed, "the mark of the volume at %s is damaged: %w", where, cause).About(where).
		WithHint("its data is untouched; what the cluster knows of it: ployzctl volume ls")
}
