package transfer

import (
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// choose says which streams bring a snapshot to somebody who has the snapshots with those GUIDs, oldest first: all
// that follow the last of them, or, unless every is set, the snapshot alone. None are needed where it is there.
//
// A pool adds to a copy only after its last snapshot. So where that one is not known here, nothing can follow, even if
// an older one is common: volume.base-missing, naming the newest that both have.
func choose(own []storage.Snapshot, have []string, snapshot string, every bool) ([]stream, error) {
	at := slices.IndexFunc(own, func(s storage.Snapshot) bool { return s.Name == snapshot })
	if at < 0 {
		return nil, storage.SnapshotNotFound(volumeOf(own), snapshot)
	}
	if slices.Contains(have, own[at].GUID) {
		return nil, nil
	}
	base := -1 // of the first stream, which is in full
	if len(have) > 0 {
		last := have[len(have)-1]
		base = slices.IndexFunc(own, func(s storage.Snapshot) bool { return s.GUID == last })
		if base < 0 || base > at {
			return nil, parted(own, have, snapshot, base)
		}
	}
	first := at
	if every {
		first = base + 1
	}
	var streams []stream
	for i := first; i <= at; i++ {
		s := stream{Snapshot: own[i].Name, GUID: own[i].GUID}
		if base >= 0 {
			s.Base, s.BaseGUID = own[base].Name, own[base].GUID
		}
		streams = append(streams, s)
		base = i
	}
	return streams, nil
}

func volumeOf(own []storage.Snapshot) string {
	if len(own) == 0 {
		return "the volume"
	}
	return own[0].Volume
}

// parted refuses a copy that went another way. ahead is where its last snapshot is among our own, -1 if nowhere.
func parted(own []storage.Snapshot, have []string, snapshot string, ahead int) error {
	volume := volumeOf(own)
	e := api.Errorf(api.CodeVolumeBaseMissing, "the copy of %s has nothing in common with it", volume)
	if ahead >= 0 {
		e = api.Errorf(api.CodeVolumeBaseMissing, "the copy of %s has %s as its last snapshot, which came after %s", volume, own[ahead].Name, snapshot)
	} else if common := storage.NewestShared(own, have); common != "" {
		e = api.Errorf(api.CodeVolumeBaseMissing, "the copy of %s went on by itself after %s, the newest snapshot that both have", volume, common)
	}
	return e.About(volume).WithHint("look at both: ployzctl volume show %s; what may be lost of the copy can be destroyed, and then it is sent in full", volume)
}
