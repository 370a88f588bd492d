package many_test

import (
	"strings"
	"testing"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// storeDisk gives a machine's part of the store a disk of its own, of 128 MiB; filled, it has 4 MiB free.
const (
	storeDisk = `mkdir -p /var/lib/ployz/nats && mount -t tmpfs -o size=128m,mode=0700 tmpfs /var/lib/ployz/nats`
	fillDisk  = `fallocate -l $(($(df --output=avail -B1 /var/lib/ployz/nats | tail -1) - 4194304)) /var/lib/ployz/nats/ballast`
	emptyDisk = `rm /var/lib/ployz/nats/ballast`
)

// TestDiskFull fills the disk of the store: of the only voter, and of one of three.
func TestDiskFull(t *testing.T) {
	m := onemachine.StartWith(t, dev.Options{Machines: 3})
	m.Script("m1", storeDisk)
	m.Must("init")
	m.Push("web:1", nil)
	m.MustDeploy(everywhere)
	inOrder(t, m, []step{
		{"the only voter's disk is full", onlyVoterFull},
		{"two machines join", func(t *testing.T, m *onemachine.Machine) { join(t, m, "m2", "m3") }},
		{"one of three voters' disks is full", oneOfThreeFull},
	})
}

// fill fills m1's disk, and waits until it says so in every place where an operator looks.
func fill(t *testing.T, m *onemachine.Machine) {
	t.Helper()
	if text := m.Must("status"); !strings.Contains(text, "the disk of the store on m1 is nearly full") {
		t.Errorf("with little room: %s", text)
	}
	m.Script("m1", fillDisk)
	m.Eventually("m1 to say that it is full", func() bool {
		s := m.Status()
		return s.Store.Room != nil && s.Store.Room.State == api.RoomFull
	})
	if text := m.Must("status"); !strings.Contains(text, "the disk of the store on m1 is full: /var/lib/ployz/nats has") {
		t.Errorf("status: %s", text)
	}
	if r := m.Ctl("doctor"); !strings.Contains(r.Out+r.Err, "room for the store") || !strings.Contains(r.Out+r.Err, string(api.CodeStoreDiskFull)) {
		t.Errorf("doctor: %+v", r)
	}
	m.Eventually("the voter to be known as full", func() bool {
		var r api.StoreReport
		m.JSON(&r, "store", "status")
		for _, v := range r.Voters {
			if v.Machine == "m1" {
				return v.State == api.RoomFull && v.Room != nil && strings.Contains(strings.Join(r.Statement, " "), "m1 is full")
			}
		}
		return false
	})
}

// room makes room on m1's disk, and waits until it votes again.
func room(m *onemachine.Machine, voters int) {
	m.Script("m1", emptyDisk)
	m.Eventually("every voter to be there again", func() bool {
		var r api.StoreReport
		m.JSON(&r, "store", "status")
		up := 0
		for _, v := range r.Voters {
			if v.State == api.StateUp {
				up++
			}
		}
		return r.Writable && up == voters
	})
}

func onlyVoterFull(t *testing.T, m *onemachine.Machine) {
	book, running := scribble(t, m, "full", "m1"), m.Load(labtest.Client, requests("m1"))
	fill(t, m)
	wantRefused(t, write(m, "refused/here"), api.CodeStoreDiskFull, "on m1 is full", "MiB free", "ployzctl image prune")
	if text := m.Must("service", "ls"); !strings.Contains(text, "web") {
		t.Errorf("reading: %s", text)
	}
	room(m, 1)
	m.Eventually("m1 to write", func() bool { return write(m, "full/after").Status == 0 })
	wantNoneFailed(t, running)
	wantKept(t, m, "full", book.end(t))
}

func oneOfThreeFull(t *testing.T, m *onemachine.Machine) {
	book, running := scribble(t, m, "one", "m1", "m2"), m.Load(labtest.Client, requests("m1", "m2"))
	fill(t, m)
	for _, host := range []string{"m1", "m2"} {
		m.Eventually(host+" to write", func() bool { return write(m.At(host), "one/"+host).Status == 0 })
	}
	room(m, 3)
	wantNoneFailed(t, running)
	told := book.end(t)
	awaitAgreement(t, m, machines(3)...)
	wantKept(t, m.At("m3"), "one", told)
}
