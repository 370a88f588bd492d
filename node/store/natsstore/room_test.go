package natsstore_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// smallDisk is a file system of 64 MiB, that can be filled.
type smallDisk struct {
	t   *testing.T
	dir string
}

func newSmallDisk(t *testing.T) *smallDisk {
	t.Helper()
	testenv.Require(t, testenv.Root)
	d := &smallDisk{t, t.TempDir()}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", d.dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", d.dir).Run() })
	return d
}

// fill leaves so much free, or nothing at all.
func (d *smallDisk) fill(leave int64) {
	d.t.Helper()
	free, err := natsconf.FreeBytes(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	size := max(0, free-leave)
	if leave == 0 {
		size = 64 << 20
	}
	if err := os.WriteFile(d.ballast(), make([]byte, size), 0o600); err != nil && leave > 0 {
		d.t.Fatal(err)
	}
}

func (d *smallDisk) ballast() string { return filepath.Join(d.dir, "ballast") }

func (d *smallDisk) empty() {
	d.t.Helper()
	if err := os.Remove(d.ballast()); err != nil {
		d.t.Fatal(err)
	}
}

// filled is a machine with one of its stores on a small disk, which is filled in the middle of writes.
func filled(t *testing.T, in func(dir string) natslab.Option, leave int64) (*smallDisk, *natslab.Machine, *natsstore.Store, *running) {
	t.Helper()
	d := newSmallDisk(t)
	m := natslab.Start(t, in(d.dir))
	s := m.Open()
	ready(t, s)
	w := startWriter(t, s)
	w.await(t, 20)
	d.fill(leave)
	return d, m, s, w
}

// again waits for a server to end because there is room again, as its unit would have it start again.
func again(t *testing.T, s *natslab.Server) {
	t.Helper()
	eventually(t, "the server to start anew", func() error {
		if !s.Ended() {
			return fmt.Errorf("it goes on as it is")
		}
		return nil
	})
	s.Start()
}

// wantNoRoom waits until a machine's voter is known to be out of room, and to be no more than that.
func wantNoRoom(t *testing.T, s *natsstore.Store, m *natslab.Machine) {
	t.Helper()
	eventually(t, m.ID+" to be known as out of room", func() error {
		topology, err := s.Topology(within(t, natslab.Patience))
		v, votes := topology.Voter(m.CoreConfig.Name)
		if err == nil && (!votes || !v.NoRoom || v.Online || !strings.Contains(strings.Join(topology.Statement(), " "), "ut of room")) {
			err = fmt.Errorf("%+v, %q", topology, topology.Statement())
		}
		return err
	})
}

// TestOnlyVoterFull fills the disk of the only voter in the middle of writes: some are refused, none told as committed
// is lost, and the mirror is read as before.
func TestOnlyVoterFull(t *testing.T) {
	t.Parallel()
	for what, leave := range map[string]int64{"little is left": 10 << 20, "nothing is left": 0} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d, m, s, w := filled(t, natslab.StoreIn, leave)
			wantNoRoom(t, s, m)
			wantRefusedWrite(t, s)
			m.Core.Kill()
			m.Core.Start()
			wantNoRoom(t, s, m)
			wantRefusedWrite(t, s)
			if _, err := s.View().Get(within(t, natslab.Patience), "x"); err != nil {
				t.Errorf("reading the mirror: %v", err)
			}
			d.empty()
			again(t, m.Core)
			w.await(t, 5)
			w.finish(t, s)
			m.Core.Kill()
		})
	}
}

// wantRefusedWrite wants a refusal, not doubt: the store is asked before anything is sent. A voter that is about to stop
// may take some more.
func wantRefusedWrite(t *testing.T, s *natsstore.Store) {
	t.Helper()
	eventually(t, "a write to be refused", func() error {
		_, err := s.Facts().Commit(within(t, natslab.Patience), batch("refused", put("refused", "1")))
		if store.IsUnavailable(err) {
			return nil
		}
		return fmt.Errorf("it ended with %v", err)
	})
}

// TestOneOfThreeVotersFull fills the disk of the one that leads: the others write on.
func TestOneOfThreeVotersFull(t *testing.T) {
	t.Parallel()
	d := newSmallDisk(t)
	c := natslab.StartCluster(t, 3, func(m *natslab.Machine) {
		if m.ID == "m1" {
			natslab.StoreIn(d.dir)(m)
		}
	})
	c.Promote(c.Machines[1])
	c.Promote(c.Machines[2])
	s := c.Open(c.Machines[1])
	ready(t, s)
	full := leaderOf(t, c, s)
	if full != c.Machines[0] {
		t.Fatalf("%s leads", full.ID)
	}
	w := startWriter(t, s)
	w.step(t, "the leader's disk is full", func() {
		d.fill(0)
		wantNoRoom(t, s, full)
		anotherLeads(t, s)
	})
	w.step(t, "there is room again", func() {
		d.empty()
		again(t, full.Core)
		settled(t, s, 3)
	})
	w.finish(t, s)
	eventuallyVerified(t, c.Open(full))
	full.Core.Kill()
}

// TestEdgeFull fills the disk of an edge: it is read on, also after a cold start there, says that it is not fresh, and
// catches up once there is room.
func TestEdgeFull(t *testing.T) {
	t.Parallel()
	for what, leave := range map[string]int64{"little is left": 4 << 20, "nothing is left": 0} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d, m, s, w := filled(t, natslab.EdgeStoreIn, leave)
			for range 2 {
				w.await(t, 20)
				eventually(t, "the edge to hold still", func() error {
					if m.Edge.Ended() { // it met the end in the middle of a write
						m.Edge.Start()
					}
					f, err := s.View().Freshness(within(t, natslab.Patience))
					if err == nil && f.Fresh {
						err = fmt.Errorf("it is fresh")
					}
					return err
				})
				if _, err := s.View().List(within(t, natslab.Patience), "log"); err != nil {
					t.Errorf("reading the mirror: %v", err)
				}
				m.Edge.Kill()
				m.Edge.Start()
			}
			d.empty()
			w.finish(t, s)
			// Its client has to find it again, and it to see that there is room.
			eventually(t, "the mirror to equal the core", func() error { return s.Verify(within(t, natslab.Patience)) })
			m.Edge.Kill()
		})
	}
}
