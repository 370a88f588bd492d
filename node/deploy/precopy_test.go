package deploy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/btrfs/btrfstest"
	"github.com/ployz/ployz/node/storage/storagetest"
	"github.com/ployz/ployz/node/storage/transfer"
)

// movers are two machines with pools, the first of which has a volume. The line between them can be cut.
type movers struct {
	pools    [2]storage.Pool
	carriers [2]deploy.Carrier
	volume   storage.Volume
	line     atomic.Pointer[func(net.Conn) net.Conn] // what becomes of a new connection
}

func newMovers(t *testing.T) *movers {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	m := &movers{}
	desks := [2]*transfer.Desk{}
	for i := range desks {
		m.pools[i] = btrfstest.Create(t, btrfstest.Mount(t, 300<<20))
		fences, err := coordination.OpenFences(filepath.Join(t.TempDir(), "fences.json"))
		storagetest.Must(t, err)
		desks[i] = &transfer.Desk{Pool: m.pools[i], Dial: func(ctx context.Context, machine, operation, volume string) (io.ReadWriteCloser, error) {
			return m.dial(ctx, t, desks[map[string]int{"m0": 0, "m1": 1}[machine]], []string{"m0", "m1"}[i], operation, volume)
		}}
		m.carriers[i] = deploy.LocalCarrier{Carrier: desks[i], Fences: fences}
	}
	var err error
	m.volume, err = m.pools[0].Ensure(t.Context(), storagetest.Spec("data"))
	storagetest.Must(t, err)
	t.Cleanup(func() {
		for _, p := range m.pools {
			storagetest.Destroy(t, p, m.volume.ID)
		}
	})
	return m
}

// dial is what the door of a machine does, over TCP on loopback.
func (m *movers) dial(ctx context.Context, t *testing.T, to *transfer.Desk, from, operation, volume string) (io.ReadWriteCloser, error) {
	if err := to.Check(from, operation, volume); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	there, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	here, err := l.Accept()
	if err != nil {
		return nil, err
	}
	if spoil := m.line.Load(); spoil != nil {
		there = (*spoil)(there)
	}
	go to.Answer(ctx, from, operation, volume, there) //nolint:errcheck // the other side says how it ended
	return here, nil
}

func (m *movers) precopy(from int) *deploy.Precopy {
	to := 1 - from
	ids := []string{"m0", "m1"}
	return &deploy.Precopy{
		From: m.carriers[from], To: m.carriers[to], FromID: ids[from], ToID: ids[to], Volumes: []storage.Spec{m.volume.Spec},
		BytesPerSecond: 6 << 20, Fixed: 200 * time.Millisecond, Pause: 10 * time.Millisecond,
	}
}

// names are a volume's snapshots on a machine.
func (m *movers) names(t *testing.T, at int) (names []string) {
	t.Helper()
	all, err := m.pools[at].ListSnapshots(t.Context(), m.volume.ID)
	storagetest.Must(t, err)
	for _, s := range all {
		names = append(names, s.Name)
		if len(s.Holds) > 0 {
			names = append(names, "held by "+strings.Join(s.Holds, ","))
		}
	}
	return names
}

// breaking cuts the first connections after some bytes.
func breaking(cuts int64, after int) *func(net.Conn) net.Conn {
	var left atomic.Int64
	left.Store(cuts)
	wrap := func(c net.Conn) net.Conn {
		if left.Add(-1) < 0 {
			return c
		}
		return &limited{Conn: c, left: after}
	}
	return &wrap
}

// limited is a connection that breaks once so much was written.
type limited struct {
	net.Conn
	left int // only the sender writes, one frame at a time
}

// Write implements net.Conn.
func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		l.Conn.Close()
		return 0, errors.New("the cable was cut")
	}
	return l.Conn.Write(p)
}

