package deploy

import (
	"maps"
	"slices"
	"strconv"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
)

// instanceFact is the lifecycle fact of one instance.
type instanceFact struct {
	Operation string `json:"operation"`
	Slot      string `json:"slot"`
	Machine   string `json:"machine"`
	State     string `json:"state"`
}

// commit is the one batch: head, commit, instances, claims and the routing event, or nothing.
func (c *change) commit(l layout) operation.Commit {
	return operation.Commit{
		Witness: store.Head(c.ns),
		Expect:  c.now.revision,
		Content: c.content(l),
		Checks:  append(c.guards(l), c.checks...),
		Moved:   moved,
		ID:      func(string) string { return strconv.Itoa(c.number()) },
		Batch: func(op string) ([]store.Put, error) {
			var b puts
			b.value(store.Head(c.ns), c.nextHead(op), store.Expect(c.now.revision))
			b.value(store.Commit(c.ns, strconv.Itoa(c.number())), c.record(op, l), store.Expect(0))
			if c.nsIDClaim != nil {
				b.list = append(b.list, *c.nsIDClaim)
			}
			c.putInstances(&b, op, l)
			c.putVolumes(&b, op, l)
			c.putClaims(&b, l)
			if c.besides != nil {
				c.besides(&b, op)
			}
			c.putRoute(&b, op, l)
			return b.list, b.err
		},
	}
}

// moved says what it means that a checked fact is another: a machine's, or another namespace's head.
func moved(key store.Key) *api.Error {
	if key != store.Head(key.Last()) {
		return machine.Left(key.Last())
	}
	return api.Errorf(api.CodeConflict, "%s was changed meanwhile", key.Last()).About(key.Last()).Again().
		WithHint("see what it runs now: ployzctl history %s; then repeat the command", key.Last())
}

// guards hold the commit to the machines that it places on: none of them may have left meanwhile.
func (c *change) guards(l layout) []store.Check {
	var list []store.Check
	for _, name := range l.machines() {
		if t, known := c.tenures[name]; known {
			list = append(list, t.Check)
		} else { // it left between two looks
			list = append(list, store.Check{Key: store.MachineName(name)})
		}
	}
	return list
}

