package many_test

import (
	"strings"
	"testing"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// TestPoolsOfTwoMachines: each machine has its own pool, all are seen from each, and one outlives the membership.
func TestPoolsOfTwoMachines(t *testing.T) {
	m := onemachine.StartWith(t, dev.Options{Machines: 2})
	m.Must("init", "--pool", "none")
	add := []string{"machine", "add", "dev://" + m.Name + "/m2"}
	if r := m.Ctl(append(add, "--pool", "zfs:tank")...); r.Status != api.Refused.Exit() || !strings.Contains(r.Err, string(api.CodeVolumePoolUnavailable)) {
		t.Fatalf("adding a machine to a pool that it has not: %+v", r)
	}
	if r := m.Ctl(append(add, "--pool", "loop", "--pool-size", "300M")...); r.Status != 0 || !strings.Contains(r.Err, "volumes: loop: /var/lib/ployz/pool.img of 300 MiB") {
		t.Fatalf("%+v", r)
	}
	m.Script("m2", `cd /var/lib/ployz/pool/volumes; mkdir -p shop.data/snapshots; btrfs -q subvolume create shop.data/data
		echo kept >shop.data/data/file
		echo '{"id":"abc1","namespace":"shop","name":"data","created":"2026-01-02T03:04:05Z"}' >shop.data/volume.json; sync`)
	wantOnM2(t, m)

	const daemon = "systemctl show --value --property=MainPID ployzd"
	before := m.Script("m2", daemon)
	m.Must("machine", "remove", "m2")
	m.Eventually("m2 to be nobody's", func() bool {
		return m.Script("m2", daemon) != before && m.At("m2").Ctl("status").Status == 0
	})
	m.Script("m2", "grep -q kept /var/lib/ployz/pool/volumes/shop.data/data/file")
	if r := m.Ctl(append(add, "--pool", "none")...); r.Status != api.Refused.Exit() || !strings.Contains(r.Err, "this machine has the pool loop") {
		t.Fatalf("%+v", r)
	}
	if r := m.Ctl(add...); r.Status != 0 || !strings.Contains(r.Err, "the machine has it") {
		t.Fatalf("%+v", r)
	}
	wantOnM2(t, m)

	if err := dev.PowerCut(m.Name, "m2"); err != nil {
		t.Fatal(err)
	}
	if got := m.Must("volume", "ls"); strings.Contains(got, "shop/data") || !strings.Contains(got, "uncertain: without an answer from m2") {
		t.Errorf("with m2 off, volume ls prints\n%s", got)
	}
}

// wantOnM2 asks m1 for what m2 has.
func wantOnM2(t *testing.T, m *onemachine.Machine) {
	t.Helper()
	var list api.VolumeList
	m.JSON(&list, "volume", "ls", "shop")
	if len(list.Volumes) != 1 || list.Volumes[0].Machine != "m2" || list.Volumes[0].UsedBytes == 0 || list.Uncertain != "" {
		t.Errorf("the volumes are %+v, %s", list.Volumes, list.Uncertain)
	}
	if len(list.Pools) != 2 || list.Pools[0].State != api.StateAbsent || list.Pools[1].State != api.StateUp {
		t.Errorf("the pools are %+v", list.Pools)
	}
	if got := m.Must("volume", "show", "shop/data"); !strings.Contains(got, "live on m2  ← this one") {
		t.Errorf("volume show prints\n%s", got)
	}
}
