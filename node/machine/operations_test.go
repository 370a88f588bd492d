package machine_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/operation/optest"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// TestBreakOperations breaks every operation on memberships everywhere.
func TestBreakOperations(t *testing.T) {
	draining, relay := "draining", "m2"
	for kind, world := range map[string]func(t *testing.T) *optest.World{
		api.KindMachineToken: func(t *testing.T) *optest.World {
			c := found(t)
			return c.world(func() operation.Operation { return machine.NewInvite(c.kit(), api.TokenRequest{Key: meshKey(9)}) })
		},
		api.KindMachineAdmit: func(t *testing.T) *optest.World {
			c := found(t)
			address := c.invite(t, 9)
			return c.world(func() operation.Operation { return machine.NewAdmit(c.kit(), c.admission(2, address)) })
		},
		api.KindMachineWithdraw: func(t *testing.T) *optest.World {
			c := found(t)
			address := c.invite(t, 9)
			must(t, c.run(machine.NewAdmit(c.kit(), c.admission(2, address))))
			return c.world(func() operation.Operation { return machine.NewWithdraw(c.kit(), c.admission(2, address)) })
		},
		api.KindMachineSet: func(t *testing.T) *optest.World {
			c := found(t)
			c.admit(t, 2)
			return c.world(func() operation.Operation {
				return machine.NewSet(c.kit(), api.MachineSetRequest{Machine: "m1", Role: &draining, Endpoints: keysOf(7).Endpoints, Relay: &relay})
			})
		},
		api.KindMachineUpdate: func(t *testing.T) *optest.World {
			c := found(t)
			c.admit(t, 4)
			must(t, c.run(machine.NewVoters(c.kit(), api.VotersRequest{Count: 3})))
			return c.world(func() operation.Operation {
				return machine.NewUpdate(c.kit(), api.MachineUpdateRequest{Digest: newer.Digest})
			})
		},
		api.KindStoreVoters: func(t *testing.T) *optest.World {
			c := found(t)
			c.admit(t, 3)
			return c.world(func() operation.Operation { return machine.NewVoters(c.kit(), api.VotersRequest{}) })
		},
		api.KindStoreRepair: func(t *testing.T) *optest.World {
			c := three(t)
			was := c.roster(t, machine.Roster{})
			key := store.Machine(was.Members[1].ID)
			c.overwrite(t, key, "{")
			return c.world(func() operation.Operation { return c.repair(was, api.RepairRequest{Key: string(key)}) })
		},
		api.KindMachineRemove: func(t *testing.T) *optest.World {
			c := found(t)
			c.admit(t, 4)
			must(t, c.run(machine.NewVoters(c.kit(), api.VotersRequest{Count: 3})))
			return c.world(func() operation.Operation {
				return machine.NewRemove(c.kit(), api.MachineRemoveRequest{Machine: "m2"})
			})
		},
		api.KindStoreRecover: func(t *testing.T) *optest.World {
			c := found(t)
			c.admit(t, 4)
			must(t, c.run(machine.NewVoters(c.kit(), api.VotersRequest{Count: 3})))
			return c.world(func() operation.Operation { return c.recover("m2", "m3") })
		},
		api.KindMachineJoin: func(t *testing.T) *optest.World {
			c := found(t)
			h, door := newHost(), &memDoor{c: c, address: c.invite(t, 9)}
			journal := memstore.New(memstore.Config{Clock: c.clock.Now})
			return &optest.World{
				Store: journal, Clock: c.clock,
				Snapshot:  func() string { return snapshot(h, memstore.New(memstore.Config{})) + "\n" + c.snapshot() },
				Operation: func() operation.Operation { return joining(c, h, door, journal) },
			}
		},
	} {
		t.Run(kind, func(t *testing.T) { optest.Exhaust(t, optest.Case{New: world}) })
	}
}

// joining is m2's own side of its joining.
func joining(c *cluster, h *memHost, door machine.Door, journal *memstore.Store) operation.Operation {
	return machine.NewJoin(h, door, journal.Facts(), api.JoinRequest{Name: "m2"}, func(k machine.Keys) api.AdmitRequest {
		r := c.admission(2, netip.Addr{})
		r.MeshKey, r.Recipient, r.StoreKeys = k.Mesh, k.Recipient, k.Store
		if r.MeshKey != "" { // the memory host makes m1's
			r.MeshKey, r.Recipient, r.StoreKeys = keysOf(2).Mesh, keysOf(2).Recipient, keysOf(2).Store
		}
		return r
	})
}

