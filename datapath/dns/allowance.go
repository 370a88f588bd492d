package dns

import (
	"net/netip"
	"sync"
)

// allowance counts what is in use at once, in all and per source, of which no one may have
// more than a quarter. The zero value is ready.
type allowance struct {
	mu     sync.Mutex
	total  int                // guarded by mu
	source map[netip.Addr]int // guarded by mu; no zero entries
}

// take takes one of limit if there is one left for the source.
func (a *allowance) take(from netip.Addr, limit int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.total >= limit || a.source[from] >= max(1, limit/4) {
		return false
	}
	if a.source == nil {
		a.source = map[netip.Addr]int{}
	}
	a.total++
	a.source[from]++
	return true
}

func (a *allowance) give(from netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total--
	if a.source[from]--; a.source[from] == 0 {
		delete(a.source, from)
	}
}
