package sim

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// meshKey is the public key of the machine, or of the token, with a number.
func meshKey(n int) string {
	key := bytes.Repeat([]byte{7}, 32)
	binary.BigEndian.PutUint64(key, uint64(n))
	return base64.StdEncoding.EncodeToString(key)
}

// machineKit is what the operations of node/machine get on this machine.
func (d *daemon) machineKit() machine.Kit {
	return machine.Kit{
		Facts: d.facts, Fleet: peers{d}, Seats: seats{d}, Machine: d.m.name, Version: "0.4.1", Now: time.Now,
		SealShared: func(recipients []string) ([]byte, error) { return []byte(strings.Join(recipients, " ")), nil },
		Holds: func(ctx context.Context, name string) ([]string, error) {
			return deploy.HeldBy(ctx, d.facts, name)
		},
	}
}

// peers is the other daemons, as the operations on memberships reach them.
type peers struct{ d *daemon }

// Obey implements machine.Fleet: who is there obeys.
func (p peers) Obey(ctx context.Context, m machine.Member, _ string, _ operation.Situation) error {
	for {
		err := p.reach("obey ", m.ID)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// Follow implements machine.Fleet: who is there has followed.
func (p peers) Follow(_ context.Context, id string, _ store.Revision) error {
	return p.reach("follow ", id)
}

// reach asks whether a machine is there.
func (p peers) reach(what, id string) error {
	p.d.gate()
	time.Sleep(p.d.w.dice.between(time.Millisecond, 3*time.Millisecond, p.d.w.network.name(what+p.d.m.name+id)))
	p.d.gate()
	to := p.d.w.machineByID(id)
	if to == nil || to.present() == nil || p.d.w.network.apart(p.d.m.name, to.name) {
		return api.Errorf(api.CodeParticipantAbsent, "nobody there").About(id)
	}
	return nil
}

// Revoke implements machine.Fleet.
func (p peers) Revoke(context.Context, machine.Member) error { return nil }

// Leave implements machine.Fleet: what serves there stops.
func (p peers) Leave(context.Context, *operation.Act, machine.Member) error { return nil }

// core is who votes in the store, in truth; the facts say who should.
type core struct {
	mu     sync.Mutex
	voting map[string]bool           // guarded by mu; by id
	high   map[string]store.Revision // guarded by mu; the highest fence seen, by scope
	// strayed says that a seat was changed for an operation that had lost its scope. The operations on memberships
	// fence nobody when they inspect, so a coordinator that slept may still do that before the next one acts. Guarded
	// by mu.
	strayed bool
}

// seats is the core as one daemon changes it.
type seats struct{ d *daemon }

// Check implements machine.Seats.
func (seats) Check(context.Context, machine.Member, bool) ([]*api.Error, error) { return nil, nil }

// Voting implements machine.Seats.
func (s seats) Voting(_ context.Context, members []machine.Member) ([]machine.Member, error) {
	c := &s.d.w.core
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(members), func(m machine.Member) bool { return !c.voting[m.ID] }), nil
}

// Add implements machine.Seats.
func (s seats) Add(_ context.Context, act *operation.Act, m machine.Member, _ []machine.Member) error {
	return s.change(act, m, true)
}

// Take implements machine.Seats.
func (s seats) Take(_ context.Context, act *operation.Act, m machine.Member, _ []machine.Member, _ bool) error {
	return s.change(act, m, false)
}

// change takes its time, and obeys no older fence than it has seen.
func (s seats) change(act *operation.Act, m machine.Member, votes bool) error {
	s.d.gate()
	name := fmt.Sprint(act.Operation, act.Step, votes)
	time.Sleep(s.d.w.dice.between(10*time.Millisecond, 2*time.Second, name))
	s.d.gate()
	c := &s.d.w.core
	c.mu.Lock()
	defer c.mu.Unlock()
	if act.Fence < c.high[act.Scope] {
		return api.Errorf(api.CodeLeaseLost, "fence %d is older than %d", act.Fence, c.high[act.Scope])
	}
	c.high[act.Scope] = act.Fence
	c.strayed = c.strayed || s.d.w.holder(act.Scope) != act.Operation
	s.d.w.note("%s: %s votes: %t", act.Operation, m.Name, votes)
	if votes {
		c.voting[m.ID] = true
	} else {
		delete(c.voting, m.ID)
	}
	return nil
}

// admission is the request of a spare machine that has a token.
func admission(name string, token machine.Token) api.AdmitRequest {
	return api.AdmitRequest{
		Name: name, MeshKey: meshKey(number(name)), Recipient: "age1" + name, StoreKeys: map[string]string{"edge": "U" + name},
		Version: "0.4.1", Clock: time.Now(), Address: token.Address,
	}
}

// number is the one in a machine's name.
func number(name string) (n int) {
	fmt.Sscanf(name, "m%d", &n) // names are machineName's
	return n
}

// invite makes a token by hand: who invites is not what a run is about. One that a machine was admitted by may be
// used again by that machine.
func (w *world) invite(id string) (machine.Token, error) {
	token := machine.Token{
		Key: meshKey(1_000_000 + int(dice(0).roll(id)%1_000_000)), Machine: "m1", Expires: time.Now().Add(15 * time.Minute),
		Address: w.machines["m1"].subnet.V6.Addr(),
	}
	a := token.Address.As16()
	binary.BigEndian.PutUint64(a[8:], dice(0).roll(id))
	token.Address = netip.AddrFrom16(a)
	return token, w.write("invite-"+id, store.Token(machine.TokenHash(token.Key)), token)
}
