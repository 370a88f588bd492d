package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ployz/ployz/datapath/firewall"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/mesh"
	"github.com/ployz/ployz/node/services"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
	"github.com/ployz/ployz/units"
)

// How often the mirror is looked at anyway: tokens run out without a write, and endpoints are searched for.
const lookEvery = 5 * time.Second

// partingTime is how long a machine that left can still be spoken to, unless an operation says before
// that everybody is to let go of it.
const partingTime = 30 * time.Second

// membership keeps this machine's mesh and store configured as the facts say: a copy of intent, made from
// the machine's own mirror. It changes no fact.
type membership struct {
	daemon *Daemon
	view   store.View
	end    context.CancelFunc // ends run

	mu     sync.Mutex // held while the roster is read and put in place
	roster machine.Roster
	fenced []string  // ids of members that are given up, before the facts say so
	since  time.Time // when somebody was first seen gone whose peer is still there; zero for nobody
	search map[mesh.Key]mesh.Rotation
	left   atomic.Pointer[[]*api.Error]
	// observed is where others reach peers that were lost here, and hidden where they reach this machine, if that is no
	// address of its own.
	observed map[mesh.Key]netip.AddrPort
	hidden   netip.AddrPort
	// lost are the peers to which packets were sent in vain when it was last looked.
	lost map[mesh.Key]bool
	// changed wakes run, and ask wakes exchange.
	changed, ask chan struct{}
	// placed is what was put in place last, as text; "" until then, and after a failure.
	placed string
}

// newMembership starts from the copy on disk.
func newMembership(d *Daemon, view store.View) *membership {
	m := &membership{
		daemon: d, view: view, search: map[mesh.Key]mesh.Rotation{}, observed: map[mesh.Key]netip.AddrPort{}, changed: make(chan struct{}, 1), ask: make(chan struct{}, 1),
	}
	if r, err := machine.LoadRoster(d.State); err == nil {
		m.roster = r
	} else if !errors.Is(err, os.ErrNotExist) {
		d.Log.Warn("the roster is read anew", "error", err)
	}
	return m
}

// run follows until ctx ends. What costs something is done when something changed, and not by the clock.
func (m *membership) run(ctx context.Context) {
	go m.watch(ctx)
	go m.exchange(ctx)
	for due := true; ctx.Err() == nil; {
		if due {
			if err := m.update(ctx, false); err != nil && ctx.Err() == nil {
				m.daemon.Log.Warn("following the membership", "error", err)
			}
		}
		m.rotate(ctx)
		select {
		case <-ctx.Done():
		case <-m.changed:
			due = true
		case <-time.After(lookEvery):
			due = m.overdue()
		}
	}
}

// overdue reports whether time alone has changed what should be: a token ran out, who left is let go of, or the
// last try failed.
func (m *membership) overdue() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	late := func(t machine.Token) bool { return !time.Now().Before(t.Closes()) }
	return m.placed == "" || !m.since.IsZero() || slices.ContainsFunc(m.roster.Tokens, late)
}

