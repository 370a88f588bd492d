package machine_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/operation/optest"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// keysOf are the public keys of the machine with a number, as if made by it.
func keysOf(n int) machine.Keys {
	return machine.Keys{
		Recipient: fmt.Sprintf("age%d", n), Store: map[string]string{"edge": fmt.Sprintf("U%d", n)}, Mesh: meshKey(n),
		Endpoints: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 90, 0, byte(n)}), 51820)},
	}
}

func meshKey(n int) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(n)}, 32))
}

// fleet is every machine's daemon, in memory: what each has followed, and who left.
type fleet struct {
	mu       sync.Mutex
	followed map[string]store.Revision
	left     []string
	revoked  []string
	absent   map[string]bool
	behind   error
}

func (f *fleet) Follow(_ context.Context, id string, revision store.Revision) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.absent[id] {
		return api.Errorf(api.CodeParticipantAbsent, "nobody there").About(id)
	}
	if f.behind != nil {
		return f.behind
	}
	f.followed[id] = max(f.followed[id], revision)
	return nil
}

// Obey is asked for one moment only: time stands still here.
func (f *fleet) Obey(_ context.Context, m machine.Member, _ string, _ operation.Situation) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.absent[m.ID] {
		return api.Errorf(api.CodeParticipantAbsent, "nobody there").About(m.ID)
	}
	return nil
}

func (f *fleet) Leave(_ context.Context, _ *operation.Act, gone machine.Member) error {
	if !slices.Contains(f.left, gone.Name) {
		f.left = append(f.left, gone.Name)
	}
	return nil
}

func (f *fleet) Revoke(_ context.Context, gone machine.Member) error {
	if !slices.Contains(f.revoked, gone.Name) {
		f.revoked = append(f.revoked, gone.Name)
	}
	return nil
}

// seats is the store's core: who votes in it.
type seats struct {
	voting  []string
	most    int             // copies that were ever asked for
	fenced  map[string]bool // "m1 without m2"
	problem *api.Error
}

func (s *seats) Check(context.Context, machine.Member, bool) ([]*api.Error, error) {
	if s.problem != nil {
		return []*api.Error{s.problem}, nil
	}
	return nil, nil
}

func (s *seats) Voting(_ context.Context, members []machine.Member) ([]machine.Member, error) {
	return slices.DeleteFunc(slices.Clone(members), func(m machine.Member) bool { return !slices.Contains(s.voting, m.Name) }), nil
}

func (s *seats) Add(_ context.Context, _ *operation.Act, m machine.Member, beside []machine.Member, copies int) error {
	s.most = max(s.most, copies)
	if !slices.ContainsFunc(beside, func(b machine.Member) bool { return slices.Contains(s.voting, b.Name) }) {
		return fmt.Errorf("%s is to be seated beside nobody who votes", m.Name)
	}
	if !slices.Contains(s.voting, m.Name) {
		s.voting = append(s.voting, m.Name)
	}
	slices.Sort(s.voting)
	return nil
}

func (s *seats) Take(_ context.Context, _ *operation.Act, m machine.Member, rest []machine.Member, _ bool) error {
	if len(rest) == 0 {
		return errors.New("nobody would vote")
	}
	s.voting = slices.DeleteFunc(s.voting, func(name string) bool { return name == m.Name })
	return nil
}

// rescuer is the same core when most of it is gone.
type rescuer struct{ *seats }

func (r rescuer) Check(context.Context, []machine.Member, []machine.Member) ([]*api.Error, error) {
	return r.seats.Check(context.Background(), machine.Member{}, true)
}

func (r rescuer) Fence(_ context.Context, _ *operation.Act, on machine.Member, gone []machine.Member, fenced bool) error {
	for _, g := range gone {
		if key := on.Name + " without " + g.Name; fenced {
			r.fenced[key] = true
		} else {
			delete(r.fenced, key)
		}
	}
	return nil
}

// recover gives machines up.
func (c *cluster) recover(abandon ...string) *machine.Recover {
	return machine.NewRecover(c.kit(), c.store.View(), rescuer{c.seats}, api.RecoverRequest{Abandon: abandon})
}

// cluster is a founded cluster in memory.
type cluster struct {
	store *memstore.Store
	clock *optest.Clock
	fleet *fleet
	seats *seats
	holds map[string][]string
	// shelves are the machines' packages.
	shelves *shelves
}

func found(t *testing.T) *cluster {
	t.Helper()
	return foundAs(t, request)
}

func foundAs(t *testing.T, r api.InitRequest) *cluster {
	t.Helper()
	clock := optest.NewClock()
	c := &cluster{
		store: memstore.New(memstore.Config{Clock: clock.Now}), clock: clock, seats: &seats{voting: []string{"m1"}, fenced: map[string]bool{}},
		fleet: &fleet{followed: map[string]store.Revision{}, absent: map[string]bool{}}, holds: map[string][]string{}, shelves: newShelves(),
	}
	must(t, c.run(machine.NewInit(newHost(), c.store.Facts(), r)))
	return c
}

func must(t *testing.T, out api.Outcome) {
	t.Helper()
	if out.Outcome != api.Committed {
		t.Fatalf("%s ended %s: %v %v", out.Kind, out.Outcome, out.Error, out.Leftovers)
	}
}

