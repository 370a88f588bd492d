package dns

import "net/netip"

// view is a zone made ready to answer from. It is never changed once made.
type view struct {
	zone     Zone
	nodes    map[string]*node      // by key
	zones    map[string]string     // names of authority by key: Domain and the reverse zones
	self     map[netip.Addr]bool   // the machine's own addresses
	locals   map[netip.Addr]uint32 // v4 of a workload here to its namespace id
	searches map[uint32][]string   // keys to append to a relative name, by namespace id
	serial   uint32                // of the SOA
	apex     string                // name of this machine, for SOA and NS
}

// node is all that is at one name. A node without content is an empty non-terminal: the name
// exists, with no data of any type.
type node struct {
	space     uint32 // namespace id, 0 for what every known caller sees
	exports   audience
	v4, v6    addresses
	srv       []target
	ptr       []string
	authority bool // the top of a zone: has SOA and NS
}

// audience are the namespaces that something is exported to.
type audience struct {
	all bool
	ids map[uint32]bool
}

func (a *audience) add(b audience) {
	a.all = a.all || b.all
	for id := range b.ids {
		if a.ids == nil {
			a.ids = map[uint32]bool{}
		}
		a.ids[id] = true
	}
}

// addresses of one family; the first local of them are on this machine.
type addresses struct {
	list  []netip.Addr
	local int
}

// target of an SRV record.
type target struct {
	host   string
	port   uint16
	v4, v6 netip.Addr
	local  bool
}

// visible says whether a caller may know that the node exists.
func (n *node) visible(c caller) bool {
	switch {
	case c.kind == callerMachine, n.space == 0, n.space == c.namespace:
		return true
	}
	return n.exports.all || n.exports.ids[c.namespace]
}

// find returns the node at a key if the caller may see it.
func (v *view) find(key string, c caller) *node {
	if n := v.nodes[key]; n != nil && n.visible(c) {
		return n
	}
	return nil
}

type callerKind uint8

const (
	callerStranger callerKind = iota
	callerWorkload
	callerMachine
)

// caller is who sends a query, as far as its source address says.
type caller struct {
	kind      callerKind
	namespace uint32 // of a workload, not zero
}

// caller tells who sends from an address. trusted are prefixes that only the machine itself
// can send from. What a zone says of an address goes before them.
func (v *view) caller(a netip.Addr, trusted []netip.Prefix) caller {
	if id, ok := v.locals[a]; ok {
		return caller{callerWorkload, id}
	}
	if v.self[a] {
		return caller{kind: callerMachine}
	}
	if v.zone.Subnet6.IsValid() && v.zone.Subnet6.Contains(a) {
		if id := namespaceID(a); id != 0 {
			return caller{callerWorkload, id}
		}
	}
	for _, p := range trusted {
		if p.Contains(a) {
			return caller{kind: callerMachine}
		}
	}
	return caller{}
}

// search returns the keys that a caller's relative names are tried under, in order.
func (v *view) search(c caller) []string {
	if c.kind != callerWorkload {
		return nil
	}
	if s, ok := v.searches[c.namespace]; ok {
		return s
	}
	return []string{domainKey}
}