func TestMembership(t *testing.T) {
	c := found(t)
	c.admit(t, 5)
	members := c.members(t)
	for i, m := range members {
		n := i + 1
		if m.Name != fmt.Sprintf("m%d", n) || m.Subnet4.String() != fmt.Sprintf("10.101.%d.0/24", n) || m.Subnet6.Addr().Next() != m.Overlay {
			t.Errorf("member %d is %+v", n, m)
		}
	}
	for _, m := range members[:4] {
		if c.fleet.followed[m.ID] == 0 {
			t.Errorf("%s was not waited for when m5 came", m.Name)
		}
	}
	must(t, c.run(machine.NewVoters(c.kit(), api.VotersRequest{})))
	if got := strings.Join(c.seats.voting, " "); got != "m1 m2 m3" {
		t.Errorf("voting: %s", got)
	}
	must(t, c.run(machine.NewRemove(c.kit(), api.MachineRemoveRequest{Machine: "m3"})))
	if got := strings.Join(c.seats.voting, " "); got != "m1 m2 m4" || c.seats.most != 3 {
		t.Errorf("after m3 is gone: %s, with up to %d copies meanwhile", got, c.seats.most)
	}
	must(t, c.run(machine.NewAdmit(c.kit(), c.admission(6, c.invite(t, 50)))))
	if at := slices.IndexFunc(c.members(t), func(m machine.Member) bool { return m.Name == "m6" }); c.members(t)[at].Number != 3 {
		t.Error("the freed subnet was not given again")
	}
}

// TestRemoveInEveryOrder takes five machines down to one, whoever goes first.
func TestRemoveInEveryOrder(t *testing.T) {
	names := []string{"m2", "m3", "m4", "m5"}
	for _, order := range permutations(names) {
		t.Run(strings.Join(order, ""), func(t *testing.T) {
			c := found(t)
			c.admit(t, 5)
			must(t, c.run(machine.NewVoters(c.kit(), api.VotersRequest{Count: 5})))
			for i, name := range order {
				must(t, c.run(machine.NewRemove(c.kit(), api.MachineRemoveRequest{Machine: name})))
				left := 4 - i
				if want := machine.DefaultVoters(left); len(c.seats.voting) != want || slices.Contains(c.seats.voting, name) {
					t.Fatalf("%d machines are left and vote: %v", left, c.seats.voting)
				}
			}
		})
	}
}

func permutations(names []string) [][]string {
	if len(names) == 1 {
		return [][]string{names}
	}
	var all [][]string
	for i, name := range names {
		for _, rest := range permutations(slices.Delete(slices.Clone(names), i, i+1)) {
			all = append(all, append([]string{name}, rest...))
		}
	}
	return all
}

// TestAdmitRefusals: whatever is wrong with a machine is said before anything is written.
func TestAdmitRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *api.AdmitRequest)
		want   api.Code
	}{
		"another's name":     {func(r *api.AdmitRequest) { r.Name = "m1" }, api.CodeMachineNameTaken},
		"another's mesh key": {func(r *api.AdmitRequest) { r.MeshKey = meshKey(1) }, api.CodeMachineKeyTaken},
		"another's age key":  {func(r *api.AdmitRequest) { r.Recipient = "age1" }, api.CodeMachineKeyTaken},
		"another's nkey":     {func(r *api.AdmitRequest) { r.StoreKeys = keysOf(1).Store }, api.CodeMachineKeyTaken},
		"another's endpoint": {func(r *api.AdmitRequest) { r.Endpoints = keysOf(1).Endpoints }, api.CodeMachineKeyTaken},
		"a version too old":  {func(r *api.AdmitRequest) { r.Version = "0.2.9" }, api.CodeMachineVersion},
		"a version too new":  {func(r *api.AdmitRequest) { r.Version = "0.6.0" }, api.CodeMachineVersion},
		"a major apart":      {func(r *api.AdmitRequest) { r.Version = "1.4.0" }, api.CodeMachineVersion},
		"a clock behind":     {func(r *api.AdmitRequest) { r.Clock = r.Clock.Add(-machine.ClockBound - time.Second) }, api.CodeMachineClock},
		"a clock ahead":      {func(r *api.AdmitRequest) { r.Clock = r.Clock.Add(machine.ClockBound + time.Second) }, api.CodeMachineClock},
		"a bad name":         {func(r *api.AdmitRequest) { r.Name = "M 2" }, api.CodeBadRequest},
		"a bad key":          {func(r *api.AdmitRequest) { r.MeshKey = "short" }, api.CodeBadRequest},
		"no token":           {func(r *api.AdmitRequest) { r.Address = netip.MustParseAddr("fd00::1") }, api.CodeTokenUsed},
	} {
		t.Run(name, func(t *testing.T) {
			cl := found(t)
			r := cl.admission(2, cl.invite(t, 9))
			c.change(&r)
			before := cl.snapshot()
			out := cl.run(machine.NewAdmit(cl.kit(), r))
			if out.Outcome != api.Refused || out.Error.Code != c.want {
				t.Errorf("got %s: %v", out.Outcome, out.Error)
			}
			if after := cl.snapshot(); after != before {
				t.Errorf("a refused admission changed\n%s\nto\n%s", before, after)
			}
		})
	}
}

