package transfer

import (
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

func TestChoose(t *testing.T) {
	var own []storage.Snapshot
	for _, n := range []string{"1", "2", "3", "4"} {
		own = append(own, storage.Snapshot{Volume: "v", Name: "s" + n, GUID: "g" + n})
	}
	for _, c := range []struct {
		name     string
		have     string
		snapshot string
		every    bool
		want     string // base>snapshot for each stream
		code     api.Code
		says     string
	}{
		{name: "nothing is there", snapshot: "s3", want: ">s3"},
		{name: "nothing is there, and all is wanted", snapshot: "s3", every: true, want: ">s1 s1>s2 s2>s3"},
		{name: "the oldest alone", snapshot: "s1", every: true, want: ">s1"},
		{name: "it is there", have: "g1 g3", snapshot: "s3", want: ""},
		{name: "it is there with later ones", have: "g3 g4", snapshot: "s3", every: true, want: ""},
		{name: "what follows", have: "g1", snapshot: "s3", want: "s1>s3"},
		{name: "all that follows", have: "g1", snapshot: "s4", every: true, want: "s1>s2 s2>s3 s3>s4"},
		{name: "older ones there are gone here", have: "g0 g2", snapshot: "s4", every: true, want: "s2>s3 s3>s4"},
		{name: "no such snapshot", snapshot: "s9", code: api.CodeVolumeSnapshotNotFound},
		{name: "the copy went another way", have: "g1 g2 x1 x2", snapshot: "s4", code: api.CodeVolumeBaseMissing, says: "after s2"},
		{name: "somebody else's", have: "x1", snapshot: "s4", code: api.CodeVolumeBaseMissing, says: "nothing in common"},
		{name: "the copy is further on", have: "g4", snapshot: "s3", code: api.CodeVolumeBaseMissing, says: "s4"},
	} {
		streams, err := choose(own, strings.Fields(c.have), c.snapshot, c.every)
		var got []string
		for _, s := range streams {
			got = append(got, s.Base+">"+s.Snapshot)
			if s.GUID != "g"+s.Snapshot[1:] || s.Base != "" && s.BaseGUID != "g"+s.Base[1:] {
				t.Errorf("%s: %+v", c.name, s)
			}
		}
		if text := strings.Join(got, " "); text != c.want || api.CodeOf(err) != c.code {
			t.Errorf("%s: %q, %v", c.name, text, err)
		}
		if err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v does not say %q", c.name, err, c.says)
		}
	}
}
