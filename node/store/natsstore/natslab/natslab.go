// Package natslab runs the store's real servers for tests: the ployz-nats binary built from this
// checkout, a core and an edge per machine as separate processes on loopback, with the configuration,
// keys, founding and joining that a real machine gets. Machine is one; Cluster is several, with the
// order of steps in which voters come and go.
//
// Processes can be killed, paused and started again; all end with the test.
package natslab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// Patience bounds every wait of this package.
const Patience = 30 * time.Second

var build = sync.OnceValues(buildProgram)

// Program returns the path of ployz-nats: $PLOYZ_NATS, or built from this checkout.
func Program(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatalf("natslab: %v", err)
	}
	return path
}

func buildProgram() (string, error) {
	if path := os.Getenv("PLOYZ_NATS"); path != "" {
		return path, nil
	}
	checkout := sha256.Sum256([]byte(testenv.Repo())) // another checkout's tests may run beside these
	path := filepath.Join(os.TempDir(), fmt.Sprintf("ployz-natslab-%x", checkout[:6]), "ployz-nats")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/ployz-nats")
	cmd.Dir = testenv.Repo()
	cmd.Stderr = os.Stderr
	return path, cmd.Run()
}

// Machine is one machine's part of the store.
type Machine struct {
	t testing.TB
	// ID is the machine's id; Dir holds everything: keys, configurations, store folders.
	ID, Dir string
	Keys    natsconf.PublicKeys
	// CoreConfig and EdgeConfig are the inputs of the configurations; change them and Render.
	CoreConfig natsconf.Core
	EdgeConfig natsconf.Edge
	Core, Edge *Server
	// incarnation counts the times that the machine became a voter: no core name is used twice.
	incarnation int
	// Edit, when set, changes the core's rendered text: for what our rendering never says.
	Edit func(text string) string
}

// Option changes a machine before its configurations are rendered.
type Option func(*Machine)

// StoreIn puts the core's store folder elsewhere: on a file system of the test's own, say.
func StoreIn(dir string) Option {
	return func(m *Machine) { m.CoreConfig.StoreDir = filepath.Join(dir, "core") }
}

// EdgeStoreIn puts the edge's elsewhere.
func EdgeStoreIn(dir string) Option {
	return func(m *Machine) { m.EdgeConfig.StoreDir = filepath.Join(dir, "edge") }
}

// OnIPv6 has the core listen on ::1, as a real one listens on its overlay address.
func OnIPv6(m *Machine) {
	address := netip.IPv6Loopback()
	m.CoreConfig.Address = address
	m.CoreConfig.Voters = []netip.AddrPort{netip.AddrPortFrom(address, m.CoreConfig.RoutePort)}
	m.EdgeConfig.Voters = []netip.AddrPort{netip.AddrPortFrom(address, m.CoreConfig.LeafPort)}
}

// New returns a machine with keys and configurations on disk, and nothing running.
func New(t testing.TB, options ...Option) *Machine {
	t.Helper()
	return newMachine(t, "m1", options...)
}

func newMachine(t testing.TB, id string, options ...Option) *Machine {
	t.Helper()
	dir := t.TempDir()
	m := &Machine{t: t, ID: id, Dir: dir, incarnation: 1}
	keys, err := natsstore.EnsureKeys(m.path("keys"), natsconf.Roles())
	m.must(err)
	m.must(natsstore.EnsureRouteSecret(m.path("route.secret")))
	m.Keys = keys
	address := netip.MustParseAddr("127.0.0.1")
	ports := FreePorts(t, 4)
	m.CoreConfig = natsconf.Core{
		Name: m.ID + "-1", Cluster: "lab", Generation: 1, Address: address, StoreDir: m.path("core"),
		ClientPort: ports[0], RoutePort: ports[1], LeafPort: ports[2],
		Voters:   []netip.AddrPort{netip.AddrPortFrom(address, ports[1])},
		Machines: []natsconf.Machine{{ID: m.ID, Keys: keys.Shared()}},
	}
	m.EdgeConfig = natsconf.Edge{
		Machine: m.ID, Generation: 1, Listen: netip.AddrPortFrom(address, ports[3]), StoreDir: m.path("edge"),
		Voters: []netip.AddrPort{netip.AddrPortFrom(address, ports[2])}, Keys: keys,
	}
	for _, o := range options {
		o(m)
	}
	m.Render()
	m.Core, m.Edge = m.server("core"), m.server("edge")
	return m
}

