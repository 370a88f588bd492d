package first_test

import (
	"strings"
	"testing"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/onemachine"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// TestPool gives a machine a pool in a file, and takes the power and the file from it. Its disk is an image, which loses
// with the power what was not synced.
func TestPool(t *testing.T) {
	testenv.Require(t, testenv.Loop)
	m := onemachine.StartWith(t, dev.Options{Machines: 1, DiskImages: true})
	refusedPools(m.In(t), t)
	r := m.Ctl("init", "--pool", "loop", "--pool-size", "300M")
	if r.Status != 0 || !strings.Contains(r.Err, "volumes: loop: /var/lib/ployz/pool.img of 300 MiB") {
		t.Fatalf("init: %+v", r)
	}
	wantPool(t, m)
	m.Script("m1", `findmnt --noheadings --output FSTYPE,OPTIONS /var/lib/ployz/pool | grep '^btrfs .*noatime'
		test "$(stat -c %b /var/lib/ployz/pool.img)" -lt 200000`)
	makeVolume(m)

	t.Run("a restart of its unit changes nothing", func(t *testing.T) {
		m := m.In(t)
		const mount = "/var/lib/ployz/pool/volumes/shop.data/data"
		m.Script("m1", "sleep 600 <"+mount+"/file & systemctl restart ployz-pool && test -e "+mount+"/file && kill $!")
		wantPool(t, m)
	})
	t.Run("shown", func(t *testing.T) { showsVolume(t, m.In(t)) })
	t.Run("the power is cut, with ployzd masked", func(t *testing.T) { poolOutlivesPowerCut(t, m.In(t)) })
	t.Run("its file is damaged, then gone", func(t *testing.T) { poolIsLost(t, m.In(t)) })
}

// refusedPools: what cannot be is refused before anything is made.
func refusedPools(m *onemachine.Machine, t *testing.T) {
	t.Helper()
	for asked, code := range map[string]api.Code{
		"btrfs:/etc": api.CodeVolumePoolUnavailable, "zfs:tank": api.CodeVolumePoolUnavailable, "tape": api.CodeVolumeInvalid,
	} {
		if r := m.Ctl("init", "--pool", asked); r.Status != 3 || !strings.Contains(r.Err, string(code)) {
			t.Errorf("--pool %s: %+v", asked, r)
		}
	}
	if r := m.Ctl("init", "--pool", "loop", "--pool-size", "90000G"); r.Status != 3 || !strings.Contains(r.Err, "are free in /var/lib/ployz") {
		t.Errorf("a pool that is too large: %+v", r)
	}
	m.Script("m1", "test ! -e /var/lib/ployz/pool.img -a ! -e /var/lib/ployz/pool.json")
}

// wantPool: unit, status and doctor agree that the pool is there.
func wantPool(t *testing.T, m *onemachine.Machine) {
	t.Helper()
	m.Run("m1", "systemctl", "is-active", "ployz-pool.service")
	m.Run("m1", "systemctl", "is-enabled", "ployz-pool.service")
	if p := m.Status().Pool; p.State != api.StateUp || p.Backend != "btrfs" || p.SizeBytes != 300<<20 {
		t.Errorf("the pool is %+v", p)
	}
	if c := poolCheck(t, m); c.Result != api.CheckOK {
		t.Errorf("doctor says %+v: %v", c, c.Error)
	}
}

func poolCheck(t *testing.T, m *onemachine.Machine) api.Check {
	t.Helper()
	var said struct{ Checks []api.Check }
	m.JSON(&said, "doctor")
	for _, c := range said.Checks {
		if c.Name == "pool" {
			return c
		}
	}
	t.Fatal("doctor does not look at the pool")
	return api.Check{}
}

// makeVolume makes a volume as the daemon would, with the file system's own commands.
func makeVolume(m *onemachine.Machine) {
	m.Script("m1", `cd /var/lib/ployz/pool/volumes
		mkdir -p shop.data/snapshots/c1
		btrfs -q subvolume create shop.data/data
		echo kept >shop.data/data/file
		btrfs -q subvolume snapshot -r shop.data/data shop.data/snapshots/c1/data
		echo '{"name":"c1","guid":"0f0f","created":"2026-01-02T03:04:05Z"}' >shop.data/snapshots/c1/snapshot.json
		touch shop.data/snapshots/c1/hold-commit-1
		echo '{"id":"abc1","namespace":"shop","name":"data","created":"2026-01-02T03:04:05Z"}' >shop.data/volume.json
		sync`)
}

func showsVolume(t *testing.T, m *onemachine.Machine) {
	if got := m.Must("volume", "ls", "shop"); !strings.Contains(got, "shop/data") || !strings.Contains(got, "abc1") || !strings.Contains(got, "pool of m1: btrfs at /var/lib/ployz/pool") {
		t.Errorf("volume ls prints\n%s", got)
	}
	got := m.Must("volume", "show", "shop/data")
	for _, part := range []string{"id abc1", "path /var/lib/ployz/pool/volumes/shop.data/data", "c1", "0f0f", "commit-1", "lineage", "this one"} {
		if !strings.Contains(got, part) {
			t.Errorf("volume show says nothing of %q:\n%s", part, got)
		}
	}
	if r := m.Ctl("volume", "show", "shop/nothing"); r.Status == 0 || !strings.Contains(r.Err, string(api.CodeVolumeNotFound)) {
		t.Errorf("%+v", r)
	}
}

func poolOutlivesPowerCut(t *testing.T, m *onemachine.Machine) {
	m.Run("m1", "systemctl", "mask", "--now", "ployzd.service", "ployzd.socket")
	m.Run("m1", "sync")
	// A writer goes on until the power goes: what it was told is on the disk must be there.
	m.Script("m1", `systemd-run --quiet --unit=writer sh -c 'cd /var/lib/ployz/pool/volumes/shop.data/data; i=0; while :; do
		i=$((i+1)); echo $i >counter.new; sync counter.new; mv counter.new counter; sync .; echo $i >/var/tmp/acknowledged; done'`)
	m.Eventually("the writer", func() bool { return m.Try("m1", "grep", "-q", "..", "/var/tmp/acknowledged").Status == 0 })
	if err := dev.PowerCut(m.Name, "m1"); err != nil {
		t.Fatal(err)
	}
	if err := dev.Boot(t.Context(), m.Name, "m1"); err != nil {
		t.Fatal(err)
	}
	m.Eventually("the volume to be there without ployzd", func() bool {
		return m.Try("m1", "cat", "/var/lib/ployz/pool/volumes/shop.data/data/file").Out == "kept\n"
	})
	m.Script("m1", `test "$(cat /var/lib/ployz/pool/volumes/shop.data/data/counter)" -ge "$(cat /var/tmp/acknowledged)"`)
	if r := m.Try("m1", "systemctl", "is-active", "ployzd.service"); r.Status == 0 {
		t.Fatal("ployzd runs although it is masked")
	}
	m.Run("m1", "systemctl", "unmask", "ployzd.service", "ployzd.socket")
	m.Run("m1", "systemctl", "start", "ployzd.socket", "ployzd.service")
	m.AwaitDaemon()
	awaitUp(t, m)
	wantPool(t, m)
	for _, a := range m.Status().Daemon.Adopted {
		if a.Unit == "ployz-pool.service" && a.Verdict != "adopt" {
			t.Errorf("the pool's unit was not adopted: %+v", a)
		}
	}
}

// poolIsLost: the pool alone is down, and says so; everything else serves.
func poolIsLost(t *testing.T, m *onemachine.Machine) {
	// A file system without its super-blocks: the first two of their places are within it.
	const damage = `umount /var/lib/ployz/pool
		for at in 64 65536; do dd if=/dev/zero of=/var/lib/ployz/pool.img bs=1024 seek=$at count=4 conv=notrunc,fsync status=none; done`
	for _, c := range []struct{ what, script string }{{"damaged", damage}, {"gone", "rm /var/lib/ployz/pool.img"}} {
		m.Script("m1", c.script)
		if r := m.Try("m1", "systemctl", "restart", "ployz-pool.service"); r.Status == 0 {
			t.Errorf("%s: the unit came up", c.what)
		}
		if c := poolCheck(t, m); c.Result != api.CheckFailed || c.Error.Code != api.CodeVolumePoolUnavailable || !strings.Contains(c.Error.Hint, "ployz-pool") {
			t.Errorf("doctor says %+v: %v", c, c.Error)
		}
		s := m.Status()
		if s.Pool.State != api.StateDown || s.Gateway.State != api.StateUp || s.DNS.State != api.StateUp || s.Store.State != api.StateUp {
			t.Errorf("%s: pool %s, gateway %s, dns %s, store %s", c.what, s.Pool.State, s.Gateway.State, s.DNS.State, s.Store.State)
		}
		m.Run("m1", "systemctl", "restart", "ployzd.service")
		m.AwaitDaemon()
		awaitUp(t, m)
		m.Script("m1", "test -z \"$(findmnt --noheadings /var/lib/ployz/pool)\"")
	}
	if got := m.Must("volume", "ls"); !strings.Contains(got, "pool of m1: the pool is down") {
		t.Errorf("volume ls prints\n%s", got)
	}
	deploySite(m)
	wantPage(t, m, "/", "version 1")
}

// TestPoolLater: an init that fails takes its pool away again; a machine without one gets it by its settings.
func TestPoolLater(t *testing.T) {
	m := onemachine.Start(t)
	m.Run("m1", "systemctl", "mask", "ployz-dns.service")
	// The masked unit itself can be neither made nor taken away, so that it is left over; all before it is undone.
	if r := m.Ctl("init", "--pool", "loop", "--pool-size", "300M"); r.Status != api.Stranded.Exit() || !strings.Contains(r.Err, "left over: make dns") {
		t.Fatalf("init with the resolver masked: %+v", r)
	}
	m.Script("m1", `cd /var/lib/ployz; test ! -e pool.img -a ! -e pool.json -a ! -e pool
		test ! -e /etc/systemd/system/ployz-pool.service; ! grep /pool.img /sys/block/loop*/loop/backing_file`)
	m.Run("m1", "systemctl", "unmask", "ployz-dns.service")

	if r := m.Ctl("init", "--pool", "none"); r.Status != 0 || !strings.Contains(r.Err, "volumes: none (as asked for)") {
		t.Fatalf("init: %+v", r)
	}
	if c := poolCheck(t, m); c.Result != api.CheckWarning || c.Error.Code != api.CodeVolumePoolAbsent || m.Status().Pool.State != api.StateAbsent {
		t.Errorf("doctor says %+v: %v", c, c.Error)
	}
	m.Script("m1", `printf '[volumes]\npool = "loop"\npool_size = "300M"\n' >/etc/ployz/config.toml; systemctl restart ployzd`)
	m.AwaitDaemon()
	m.Eventually("the pool to be made", func() bool { return m.Status().Pool.State == api.StateUp })
	wantPool(t, m)
}
