package machine_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/operation/optest"
	"github.com/ployz/ployz/node/store"
)

// frozen are facts as a backup has them: whatever becomes of the store.
type frozen []store.Fact

func freeze(t *testing.T, c *cluster) frozen {
	t.Helper()
	list, err := c.store.Facts().List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func (f frozen) Get(_ context.Context, key store.Key) (store.Fact, error) {
	for _, fact := range f {
		if fact.Key == key {
			return fact, nil
		}
	}
	return store.Fact{Key: key}, store.NotFound(key)
}

func (f frozen) List(_ context.Context, prefix store.Key) ([]store.Fact, error) {
	return slices.DeleteFunc(slices.Clone(f), func(x store.Fact) bool { return !x.Key.Under(prefix) }), nil
}

// core is the store's core on m1, in memory: whose it is, what was put aside, and who followed. The same store stands
// for the old generation and the new one.
type core struct {
	c       *cluster
	backup  frozen // nil for m1's own copy
	self    machine.Identity
	aside   *machine.Identity
	moved   map[string]bool
	fenced  map[string]bool
	answer  map[string]uint64 // what some answer beside m1, m2 and m4, which do
	problem *api.Error
}

func newCore(t *testing.T, c *cluster, backup frozen) *core {
	t.Helper()
	m1 := c.members(t)[0]
	return &core{
		c: c, backup: backup, moved: map[string]bool{}, fenced: map[string]bool{},
		self: machine.Identity{ID: m1.ID, Name: "m1", Generation: 1, Overlay: m1.Overlay, Member: true},
	}
}

func (k *core) Standing(ctx context.Context) (machine.Standing, error) {
	s := machine.Standing{Self: k.self, Was: k.self}
	if k.aside != nil {
		s.Was = *k.aside
	}
	var err error
	s.Roster, err = machine.ReadRoster(ctx, k.c.store.View(), k.self.ID, k.c.clock.Now(), machine.Roster{})
	s.Source = machine.Source{Facts: k.c.store.View(), Machine: k.self.ID, Generation: s.Was.Generation, Last: 7}
	if k.backup != nil {
		s.Source.Facts, s.Source.Taken, s.Source.Digest, s.Source.Generation = k.backup, k.c.clock.Now(), "sha256:1", 1
	}
	s.Answer = map[string]uint64{"m1": s.Self.Generation}
	for _, m := range s.Roster.Members {
		if m.Name == "m2" || m.Name == "m4" {
			s.Answer[m.Name] = 1
		}
		if k.moved[m.Name+" to 2"] {
			s.Answer[m.Name] = 2
		}
	}
	for name, generation := range k.answer {
		s.Answer[name] = generation
	}
	return s, err
}

func (k *core) Better(context.Context, []machine.Member) ([]*api.Error, error) {
	if k.problem != nil || k.self.Generation > 1 && k.aside == nil {
		return []*api.Error{api.Errorf(api.CodeStoreNotRescuable, "a majority is there")}, nil
	}
	return nil, nil
}

func (k *core) Fence(ctx context.Context, act *operation.Act, on machine.Member, gone []machine.Member, fenced bool) error {
	return rescuer{&seats{fenced: k.fenced}}.Fence(ctx, act, on, gone, fenced)
}

func (k *core) Found(_ context.Context, _ *operation.Act, next machine.Identity, roster machine.Roster) error {
	if k.aside == nil {
		was := k.self
		k.aside = &was
	}
	if next.Generation != k.aside.Generation+1 || roster.Cluster.Generation != next.Generation {
		return fmt.Errorf("generation %d follows %d, and the roster's is %d", next.Generation, k.aside.Generation, roster.Cluster.Generation)
	}
	k.self = next
	return nil
}

func (k *core) Unfound(context.Context) error {
	if k.aside != nil {
		k.self, k.aside = *k.aside, nil
	}
	return nil
}

func (k *core) Move(_ context.Context, m machine.Member, next machine.Identity) error {
	k.moved[fmt.Sprintf("%s to %d", m.Name, next.Generation)] = true
	return nil
}

func (k *core) Settle(_ context.Context, next machine.Identity) error {
	k.self, k.aside = next, nil
	return nil
}

func (k *core) snapshot() string {
	return fmt.Sprintf("%s\ncore of generation %d, aside %t, moved %v, fenced %v", k.c.snapshot(), k.self.Generation, k.aside != nil, k.moved, k.fenced)
}

func (k *core) world(op func() operation.Operation) *optest.World {
	return &optest.World{Store: k.c.store, Clock: k.c.clock, Snapshot: k.snapshot, Operation: op}
}

func (k *core) reform(abandon ...string) *machine.Refound {
	return machine.NewReform(k.c.store.Facts(), k, api.ReformRequest{Abandon: abandon}, k.c.clock.Now)
}

func (k *core) rewind(abandon ...string) *machine.Refound {
	return machine.NewRewind(k.c.store.Facts(), k, api.RestoreRequest{Digest: "d", Abandon: abandon}, k.c.clock.Now)
}

// three are m1, m2 and m3, of which all vote.
func three(t *testing.T) *cluster {
	c := found(t)
	c.admit(t, 3)
	must(t, c.run(machine.NewVoters(c.kit(), api.VotersRequest{Count: 3})))
	return c
}

// memArchive is a backup of m1's in memory.
type memArchive struct {
	facts  frozen
	filled map[string]bool
}

func (a memArchive) Open(context.Context) (machine.Source, error) {
	s := machine.Source{Facts: a.facts, Generation: 1, Last: 7, Taken: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	for _, m := range a.facts {
		if m.Key.Under(store.Machines()) && strings.Contains(string(m.Value), `"name":"m1"`) {
			s.Machine = m.Key.Last()
		}
	}
	return s, nil
}

func (a memArchive) Fill(_ context.Context, self machine.Identity) error {
	if self.Generation != 2 {
		return fmt.Errorf("generation %d", self.Generation)
	}
	a.filled[self.Name] = true
	return nil
}

// onBlank is a restore on a machine that belongs to no cluster, of what c holds.
func onBlank(t *testing.T, c *cluster, h *memHost, r api.RestoreRequest) func() operation.Operation {
	a := memArchive{freeze(t, c), map[string]bool{}}
	return func() operation.Operation { return machine.NewRestore(h, c.store.Facts(), a, r, c.clock.Now) }
}

// TestBreakDisasters breaks the operations that form the store anew everywhere.
func TestBreakDisasters(t *testing.T) {
	for name, world := range map[string]func(t *testing.T) *optest.World{
		api.KindStoreReform: func(t *testing.T) *optest.World {
			k := newCore(t, three(t), nil)
			return k.world(func() operation.Operation { return k.reform("m3") })
		},
		api.KindStoreRestore: func(t *testing.T) *optest.World {
			c, h := three(t), newHost()
			return &optest.World{
				Store: c.store, Clock: c.clock, Snapshot: func() string { return snapshot(h, c.store) },
				Operation: onBlank(t, c, h, api.RestoreRequest{Digest: "d", Abandon: []string{"m2", "m3"}}),
			}
		},
	} {
		t.Run(name, func(t *testing.T) { optest.Exhaust(t, optest.Case{New: world}) })
	}
}

// TestBreakRewind breaks a restore on a member everywhere.
func TestBreakRewind(t *testing.T) {
	t.Run(api.KindStoreRestore, func(t *testing.T) {
		optest.Exhaust(t, optest.Case{New: func(t *testing.T) *optest.World {
			c := three(t)
			k := newCore(t, c, freeze(t, c))
			return k.world(func() operation.Operation { return k.rewind("m3") })
		}})
	})
}

// TestRewind restores a backup on a member: who has joined since stays, who was there and is not any more does not come
// back, and who is given up loses all that was claimed for it.
func TestRewind(t *testing.T) {
	c := three(t)
	backup := freeze(t, c)
	must(t, c.run(machine.NewRemove(c.kit(), api.MachineRemoveRequest{Machine: "m2"})))
	must(t, c.run(machine.NewAdmit(c.kit(), c.admission(4, c.invite(t, 50))))) // with the subnet of m2
	k := newCore(t, c, backup)
	k.c.store.Facts() // the same store: what the backup has under m2's keys was removed since
	if got := strings.Join(memberNames(c.members(t)), " "); got != "m1 m3 m4" {
		t.Fatal(got)
	}
	op := k.rewind("m3")
	if err := op.Inspect(t.Context(), operation.Situation{}); err != nil {
		t.Fatal(err)
	}
	puts, err := op.Plan().Commit.Batch("op")
	if err != nil {
		t.Fatal(err)
	}
	wrote, removed := map[store.Key]bool{}, map[store.Key]bool{}
	for _, p := range puts {
		(map[bool]map[store.Key]bool{false: wrote, true: removed})[p.Remove][p.Key] = true
	}
	for _, want := range []store.Key{store.Cluster(), store.MachineName("m1"), store.MachineName("m4"), store.MachineSubnet(2)} {
		if !wrote[want] {
			t.Errorf("%s is not written: %v", want, wrote)
		}
	}
	for _, want := range []store.Key{store.MachineName("m2"), store.MachineName("m3"), store.MachineSubnet(3)} {
		if !removed[want] {
			t.Errorf("%s is not removed: %v", want, removed)
		}
	}
	if removed[store.MachineSubnet(2)] {
		t.Error("m4's subnet is removed, since m2 had it")
	}
}

func memberNames(members []machine.Member) (list []string) {
	for _, m := range members {
		list = append(list, m.Name)
	}
	return list
}

// TestFormAnew: a new generation with one voter, and who answers comes along.
func TestFormAnew(t *testing.T) {
	k := newCore(t, three(t), nil)
	must(t, k.c.run(k.reform("m3")))
	roster, err := machine.ReadRoster(t.Context(), k.c.store.View(), k.self.ID, k.c.clock.Now(), machine.Roster{})
	if err != nil || roster.Cluster.Generation != 2 || len(roster.Cluster.Voters) != 1 || k.self.Generation != 2 || k.aside != nil {
		t.Errorf("%+v, %v, core %+v", roster.Cluster, err, k)
	}
	if got := strings.Join(memberNames(k.c.members(t)), " "); got != "m1 m2" || !k.moved["m2 to 2"] || len(k.moved) != 1 || len(k.fenced) != 2 {
		t.Errorf("members %s, moved %v, fenced %v", got, k.moved, k.fenced)
	}
}

// TestRestoreOnBlank: the machine comes in the place of one that the backup knows, with its own keys.
func TestRestoreOnBlank(t *testing.T) {
	c, h := three(t), newHost()
	was := c.members(t)
	must(t, c.run(onBlank(t, c, h, api.RestoreRequest{Digest: "d", As: "m3", Abandon: []string{"m1", "m2"}})()))
	now := c.members(t)
	if len(now) != 1 || now[0].ID != was[2].ID || now[0].Overlay != was[2].Overlay || now[0].MeshKey != meshKey(1) || !h.self.Member || h.self.Generation != 2 {
		t.Errorf("members %+v, self %+v", now, h.self)
	}
}

// TestDisastersRefused: nothing is touched until the operator has named who is given up.
func TestDisastersRefused(t *testing.T) {
	c, h := three(t), newHost()
	k := newCore(t, c, nil)
	blank := func(as string, abandon ...string) operation.Operation {
		return onBlank(t, c, h, api.RestoreRequest{Digest: "d", As: as, Abandon: abandon})()
	}
	founded := newHost()
	founded.self = &machine.Identity{ID: "x", Name: "x", Cluster: "another", ClusterName: "another"}
	strange := onBlank(t, c, founded, api.RestoreRequest{Digest: "d", Abandon: []string{"m2", "m3"}})()
	stands := newCore(t, c, nil)
	ahead := newCore(t, c, nil)
	ahead.answer = map[string]uint64{"m2": 2}
	stands.problem = api.Errorf(api.CodeStoreNotRescuable, "a majority is there")
	for name, want := range map[string]struct {
		op   operation.Operation
		code api.Code
	}{
		"nobody named":           {blank(""), api.CodeStoreNotRescuable},
		"one is missing":         {blank("", "m2"), api.CodeStoreNotRescuable},
		"one twice":              {blank("", "m2", "m2"), api.CodeStoreNotRescuable},
		"a machine of another":   {strange, api.CodeMachineInitialised},
		"itself named":           {blank("", "m1", "m2"), api.CodeMachineAbsent},
		"as a stranger":          {blank("m9", "m2", "m3"), api.CodeMachineAbsent},
		"a stranger given up":    {k.reform("m9"), api.CodeMachineAbsent},
		"who answers given up":   {k.reform("m1"), api.CodeBadRequest},
		"the store needs it not": {stands.reform("m3"), api.CodeStoreNotRescuable},
		"one that answers":       {k.reform("m2", "m3"), api.CodeStoreNotRescuable},
		"one that does not":      {k.reform(), api.CodeStoreNotRescuable},
		"one that went on":       {ahead.reform("m3"), api.CodeStoreNotRescuable},
	} {
		before := k.snapshot() + snapshot(h, c.store)
		if out := c.run(want.op); out.Outcome != api.Refused || out.Error.Code != want.code {
			t.Errorf("%s: %s %v", name, out.Outcome, out.Error)
		}
		if after := k.snapshot() + snapshot(h, c.store); after != before {
			t.Errorf("%s changed\n%s\nto\n%s", name, before, after)
		}
	}
}
