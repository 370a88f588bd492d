package daemon

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/coordination/natsbus"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/storage/transfer"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// Peering is what a machine needs to command others, to be commanded, and to show them its own part.
type Peering struct {
	Calls      *coordination.Calls
	Neighbours *Neighbours

	daemon *Daemon
	self   machine.Identity
	view   store.View
	wire   *natsbus.Wire                // nil where this machine may not operate the cluster
	verbs  map[string]coordination.Verb // those beside a deploy's
	fences *coordination.Fences
	desk   *transfer.Desk
	end    context.CancelFunc
	served sync.WaitGroup
}

// openPeering makes a member's ways to the others. Nothing is listened on before Start. A machine without
// a coordinator's key is commanded and fetches images, and no more.
func (d *Daemon) openPeering(self machine.Identity, view store.View) (*Peering, error) {
	seed := func(role natsconf.Role) string { return natsstore.SeedFile(d.keys(), role) }
	p := &Peering{daemon: d, self: self, view: view}
	p.Neighbours = &Neighbours{ID: self.ID, Overlay: self.Overlay, Members: p.members, Machine: natsbus.Signer(seed(natsconf.RoleEdgeBus))}
	p.desk = &transfer.Desk{Pool: d.pool, Dial: p.Neighbours.DialVolume}
	if !exists(seed(natsconf.RoleCoordinatorBus)) {
		p.Calls = &coordination.Calls{Machine: self.ID, Sign: nowhere{}.sign, Wire: nowhere{}}
		return p, nil
	}
	p.Neighbours.Operator = natsbus.Signer(seed(natsconf.RoleCoordinatorBus))
	wire, err := natsbus.Dial(natsbus.Core{
		URLs: coreURLs(self), Seed: seed(natsconf.RoleCoordinatorBus),
		Inbox: natsconf.Inbox(self.ID), Commands: natsconf.CommandSubject,
	})
	if err != nil {
		return nil, err
	}
	p.wire = wire
	p.Calls = &coordination.Calls{Machine: self.ID, Sign: p.Neighbours.Operator, Wire: wire}
	return p, nil
}

// MoveTo has commands go through other cores from now on: those of the identity, whose voters have changed.
func (p *Peering) MoveTo(self machine.Identity) error {
	if p.wire == nil {
		return nil
	}
	return p.wire.Move(coreURLs(self))
}

// nowhere is the wire of a machine that may command nobody.
type nowhere struct{}

func (nowhere) sign([]byte) ([]byte, error) { return nil, nil }

// Send implements coordination.Wire.
func (nowhere) Send(context.Context, string, string, []byte) (coordination.Conversation, error) {
	return nil, mayNotOperate()
}

// Fleet is the cluster's machines as a deploy sees them.
func (p *Peering) Fleet(local *deploy.Local) *deploy.Fleet {
	return &deploy.Fleet{Self: p.self.Name, Local: local, Carry: p.carrier(local.Fences), Caller: p.Calls, Members: p.members}
}

// carrier is this machine's part in carrying volumes; where it has no pool, it says so.
func (p *Peering) carrier(fences *coordination.Fences) deploy.Carrier {
	return deploy.LocalCarrier{Carrier: p.desk, Fences: fences}
}