// TestTokens: one machine per token, in its time.
func TestTokens(t *testing.T) {
	c := found(t)
	address := c.invite(t, 9)
	must(t, c.run(machine.NewAdmit(c.kit(), c.admission(2, address))))
	must(t, c.run(machine.NewAdmit(c.kit(), c.admission(2, address)))) // the same machine goes on
	if out := c.run(machine.NewAdmit(c.kit(), c.admission(3, address))); out.Outcome != api.Refused || out.Error.Code != api.CodeTokenUsed {
		t.Errorf("a second machine: %s %v", out.Outcome, out.Error)
	}
	late := c.invite(t, 10)
	c.clock.Advance(16 * time.Minute)
	if out := c.run(machine.NewAdmit(c.kit(), c.admission(3, late))); out.Outcome != api.Refused || out.Error.Code != api.CodeTokenUsed {
		t.Errorf("after its time: %s %v", out.Outcome, out.Error)
	}
	for name, r := range map[string]api.TokenRequest{
		"no key": {}, "a long life": {Key: meshKey(9), TTL: wait(time.Hour)}, "no life": {Key: meshKey(9), TTL: wait(time.Second)},
	} {
		if out := c.run(machine.NewInvite(c.kit(), r)); out.Outcome != api.Refused || out.Error.Code != api.CodeBadRequest {
			t.Errorf("%s: %s %v", name, out.Outcome, out.Error)
		}
	}
}

