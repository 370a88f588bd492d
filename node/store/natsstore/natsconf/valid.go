package natsconf

import (
	"fmt"
	"net/netip"
	"strings"
)

func (c Core) valid() error {
	if err := tokens("server name", c.Name, "cluster id", c.Cluster); err != nil {
		return err
	}
	if !c.Address.IsValid() || c.Address.IsUnspecified() {
		return fmt.Errorf("natsconf: a core listens on its machine's overlay address, not on %q", c.Address)
	}
	if len(c.Voters) == 0 {
		return fmt.Errorf("natsconf: a core needs the route addresses of all voters, its own too")
	}
	for _, m := range c.Machines {
		if err := m.Valid(); err != nil {
			return err
		}
	}
	return shared(c.Generation, c.StoreDir)
}

// Valid tells a machine that a core can let in from one whose id or keys cannot be.
func (m Machine) Valid() error {
	if err := tokens("machine id", m.ID); err != nil {
		return err
	}
	if err := m.Keys.valid(); err != nil {
		return fmt.Errorf("natsconf: machine %s: %w", m.ID, err)
	}
	return nil
}

func (e Edge) valid() error {
	if err := tokens("machine id", e.Machine); err != nil {
		return err
	}
	if !e.Listen.Addr().IsLoopback() {
		return fmt.Errorf("natsconf: an edge listens on loopback only, not on %s", e.Listen)
	}
	if len(e.Voters) == 0 {
		return fmt.Errorf("natsconf: an edge needs the leaf address of a voter")
	}
	if err := e.Keys.valid(); err != nil {
		return fmt.Errorf("natsconf: %w", err)
	}
	return shared(e.Generation, e.StoreDir)
}

func shared(generation uint64, storeDir string) error {
	if generation == 0 {
		return fmt.Errorf("natsconf: generations count from 1")
	}
	if !strings.HasPrefix(storeDir, "/") || strings.ContainsAny(storeDir, "\"\\\n$") {
		return fmt.Errorf("natsconf: store folder %q is not a plain absolute path", storeDir)
	}
	return nil
}

// tokens checks pairs of a word for the thing and its value: one token of a subject.
func tokens(pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		v := pairs[i+1]
		if v == "" || strings.ContainsFunc(v, func(r rune) bool { return !tokenRune(r) }) {
			return fmt.Errorf("natsconf: %s %q: letters, digits, - and _ only", pairs[i], v)
		}
	}
	return nil
}

func tokenRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

func (k PublicKeys) valid() error {
	for role, key := range k {
		if !strings.HasPrefix(key, "U") || len(key) != 56 || strings.ContainsFunc(key, func(r rune) bool { return !tokenRune(r) }) {
			return fmt.Errorf("the %s key %q is not a user's public nkey", role, key)
		}
	}
	return nil
}

// LeafAddress is the address at which a core on this overlay address takes leaves.
func LeafAddress(overlay netip.Addr) netip.AddrPort {
	return netip.AddrPortFrom(overlay, CoreLeafPort)
}

// RouteAddress is the address at which a core on this overlay address takes other cores.
func RouteAddress(overlay netip.Addr) netip.AddrPort {
	return netip.AddrPortFrom(overlay, CoreRoutePort)
}

// ClientURL is the address at which a core on this overlay address takes coordinators.
func ClientURL(overlay netip.Addr) string {
	return "nats://" + netip.AddrPortFrom(overlay, CoreClientPort).String()
}
