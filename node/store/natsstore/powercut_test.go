package natsstore_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// disk is a file system in a file, so that the power can be cut: what the kernel has not yet
// written to the file is lost with it.
type disk struct {
	t          *testing.T
	image, dir string
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.Loop)
	at := t.TempDir()
	d := &disk{t, filepath.Join(at, "disk.img"), filepath.Join(at, "mnt")}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d.sh("truncate", "-s", "64M", d.image)
	d.sh("mkfs.ext4", "-q", "-F", d.image)
	d.mount()
	t.Cleanup(func() { _ = exec.Command("umount", "-l", d.dir).Run() })
	return d
}

func (d *disk) sh(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

func (d *disk) mount() { d.t.Helper(); d.sh("mount", "-o", "loop", d.image, d.dir) }

// cut kills the process and takes the disk as it is at that moment, without what the kernel holds
// back; the machine then comes up with that.
func (d *disk) cut(p *natslab.Server) {
	d.t.Helper()
	p.Kill()
	d.swap()
}

// swap is cut once the process is dead.
func (d *disk) swap() {
	d.t.Helper()
	after := d.image + ".after"
	d.sh("cp", "--sparse=never", d.image, after)
	d.sh("umount", d.dir)
	if err := os.Rename(after, d.image); err != nil {
		d.t.Fatal(err)
	}
	d.mount()
}

// TestPowerCut cuts the power of the only voter under a writer: nothing told as committed may be
// lost, no batch may be there in part, and the streams must still be there at all.
func TestPowerCut(t *testing.T) {
	d := newDisk(t)
	m := natslab.Start(t, natslab.StoreIn(d.dir))
	s := m.Open()
	ready(t, s)
	w := &writer{s: s}
	ctx, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { w.run(ctx) })
	for i := range 3 {
		w.await(t, 60+31*i)
		d.cut(m.Core)
		m.Core.Start()
	}
	w.await(t, 5)
	stop()
	done.Wait()
	facts, err := s.Facts().List(within(t, natslab.Patience), "")
	if err != nil {
		t.Fatal(err)
	}
	w.judge(t, facts)
	m.Core.Kill() // or the file system stays busy
}

// TestPowerCutOfAllVoters cuts the power of three voters at once, under a writer.
func TestPowerCutOfAllVoters(t *testing.T) {
	testenv.Require(t, testenv.Long)
	disks := []*disk{newDisk(t), newDisk(t), newDisk(t)}
	next := 0
	c := natslab.StartCluster(t, 3, func(m *natslab.Machine) {
		natslab.StoreIn(disks[next].dir)(m)
		next++
	})
	c.Promote(c.Machines[1])
	c.Promote(c.Machines[2])
	s := c.Open(c.Machines[0])
	ready(t, s)
	w := startWriter(t, s)
	for range 3 {
		w.await(t, 60)
		for _, m := range c.Machines {
			m.Core.Kill()
		}
		for i, m := range c.Machines {
			disks[i].swap()
			m.Core.Start()
		}
		w.await(t, 5)
	}
	wantVoters(t, s, 3)
	w.finish(t, s)
	for _, m := range c.Machines {
		m.Core.Kill()
	}
}
