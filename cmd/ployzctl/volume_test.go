package main

import (
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
)

func TestLineage(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 1, 2, 3, minute, 0, 0, time.UTC) }
	entry := func(ns, id, machine, state string, minute int, origin *api.SnapshotRef) api.VolumeEntry {
		return api.VolumeEntry{ID: id, Namespace: ns, Name: "data", Machine: machine, State: state, Created: at(minute), Origin: origin}
	}
	from := func(volume, snapshot string) *api.SnapshotRef {
		return &api.SnapshotRef{Volume: volume, Snapshot: snapshot}
	}
	v := api.VolumeDetail{
		VolumeEntry: api.VolumeEntry{ID: "c"},
		Family: []api.VolumeEntry{
			entry("try", "c", "m2", "live", 3, from("b", "s2")),
			entry("shop", "b", "m1", "live", 2, from("a", "s1")), entry("shop", "b", "m2", "kept", 2, from("a", "s1")),
			entry("shop", "d", "m1", "kept", 1, from("a", "s0")),
		},
	}
	var out strings.Builder
	writeLineage(&out, v)
	want := `  a  gone
  ├─ @s0 → shop/data  d  kept on m1
  └─ @s1 → shop/data  b  live on m1, kept on m2
     └─ @s2 → try/data  c  live on m2  ← this one
`
	if out.String() != want {
		t.Errorf("the lineage is\n%swant\n%s", out.String(), want)
	}
}

func TestPoolFlags(t *testing.T) {
	var r api.PoolRequest
	if err := (&poolFlags{pool: "loop", size: "20G"}).into(&r); err != nil || r != (api.PoolRequest{Pool: "loop", PoolBytes: 20 << 30}) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []poolFlags{{pool: "tape"}, {size: "much"}} {
		if err := bad.into(&r); api.CodeOf(err) != api.CodeVolumeInvalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