// TestPrecopy moves a volume that is written to another machine, over a line that breaks, and back again.
func TestPrecopy(t *testing.T) {
	m, ctx := newMovers(t), t.Context()
	by := deploy.Fenced{Operation: "op1", Step: "carry", Scope: "ns/shop", Fence: 5}
	_, err := m.pools[0].Snapshot(ctx, "c1", m.volume.ID) // as a commit's
	storagetest.Must(t, err)
	w := storagetest.StartWriter(t, m.volume)
	m.line.Store(breaking(2, 4<<10))
	p := m.precopy(0)
	var told []string
	plan, err := p.Run(ctx, by, func(volume string, _ storage.Progress) { told = append(told, volume) })
	storagetest.Must(t, err)
	if plan.Next != storage.NextCutOver || plan.Stop < p.Fixed || !slices.Contains(told, m.volume.ID) {
		t.Errorf("%+v; told %v", plan, told)
	}

	written, begun := w.Written(t), time.Now()
	storagetest.Must(t, p.Finish(ctx, by, nil))
	storagetest.Must(t, m.pools[0].Retire(ctx, m.volume.ID))
	storagetest.Must(t, m.pools[1].Restore(ctx, m.volume.ID))
	t.Logf("after %d rounds: %s; without its fixed part the stop took %s", len(p.Rounds)-1, plan.Why, time.Since(begun))
	far, err := m.pools[1].Inspect(ctx, m.volume.ID)
	storagetest.Must(t, err)
	w.Check(t, written, far)
	if last := p.Carried[len(p.Carried)-1][0]; len(p.Carried) != len(p.Rounds) || last.GUID == "" || last.Snapshot != storage.OperationSnapshot("op1", len(p.Rounds)-1) { // none but those that were carried
		t.Errorf("%d rounds; the last is %+v", len(p.Rounds), last)
	}

	storagetest.Must(t, p.Forget(ctx, by))
	storagetest.Must(t, p.Forget(ctx, by))
	kept := []string{"c1", p.Carried[len(p.Carried)-1][0].Snapshot}
	for at := range m.pools {
		if names := m.names(t, at); !slices.Equal(names, kept) {
			t.Errorf("machine %d has %q, want %q", at, names, kept)
		}
	}
	back := m.precopy(1)
	by.Operation, by.Fence = "op2", 6
	_, err = back.Run(ctx, by, nil)
	storagetest.Must(t, err)
	storagetest.Must(t, back.Finish(ctx, by, nil))
	if first := back.Carried[0][0]; len(first.Streams) != 1 || first.Streams[0].BaseGUID == "" {
		t.Errorf("the way back began with %+v", first)
	}
	storagetest.Must(t, back.Forget(ctx, by))
}

// TestPrecopyRefuses before anybody is stopped, and what it carried is of use to the next.
func TestPrecopyRefuses(t *testing.T) {
	m, ctx := newMovers(t), t.Context()
	w := storagetest.StartWriter(t, m.volume)
	by := deploy.Fenced{Operation: "op1", Step: "carry", Scope: "ns/shop", Fence: 5}
	p := m.precopy(0)
	p.MaxStop = p.Fixed / 2
	plan, err := p.Run(ctx, by, nil)
	if api.CodeOf(err) != api.CodeVolumeNotConverging || plan.Next != storage.NextRefuse || api.AsError(err).Subject != m.volume.FullName() {
		t.Fatalf("%+v, %v", plan, err)
	}
	if v, err := m.pools[0].Inspect(ctx, m.volume.ID); err != nil || v.State != storage.StateLive {
		t.Errorf("%+v, %v", v, err)
	}
	storagetest.Must(t, p.Forget(ctx, by))

	next := m.precopy(0)
	by.Operation, by.Fence = "op2", 6
	_, err = next.Run(ctx, by, nil)
	storagetest.Must(t, err)
	if first := next.Carried[0][0]; len(first.Streams) == 0 || first.Streams[0].BaseGUID == "" {
		t.Errorf("it began anew: %+v", first)
	}
	storagetest.Must(t, w.End())

	stale := by
	stale.Operation, stale.Fence = "op1", 5
	if _, err := p.Run(ctx, stale, nil); api.CodeOf(err) != api.CodeLeaseLost {
		t.Errorf("an older coordinator: %v", err)
	}
	if err := p.Forget(ctx, stale); api.CodeOf(err) != api.CodeLeaseLost {
		t.Errorf("an older coordinator: %v", err)
	}
}
