package daemon_test

import (
	"context"
	"crypto/rand"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/btrfs/btrfstest"
	"github.com/ployz/ployz/node/storage/storagetest"
	"github.com/ployz/ployz/node/storage/transfer"
)

// carriage is a volume on m2, and the desks of m2 and of m3, which may fetch and not command.
type carriage struct {
	*overlay
	volume   storage.Volume
	here     storage.Pool // m3's
	from, to *transfer.Desk
}

func newCarriage(t *testing.T, bytes int) *carriage {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	pool := func() storage.Pool { return btrfstest.Create(t, btrfstest.Mount(t, 256<<20)) }
	there, here := pool(), pool()
	v, err := there.Ensure(t.Context(), storagetest.Spec("data"))
	storagetest.Must(t, err)
	t.Cleanup(func() { storagetest.Destroy(t, there, v.ID); storagetest.Destroy(t, here, v.ID) })
	for _, name := range []string{"s1", "s2"} {
		body := make([]byte, bytes)
		rand.Read(body)
		storagetest.Must(t, os.WriteFile(filepath.Join(v.Path, name), body, 0o600))
		_, err = there.Snapshot(t.Context(), name, v.ID)
		storagetest.Must(t, err)
	}
	c := &carriage{overlay: newOverlay(t), volume: v, here: here, from: &transfer.Desk{Pool: there}}
	c.volumes = c.from
	return c
}

// join gives m3 its desk, once it is known where m2 listens.
func (c *carriage) join() {
	c.to = &transfer.Desk{Pool: c.here, Dial: c.neighbours("m3", 13).DialVolume}
}

func (c *carriage) offer(to string, rate int64) {
	c.t.Helper()
	storagetest.Must(c.t, c.from.Offer(c.t.Context(), storage.Offer{
		Operation: "op1", Volume: c.volume.ID, Snapshot: "s2", To: to, Every: true, BytesPerSecond: rate,
	}))
}

func (c *carriage) fetch(from string, progress func(storage.Progress)) (storage.Carried, error) {
	return c.to.Fetch(c.t.Context(), storage.Fetch{Operation: "op1", From: from, As: c.volume.Spec, Snapshot: "s2"}, progress)
}

// TestVolumeBetweenMachines: who is named by an offer may have the volume, and nobody else.
func TestVolumeBetweenMachines(t *testing.T) {
	c := newCarriage(t, 1<<20)
	c.serve(nil, nil, nil)
	c.join()
	_, err := c.fetch("m2", nil)
	want(t, err, api.CodeVolumeNotOffered)
	c.offer("m1", 0) // who may command may not, either, unless it is named
	_, err = c.fetch("m2", nil)
	want(t, err, api.CodeVolumeNotOffered)
	c.offer("m3", 0)
	_, err = c.neighbours("m1", 11).DialVolume(t.Context(), "m2", "op1", c.volume.ID)
	want(t, err, api.CodeVolumeNotOffered)
	_, err = c.neighbours("m3", 11).DialVolume(t.Context(), "m2", "op1", c.volume.ID)
	want(t, err, api.CodeParticipantRefused) // m3's key from m1's address
	_, err = c.fetch("m9", nil)
	want(t, err, api.CodeMachineAbsent)

	var told storage.Progress
	got, err := c.fetch("m2", func(p storage.Progress) { told = p })
	storagetest.Must(t, err)
	if len(got.Streams) != 2 || got.GUID == "" || told.Bytes != got.Bytes {
		t.Errorf("%+v, told %+v", got, told)
	}
	storagetest.Must(t, c.here.Restore(t.Context(), c.volume.ID))
	c.remove("m3")
	_, err = c.neighbours("m3", 13).DialVolume(t.Context(), "m2", "op1", c.volume.ID)
	want(t, err, api.CodeMachineSilent)
}

// TestVolumeOverABadLine: every connection breaks after some bytes, and what is whole is not sent again.
func TestVolumeOverABadLine(t *testing.T) {
	c := newCarriage(t, 1<<20)
	c.serve(nil, nil, func(l net.Listener) net.Listener {
		line := &cutting{Listener: l, after: 1_500_000} // one of the two snapshots and a half
		line.cuts.Store(2)
		return line
	})
	c.join()
	c.offer("m3", 0)
	var streams, tries int
	for ; tries < 10; tries++ {
		got, err := c.fetch("m2", nil)
		streams += len(got.Streams)
		if err == nil {
			break
		}
		want(t, err, api.CodeVolumeTransferCut)
	}
	if tries == 0 || tries == 10 || streams != 2 {
		t.Errorf("it took %d tries and %d streams", tries, streams)
	}
}

// TestVolumeAndTheEndOfADaemon: with its daemon ends what a machine sends.
func TestVolumeAndTheEndOfADaemon(t *testing.T) {
	c := newCarriage(t, 1<<20)
	stop := c.serve(nil, nil, nil)
	c.join()
	c.offer("m3", 1<<18) // eight seconds
	_, err := c.fetch("m2", func(storage.Progress) { stop() })
	want(t, err, api.CodeVolumeTransferCut)
	if v, err := c.here.Inspect(context.Background(), c.volume.ID); api.CodeOf(err) != api.CodeVolumeNotFound {
		t.Errorf("half of it stayed: %+v, %v", v, err)
	}
}

func TestMachineWithoutAPoolSendsNoVolumes(t *testing.T) {
	o := newOverlay(t)
	o.serve(nil, nil, nil)
	_, err := o.neighbours("m3", 13).DialVolume(t.Context(), "m2", "op1", "v1")
	want(t, err, api.CodeVolumePoolUnavailable)
}
