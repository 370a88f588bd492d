package labtest_test

import (
	"strings"
	"testing"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// TestPlaces boots a lab of the less usual kind: m1 and m3 with disk images, m3 behind NAT.
func TestPlaces(t *testing.T) {
	testenv.Require(t, testenv.Loop)
	lab := labtest.StartWith(t, dev.Options{Machines: 3, DiskImages: true, NAT: []string{"m3"}})
	t.Run("cut", func(t *testing.T) { cutLosesWhatWasNotSynced(t, lab.In(t)) })
	t.Run("cut below a file system", func(t *testing.T) { cutReachesNestedDisks(t, lab.In(t)) })
	lab.Listen("m1", "m2", "m3")
	t.Run("nat", func(t *testing.T) { natLetsOnlyAnswersIn(t, lab.In(t)) })
	t.Run("readdress", func(t *testing.T) { readdressMoves(t, lab.In(t)) })
	t.Run("refusals", func(t *testing.T) { placesRefusalsAreTyped(t, lab.In(t)) })
	if err := dev.Down(lab.Name); err != nil {
		t.Error(err)
	}
	lab.Eventually("the loop devices to go", func() bool { return loopsOn(t, "/ployz.img")+loopsOn(t, "/nested") == 0 })
}

func cutLosesWhatWasNotSynced(t *testing.T, lab *labtest.Lab) {
	// A writer goes on until the power goes: what it says was synced must be there, and more may.
	lab.Script("m1", `cd /var/lib/ployz
		echo synced >synced; sync synced .
		echo lost >lost
		systemd-run --quiet --unit=writer sh -c 'cd /var/lib/ployz; i=0; while :; do
			i=$((i+1)); echo $i >counter.new; sync counter.new; mv counter.new counter; sync .
			echo $i >/var/tmp/acknowledged.new; mv /var/tmp/acknowledged.new /var/tmp/acknowledged; done'`)
	lab.Eventually("the writer", func() bool { return lab.Try("m1", "test", "-s", "/var/tmp/acknowledged").Status == 0 })
	lab.Script("m1", "echo lost too >>/var/lib/ployz/synced; echo kept >/etc/kept")
	lab.Cut("m1")
	if got := inspect(t, lab).Machines[0].State; got != dev.Off {
		t.Errorf("m1 is %s", got)
	}
	lab.Boot("m1")
	// The file may be longer now, with nothing in it: also its length is no part of what was synced.
	if got := lab.Run("m1", "cat", "/var/lib/ployz/synced"); !strings.HasPrefix(got, "synced") || strings.Contains(got, "lost") {
		t.Errorf("what was synced reads %q", got)
	}
	if got := lab.Run("m1", "cat", "/etc/kept"); got != "kept" {
		t.Errorf("the rest of the disk lost a file: %q", got)
	}
	// sync of the counter also commits the entry of what was written before it; the data is not there.
	if r := lab.Try("m1", "grep", "-q", "lost", "/var/lib/ployz/lost"); r.Status == 0 {
		t.Error("what was not synced is there")
	}
	lab.Script("m1", `test "$(cat /var/lib/ployz/counter)" -ge "$(cat /var/tmp/acknowledged)"`)
}

// cutReachesNestedDisks: what lies on a file system within a file of the image, as the volumes of a
// machine without a disk of their own do, is cut with it.
func cutReachesNestedDisks(t *testing.T, lab *labtest.Lab) {
	lab.Script("m2", `truncate -s 200M /var/lib/ployz/nested; mkfs.ext4 -q /var/lib/ployz/nested; mkdir -p /mnt/nested
		mount -o loop /var/lib/ployz/nested /mnt/nested
		echo synced >/mnt/nested/synced; sync -f /mnt/nested; sync -f /var/lib/ployz
		echo lost >/mnt/nested/lost`)
	lab.Cut("m2")
	if got := loopsOn(t, "/nested"); got != 0 {
		t.Errorf("%d loop devices outlived the machine", got)
	}
	lab.Boot("m2")
	lab.Script("m2", "mount -o loop /var/lib/ployz/nested /mnt/nested; test -e /mnt/nested/synced -a ! -e /mnt/nested/lost")
}

func natLetsOnlyAnswersIn(t *testing.T, lab *labtest.Lab) {
	wantReach(t, lab, "m3 m1", everything, "m3 m2", everything, "m1 m3", "", "client m3", "", "m1 m2", everything)
	if seen := lab.Run("m3", "ip", "-brief", "address"); strings.Contains(seen, "10.90.") {
		t.Errorf("m3 has an address of the underlay:\n%s", seen)
	}
	lab.Partition("m3", "m1")
	wantReach(t, lab, "m3 m1", "", "m3 m2", everything)
	lab.Heal()
	if err := dev.Reboot(t.Context(), lab.Name, "m3"); err != nil {
		t.Fatal(err)
	}
	lab.Listen("m3")
	lab.AwaitReach("m3", "m1")
}

func readdressMoves(t *testing.T, lab *labtest.Lab) {
	lab.Readdress("m1", "10.90.0.77")
	lab.Readdress("m1", "fd90:10:90::77")
	lab.Readdress("m3", "10.90.0.78")
	lab.AwaitReach("m2", "m1")
	lab.AwaitReach("m3", "m1")
	if got := lab.Run("m1", "ip", "-brief", "address", "show", "eth0"); strings.Contains(got, "10.90.0.1/") || !strings.Contains(got, "10.90.0.77/24") || !strings.Contains(got, "fd90:10:90::77/64") {
		t.Errorf("m1 has %s", got)
	}
	if m := inspect(t, lab).Machines; m[0].IPv4 != "10.90.0.77" || m[2].IPv4 != "10.90.0.78" || !m[2].NAT {
		t.Errorf("the lab shows %+v", m)
	}
	lab.Cut("m1")
	lab.Boot("m1")
	lab.Listen("m1")
	lab.AwaitReach("m2", "m1")
}

func placesRefusalsAreTyped(t *testing.T, lab *labtest.Lab) {
	up := func(o dev.Options) error { o.Name = lab.Name; _, err := dev.Up(t.Context(), o); return err }
	readdress := func(machine, address string) error { return dev.Readdress(t.Context(), lab.Name, machine, address) }
	for _, c := range []struct {
		what string
		err  error
		want api.Code
	}{
		{"NAT for a machine that is there", up(dev.Options{NAT: []string{"m1"}}), api.CodeDevOptions},
		{"NAT for a machine that there will not be", up(dev.Options{NAT: []string{"m4"}}), api.CodeDevNoMachine},
		{"an address elsewhere", readdress("m1", "10.91.0.1"), api.CodeDevOptions},
		{"no address", readdress("m1", "m2"), api.CodeDevOptions},
		{"the client's address", readdress("m1", "10.90.0.254"), api.CodeDevOptions},
		{"somebody's address", readdress("m1", "10.90.0.2"), api.CodeDevOptions},
		{"an address for nobody", readdress("m9", "10.90.0.9"), api.CodeDevNoMachine},
	} {
		if e := api.AsError(c.err); e == nil || e.Code != c.want || e.Hint == "" {
			t.Errorf("%s: %v, want %s and a hint", c.what, c.err, c.want)
		}
	}
}