// TestTokenText: a token survives being copied, and what was changed on its way is told.
func TestTokenText(t *testing.T) {
	given := machine.TokenText{TokenResult: api.TokenResult{
		Cluster: "c1", Machine: "m1", MeshKey: meshKey(1), Overlay: netip.MustParseAddr("fd00::1"), Address: netip.MustParseAddr("fd00::2"),
		Endpoints: keysOf(1).Endpoints,
	}, Private: meshKey(3)}
	text, err := given.Encode()
	if err != nil {
		t.Fatal(err)
	}
	read, err := machine.DecodeToken(" " + text + "\n")
	if err != nil || read.MeshKey != given.MeshKey || read.Private != given.Private || read.Endpoints[0] != given.Endpoints[0] {
		t.Fatalf("read %+v, %v", read, err)
	}
	given.Expires = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	for off, want := range map[time.Duration]api.Code{0: "", machine.ClockBound - 1: "", machine.ClockBound: api.CodeTokenUsed, 24 * time.Hour: api.CodeTokenUsed} {
		if err := given.Late(given.Expires.Add(off)); api.CodeOf(err) != want {
			t.Errorf("%s after its end: %v", off, err)
		}
	}
	for i := range text {
		other := []byte(text)
		other[i] ^= 1
		if _, err := machine.DecodeToken(string(other)); api.CodeOf(err) != api.CodeTokenInvalid {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for _, cut := range []int{0, 3, len(text) / 2, len(text) - 1} {
		if _, err := machine.DecodeToken(text[:cut]); api.CodeOf(err) != api.CodeTokenInvalid {
			t.Errorf("cut to %d: %v", cut, err)
		}
	}
}

// TestConcurrentAdmissions: of two that chose the same subnet one commits, and the other is told to look again.
func TestConcurrentAdmissions(t *testing.T) {
	c := found(t)
	first, second := c.invite(t, 9), c.invite(t, 10)
	slow := machine.NewAdmit(c.kit(), c.admission(3, second))
	if err := slow.Inspect(t.Context(), operation.Situation{}); err != nil {
		t.Fatal(err)
	}
	must(t, c.run(machine.NewAdmit(c.kit(), c.admission(2, first))))
	out := c.run(seenBefore{slow})
	if out.Outcome != api.RolledBack || out.Error.Code != api.CodeConflict || !out.Error.Retryable {
		t.Errorf("got %s: %v", out.Outcome, out.Error)
	}
	must(t, c.run(machine.NewAdmit(c.kit(), c.admission(3, second))))
}

// overtaken lets something happen right after the members were read for the first time.
type overtaken struct {
	store.Facts
	then func()
}

func (o *overtaken) List(ctx context.Context, prefix store.Key) ([]store.Fact, error) {
	list, err := o.Facts.List(ctx, prefix)
	if then := o.then; prefix == store.Machines() && then != nil {
		o.then = nil
		then()
	}
	return list, err
}

// TestOvertakenAdmission: an admission that lands while another looks around takes nothing away from that one's
// view: it must not be overwritten by who saw its claims, but not its membership.
func TestOvertakenAdmission(t *testing.T) {
	c := found(t)
	first, second := c.invite(t, 9), c.invite(t, 10)
	kit := c.kit()
	kit.Facts = &overtaken{kit.Facts, func() { must(t, c.run(machine.NewAdmit(c.kit(), c.admission(2, first)))) }}
	out := c.run(machine.NewAdmit(kit, c.admission(3, second)))
	if out.Outcome != api.RolledBack || out.Error.Code != api.CodeConflict || !out.Error.Retryable {
		t.Errorf("got %s: %v", out.Outcome, out.Error)
	}
	must(t, c.run(machine.NewAdmit(c.kit(), c.admission(3, second))))
	numbers := map[uint16]string{}
	for _, m := range c.members(t) {
		if other, taken := numbers[m.Number]; taken {
			t.Errorf("%s and %s both have subnet %d", m.Name, other, m.Number)
		}
		numbers[m.Number] = m.Name
	}
}

func TestRemoveRefusals(t *testing.T) {
	c := found(t)
	for name, want := range map[string]api.Code{"m1": api.CodeUnmet, "m7": api.CodeMachineAbsent} {
		out := c.run(machine.NewRemove(c.kit(), api.MachineRemoveRequest{Machine: name}))
		if out.Outcome != api.Refused || out.Error.Code != want {
			t.Errorf("%s: %s %v", name, out.Outcome, out.Error)
		}
	}
	c.admit(t, 2)
	c.holds["m2"] = []string{"shop/web-0"}
	out := c.run(machine.NewRemove(c.kit(), api.MachineRemoveRequest{Machine: "m2"}))
	if out.Outcome != api.Refused || out.Error.Code != api.CodeMachineHolds || !strings.Contains(out.Error.Message, "shop/web-0") {
		t.Errorf("it holds something: %s %v", out.Outcome, out.Error)
	}
	must(t, c.run(machine.NewVoters(c.kit(), api.VotersRequest{})))
	c.seats.problem = api.Errorf(api.CodeStoreUnavailable, "m1 is away")
	out = c.run(machine.NewRemove(c.kit(), api.MachineRemoveRequest{Machine: "m2", Lost: true}))
	if out.Outcome != api.Refused || out.Error.Code != api.CodeStoreUnavailable {
		t.Errorf("the store cannot: %s %v", out.Outcome, out.Error)
	}
	c.seats.problem = nil
	must(t, c.run(machine.NewRemove(c.kit(), api.MachineRemoveRequest{Machine: "m2", Lost: true})))
	if len(c.fleet.left) != 0 || !slices.Equal(c.fleet.revoked, []string{"m2"}) {
		t.Errorf("a lost machine: told %v, revoked %v", c.fleet.left, c.fleet.revoked)
	}
}

func TestJoinRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(c *cluster, h *memHost, d *memDoor)
		want    api.Code
	}{
		"a member already": {func(_ *cluster, h *memHost, _ *memDoor) {
			h.self = &machine.Identity{ID: "x", Name: "x", Member: true}
		}, api.CodeMachineInitialised},
		"an unfit machine": {func(_ *cluster, h *memHost, _ *memDoor) {
			h.unfit = []*api.Error{api.Errorf(api.CodeMachineUnfit, "no overlayfs")}
		}, api.CodeMachineUnfit},
		"nobody answers":  {func(_ *cluster, _ *memHost, d *memDoor) { d.closed = true }, api.CodeTokenUnreachable},
		"a token of none": {func(_ *cluster, _ *memHost, d *memDoor) { d.address = netip.MustParseAddr("fd00::3") }, api.CodeTokenUsed},
	} {
		t.Run(name, func(t *testing.T) {
			cl, h, journal := found(t), newHost(), memstore.New(memstore.Config{})
			d := &memDoor{c: cl, address: cl.invite(t, 9)}
			c.prepare(cl, h, d)
			before := cl.snapshot() + snapshot(h, journal)
			w := &optest.World{Store: journal, Clock: cl.clock}
			out := w.Runner().Run(t.Context(), operation.Request{Operation: joining(cl, h, d, journal), Caller: "root"})
			if out.Outcome != api.Refused || out.Error.Code != c.want {
				t.Errorf("got %s: %v", out.Outcome, out.Error)
			}
			if after := cl.snapshot() + snapshot(h, journal); after != before {
				t.Errorf("a refused join changed\n%s\nto\n%s", before, after)
			}
		})
	}
}