// Start answers from now on, until Close: commands on the machine's own edge, as local and the verbs do, and peers
// on the overlay address. Neither needs anybody to be there yet.
func (p *Peering) Start(local deploy.Participant, fences *coordination.Fences, verbs map[string]coordination.Verb) error {
	replies, err := coordination.OpenReplies(filepath.Join(p.daemon.State, "replies"))
	if err != nil {
		return err
	}
	maps.Copy(verbs, deploy.ServeCarrier(p.carrier(fences)))
	p.verbs, p.fences = verbs, fences
	all := deploy.Serve(local)
	maps.Copy(all, verbs)
	responder := &coordination.Responder{
		Machine: p.self.ID, Verify: p.verify(natsconf.RoleCoordinatorBus), Fences: fences, Replies: replies,
		Verbs: all, Log: p.daemon.Log,
	}
	edge, err := natsbus.Listen(natsbus.Edge{
		URL: "nats://" + natsconf.EdgeListen.String(), Seed: natsstore.SeedFile(p.daemon.keys(), natsconf.RoleLocalBus),
		Inbox: natsconf.Inbox(p.self.ID), Commands: natsconf.CommandSubject(p.self.ID),
	}, responder.Receive)
	if err != nil {
		return err
	}
	listener, err := listenOverlay(netip.AddrPortFrom(p.self.Overlay, PeerPort))
	if err != nil {
		edge.Close()
		return err
	}
	ctx, end := context.WithCancel(context.Background())
	p.end = end
	p.served.Go(func() { <-ctx.Done(); edge.Close() })
	p.served.Go(func() { p.servePeers(ctx, listener) })
	return nil
}

// heard asks this machine, over the cores, whether it is there.
func (p *Peering) heard() error {
	if p.wire == nil {
		return nil // it may not ask
	}
	bounded, cancel := context.WithTimeout(context.Background(), heardPatience)
	defer cancel()
	_, err := p.Calls.Call(bounded, p.self.ID, coordination.Command{Verb: coordination.Ping}, nil)
	return err
}

// heardPatience bounds one try: a core may have forgotten it.
const heardPatience = 2 * time.Second

// listenOverlay listens also before ployz-net has given the machine the address.
func listenOverlay(address netip.AddrPort) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var set error
		err := conn.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1) })
		return errors.Join(err, set)
	}}
	listener, err := config.Listen(context.Background(), "tcp6", address.String())
	if err != nil {
		return nil, api.Errorf(api.CodePortTaken, "listening for peers: %w", err).About(address.String())
	}
	return listener, nil
}

func (p *Peering) servePeers(ctx context.Context, listener net.Listener) {
	surface := &PeerSurface{
		ID: p.self.ID, Members: p.members, Member: p.daemon.member.Load, Blobs: p.daemon.images, Store: p.daemon,
		Packages: p.daemon.shelf(), Volumes: p.desk, Observed: p.daemon.observed, Log: p.daemon.Log,
		Machine: p.verify(natsconf.RoleEdgeBus), Operator: p.verify(natsconf.RoleCoordinatorBus),
	}
	if err := surface.Serve(ctx, listener); err != nil && ctx.Err() == nil {
		p.daemon.Log.Error("other machines are not answered any more", "error", err)
	}
}

// Close stops answering, ends the commands under way, and drops the connections to the others.
func (p *Peering) Close() {
	if p.end != nil {
		p.end()
	}
	p.served.Wait()
	if p.wire != nil {
		p.wire.Close()
	}
	p.Neighbours.Close()
}

// members reads the memberships from the machine's own mirror, which knows them also when cut off; from the roster
// where the mirror is what was lost.
func (p *Peering) members(ctx context.Context) ([]machine.Member, error) {
	list, err := machine.Members(ctx, p.view)
	if err == nil && len(list) > 0 {
		return list, nil
	}
	if roster, unknown := machine.LoadRoster(p.daemon.State); unknown == nil {
		return roster.Members, nil
	}
	return list, err
}

// verify checks signatures against the key that a machine has for the role, as its membership says now.
func (p *Peering) verify(role natsconf.Role) coordination.Verify {
	return natsbus.Verifier(func(ctx context.Context, id string) (string, error) {
		fact, err := p.view.Get(ctx, store.Machine(id))
		if err != nil {
			return "", err
		}
		var member machine.Member
		if err := store.Decode(fact, &member); err != nil {
			return "", err
		}
		if member.StoreKeys[string(role)] == "" {
			return "", api.Errorf(api.CodePermission, "the machine has no %s key", role).About(id)
		}
		return member.StoreKeys[string(role)], nil
	})
}