// Start founds the store, starts both servers, makes streams and mirrors, and waits until the
// mirror is fresh: what `init` does on a first machine.
func Start(t testing.TB, options ...Option) *Machine {
	t.Helper()
	m := New(t, options...)
	m.Found()
	m.Core.Start()
	m.Edge.Start()
	s := m.Open()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	m.must(s.CreateStreams(ctx, 1, natsstore.StreamSize{}))
	m.must(s.EnsureMirrors(ctx))
	m.must(s.AwaitMirror(ctx, 0))
	return m
}

// Render writes both configurations.
func (m *Machine) Render() {
	m.t.Helper()
	core, err := natsconf.RenderCore(m.CoreConfig)
	m.must(err)
	if m.Edit != nil {
		core = []byte(m.Edit(string(core)))
	}
	m.must(os.WriteFile(m.path("core.conf"), core, 0o600))
	edge, err := natsconf.RenderEdge(m.EdgeConfig)
	m.must(err)
	m.must(os.WriteFile(m.path("edge.conf"), edge, 0o600))
}

// Found founds the core's store folder.
func (m *Machine) Found() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	m.must(natsstore.Found(ctx, m.CoreFiles()))
}

// CoreFiles are the paths that founding takes.
func (m *Machine) CoreFiles() natsstore.CoreFiles {
	return natsstore.CoreFiles{Program: Program(m.t), Config: m.path("core.conf"), RouteSecret: m.path("route.secret")}
}

// Config returns how this machine's ployzd comes in.
func (m *Machine) Config() natsstore.Config {
	return natsstore.Config{
		Machine: m.ID, Generation: m.CoreConfig.Generation,
		CoreURLs:        []string{"nats://" + m.CoreConfig.HostPort(m.CoreConfig.ClientPort)},
		CoordinatorSeed: m.Seed(natsconf.RoleCoordinator), SystemSeed: m.Seed(natsconf.RoleSystem),
		EdgeURL: m.EdgeURL(), EdgeSeed: m.Seed(natsconf.RoleLocal), EdgeSystemSeed: m.Seed(natsconf.RoleLocalSystem),
	}
}

// EdgeURL is where the edge listens.
func (m *Machine) EdgeURL() string { return "nats://" + m.EdgeConfig.Listen.String() }

// Seed is the path of a role's seed.
func (m *Machine) Seed(role natsconf.Role) string { return natsstore.SeedFile(m.path("keys"), role) }

// Open opens the store as this machine's ployzd, with changes to its configuration.
func (m *Machine) Open(changes ...func(*natsstore.Config)) *natsstore.Store {
	m.t.Helper()
	c := m.Config()
	for _, change := range changes {
		change(&c)
	}
	s, err := natsstore.Open(c)
	m.must(err)
	m.t.Cleanup(s.Close)
	return s
}

func (m *Machine) path(name string) string { return filepath.Join(m.Dir, name) }

func (m *Machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatalf("natslab: %s: %v", m.ID, err)
	}
}

// FreePorts returns TCP ports of 127.0.0.1 that are the test's own until it ends. They are below those that the
// kernel gives to outgoing connections, of which tests beside this one make many.
func FreePorts(t testing.TB, n int) []uint16 {
	t.Helper()
	var out []uint16
	for try := 0; len(out) < n; try++ {
		port := uint16(12000 + rand.IntN(20000))
		switch err := reserve(t, port); {
		case err == nil:
			out = append(out, port)
		case !errors.Is(err, unix.EADDRINUSE) || try > 1000:
			t.Fatal(err)
		}
	}
	return out
}

// reserve keeps a port from other tests' servers: a socket that never listens is bound to it. It is bound as the only
// one, and lets a server of this test bind the same port from then on; Go's listeners all set SO_REUSEADDR.
func reserve(t testing.TB, port uint16) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	t.Cleanup(func() { unix.Close(fd) }) //nolint:errcheck // nothing was written to it
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
}