// TestJoinOfTwoClusters: a member of one cluster with a token of another is told of both.
func TestJoinOfTwoClusters(t *testing.T) {
	text, err := machine.TokenText{TokenResult: api.TokenResult{
		Cluster: "c2", ClusterName: "main", Machine: "m1", MeshKey: meshKey(1), Address: netip.MustParseAddr("fd00::2"),
	}, Private: meshKey(3)}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for cluster, want := range map[string]string{"c1": "x of cluster main (c1), and the token is of cluster main (c2)", "c2": "the token is of the same cluster"} {
		h := newHost()
		h.self = &machine.Identity{ID: "x", Name: "x", Member: true, Cluster: cluster, ClusterName: "main"}
		join := machine.NewJoin(h, &memDoor{}, memstore.New(memstore.Config{}).Facts(), api.JoinRequest{Name: "x", Token: text}, nil)
		if err := join.Inspect(t.Context(), operation.Situation{}); api.CodeOf(err) != api.CodeMachineInitialised || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestSet(t *testing.T) {
	c := found(t)
	draining, zone, bad := "draining", "rack-1", "no such role"
	must(t, c.run(machine.NewSet(c.kit(), api.MachineSetRequest{Machine: "m1", Role: &draining, Zone: &zone, Labels: map[string]string{"disk": "ssd"}})))
	must(t, c.run(machine.NewSet(c.kit(), api.MachineSetRequest{Machine: "m1", Labels: map[string]string{"disk": "", "gpu": "none"}})))
	m := c.members(t)[0]
	if m.Role != machine.Draining || m.Zone != zone || len(m.Labels) != 1 || m.Labels["gpu"] != "none" {
		t.Errorf("m1 is %+v", m)
	}
	for name, r := range map[string]api.MachineSetRequest{
		"a role":  {Machine: "m1", Role: &bad},
		"a zone":  {Machine: "m1", Zone: &bad},
		"a label": {Machine: "m1", Labels: map[string]string{"": "x"}},
	} {
		if out := c.run(machine.NewSet(c.kit(), r)); out.Outcome != api.Refused || out.Error.Code != api.CodeBadRequest {
			t.Errorf("%s: %s %v", name, out.Outcome, out.Error)
		}
	}
}

// TestAbsentIsNoFailure: a machine that is off follows once it is back, and nobody waits for it.
func TestAbsentIsNoFailure(t *testing.T) {
	c := found(t)
	c.admit(t, 2)
	for _, m := range c.members(t) {
		c.fleet.absent[m.ID] = m.Name == "m2"
	}
	must(t, c.run(machine.NewAdmit(c.kit(), c.admission(3, c.invite(t, 9)))))
}

// TestNoSubnetLeft: a range of four subnets holds three machines, since the first is nobody's.
func TestNoSubnetLeft(t *testing.T) {
	small := request
	small.CIDR = "10.101.0.0/22"
	c := foundAs(t, small)
	c.admit(t, 3)
	out := c.run(machine.NewAdmit(c.kit(), c.admission(4, c.invite(t, 9))))
	if out.Outcome != api.Refused || out.Error.Code != api.CodeMachineNoSubnet {
		t.Errorf("got %s: %v", out.Outcome, out.Error)
	}
}

// TestRemoveAgain: whoever repeats a removal does not free what another machine has been given since.
func TestRemoveAgain(t *testing.T) {
	c := found(t)
	c.admit(t, 2)
	remove := func() { must(t, c.run(machine.NewRemove(c.kit(), api.MachineRemoveRequest{Machine: "m2"}))) }
	remove()
	must(t, c.run(machine.NewAdmit(c.kit(), c.admission(3, c.invite(t, 103)))))
	remove()
	for _, m := range c.members(t) {
		if _, err := c.store.Facts().Get(t.Context(), store.MachineSubnet(m.Number)); err != nil {
			t.Errorf("the claim of %s: %v", m.Name, err)
		}
	}
}

// TestNobodyRemovesItself: the last machine stays, and another must coordinate.
func TestNobodyRemovesItself(t *testing.T) {
	c := found(t)
	c.admit(t, 2)
	out := c.run(machine.NewRemove(c.kit(), api.MachineRemoveRequest{Machine: "m1"}))
	if out.Outcome != api.Refused || out.Error.Code != api.CodeMachineLast {
		t.Errorf("by itself: %s %v", out.Outcome, out.Error)
	}
}

// TestNotFollowed: a machine that is there and does not take a change over is named, with the change committed.
func TestNotFollowed(t *testing.T) {
	c := found(t)
	c.fleet.behind = api.Errorf(api.CodeMachineNotFollowed, "its mirror is at 3, before 9").About("m1")
	out := c.run(machine.NewInvite(c.kit(), api.TokenRequest{Key: meshKey(9)}))
	if out.Outcome != api.CommittedLeftovers || len(out.Leftovers) != 1 || !strings.Contains(out.Leftovers[0].Problem, "before 9") {
		t.Errorf("got %s: %v %v", out.Outcome, out.Error, out.Leftovers)
	}
}

// TestRecover: what is given up is fenced first, and nothing of it is left.
func TestRecover(t *testing.T) {
	c := found(t)
	c.admit(t, 4)
	must(t, c.run(machine.NewVoters(c.kit(), api.VotersRequest{Count: 3})))
	for name, want := range map[string]struct {
		abandon []string
		code    api.Code
	}{
		"nobody":      {nil, api.CodeBadRequest},
		"a stranger":  {[]string{"m9"}, api.CodeMachineAbsent},
		"itself":      {[]string{"m1"}, api.CodeBadRequest},
		"every voter": {[]string{"m2", "m3", "m1"}, api.CodeBadRequest},
	} {
		if out := c.run(c.recover(want.abandon...)); out.Outcome != api.Refused || out.Error.Code != want.code {
			t.Errorf("%s: %s %v", name, out.Outcome, out.Error)
		}
	}
	c.seats.problem = api.Errorf(api.CodeStoreNotRescuable, "a majority is there")
	if out := c.run(c.recover("m2", "m3")); out.Outcome != api.Refused || out.Error.Code != api.CodeStoreNotRescuable {
		t.Errorf("a majority is there: %s %v", out.Outcome, out.Error)
	}
	c.seats.problem = nil
	must(t, c.run(c.recover("m2", "m3")))
	if len(c.members(t)) != 2 || len(c.seats.fenced) != 4 || !slices.Equal(c.fleet.revoked, []string{"m2", "m3"}) {
		t.Errorf("members %d, fenced %v, revoked %v", len(c.members(t)), c.seats.fenced, c.fleet.revoked)
	}
}

// TestUsedTokenLastsAsLongAsUnused: were it gone before, the unused one might be found again (Token.lasts).
func TestUsedTokenLastsAsLongAsUnused(t *testing.T) {
	c := found(t)
	c.admit(t, 2)
	left := func() int {
		t.Helper()
		tokens, err := machine.Tokens(t.Context(), c.store.Facts())
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range tokens {
			if one.Admits == "" {
				t.Errorf("%+v is unused", one)
			}
		}
		return len(tokens)
	}
	c.clock.Advance(14 * time.Minute)
	if n := left(); n != 1 {
		t.Errorf("after 14 minutes %d tokens are left", n)
	}
	c.clock.Advance(2 * time.Minute)
	if n := left(); n != 0 {
		t.Errorf("after 16 minutes %d tokens are left", n)
	}
}
