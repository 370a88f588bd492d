package daemon

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/mesh"
)

// A machine asks a few of the others, over the overlay, where they reach the cluster's machines. So it learns where to
// look for one that does not answer it, and whether it is itself behind a NAT that must not forget it. What it
// learns is an observation: it is in this process and, for the next boot, among the mesh's peers on its disk.
const (
	// askedPeers is how many are asked at a time: what one machine pays does not grow with the cluster.
	askedPeers = 3
	// exchangeEvery is the pause while all is well; with somebody lost it begins at exchangeSoon and doubles.
	exchangeEvery = time.Minute
	exchangeSoon  = 5 * time.Second
	// exchangeWithin bounds one round.
	exchangeWithin = 5 * time.Second
)

// observed answers GET /v1/mesh/observed for peers: where this machine reaches others, by their keys.
func (d *Daemon) observed(ctx context.Context) (map[string]netip.AddrPort, error) {
	seen, err := d.meshSeen(ctx)
	if err != nil {
		return nil, err
	}
	list := map[string]netip.AddrPort{}
	for key, at := range seen.Observed(time.Now()) {
		list[key.String()] = at
	}
	return list, nil
}

// tokenSeen looks at what arrived from the holder of a token's key: whoever has not shaken hands may still have been heard.
func (d *Daemon) tokenSeen(ctx context.Context, key string) (api.TokenSeen, error) {
	s := api.TokenSeen{Machine: d.selfName()}
	public, err := mesh.ParseKey(key)
	if err != nil {
		return s, err
	}
	seen, err := d.meshSeen(ctx)
	if err != nil {
		return s, err
	}
	p, known := seen.Peer(public)
	s.Known, s.Received, s.Handshake = known, p.Rx, p.LastHandshake
	if p.Endpoint.IsValid() {
		s.Endpoint = p.Endpoint.String()
	}
	return s, nil
}

// Observed asks a member where it reaches others.
func (n *Neighbours) Observed(ctx context.Context, m machine.Member) (map[string]netip.AddrPort, error) {
	resp, err := n.ask(ctx, m, Ask{Method: http.MethodGet, Path: "/v1/mesh/observed"}, n.Machine)
	if err != nil {
		return nil, err
	}
	return readAnswer[map[string]netip.AddrPort](resp, m.Name)
}

// sighting is what others say of where machines are.
type sighting struct {
	// self is where they reach this machine; peers where they reach those that are lost here.
	self  []netip.AddrPort
	peers map[mesh.Key]netip.AddrPort
}

// exchange asks until ctx ends: soon once somebody is lost, then less and less often.
func (m *membership) exchange(ctx context.Context) {
	for pause := exchangeSoon; ctx.Err() == nil; {
		lost, err := m.lookAround(ctx)
		switch {
		case err != nil: // nobody answers, as just after joining
			m.daemon.Log.Debug("asking others where machines are", "error", err)
			pause = exchangeSoon
		case lost == 0:
			pause = exchangeEvery
		default:
			pause = min(2*pause, exchangeEvery)
		}
		select {
		case <-ctx.Done():
		case <-m.ask:
			pause = exchangeSoon
		case <-time.After(pause):
		}
	}
}

// lostPeers are those that this machine sends to in vain.
func lostPeers(peers []mesh.Peer, seen mesh.Seen, search map[mesh.Key]mesh.Rotation) map[mesh.Key]bool {
	lost := map[mesh.Key]bool{}
	for _, p := range peers {
		if have, there := seen.Peer(p.PublicKey); there && have.Lost(search[p.PublicKey], time.Now()) {
			lost[p.PublicKey] = true
		}
	}
	return lost
}

// lookAround asks some peers once, and says how many are lost.
func (m *membership) lookAround(ctx context.Context) (lost int, err error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeWithin)
	defer cancel()
	m.mu.Lock()
	wanted, alone := maps.Clone(m.lost), len(m.roster.Members) < 2
	m.mu.Unlock()
	if alone {
		return 0, nil
	}
	seen, err := m.daemon.meshSeen(ctx)
	if err != nil {
		return 0, err
	}
	s, err := m.askSome(ctx, seen, wanted)
	if err != nil {
		return len(wanted), err
	}
	return len(wanted), m.learn(ctx, seen, s)
}

