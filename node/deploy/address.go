package deploy

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// Subnet is what a machine gives addresses from: a /24 (or larger) and a /64. Its first address of each
// is the machine's own.
type Subnet struct {
	V4 netip.Prefix
	V6 netip.Prefix
}

// choose finds free addresses. The search starts at a place that depends on the id, so that an
// address is not handed on at once to the next instance while somebody still remembers it.
func (s Subnet) choose(spec runtime.Spec, taken map[string]runtime.Addresses) (runtime.Addresses, error) {
	used4, used6 := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, a := range taken {
		used4[a.V4], used6[a.V6] = true, true
	}
	seed := fnv.New32a()
	seed.Write([]byte(spec.ID))
	start := seed.Sum32()

	hosts := uint32(1)<<(32-s.V4.Bits()) - 3 // without network, machine and broadcast
	for i := range hosts {
		v4 := s.v4(2 + (start+i)%hosts)
		if !used4[v4] {
			return runtime.Addresses{V4: v4, V6: s.freeV6(spec.NamespaceID, start, used6)}, nil
		}
	}
	return runtime.Addresses{}, api.Errorf(api.CodeNoMachine, "all %d addresses of %s are taken", hosts, s.V4).About(spec.ID).
		WithHint("remove instances, or place some on another machine")
}

func (s Subnet) v4(host uint32) netip.Addr {
	base := s.V4.Masked().Addr().As4()
	var out [4]byte
	binary.BigEndian.PutUint32(out[:], binary.BigEndian.Uint32(base[:])+host)
	return netip.AddrFrom4(out)
}

// freeV6 puts the namespace into the address's low half, where receivers read it.
func (s Subnet) freeV6(namespace, workload uint32, used map[netip.Addr]bool) netip.Addr {
	out := s.V6.Masked().Addr().As16()
	binary.BigEndian.PutUint32(out[8:], namespace)
	for ; ; workload++ {
		binary.BigEndian.PutUint32(out[12:], workload)
		if addr := netip.AddrFrom16(out); !used[addr] && workload != 0 {
			return addr
		}
	}
}
