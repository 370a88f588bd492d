package natslab

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// NewLeaf returns a further machine, with keys on disk, that has an edge and no core. Make it before the
// machine whose core it is to join, and hand that Knows.
func NewLeaf(t testing.TB, id string) *Machine {
	t.Helper()
	m := &Machine{t: t, ID: id, Dir: t.TempDir()}
	keys, err := natsstore.EnsureKeys(m.path("keys"), natsconf.Roles())
	m.must(err)
	m.Keys = keys
	return m
}

// Knows lets other machines in at a core.
func Knows(others ...*Machine) Option {
	return func(m *Machine) {
		for _, o := range others {
			m.CoreConfig.Machines = append(m.CoreConfig.Machines, natsconf.Machine{ID: o.ID, Keys: o.Keys.Shared()})
		}
	}
}

// Join starts the leaf's edge, connected to the core of another machine.
func (m *Machine) Join(core *Machine) {
	m.t.Helper()
	m.EdgeConfig = natsconf.Edge{
		Machine: m.ID, Generation: core.CoreConfig.Generation, Keys: m.Keys, StoreDir: filepath.Join(m.Dir, "edge"),
		Listen: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), FreePorts(m.t, 1)[0]), Voters: core.EdgeConfig.Voters,
	}
	text, err := natsconf.RenderEdge(m.EdgeConfig)
	m.must(err)
	m.must(os.WriteFile(m.path("edge.conf"), text, 0o600))
	m.Edge = m.server("edge")
	m.Edge.Start()
}