// machines are those that have a slot, each once.
func (l layout) machines() []string {
	var names []string
	for _, p := range l.places {
		names = append(names, p.machine)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// number is the next commit's.
func (c *change) number() int { return c.now.head.Commit + 1 }

func (c *change) nextHead(op string) head {
	return head{Operation: op, Commit: c.number(), NamespaceID: c.nsID, Removed: len(c.next.spec.Services) == 0}
}

// content is what the plan's digest covers: no operation ids, no sealed bytes, no addresses.
func (c *change) content(l layout) any {
	prints := map[string]string{}
	for name, s := range c.next.secrets {
		prints[name] = s.Fingerprint
	}
	slots := map[string]string{}
	for _, p := range l.places {
		slots[p.slot] = p.machine + " " + p.revision + " " + strconv.FormatBool(p.keep)
	}
	return struct {
		Head    uint64
		Spec    api.Spec
		Secrets map[string]string
		Slots   map[string]string
		Volumes map[string]string
		Lineage any `json:",omitempty"`
	}{uint64(c.now.revision), c.next.spec, prints, slots, l.volumeContent(), c.lineage}
}

func (c *change) record(op string, l layout) api.Commit {
	commit := api.Commit{
		Number: c.number(), Parent: c.now.head.Commit, Namespace: c.ns, Operation: op, Kind: c.kind, Caller: c.caller,
		Time: c.kit.Now().UTC(), Of: c.next.of, Branch: c.next.branch, Spec: c.next.spec, Secrets: c.next.secrets, Restarts: c.next.restarts,
		Slots: map[string]api.Slot{}, Volumes: c.commitVolumes(l),
	}
	for _, p := range l.places {
		commit.Slots[p.slot] = c.slot(p)
	}
	return commit
}

func (c *change) slot(p place) api.Slot {
	if p.keep {
		return p.old
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	addrs := c.addrs[p.spec.ID]
	return api.Slot{
		Name: p.slot, Service: p.service, Machine: p.machine, Instance: p.spec.ID, Revision: p.revision,
		V4: addrs.V4, V6: addrs.V6,
	}
}

func (c *change) putInstances(b *puts, op string, l layout) {
	for _, p := range l.places {
		if p.keep {
			continue
		}
		b.value(store.Instance(c.ns, p.spec.ID), instanceFact{op, p.slot, p.machine, "serving"}, nil)
	}
	for _, old := range l.retired() {
		b.remove(store.Instance(c.ns, old.Instance), nil)
	}
}

// retired are the present commit's slots whose instance does not stay.
func (l layout) retired() []api.Slot {
	old := slices.Clone(l.gone)
	for _, p := range l.places {
		if !p.keep && p.old.Instance != "" {
			old = append(old, p.old)
		}
	}
	return old
}

// putClaims takes the hostnames and ports that are new and gives back those no longer used.
func (c *change) putClaims(b *puts, l layout) {
	wanted := map[store.Key]bool{}
	for _, key := range l.claimKeys(c.next.spec) {
		wanted[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(c.claims)) {
		held := c.claims[key]
		switch {
		case wanted[key] && held.namespace == "":
			b.value(key, claim{c.ns}, store.Expect(held.revision))
		case !wanted[key] && held.namespace == c.ns:
			b.remove(key, store.Expect(held.revision))
		}
	}
}

// putRoute is last, so that the batch's revision is the routing event's.
func (c *change) putRoute(b *puts, op string, l layout) {
	if len(c.next.spec.Services) == 0 {
		b.remove(store.Route(c.ns), nil)
		return
	}
	view := c.view(op, l)
	c.markHeld(view, letGoMost)
	value, err := view.Encode()
	if err != nil {
		b.err = err
		return
	}
	b.list = append(b.list, store.Put{Key: store.Route(c.ns), Value: value})
}

func (c *change) view(op string, l layout) routing.View {
	var slots []api.Slot
	for _, p := range l.places {
		slots = append(slots, c.slot(p))
	}
	return c.routingView(op, c.number(), c.next.spec, slots)
}

// routingView is what a release means for traffic.
func (c *change) routingView(op string, commit int, spec api.Spec, slots []api.Slot) routing.View {
	view := routing.View{
		Operation: op, Commit: strconv.Itoa(commit), Namespace: c.ns, NamespaceID: c.nsID,
		Services: map[string]routing.Service{},
	}
	for name, s := range spec.Services {
		if s.Job == nil {
			view.Services[name] = routing.Service{Routes: s.Routes, Exports: s.Exports, Ports: servicePorts(s)}
		}
	}
	for _, slot := range slots {
		service := view.Services[slot.Service]
		service.Instances = append(service.Instances, routed(slot))
		view.Services[slot.Service] = service
	}
	return view
}

func routed(slot api.Slot) routing.Instance {
	return routing.Instance{ID: slot.Instance, Slot: slot.Name, Machine: slot.Machine, V4: slot.V4, V6: slot.V6}
}

// servicePorts are the ports that can be known of a service: those it routes or publishes.
func servicePorts(s api.Service) []routing.Port {
	var ports []routing.Port
	add := func(p routing.Port) {
		if !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	for _, r := range s.Routes {
		name := "http"
		if r.TCP != 0 {
			name = "tcp"
		}
		add(routing.Port{Name: name, Number: r.Port, Protocol: "tcp"})
	}
	for _, p := range s.Ports {
		add(routing.Port{Name: strconv.Itoa(int(p.Target)), Number: p.Target, Protocol: p.Protocol})
	}
	return ports
}

// puts collects a batch and the first error on the way.
type puts struct {
	list []store.Put
	err  error
}

func (b *puts) value(key store.Key, value any, expect *store.Revision) {
	put, err := encode(key, value, expect)
	if err != nil && b.err == nil {
		b.err = err
	}
	b.list = append(b.list, put)
}

// remove writes a removal that stays: one that expired would leave the fact for ever on a machine that
// was cut off meanwhile.
func (b *puts) remove(key store.Key, expect *store.Revision) {
	b.list = append(b.list, store.Put{Key: key, Remove: true, Expect: expect})
}