func (c *cluster) kit() machine.Kit {
	return machine.Kit{
		Facts: c.store.Facts(), Fleet: c.fleet, Seats: c.seats, Packages: c.shelves, Machine: "m1", Version: "0.4.1", Now: c.clock.Now,
		SealShared: func(recipients []string) ([]byte, error) { return []byte(strings.Join(recipients, " ")), nil },
		Holds:      func(_ context.Context, name string) ([]string, error) { return c.holds[name], nil },
	}
}

func (c *cluster) run(op operation.Operation) api.Outcome {
	return c.runner().Run(context.Background(), operation.Request{Operation: op, Caller: "root"})
}

func (c *cluster) runner() *operation.Runner {
	leases := &coordination.Leases{Facts: c.store.Facts()}
	return &operation.Runner{
		Facts: c.store.Facts(), Log: c.store.Log(), Machine: "m1", Now: c.clock.Now, NewID: operation.NewID,
		Acquire: func(ctx context.Context, scope string, h coordination.Holder) (operation.Lease, error) {
			return leases.Acquire(ctx, scope, h)
		},
	}
}

// invite returns the address of a fresh token; n makes its key.
func (c *cluster) invite(t *testing.T, n int) netip.Addr {
	t.Helper()
	must(t, c.run(machine.NewInvite(c.kit(), api.TokenRequest{Key: meshKey(n)})))
	return c.tokenAddress(t, n)
}

func (c *cluster) tokenAddress(t *testing.T, n int) netip.Addr {
	t.Helper()
	tokens, err := machine.Tokens(t.Context(), c.store.Facts())
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range tokens {
		if token.Key == meshKey(n) {
			return token.Address
		}
	}
	t.Fatal("no such token")
	return netip.Addr{}
}

// admission is a request that is in order, of the machine with a number.
func (c *cluster) admission(n int, address netip.Addr) api.AdmitRequest {
	k := keysOf(n)
	return api.AdmitRequest{
		Name: fmt.Sprintf("m%d", n), MeshKey: k.Mesh, Recipient: k.Recipient, StoreKeys: k.Store, Endpoints: k.Endpoints,
		Version: "0.4.9", Clock: c.clock.Now(), Address: address,
	}
}

// admit makes machines m2 to mN members.
func (c *cluster) admit(t *testing.T, upTo int) {
	t.Helper()
	for n := 2; n <= upTo; n++ {
		must(t, c.run(machine.NewAdmit(c.kit(), c.admission(n, c.invite(t, 100+n)))))
	}
}

func (c *cluster) members(t *testing.T) []machine.Member {
	t.Helper()
	members, err := machine.Members(t.Context(), c.store.Facts())
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(members, func(a, b machine.Member) int { return strings.Compare(a.Name, b.Name) })
	return members
}

func (c *cluster) snapshot() string {
	lines := append(picture(c.store), "voting "+strings.Join(c.seats.voting, " "),
		fmt.Sprint("fenced ", c.seats.fenced), c.shelves.picture(), "left "+strings.Join(c.fleet.left, " "), "revoked "+strings.Join(slices.Sorted(slices.Values(c.fleet.revoked)), " "))
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// world makes a cluster into one that optest breaks.
func (c *cluster) world(op func() operation.Operation) *optest.World {
	return &optest.World{Store: c.store, Clock: c.clock, Snapshot: c.snapshot, Operation: op}
}

// memDoor is the inviting machine as the one that joins reaches it.
type memDoor struct {
	c       *cluster
	address netip.Addr
	closed  bool
}

func (d *memDoor) request(r api.AdmitRequest) api.AdmitRequest {
	r.Address, r.Clock = d.address, d.c.clock.Now()
	return r
}

func (d *memDoor) Preview(_ context.Context, r api.AdmitRequest) ([]*api.Error, error) {
	if d.closed {
		return nil, api.Errorf(api.CodeTokenUnreachable, "no answer")
	}
	op := machine.NewAdmit(d.c.kit(), d.request(r))
	if err := op.Inspect(context.Background(), operation.Situation{}); err != nil {
		return []*api.Error{api.AsError(err)}, nil
	}
	var unmet []*api.Error
	for _, need := range op.Plan().Requirements {
		if need.Unmet != nil {
			unmet = append(unmet, need.Unmet)
		}
	}
	return unmet, nil
}

func (d *memDoor) Admit(_ context.Context, r api.AdmitRequest) (api.AdmitResult, error) {
	op := machine.NewAdmit(d.c.kit(), d.request(r))
	if out := d.c.run(op); out.Outcome != api.Committed {
		return api.AdmitResult{}, out.Error
	}
	return op.Result().(api.AdmitResult), nil
}

func (d *memDoor) Withdraw(_ context.Context, r api.AdmitRequest) error {
	out := d.c.run(machine.NewWithdraw(d.c.kit(), d.request(r)))
	if out.Outcome != api.Committed {
		return out.Error
	}
	return nil
}

func wait(d time.Duration) api.Duration { return api.Duration(d) }

// seenBefore runs an operation on what it saw earlier.
type seenBefore struct{ *machine.Admit }

func (seenBefore) Inspect(context.Context, operation.Situation) error { return nil }