// watch says when something about the membership changed. A feed that ends is opened again.
func (m *membership) watch(ctx context.Context) {
	for ctx.Err() == nil {
		feed, err := m.view.Follow(ctx, "") // one feed of everything wakes less often than three of a part
		for err == nil {
			var c store.Change
			if c, err = feed.Next(ctx); err == nil && ofMembership(c.Fact.Key) {
				wake(m.changed)
			}
		}
		if feed != nil {
			feed.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// wake has whoever listens on the channel, which holds one, look again.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // it will
	}
}

func ofMembership(key store.Key) bool {
	return key == store.Cluster() || key == store.SharedKey() || key.Under(store.Machines()) || key.Under(store.Tokens())
}

// follow puts everything in place that is in the facts up to a revision; who left is let go of. Errors:
// machine.not-followed.
func (m *membership) follow(ctx context.Context, revision store.Revision) error {
	err := await(ctx, followWithin, func() error {
		fresh, err := m.view.Freshness(ctx)
		if err == nil && fresh.Last < revision {
			err = fmt.Errorf("its mirror is at %d, before %d", fresh.Last, revision)
		}
		return err
	})
	if err == nil {
		err = m.update(ctx, true)
	}
	if err != nil {
		return api.Errorf(api.CodeMachineNotFollowed, "%w", err).About(m.daemon.selfName()).WithHint("journalctl -u ployzd")
	}
	return nil
}

// followWithin bounds the wait for the mirror; commits reach it within milliseconds.
const followWithin = 15 * time.Second

// update reads the facts and puts them in place. letGo drops who left at once.
func (m *membership) update(ctx context.Context, letGo bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	self, err := machine.LoadIdentity(m.daemon.State)
	if err != nil || !self.Member {
		return nil // it left, or is about to join
	}
	now, err := machine.ReadRoster(ctx, m.view, self.ID, time.Now(), m.roster)
	if err != nil {
		return err
	}
	if now.Cluster.Generation < self.Generation {
		return nil // the store was formed anew, and these are the facts of before
	}
	if _, in := now.Self(self.ID); !in {
		return nil // removed: the machine goes on as it was until somebody tells it to leave
	}
	next := m.parting(now, letGo)
	place := fmt.Sprint(next.Cluster, next.Members, next.Tokens, next.Unreadable, m.fenced, m.observed, m.hidden.IsValid())
	if place == m.placed {
		return nil
	}
	m.placed = ""
	if err := errors.Join(m.put(ctx, self, next), m.daemon.takeShared(ctx, m.view)); err != nil {
		return err
	}
	m.roster, m.placed = next, place
	return nil
}

// parting keeps those that left for a while.
func (m *membership) parting(now machine.Roster, letGo bool) machine.Roster {
	gone := slices.ContainsFunc(m.roster.Members, func(x machine.Member) bool { _, in := now.Self(x.ID); return !in })
	switch {
	case !gone:
		m.since = time.Time{}
	case m.since.IsZero():
		m.since = time.Now()
	}
	if !gone || letGo || time.Since(m.since) > partingTime {
		return now
	}
	return now.Keep(m.roster)
}

// storeless are the members that this machine's core cannot let in.
func storeless(self machine.Identity, r machine.Roster) (left []*api.Error) {
	for _, x := range r.Members {
		if err := (natsconf.Machine{ID: x.ID, Keys: storeKeys(x)}).Valid(); err != nil && x.ID != self.ID {
			left = append(left, api.Errorf(api.CodeMeshInvalid, "the store cannot know it: %w", err).About(x.Name))
		}
	}
	return left
}

// tell keeps whom this machine left out, for status and doctor.
func (m *membership) tell(left []*api.Error) {
	for _, e := range left {
		e.WithHint("take it away and add it anew: ployzctl machine remove %s --lost", e.Subject)
		m.daemon.Log.Warn("a member is left out", "machine", e.Subject, "why", e.Message)
	}
	m.left.Store(&left)
}

// leftOut are the members that this machine cannot know, each with the reason.
func (d *Daemon) leftOut() []*api.Error {
	if f := d.following.Load(); f != nil {
		if left := f.left.Load(); left != nil {
			return *left
		}
	}
	return nil
}

// put makes mesh and store be as a roster says; what is as it should be is not touched.
func (m *membership) put(ctx context.Context, self machine.Identity, r machine.Roster) error {
	peersErr := m.putPeers(ctx, self, r)
	if err := r.Save(m.daemon.State); err != nil {
		return err
	}
	was := self.Voters
	self.Voters, self.Generation = machine.VoterAddresses(r.Cluster, r.Members), r.Cluster.Generation
	if !slices.Equal(was, self.Voters) {
		if err := self.Save(m.daemon.State); err != nil {
			return err
		}
		if err := m.daemon.useCores(self); err != nil {
			return err
		}
	}
	return errors.Join(peersErr, m.daemon.putStore(ctx, self))
}

// putPeers makes the mesh be as a roster says, without those that are fenced off.
func (m *membership) putPeers(ctx context.Context, self machine.Identity, r machine.Roster) error {
	unfenced := r
	unfenced.Members = slices.DeleteFunc(slices.Clone(r.Members), func(x machine.Member) bool { return slices.Contains(m.fenced, x.ID) })
	peers, left := peersOf(self, unfenced)
	m.tell(append(left, storeless(self, r)...))
	return m.daemon.putMesh(ctx, m.daemon.meshOf(self, m.withObserved(peers)))
}

// putStore renders both servers' configurations, and has those that differ taken over by what runs.
func (d *Daemon) putStore(ctx context.Context, self machine.Identity) error {
	if err := d.host.renderStore(self); err != nil {
		return err
	}
	wanted, err := d.wanted(self)
	if err != nil {
		return err
	}
	var errs []error
	for _, w := range wanted[machine.PartStore] {
		if w.Unit.Name == units.NATSCoreService && !self.Votes() {
			continue // its seat is taken away by who coordinates that
		}
		if err := d.wantedDigest(ctx, &w); err != nil {
			errs = append(errs, err)
			continue
		}
		report := services.Ensure(ctx, d.units, w, d.digest(w.Unit.Name))
		if report.Act != services.Adopt {
			d.Log.Info("configured anew", "unit", report.Unit, "verdict", report.Act, "error", report.Err)
		}
		if report.Err != nil {
			errs = append(errs, report.Err)
		}
	}
	return errors.Join(errs...)
}

// rotate looks for peers that do not answer at their next candidate.
func (m *membership) rotate(ctx context.Context) {
	state, err := mesh.LoadState(mesh.StateFile(m.daemon.State))
	if err != nil || len(state.Peers) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	seen, err := m.daemon.rotateMesh(ctx, state.Peers, &m.search)
	if err != nil {
		m.daemon.Log.Warn("looking for peers", "error", err)
		return
	}
	before := m.lost
	m.lost = lostPeers(state.Peers, seen, m.search)
	for key := range m.lost {
		if !before[key] {
			wake(m.ask)
		}
	}
}

// invited says whose token an address belongs to.
func (m *membership) invited(from netip.Addr) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.roster.Tokens {
		if t.Address == from {
			return machine.TokenHash(t.Key), true
		}
	}
	return "", false
}

// serveThreshold answers those that this machine invited, on its overlay address.
func (d *Daemon) serveThreshold(ctx context.Context, a *API, self machine.Identity) {
	at := netip.AddrPortFrom(self.Overlay, firewall.ThresholdPort)
	for ctx.Err() == nil {
		l, err := net.Listen("tcp", at.String())
		if err == nil {
			err = serveOn(ctx, l, a.Threshold(func(from netip.Addr) (string, bool) { return d.following.Load().invited(from) }))
		}
		if err != nil && ctx.Err() == nil {
			d.Log.Warn("the threshold for joining machines", "address", at, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}
