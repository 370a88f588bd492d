package deploy

import (
	"context"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// change takes one namespace from its present commit to a next release. Every primitive of this
// package is a change with another idea of what the release should be.
type change struct {
	kit  Kit
	ns   string
	kind string

	// Below is what inspect saw; plan reads nothing else.
	operation  string
	caller     string
	now        current
	machines   []candidate
	tenures    map[string]machine.Tenure // by machine
	claims     map[store.Key]claimed
	nsID       uint32
	nsIDClaim  *store.Put
	route      store.Fact
	unfinished *operation.Unfinished
	earlier    []operation.Unfinished
	// volumes are the namespace's data sets, live and kept; revive are the kept ones that get their names back, by name.
	volumes []volumeFact
	revive  map[string]string
	// back is the data that volumes begin with, by the data set's name; written is what an operation that leaves the data
	// as it is says of it, likewise.
	back    map[string]past
	written map[string]string
	// moves are the machines that live data sets move to, by the data set's name; moved is how they came there, likewise.
	moves map[string]string
	moved map[string]api.VolumeMove // guarded by mu
	// abandoned are the snapshots that migrations left which did not come to their end.
	abandoned []abandoned
	// beginsAs is the commit whose data sets the operation's begin as; zero where none do.
	beginsAs api.Commit
	fence    store.Revision
	// problems are requirements that were found unmet while looking.
	problems []*api.Error
	// absent are the images that a machine lacks: machine → digest → true.
	absent map[string]map[string]bool
	// pushed are the names that no registry decides on, by image, and unnamed the machines that do not know them so.
	pushed  map[string]time.Time
	unnamed map[string]map[string]bool
	// auths are the operator's registry credentials, by registry; used and forgotten.
	auths map[string]runtime.RegistryAuth

	next release
	// hold are the services that gateways hold requests for while their instances stop; see holdPhase.
	hold []string
	// jobs says that the one-shot jobs of a deploy are part of this change, and masks that those of a branch are.
	jobs, masks bool
	// values are named values that the commit stores, too, so that the next deploy finds them.
	values []valueWrite
	// besides are further writes of the commit, and checks what else must be as inspect saw it.
	besides func(b *puts, op string)
	checks  []store.Check
	// lineage is what a plan's digest covers of a branch besides its release.
	lineage any

	mu    sync.Mutex // guards what steps of one phase fill at once
	addrs map[string]runtime.Addresses
	// moments are the snapshots taken before the commit, by data set id; guarded by mu.
	moments map[string]storage.Snapshot
	// origins are the snapshots that the operation took for itself, likewise.
	origins map[string]storage.Snapshot
}

type claimed struct {
	namespace string
	revision  store.Revision
}

// inspect reads what every change needs: the present commit, the machines as they are now, and
// the namespace's number. The operation then fills in next.
func (c *change) inspect(ctx context.Context, before operation.Situation) error {
	if err := CheckNamespace(c.ns); err != nil {
		return err
	}
	c.operation, c.caller, c.fence = before.Operation, before.Caller, before.Fence
	c.unfinished, c.earlier = before.Unfinished, before.Earlier
	c.addrs = map[string]runtime.Addresses{}
	c.moments, c.origins = map[string]storage.Snapshot{}, map[string]storage.Snapshot{}
	c.absent = map[string]map[string]bool{}
	c.pushed, c.unnamed = map[string]time.Time{}, map[string]map[string]bool{}
	var err error
	if c.now, err = readCurrent(ctx, c.kit.Facts, c.ns); err != nil {
		return err
	}
	if err := c.inspectMachines(ctx); err != nil {
		return err
	}
	if err := c.inspectRoute(ctx); err != nil {
		return err
	}
	return c.inspectNamespaceID(ctx)
}

func (c *change) inspectMachines(ctx context.Context) error {
	members, err := machine.Members(ctx, c.kit.Facts)
	if err != nil {
		return err
	}
	if c.tenures, err = machine.Tenures(ctx, c.kit.Facts); err != nil {
		return err
	}
	c.machines = make([]candidate, len(members))
	var wg sync.WaitGroup
	for i, member := range members {
		wg.Go(func() { c.machines[i] = c.observe(ctx, member) })
	}
	wg.Wait()
	for _, m := range c.machines {
		if api.CodeOf(m.silent) == api.CodeLeaseLost {
			return m.silent
		}
	}
	return nil
}

func (c *change) observe(ctx context.Context, member machine.Member) candidate {
	seen := candidate{member: member, leaving: c.tenures[member.Name].Leaving}
	p, err := c.kit.Participants.Participant(ctx, member.Name)
	if err == nil && c.fence != 0 {
		// From here on nobody whose lease was taken changes what we see and plan on.
		err = p.Act(ctx, Fenced{Operation: c.operation, Scope: c.Scope(), Fence: c.fence}, Action{Verb: "fence"})
	}
	if err == nil {
		seen.seen, err = p.Observe(ctx)
	}
	if err != nil {
		seen.silent = err
		return seen
	}
	for _, instance := range seen.seen.Instances {
		if instance.Spec.Namespace == c.ns {
			continue // planned anew below
		}
		seen.held++
		seen.reserved.cpus += instance.Spec.Resources.ReserveCPUs
		seen.reserved.memory += instance.Spec.Resources.ReserveMemoryBytes
	}
	return seen
}

// inspectNamespaceID finds the namespace's number, or a free one to claim with the commit.
func (c *change) inspectNamespaceID(ctx context.Context) error {
	if c.now.head.NamespaceID != 0 {
		c.nsID = c.now.head.NamespaceID
		return nil
	}
	for id := crc32.ChecksumIEEE([]byte(c.ns)); ; id++ {
		if id == 0 {
			continue // "none" to the data path
		}
		key := store.NamespaceID(fmt.Sprintf("%08x", id))
		fact, err := c.kit.Facts.Get(ctx, key)
		if err == nil {
			continue // another namespace's name has the same checksum
		}
		if !store.IsNotFound(err) {
			return err
		}
		put, err := encode(key, claim{c.ns}, store.Expect(fact.Revision))
		c.nsID, c.nsIDClaim = id, &put
		return err
	}
}

// inspectNext looks at what the next release needs: volumes and claims.
func (c *change) inspectNext(ctx context.Context) error {
	if err := c.inspectVolumes(ctx); err != nil {
		return err
	}
	return c.inspectClaims(ctx)
}

// inspectClaims looks up who holds the hostnames, gateway ports and machines' ports of the present and the
// next release.
func (c *change) inspectClaims(ctx context.Context) error {
	c.claims = map[store.Key]claimed{}
	for _, key := range slices.Concat(c.layout().claimKeys(c.next.spec), c.presentClaims()) {
		fact, err := c.kit.Facts.Get(ctx, key)
		if err != nil && !store.IsNotFound(err) {
			return err
		}
		held := claimed{revision: fact.Revision}
		if err == nil {
			var value claim
			if err := store.Decode(fact, &value); err != nil {
				return err
			}
			held.namespace = value.Namespace
		}
		c.claims[key] = held
	}
	return nil
}

func (c *change) presentSpec() api.Spec {
	if c.now.commit == nil {
		return api.Spec{}
	}
	return c.now.commit.Spec
}

// claimKeys are the claims of the next release, whose spec is given.
func (l layout) claimKeys(spec api.Spec) []store.Key {
	slots := make([]api.Slot, len(l.places))
	for i, p := range l.places {
		slots[i] = api.Slot{Service: p.service, Machine: p.machine}
	}
	return claimKeys(spec, slots)
}

func (c *change) presentClaims() []store.Key {
	if c.now.commit == nil {
		return nil
	}
	return claimKeys(c.now.commit.Spec, slices.Collect(maps.Values(c.now.commit.Slots)))
}

func claimKeys(spec api.Spec, slots []api.Slot) []store.Key {
	keys := map[store.Key]bool{}
	for _, s := range spec.Services {
		for _, r := range s.Routes {
			keys[claimKey(r)] = true
		}
	}
	for _, slot := range slots {
		for _, port := range spec.Services[slot.Service].Ports {
			keys[portKey(slot.Machine, port)] = true
		}
	}
	return slices.Sorted(maps.Keys(keys))
}

func portKey(machineName string, port api.Port) store.Key {
	return store.MachinePort(machineName, port.Protocol, port.Published)
}

func claimKey(r api.Route) store.Key {
	if r.TCP != 0 {
		return store.GatewayPort(r.TCP)
	}
	return store.Hostname(r.Host)
}

// present is the release that runs now, as a starting point for the next.
func (c *change) present() release {
	if c.now.commit == nil {
		return release{spec: api.Spec{Namespace: c.ns}}
	}
	return releaseOf(*c.now.commit)
}

func releaseOf(commit api.Commit) release {
	spec := commit.Spec
	spec.Services = maps.Clone(spec.Services)
	return release{spec: spec, secrets: commit.Secrets, restarts: maps.Clone(commit.Restarts)}
}

// needCommit refuses an operation on a namespace that has nothing.
func (c *change) needCommit() error {
	if c.now.commit == nil {
		return noNamespace(c.ns)
	}
	return nil
}

// needService refuses an operation on a service that the namespace does not have.
func (c *change) needService(name string) error {
	if err := c.needCommit(); err != nil {
		return err
	}
	if _, ok := c.now.commit.Spec.Services[name]; !ok {
		return api.Errorf(api.CodeNoSuchService, "the namespace has no service %q", name).About(c.ns).
			WithHint("list them: ployzctl service ls %s", c.ns)
	}
	return nil
}

// Scope implements operation.Operation for every change.
func (c *change) Scope() string { return scopeOf(c.ns) }

// Kind implements operation.Operation for every change.
func (c *change) Kind() string { return c.kind }
