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
func (p peers) Obey(ctx context.Context, m machine.Member, scope string, by operation.Situation) error {
	if p.d.w.mutant.heedless {
		by.Fence = 0
	}
	for {
		err := p.command(m.ID, scope, by.Fence)
		if code := api.CodeOf(err); code != api.CodeParticipantAbsent {
			return err
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
	_, err := p.reach("follow ", id)
	return err
}

// command has a machine obey, if it is there and has seen no newer fence; 0 is none.
func (p peers) command(id, scope string, fence store.Revision) error {
	to, err := p.reach("command ", id)
	if err != nil || fence == 0 {
		return err
	}
	return to.fences.Admit(scope, fence)
}

// reach finds the daemon of a machine that is there and awake.
func (p peers) reach(what, id string) (*daemon, error) {
	p.d.gate()
	time.Sleep(p.d.w.dice.between(time.Millisecond, 3*time.Millisecond, p.d.w.network.name(what+p.d.m.name+id)))
	p.d.gate()
	to := p.d.w.machineByID(id)
	if to == nil || p.d.w.network.apart(p.d.m.name, to.name) {
		return nil, absent(id)
	}
	d := to.present()
	if d == nil || d.paused() {
		return nil, absent(id)
	}
	return d, nil
}

func absent(id string) error {
	return api.Errorf(api.CodeParticipantAbsent, "nobody there").About(id)
}

// Revoke implements machine.Fleet.
func (p peers) Revoke(context.Context, machine.Member) error { return nil }

// Leave implements machine.Fleet: what serves there stops.
func (p peers) Leave(context.Context, *operation.Act, machine.Member) error { return nil }

// core is who votes in the store, in truth; the facts say who should.
type core struct {
	mu     sync.Mutex
	voting map[string]bool // guarded by mu; by id
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

// Add implements machine.Seats: the machine itself begins its core.
func (s seats) Add(ctx context.Context, act *operation.Act, m machine.Member, _ []machine.Member, _ int) error {
	return s.change(ctx, act, m, true, []machine.Member{m})
}

// Take implements machine.Seats: another machine has the core let go of it, where there is one.
func (s seats) Take(ctx context.Context, act *operation.Act, m machine.Member, rest []machine.Member, lost bool) error {
	return s.change(ctx, act, m, false, machine.Evicters(s.d.m.name, m, rest, lost))
}

// change takes its time, and is made by the first of some machines that is there, if it obeys the coordinator.
func (s seats) change(ctx context.Context, act *operation.Act, m machine.Member, votes bool, by []machine.Member) error {
	s.d.gate()
	name := fmt.Sprint(act.Operation, act.Step, votes)
	time.Sleep(s.d.w.dice.between(10*time.Millisecond, 2*time.Second, name))
	for ctx.Err() == nil {
		for _, x := range by {
			err := peers{s.d}.command(x.ID, act.Scope, act.Fence)
			if api.CodeOf(err) == api.CodeParticipantAbsent {
				continue
			}
			if err == nil {
				s.d.w.note("%s: %s votes: %t, says %s", act.Operation, m.Name, votes, x.Name)
				s.d.w.core.set(m.ID, votes)
			}
			return err
		}
		time.Sleep(500 * time.Millisecond)
	}
	return absent(m.ID)
}

func (c *core) set(id string, votes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if votes {
		c.voting[id] = true
	} else {
		delete(c.voting, id)
	}
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
