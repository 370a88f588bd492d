package dns

import (
	"cmp"
	"fmt"
	"iter"
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
	m := merger{
		prefixes: out.Prefixes, sameHistory: served.Generation == next.Generation,
		held: map[string]*Namespace{}, keeps: map[any]string{}, taken: map[any]bool{},
	}
	for i := range served.Namespaces {
		m.held[served.Namespaces[i].Name] = &served.Namespaces[i]
	}
	out.Namespaces = m.namespaces(next.Namespaces)
	return out, append(rejected, m.rejected...)
}

// merger decides namespace by namespace. Ids, names and addresses are claims: what one
// namespace has, no other can have.
type merger struct {
	prefixes    []netip.Prefix
	sameHistory bool
	held        map[string]*Namespace // last good views by name
	keeps       map[any]string        // claims that a namespace had and still makes, to its name
	taken       map[any]bool          // claims of those already decided
	rejected    []*PartError
}

// namespaces decides first on those that are bad in themselves, so that nobody takes what
// their last good view needs, and on the others in the order of their sequences.
func (m *merger) namespaces(next []Namespace) []Namespace {
	var out, good []Namespace
	for i := range next {
		n := &next[i]
		if f := m.judge(n); f != nil {
			out = append(out, m.fallBack(n, f)...)
			continue
		}
		good = append(good, *n)
		m.keep(n)
	}
	slices.SortStableFunc(good, func(a, b Namespace) int { return cmp.Compare(a.Sequence, b.Sequence) })
	for i := range good {
		if f := m.claim(&good[i]); f != nil {
			out = append(out, m.fallBack(&good[i], f)...)
		} else {
			out = append(out, good[i])
		}
	}
	slices.SortFunc(out, func(a, b Namespace) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// judge looks at a namespace without the others.
func (m *merger) judge(n *Namespace) *fault {
	if f := n.check(m.prefixes); f != nil {
		return f
	}
	if held := m.held[n.Name]; held != nil && m.sameHistory && n.Sequence < held.Sequence {
		return bad(ErrRegressed, fmt.Sprintf("%d after %d", n.Sequence, held.Sequence), "sequence")
	}
	return nil
}

// fallBack rejects n and returns the last good view of that name, if it still holds.
func (m *merger) fallBack(n *Namespace, f *fault) []Namespace {
	m.rejected = append(m.rejected, &PartError{n.Name, n.Sequence, f.field, f.value, f.err})
	held := m.held[n.Name]
	// The ground it stood on may be gone: the cluster's prefixes, or an address it had given
	// up that another namespace has taken.
	if held == nil || held.check(m.prefixes) != nil || m.claim(held) != nil {
		return nil
	}
	return []Namespace{*held}
}

// keep notes what a namespace had and goes on having: that comes before any newcomer's claim.
func (m *merger) keep(n *Namespace) {
	held := m.held[n.Name]
	if held == nil {
		return
	}
	had := map[any]bool{}
	for c := range held.claims() {
		had[c] = true
	}
	for c := range n.claims() {
		if had[c] {
			m.keeps[c] = n.Name
		}
	}
}

// claim takes all that the namespace claims, or nothing.
func (m *merger) claim(n *Namespace) *fault {
	for c, where := range n.claims() {
		if keeper, ok := m.keeps[c]; m.taken[c] || ok && keeper != n.Name {
			return bad(ErrClaimed, c, "%s", where())
		}
	}
	for c := range n.claims() {
		m.taken[c] = true
	}
	return nil
}

// claims yields the namespace's id (uint32), name (string) and addresses (netip.Addr), each
// with a function that names the field.
func (n *Namespace) claims() iter.Seq2[any, func() string] {
	return func(yield func(any, func() string) bool) {
		if !yield(n.ID, func() string { return "id" }) || !yield(n.Name, func() string { return "name" }) {
			return
		}
		for i, s := range n.Services {
			for j, in := range s.Instances {
				for k, a := range []netip.Addr{in.V4, in.V6} {
					where := func() string { return fmt.Sprintf("services[%d].instances[%d].v%d", i, j, 4+2*k) }
					if a.IsValid() && !yield(a, where) {
						return
					}
				}
			}
		}
	}
}
