package dns

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Rejection is a part of the last applied zone that is not served.
type Rejection struct {
	Part     string    `json:"part"`     // namespace, or "" for the rest of the zone
	Sequence uint64    `json:"sequence"` // of the rejected view
	Error    string    `json:"error"`
	Since    time.Time `json:"since"`
}

// merge returns the zone to serve: of next all that is good, of what is not, the part of
// served. Parts that next does not name are gone.
func merge(served, next Zone) (Zone, []*PartError) {
	var rejected []*PartError
	out := next
	if f := next.checkFrame(); f != nil {
		rejected = append(rejected, &PartError{"", 0, f.field, f.value, f.err})
		out = served
		out.Generation = next.Generation
	}
	m := merger{served: served, next: next, prefixes: out.Prefixes, taken: map[any]uint32{}}
	out.Namespaces = m.namespaces()
	return out, append(rejected, m.rejected...)
}

// merger decides namespace by namespace. taken holds names and addresses by the id of the
// namespace that has them, and ids by themselves.
type merger struct {
	served, next Zone
	prefixes     []netip.Prefix
	taken        map[any]uint32
	rejected     []*PartError
}

// namespaces goes through them so that whoever has had a name or an address longest keeps it:
// unchanged ones first, then by sequence.
func (m *merger) namespaces() []Namespace {
	order := slices.Clone(m.next.Namespaces)
	slices.SortStableFunc(order, func(a, b Namespace) int {
		return cmp.Or(-boolCompare(m.unchanged(a), m.unchanged(b)), cmp.Compare(a.Sequence, b.Sequence))
	})
	var out []Namespace
	for _, n := range order {
		if good := m.choose(n); good != nil {
			out = append(out, *good)
		}
	}
	slices.SortFunc(out, func(a, b Namespace) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func (m *merger) held(name string) *Namespace {
	for i := range m.served.Namespaces {
		if m.served.Namespaces[i].Name == name {
			return &m.served.Namespaces[i]
		}
	}
	return nil
}

func (m *merger) unchanged(n Namespace) bool {
	h := m.held(n.Name)
	return h != nil && h.ID == n.ID && h.Sequence == n.Sequence && m.served.Generation == m.next.Generation
}

// choose returns n if it is good, else the last good view of that name, else nil.
func (m *merger) choose(n Namespace) *Namespace {
	held := m.held(n.Name)
	f := n.check(m.prefixes)
	if f == nil {
		f = m.regression(held, n)
	}
	if f == nil {
		f = m.claim(&n)
	}
	if f == nil {
		return &n
	}
	m.rejected = append(m.rejected, &PartError{n.Name, n.Sequence, f.field, f.value, f.err})
	// The last good view may itself have lost an address or its whole ground since.
	if held == nil || held.check(m.prefixes) != nil || m.claim(held) != nil {
		return nil
	}
	return held
}

func (m *merger) regression(held *Namespace, n Namespace) *fault {
	if held == nil || m.served.Generation != m.next.Generation || n.Sequence >= held.Sequence {
		return nil
	}
	return bad(ErrRegressed, fmt.Sprintf("%d after %d", n.Sequence, held.Sequence), "sequence")
}

// claim takes the namespace's id, name and addresses, or none of them.
func (m *merger) claim(n *Namespace) *fault {
	if _, ok := m.taken[n.ID]; ok {
		return bad(ErrClaimed, n.ID, "id")
	}
	if _, ok := m.taken[n.Name]; ok {
		return bad(ErrClaimed, n.Name, "name")
	}
	for address, field := range n.addresses() {
		if _, ok := m.taken[address]; ok {
			return bad(ErrClaimed, address, "%s", field)
		}
	}
	m.taken[n.ID], m.taken[n.Name] = n.ID, n.ID
	for address := range n.addresses() {
		m.taken[address] = n.ID
	}
	return nil
}

// addresses yields every address of the namespace with the field it stands in.
func (n *Namespace) addresses() func(func(netip.Addr, string) bool) {
	return func(yield func(netip.Addr, string) bool) {
		for i, s := range n.Services {
			for j, in := range s.Instances {
				field := fmt.Sprintf("services[%d].instances[%d].", i, j)
				if in.V4.IsValid() && !yield(in.V4, field+"v4") {
					return
				}
				if in.V6.IsValid() && !yield(in.V6, field+"v6") {
					return
				}
			}
		}
	}
}
