package natsstore

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// Revocation says whose connections end.
type Revocation struct {
	Machine string
	// Overlay is the machine's overlay address. WireGuard vouches for it, so that a leaf under another
	// name is found too.
	Overlay netip.Addr
	// Keys are the public nkeys that the cores knew.
	Keys natsconf.PublicKeys
}

// Revoked says what a revocation did.
type Revoked struct {
	// Kicked counts the connections that were ended.
	Kicked int `json:"kicked"`
	// Unreachable are the client addresses of cores that could not be asked: they may still honour the keys.
	Unreachable []string `json:"unreachable,omitempty"`
}

// A leaf comes back after about a second. One that was let in so often, or is there at the end, is let in.
const (
	staysAwayFor = 3 * time.Second
	comesBack    = 3
)

// Revoke ends a machine's connections at every core and watches for some seconds that none comes back. First
// render the cores' configurations without the machine's keys and reload every core: that ends its
// clients, but not its leaves, which would live on for as long as they are connected.
//
// Errors: store.key-still-honoured (a core let it in again: it does not run the new configuration).
// A core that cannot be reached is no error here, but is in the result: say so to the operator.
func (s *Store) Revoke(ctx context.Context, r Revocation) (Revoked, error) {
	var out Revoked
	var failed error
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, url := range s.cores() {
		all.Go(func() {
			kicked, reached, err := s.revokeAt(ctx, url, r)
			mu.Lock()
			defer mu.Unlock()
			out.Kicked += kicked
			if !reached {
				out.Unreachable = append(out.Unreachable, url)
			}
			if err != nil {
				failed = err
			}
		})
	}
	all.Wait()
	slices.Sort(out.Unreachable)
	return out, failed
}

// revokeAt kicks and looks again at one core until the time is over.
func (s *Store) revokeAt(ctx context.Context, url string, r Revocation) (kicked int, reached bool, err error) {
	back := 0
	for deadline := time.Now().Add(staysAwayFor); ; {
		var there []uint64
		core, err := s.at(ctx, url, func(l *link) (err error) {
			there, err = r.kick(ctx, l)
			return err
		})
		if err != nil {
			return kicked, false, nil // it may be gone; whatever the reason, it did not answer for this
		}
		kicked += len(there)
		if len(there) > 0 {
			back++
		}
		over := time.Now().After(deadline)
		if back > comesBack || over && len(there) > 0 {
			return kicked, true, honoured(core.Name, r.Machine)
		}
		if over {
			return kicked, true, nil
		}
		select {
		case <-ctx.Done():
			return kicked, false, nil
		case <-time.After(again):
		}
	}
}

func honoured(core, machine string) error {
	e := api.Errorf(api.CodeStoreStillHonoured, "%s still lets %s in", core, machine).About(core).Again()
	return e.WithHint("it runs an old configuration: systemctl reload ployz-nats-core on its machine")
}

// kick ends the connections that are the machine's at this core, and returns them.
func (r Revocation) kick(ctx context.Context, l *link) ([]uint64, error) {
	var leaves struct {
		Leaves []struct {
			ID   uint64 `json:"id"`
			Name string `json:"name"`
			IP   string `json:"ip"`
		} `json:"leafs"`
	}
	if err := l.monitor(ctx, "LEAFZ", nil, &leaves); err != nil {
		return nil, err
	}
	var clients struct {
		Clients []struct {
			ID   uint64 `json:"cid"`
			User string `json:"authorized_user"`
		} `json:"connections"`
	}
	if err := l.monitor(ctx, "CONNZ", map[string]any{"auth": true, "limit": 4096}, &clients); err != nil {
		return nil, err
	}
	var out []uint64
	for _, leaf := range leaves.Leaves {
		if leaf.Name == natsconf.EdgeDomain(r.Machine) || r.Overlay.IsValid() && strings.Trim(leaf.IP, "[]") == r.Overlay.String() {
			out = append(out, leaf.ID)
		}
	}
	for _, c := range clients.Clients {
		if r.owns(c.User) {
			out = append(out, c.ID)
		}
	}
	for _, id := range out {
		if err := l.monitor(ctx, "KICK", map[string]uint64{"cid": id}, nil); err != nil && !strings.Contains(fmt.Sprint(err), "no such") {
			return out, err
		}
	}
	return out, nil
}

func (r Revocation) owns(user string) bool {
	for _, key := range r.Keys {
		if key != "" && key == user {
			return true
		}
	}
	return false
}
