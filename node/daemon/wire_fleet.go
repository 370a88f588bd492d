package daemon

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// Commands about memberships.
const (
	verbFollow = "machine.follow"
	verbLeave  = "machine.leave"
	// verbObey does nothing: that it was let through is all.
	verbObey = "machine.obey"
)

type followBody struct {
	Revision store.Revision `json:"revision"`
}

// fleet reaches the cluster's daemons: machine.Fleet.
type fleet struct {
	daemon *Daemon
	self   machine.Identity
}

// Follow implements machine.Fleet.
func (f fleet) Follow(ctx context.Context, id string, revision store.Revision) error {
	_, err := command[struct{}](ctx, f.daemon, id, coordination.Command{Verb: verbFollow}, followBody{revision})
	return err
}

// Obey implements machine.Fleet.
func (f fleet) Obey(ctx context.Context, m machine.Member, scope string, by operation.Situation) error {
	cmd := coordination.Command{Verb: verbObey, Operation: by.Operation, Step: "inspect", Scope: scope, Fence: by.Fence}
	if by.Fence == 0 {
		if m.ID == f.self.ID {
			return nil
		}
		cmd = coordination.Command{Verb: coordination.Ping}
	}
	_, err := insist[struct{}](ctx, f.daemon, m.ID, cmd, struct{}{})
	return err
}

// Leave implements machine.Fleet.
func (f fleet) Leave(ctx context.Context, act *operation.Act, gone machine.Member) error {
	_, err := command[struct{}](ctx, f.daemon, gone.ID, commandOf(act, verbLeave), struct{}{})
	return err
}

// Revoke implements machine.Fleet. A voter that cannot be asked still honours the keys, and is named.
func (f fleet) Revoke(ctx context.Context, gone machine.Member) error {
	done, err := f.daemon.store.Load().Revoke(ctx, natsstore.Revocation{
		Machine: gone.ID, Overlay: gone.Overlay, Keys: storeKeys(gone),
	})
	if err != nil {
		return err
	}
	if len(done.Unreachable) > 0 {
		return api.Errorf(api.CodeParticipantAbsent, "voters that still honour its keys: %s", strings.Join(done.Unreachable, ", ")).
			About(gone.Name).WithHint("once they are back: ployzctl machine remove %s", gone.Name)
	}
	return nil
}

// storeKeys are the public keys by which the cores know a machine.
func storeKeys(m machine.Member) natsconf.PublicKeys {
	keys := natsconf.PublicKeys{}
	for role, key := range m.StoreKeys {
		keys[natsconf.Role(role)] = key
	}
	return keys.Shared()
}

func commandOf(act *operation.Act, verb string) coordination.Command {
	return coordination.Command{Verb: verb, Operation: act.Operation, Step: act.Step, Scope: act.Scope, Fence: act.Fence}
}

// command has a machine do something; this one does it by itself.
func command[A any](ctx context.Context, d *Daemon, id string, cmd coordination.Command, body any) (A, error) {
	b := d.peering.Load()
	if b == nil {
		var none A
		return none, machine.NotInitialised()
	}
	if id == b.self.ID {
		return call[A](ctx, here{b.verbs, b.fences}, id, cmd, body)
	}
	return call[A](ctx, b.Calls, id, cmd, body)
}

// verbs are the commands that this machine obeys.
func (d *Daemon) verbs() map[string]coordination.Verb {
	all := map[string]coordination.Verb{
		verbFollow: verb(false, func(ctx context.Context, b followBody) (any, error) {
			f := d.following.Load()
			if f == nil {
				return nil, machine.NotInitialised()
			}
			return struct{}{}, f.follow(ctx, b.Revision)
		}),
		verbLeave: verb(true, func(ctx context.Context, _ struct{}) (any, error) { return struct{}{}, d.leave(ctx) }),
		verbObey:  verb(true, func(context.Context, struct{}) (any, error) { return struct{}{}, nil }),
		verbSeat:  verb(true, func(ctx context.Context, b seatBody) (any, error) { return d.seat(ctx, b) }),
		verbEvict: verb(true, func(ctx context.Context, b evictBody) (any, error) {
			return struct{}{}, d.store.Load().RemoveVoter(ctx, b.Peer)
		}),
		verbVoters: verb(true, func(ctx context.Context, b votersBody) (any, error) { return struct{}{}, d.useVoters(ctx, b.Voters) }),
		verbRTT:    verb(false, func(ctx context.Context, _ struct{}) (any, error) { return d.roundTripsHere(ctx) }),
		verbRoom:   verb(false, func(context.Context, struct{}) (any, error) { return d.storeRoom() }),
		verbDigest: verb(false, func(ctx context.Context, _ struct{}) (any, error) { return d.store.Load().EdgeDigest(ctx) }),
		verbFence: verb(true, func(ctx context.Context, b fenceBody) (any, error) {
			return struct{}{}, d.following.Load().fence(ctx, b)
		}),
		verbRekey:  verb(true, func(ctx context.Context, b rekeyBody) (any, error) { return struct{}{}, d.rekey(ctx, b) }),
		verbReseal: verb(false, func(ctx context.Context, b resealBody) (any, error) { return d.reseal(ctx, b) }),
		verbSecret: verb(false, func(_ context.Context, b secretBody) (any, error) { return d.sealSecret(b) }),
		verbUnseat: verb(true, func(ctx context.Context, _ struct{}) (any, error) { return struct{}{}, d.unseat(ctx) }),
	}
	maps.Copy(all, d.updateVerbs())
	return all
}

// leaveAfter lets the answer to the order to leave get through before its way back is cut.
const leaveAfter = time.Second

// leave takes the machine out of what it serves. The mesh and the store's edge go last, once the answer is out.
func (d *Daemon) leave(ctx context.Context) error {
	self, err := machine.LoadIdentity(d.State)
	if api.CodeOf(err) == api.CodeNotInitialised {
		return nil // it left before
	}
	if err != nil {
		return err
	}
	f := d.following.Load()
	f.mu.Lock() // what follows the membership must not put back what goes here
	defer f.mu.Unlock()
	self.Member = false
	if err := self.Save(d.State); err != nil {
		return err
	}
	d.member.Store(nil)
	for _, part := range []machine.Part{machine.PartDNS, machine.PartGateway} {
		if err := d.host.Take(ctx, part, self); err != nil {
			return err
		}
	}
	go d.forget(self)
	return nil
}

// forget takes the rest of the membership away; then the process ends, and the next one is a stranger's.
func (d *Daemon) forget(self machine.Identity) {
	time.Sleep(leaveAfter)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	if !self.Votes() { // a core that was unseated left its unit behind only where that failed
		errs = append(errs, d.unseat(ctx))
	}
	for _, part := range []machine.Part{machine.PartStore, machine.PartNetwork, machine.PartIdentity, machine.PartKeys} {
		errs = append(errs, d.host.Take(ctx, part, self))
	}
	if err := errors.Join(errs...); err != nil {
		d.Log.Error("leaving the cluster", "error", err, "hint", "apt purge ployz takes all of it away")
	}
	d.Log.Info("left the cluster", "cluster", self.ClusterName)
	d.restart()
}
