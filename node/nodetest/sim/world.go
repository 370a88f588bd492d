package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// world is one cluster in virtual time.
type world struct {
	plan     plan
	dice     dice
	mutant   mutant
	store    *memstore.Store
	network  *network
	machines map[string]*simMachine // by name; the spare ones too
	witness  *witness
	core     core
	began    time.Time

	calm atomic.Bool // the weather is over

	mu     sync.Mutex
	away   map[string]int    // guarded by mu; how many faults keep a machine from the store; "" is all
	names  map[string]string // guarded by mu; machines' names by their ids in the facts
	mirror []machine.Member  // guarded by mu
}

// simMachine is one machine: what outlives its daemon.
type simMachine struct {
	w       *world
	name    string
	dir     string
	subnet  deploy.Subnet
	runtime *memruntime.Runtime
	images  *memruntime.Images
	network *memruntime.Network

	mu     sync.Mutex
	daemon *daemon // guarded by mu; nil while it is down
}

// newWorld founds the plan's cluster. dir is for what is on the machines' disks.
func newWorld(p plan, m mutant, dir string) (*world, error) {
	w := &world{
		plan: p, dice: dice(p.seed), mutant: m, machines: map[string]*simMachine{}, began: time.Now(),
		core: core{voting: map[string]bool{machineName(1): true}},
		away: map[string]int{}, names: map[string]string{},
	}
	w.store = memstore.New(memstore.Config{Clock: time.Now})
	w.network, w.witness = newNetwork(w), newWitness(w)
	for n := 1; n <= p.machines+p.spare; n++ {
		w.machines[machineName(n)] = newMachine(w, n, dir)
	}
	if err := w.found(); err != nil {
		return nil, err
	}
	return w, nil
}

func newMachine(w *world, n int, dir string) *simMachine {
	m := &simMachine{
		w: w, name: machineName(n), dir: filepath.Join(dir, machineName(n)),
		runtime: memruntime.New(), images: memruntime.NewImages(),
		subnet: deploy.Subnet{
			V4: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 101, byte(n), 0}), 24),
			V6: netip.MustParsePrefix(fmt.Sprintf("fd00:1:2:%x::/64", n)),
		},
	}
	m.network = m.runtime.Network.(*memruntime.Network)
	for _, service := range []string{"app", "web", "job"} {
		for v := 1; v <= 3; v++ {
			m.images.Serve(image(service, v), image(service, v), runtime.ImageConfig{})
		}
	}
	m.runtime.Program, m.runtime.Command = w.program, w.probe
	return m
}

// boot starts the machine's daemon.
func (m *simMachine) boot() error {
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	d, err := newDaemon(m.w, m)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.daemon = d
	return nil
}

// kill ends the machine's daemon, if it has one; what it runs goes on.
func (m *simMachine) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.daemon != nil {
		m.daemon.die()
	}
	m.daemon = nil
}

// present is the machine's daemon, or nil.
func (m *simMachine) present() *daemon {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.daemon
}

// found writes the facts that a founded cluster has.
func (w *world) found() error {
	cidr, prefix := netip.MustParsePrefix("10.101.0.0/16"), netip.MustParsePrefix("fd00:1:2::/48")
	facts := map[store.Key]any{
		store.Cluster():   machine.Cluster{ID: "c", Name: "main", Generation: 1, CIDR: cidr, Prefix: prefix, Voters: []string{"m1"}},
		store.SharedKey(): machine.SealedKey{},
	}
	for n := 1; n <= w.plan.machines; n++ {
		m := w.machines[machineName(n)]
		facts[store.Machine(m.name)] = machine.Member{
			ID: m.name, Name: m.name, Number: uint16(n), Recipient: "age1" + m.name, MeshKey: meshKey(n),
			Overlay: m.subnet.V6.Addr().Next(), Subnet4: m.subnet.V4, Subnet6: m.subnet.V6,
		}
		facts[store.MachineName(m.name)] = claim{m.name}
		facts[store.MachineSubnet(uint16(n))] = claim{m.name}
	}
	var puts []store.Put
	for key, value := range facts {
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		puts = append(puts, store.Put{Key: key, Value: text})
	}
	for i, part := range slices.Collect(slices.Chunk(puts, store.MaxBatch)) {
		if _, err := w.store.Facts().Commit(context.Background(), store.Batch{ID: fmt.Sprintf("found-%d", i), Puts: part}); err != nil {
			return err
		}
	}
	w.store.SetHooks(memstore.Hooks{AfterCommit: w.afterCommit})
	return w.refreshMirror()
}

// claim is the value of facts that say which machine has something.
type claim struct {
	Machine string `json:"machine"`
}

// afterCommit keeps the mirror of the memberships, and lets the witness see the batch.
func (w *world) afterCommit(b store.Batch, _ store.Revision) error {
	if slices.ContainsFunc(b.Puts, func(p store.Put) bool { return p.Key.Under(store.Machines()) }) {
		if err := w.refreshMirror(); err != nil {
			return err
		}
	}
	w.witness.landed(b)
	return nil
}

// refreshMirror reads the memberships. Who became a member starts a daemon, who is none any more stops his.
func (w *world) refreshMirror() error {
	members, err := machine.Members(context.Background(), w.store.Facts())
	if err != nil {
		return err
	}
	w.mu.Lock()
	before := w.mirror
	w.mirror = members
	for _, m := range members {
		w.names[m.ID] = m.Name
	}
	w.mu.Unlock()
	for name, m := range w.machines {
		switch was, is := named(before, name), named(members, name); {
		case is && !was:
			if err := m.boot(); err != nil {
				return err
			}
		case was && !is:
			m.kill()
		}
	}
	return nil
}

func named(members []machine.Member, name string) bool {
	return slices.ContainsFunc(members, func(m machine.Member) bool { return m.Name == name })
}

// members is what a machine's mirror says.
func (w *world) members() ([]machine.Member, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mirror, nil
}

// machineByID finds a machine by its id in the facts.
func (w *world) machineByID(id string) *simMachine {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.machines[w.names[id]]
}

// id is the machine's id in the facts, or its name while it has none.
func (m *simMachine) id() string {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	for _, member := range m.w.mirror {
		if member.Name == m.name {
			return member.ID
		}
	}
	return m.name
}

// weather is what the plan says, until the calm.
func (w *world) weather() weather {
	if w.calm.Load() {
		return weather{}
	}
	return w.plan.weather
}

// keepFromStore takes the store away from a machine, or from all (""), or gives it back with -1.
func (w *world) keepFromStore(name string, by int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away[name] += by
}

func (w *world) storeAway(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.away[name] > 0 || w.away[""] > 0
}

// write puts one fact without asking anybody, as the founding does.
func (w *world) write(id string, key store.Key, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = w.store.Facts().Commit(context.Background(), store.Batch{ID: id, Puts: []store.Put{{Key: key, Value: text}}})
	return err
}

// machineOf is where an instance was launched, or nil.
func (w *world) machineOf(instance string) *simMachine { return w.witness.launchedOn(instance) }

// note adds a line to the timeline.
func (w *world) note(format string, args ...any) {
	w.witness.note(time.Since(w.began), format, args...)
}
