package dns

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// resolvConf is a resolv.conf(5) file that is read again when it has changed, looked at once a
// second at most and only when asked for.
type resolvConf struct {
	mu      sync.Mutex
	checked time.Time        // guarded by mu, as all below
	seen    os.FileInfo      // of what was read last
	list    []netip.AddrPort // kept when the file cannot be read
	err     error
}

// servers returns the nameservers in the file at path, none for "".
func (r *resolvConf) servers(path string, now time.Time) []netip.AddrPort {
	if path == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.checked.IsZero() && now.Sub(r.checked) < time.Second {
		return r.list
	}
	r.checked = now
	if list, err := r.readLocked(path); err != nil {
		r.err = fmt.Errorf("dns: upstreams of %s, keeping the %d known: %w", path, len(r.list), err)
	} else {
		r.list, r.err = list, nil
	}
	return r.list
}

func (r *resolvConf) readLocked(path string) ([]netip.AddrPort, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if old := r.seen; old != nil && r.err == nil && os.SameFile(st, old) &&
		st.ModTime().Equal(old.ModTime()) && st.Size() == old.Size() {
		return r.list, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r.seen = st
	return parseResolvConf(string(text)), nil
}

// failure returns why the file could not be read the last time, or nil.
func (r *resolvConf) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// parseResolvConf takes the nameserver lines and, as the C library does, leaves out what it
// does not understand.
func parseResolvConf(text string) []netip.AddrPort {
	var out []netip.AddrPort
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil {
			out = append(out, netip.AddrPortFrom(a, 53))
		}
	}
	return out
}
