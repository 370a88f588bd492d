package labtest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

func TestDownLeavesNothing(t *testing.T) {
	lab := labtest.Start(t, 2)
	lab.Script("m1", "systemd-run --quiet sleep infinity; ip netns add inner; mkdir /mnt/x; mount -t tmpfs tmpfs /mnt/x")
	namespaces := namespacesOf(t, lab)
	if err := dev.Down(lab.Name); err != nil {
		t.Fatal(err)
	}
	wantNothingOf(t, lab.Name, namespaces)
	if err := dev.Down(lab.Name); err != nil {
		t.Errorf("down of a lab that is gone: %v", err)
	}
	if _, err := dev.Inspect(lab.Name); api.CodeOf(err) != api.CodeDevNoLab {
		t.Errorf("after down the lab shows: %v", err)
	}
}

// TestUpKilled kills an `up` at each point that can be told apart from outside. Then one lab is
// taken down and another, killed at the same point, is finished.
func TestUpKilled(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Nspawn, testenv.Overlay)
	for _, c := range []struct {
		point string
		seen  func(name string) bool
	}{
		{"plan written", func(name string) bool { return exists("/var/lib/ployz-dev", name, "lab.json") }},
		{"holder started", func(name string) bool { return len(processes(t, name)) > 0 }},
		{"disks half made", func(name string) bool { return exists("/var/lib/ployz-dev", name, "m1.half") }},
		{"a disk made", func(name string) bool { return exists("/var/lib/ployz-dev", name, "m1", "upper") }},
		{"machines booting", func(name string) bool { return len(processes(t, name)) > 4 }},
	} {
		t.Run(c.point, func(t *testing.T) {
			removed, finished := labtest.FreshName(), labtest.FreshName()
			t.Cleanup(func() { dev.Down(removed); dev.Down(finished) })
			killUpAt(t, removed, c.seen)
			if err := dev.Down(removed); err != nil {
				t.Error(err)
			}
			wantNothingOf(t, removed, nil)

			killUpAt(t, finished, c.seen)
			lab, err := dev.Up(t.Context(), dev.Options{Name: finished, Machines: 2})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range lab.Machines {
				if m.State != "running" {
					t.Errorf("%s is %s", m.Name, m.State)
				}
			}
			if err := dev.Down(finished); err != nil {
				t.Error(err)
			}
			wantNothingOf(t, finished, nil)
		})
	}
}

// killUpAt runs `up` as a program of its own and kills it when it has come to a point.
func killUpAt(t *testing.T, name string, seen func(string) bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "LABTEST_UP="+name)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); !seen(name) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	cmd.Process.Kill()
	cmd.Wait() // it was killed; there is nothing to learn from how
}

// TestEverythingKilled kills every process of a lab, one by one, as somebody cleaning up would.
func TestEverythingKilled(t *testing.T) {
	lab := labtest.Start(t, 1)
	namespaces := namespacesOf(t, lab)
	lab.Eventually("every process to die", func() bool {
		alive := processes(t, lab.Name)
		for _, pid := range alive {
			syscall.Kill(pid, syscall.SIGKILL) // gone already is as good
		}
		return len(alive) == 0
	})
	if got := inspect(t, lab).Machines[0].State; got != dev.Off {
		t.Errorf("the machine is %s", got)
	}
	if again := lab.Up(dev.Options{}); again.Machines[0].State != "running" {
		t.Errorf("up after it gave %+v", again.Machines)
	}
	if err := dev.Down(lab.Name); err != nil {
		t.Fatal(err)
	}
	wantNothingOf(t, lab.Name, namespaces)
}

func exists(parts ...string) bool {
	_, err := os.Stat(filepath.Join(parts...))
	return err == nil
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// processes are the processes of a lab: those in a cgroup of its name, in any hierarchy. The dead
// whose status nobody has read yet have nothing left but a number, and do not count.
func processes(t *testing.T, name string) []int {
	t.Helper()
	var pids []int
	for _, file := range glob(t, "/proc/[0-9]*/cgroup") {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), "/ployz-dev-"+name) {
			continue
		}
		var pid int
		fmt.Sscanf(file, "/proc/%d/cgroup", &pid)
		if !dead(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func dead(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// namespacesOf are the network and mount namespaces that a lab's processes are in, and no other's.
func namespacesOf(t *testing.T, lab *labtest.Lab) []string {
	t.Helper()
	var found []string
	for _, pid := range processes(t, lab.Name) {
		for _, kind := range []string{"net", "mnt"} {
			ns := namespace(pid, kind)
			if ns == "" || ns == namespace(os.Getpid(), kind) {
				continue
			}
			// Held open, so that the kernel gives its number to no other until the test is over.
			if f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind)); err == nil {
				t.Cleanup(func() { f.Close() })
				found = append(found, ns)
			}
		}
	}
	slices.Sort(found)
	if found = slices.Compact(found); len(found) < 3 {
		t.Fatalf("a lab with only these namespaces: %v", found)
	}
	return found
}

func namespace(pid int, kind string) string {
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	if err != nil {
		return "" // it ended meanwhile
	}
	return name
}

// wantNothingOf looks everywhere a lab could have left something.
func wantNothingOf(t *testing.T, name string, namespaces []string) {
	t.Helper()
	if pids := processes(t, name); len(pids) > 0 {
		t.Errorf("processes are left: %v", pids)
	}
	for _, dir := range []string{"/var/lib/ployz-dev/" + name, "/run/ployz-dev/" + name} {
		if exists(dir) {
			t.Errorf("%s is left", dir)
		}
	}
	if left := glob(t, "/sys/fs/cgroup/*/ployz-dev-"+name); len(left) > 0 {
		t.Errorf("cgroups are left: %v", left)
	}
	if left := append(glob(t, "/sys/fs/cgroup/ployz-dev-"+name), glob(t, "/run/systemd/nspawn/*/*"+name+"*")...); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for _, file := range glob(t, "/proc/[0-9]*/mountinfo") {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), "/ployz-dev/"+name+"/") {
			t.Errorf("%s still has a mount of the lab", file)
		}
	}
	for _, link := range slices.Concat(glob(t, "/proc/[0-9]*/ns/net"), glob(t, "/proc/[0-9]*/ns/mnt")) {
		if ns, err := os.Readlink(link); err == nil && slices.Contains(namespaces, ns) {
			t.Errorf("%s still is in a namespace of the lab, %s", link, ns)
		}
	}
}