// askSome asks some members that are surely there.
func (m *membership) askSome(ctx context.Context, seen mesh.Seen, lost map[mesh.Key]bool) (sighting, error) {
	s := sighting{peers: map[mesh.Key]netip.AddrPort{}}
	peering := m.daemon.peering.Load()
	if peering == nil {
		return s, machine.NotInitialised()
	}
	there := m.there(seen)
	if len(there) == 0 {
		return s, fmt.Errorf("nobody has shaken hands lately")
	}
	answers, errs := everywhere(ctx, there, peering.Neighbours.Observed)
	if slices.IndexFunc(errs, func(err error) bool { return err == nil }) < 0 {
		return s, errs[0]
	}
	for _, answer := range answers {
		if at, ok := answer[seen.PublicKey.String()]; ok {
			s.self = append(s.self, at)
		}
		for key := range lost {
			if at, ok := answer[key.String()]; ok {
				s.peers[key] = at
			}
		}
	}
	return s, nil
}

// there are some members with a fresh handshake, chosen by chance.
func (m *membership) there(seen mesh.Seen) []machine.Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	fresh := seen.Observed(time.Now())
	var list []machine.Member
	for _, at := range rand.Perm(len(m.roster.Members)) {
		x := m.roster.Members[at]
		key, err := mesh.ParseKey(x.MeshKey)
		if _, ok := fresh[key]; err == nil && ok && len(list) < askedPeers {
			list = append(list, x)
		}
	}
	return list
}

// learn takes over what others said. A peer that is lost is looked for there at once, if it is not already; the mesh is
// put in place anew only where something differs.
func (m *membership) learn(ctx context.Context, seen mesh.Seen, s sighting) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var c mesh.Change
	for key, at := range s.peers {
		if have, there := seen.Peer(key); !there || have.Endpoint == at || m.observed[key] == at {
			continue // it is tried, or was: then the rotation goes on
		}
		m.observed[key] = at
		c.Peers = append(c.Peers, mesh.PeerChange{Act: mesh.Update, PublicKey: key, Endpoint: at})
	}
	if was := m.hidden.IsValid(); m.seenAt(s.self) != was {
		m.daemon.Log.Info("whether this machine is behind a NAT", "seen at", s.self, "hidden", !was)
		wake(m.changed)
	}
	if c.Empty() {
		return nil
	}
	wake(m.changed)
	m.daemon.Log.Info("looking for peers where others reach them", "changes", c.Text())
	return m.daemon.changeMesh(ctx, c)
}

// seenAt reports whether this machine is hidden, by where a few others see it. One that sees it elsewhere is enough: its
// neighbours behind the same NAT see it where it is, and who is asked is chance. It is hidden until that address is its own.
func (m *membership) seenAt(seen []netip.AddrPort) bool {
	own := m.daemon.ownAddresses()
	for _, at := range seen {
		if mesh.BehindNAT(own, []netip.AddrPort{at}) {
			m.hidden = at
		}
	}
	if m.hidden.IsValid() && !mesh.BehindNAT(own, []netip.AddrPort{m.hidden}) {
		m.hidden = netip.AddrPort{}
	}
	return m.hidden.IsValid()
}

// withObserved adds to peers what was observed of them, and keeps the way open where this machine is hidden.
func (m *membership) withObserved(peers []mesh.Peer) []mesh.Peer {
	for i := range peers {
		if at, ok := m.observed[peers[i].PublicKey]; ok {
			peers[i].Endpoints = mesh.Candidates(peers[i].Endpoints, []netip.AddrPort{at})
		}
		if m.hidden.IsValid() {
			peers[i].Keepalive = mesh.NATKeepalive
		}
	}
	return peers
}

// hiddenAt is where others see this machine, if that is no address of its own.
func (m *membership) hiddenAt() netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hidden
}

// ownAddresses are those that the machine has, or that its operator says it has.
func (d *Daemon) ownAddresses() []netip.Addr {
	var list []netip.Addr
	for _, e := range slices.Concat(d.interfaceEndpoints(), d.Settings.Mesh.Endpoints) {
		list = append(list, e.Addr().Unmap())
	}
	return list
}
