package machine_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// readable is what the composition root says of facts, as far as this package goes.
func readable(fact store.Fact) error {
	if !json.Valid(fact.Value) {
		return errors.New("it is no JSON")
	}
	return machine.ReadFact(fact)
}

// salvage knows what was last read, and has a backup.
func salvage(was machine.Roster, backup *memstore.Store) machine.Salvage {
	return machine.Salvage{
		Problem: readable, Last: func() machine.Roster { return was }, Archive: shelved{backup},
		Rebuild: func(context.Context, store.Key) ([]byte, error) { return nil, nil },
		Needed:  func(context.Context, store.Key) (*api.Error, error) { return nil, nil },
		Against: func(context.Context, store.Fact) (*api.Error, error) { return nil, nil },
	}
}

func (c *cluster) repair(was machine.Roster, r api.RepairRequest) operation.Operation {
	return machine.NewRepair(c.kit(), salvage(was, nil), r)
}

// shelved is a store as an uploaded backup.
type shelved struct{ store *memstore.Store }

func (s shelved) Open(context.Context) (machine.Source, error) {
	return machine.Source{Facts: s.store.Facts(), Taken: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, nil
}

func (shelved) Fill(context.Context, machine.Identity) error { return errors.New("not asked for") }

func refusedBy(t *testing.T, what string, out api.Outcome, code api.Code, says ...string) {
	t.Helper()
	if out.Outcome != api.Refused || out.Error.Code != code {
		t.Errorf("%s: %s %v, want %s", what, out.Outcome, out.Error, code)
		return
	}
	for _, s := range says {
		if !strings.Contains(out.Error.Message+" "+out.Error.Hint, s) {
			t.Errorf("%s: %q, hint %q, and not %q", what, out.Error.Message, out.Error.Hint, s)
		}
	}
}

// TestRepairMember puts a membership and the cluster's fact back as this machine last read them.
func TestRepairMember(t *testing.T) {
	c := three(t)
	was := c.roster(t, machine.Roster{})
	bad := was.Members[1]
	zone := "elsewhere"
	set := func() api.Outcome {
		return c.run(machine.NewSet(c.kit(), api.MachineSetRequest{Machine: was.Members[2].Name, Zone: &zone}))
	}
	for _, key := range []store.Key{store.Machine(bad.ID), store.Cluster()} {
		c.overwrite(t, key, `{"id":7}`)
		request := api.RepairRequest{Key: string(key)}
		shown, err := c.runner().Preview(t.Context(), c.repair(was, request), "root")
		if err != nil || len(shown.Changes) != 1 || len(shown.Unmet) > 0 {
			t.Fatalf("%+v %v", shown, err)
		}
		change := shown.Changes[0]
		if change.Action != "update" || change.To != "what m1 last read of it" || !strings.HasPrefix(change.From, "revision ") ||
			!strings.HasSuffix(change.From, ", 8 bytes") || !strings.Contains(change.Reason, "cannot unmarshal number") {
			t.Errorf("shown: %+v", change)
		}
		out := c.runner().Run(t.Context(), operation.Request{Operation: c.repair(was, request), PlanDigest: shown.Digest})
		must(t, out)
		refusedBy(t, "again", c.run(c.repair(was, request)), api.CodeStoreReadable, "ployzctl store verify")
	}
	must(t, set())
	now := c.roster(t, machine.Roster{})
	if got, _ := now.Self(bad.ID); got.Name != bad.Name || got.MeshKey != bad.MeshKey || got.Operation != bad.Operation || len(now.Unreadable) != 0 {
		t.Errorf("put back: %+v, %v", got, now.Unreadable)
	}
	fact, err := c.store.Facts().Get(t.Context(), store.LastRepair())
	var last machine.Repaired
	if err != nil || json.Unmarshal(fact.Value, &last) != nil || last.Key != store.Cluster() || last.Problem == "" || last.Revision == 0 {
		t.Errorf("written down: %+v %v", last, err)
	}
}

// TestRepairRefuses what would lose something, or has nothing to go by.
func TestRepairRefuses(t *testing.T) {
	c := three(t)
	was := c.roster(t, machine.Roster{})
	member := store.Machine(was.Members[1].ID)
	refusedBy(t, "one that can be read", c.run(c.repair(was, api.RepairRequest{Key: string(member)})), api.CodeStoreReadable)
	refusedBy(t, "none", c.run(c.repair(was, api.RepairRequest{Key: "nothing"})), api.CodeStoreNotFound, "ployzctl store verify")
	refusedBy(t, "no key", c.run(c.repair(was, api.RepairRequest{Key: "a b"})), api.CodeBadRequest)
	refusedBy(t, "a lease", c.run(c.repair(was, api.RepairRequest{Key: "lease.cluster"})), api.CodeBadRequest)
	refusedBy(t, "both", c.run(c.repair(was, api.RepairRequest{Key: "x", Remove: true, Digest: "x"})), api.CodeBadRequest)
	for _, key := range []store.Key{member, store.Cluster(), store.SharedKey(), store.Machine("voting")} {
		c.overwrite(t, key, "{")
	}
	before := c.snapshot()
	refusedBy(t, "no copy", c.run(c.repair(machine.Roster{}, api.RepairRequest{Key: string(member)})), api.CodeStoreNoCopy, "--host", "--from FILE")
	refusedBy(t, "nor of another", c.run(c.repair(was, api.RepairRequest{Key: string(store.SharedKey())})), api.CodeStoreNoCopy)
	refusedBy(t, "the cluster", c.run(c.repair(was, api.RepairRequest{Key: "cluster", Remove: true})), api.CodeStoreFactNeeded, "ployzctl store repair cluster")
	refusedBy(t, "a known member", c.run(c.repair(was, api.RepairRequest{Key: string(member), Remove: true})), api.CodeStoreFactNeeded)
	seated := machine.Roster{Cluster: machine.Cluster{Voters: []string{"voting"}}}
	refusedBy(t, "a voter", c.run(c.repair(seated, api.RepairRequest{Key: "machine.voting", Remove: true})), api.CodeStoreFactNeeded, "votes")
	if after := c.snapshot(); after != before {
		t.Errorf("refused, and it changed\n%s\nto\n%s", before, after)
	}
}

// TestRepairRemoves takes away what nothing tells any more.
func TestRepairRemoves(t *testing.T) {
	c := three(t)
	was := c.roster(t, machine.Roster{})
	unknown := store.Machine("stranger")
	c.overwrite(t, unknown, "{")
	must(t, c.run(c.repair(was, api.RepairRequest{Key: string(unknown), Remove: true})))
	if got := c.members(t); len(got) != 3 {
		t.Errorf("%d members", len(got))
	}
}

// TestRepairOpen: the mark of an unfinished operation that cannot be read blocks its scope, and not its own repair.
func TestRepairOpen(t *testing.T) {
	c := three(t)
	was := c.roster(t, machine.Roster{})
	key := store.Open("cluster")
	c.overwrite(t, key, "7")
	voters := func() api.Outcome { return c.run(machine.NewVoters(c.kit(), api.VotersRequest{})) }
	refusedBy(t, "on the scope", voters(), api.CodeStoreUnreadable, "ployzctl store repair open.cluster")
	s := salvage(was, nil)
	s.Problem = operation.ReadFact
	must(t, c.run(machine.NewRepair(c.kit(), s, api.RepairRequest{Key: string(key), Remove: true})))
	must(t, voters())
}

// TestRepairFromBackup puts back what only a backup has.
func TestRepairFromBackup(t *testing.T) {
	c := three(t)
	was := c.roster(t, machine.Roster{})
	key, backup := store.SharedKey(), memstore.New(memstore.Config{Clock: c.clock.Now})
	copyFacts(t, c.store.Facts(), backup.Facts())
	saved, err := backup.Facts().Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	c.overwrite(t, key, "{")
	c.overwrite(t, "other", "{")
	from := func(key store.Key) api.Outcome {
		return c.run(machine.NewRepair(c.kit(), salvage(was, backup), api.RepairRequest{Key: string(key), Digest: "sha256:x"}))
	}
	refusedBy(t, "not in it", from("other"), api.CodeStoreNoCopy)
	member := store.Machine(was.Members[1].ID)
	c.overwrite(t, member, "{")
	refusedBy(t, "older than the machine's own", from(member), api.CodeBadRequest, "ployzctl store repair "+string(member))
	must(t, from(key))
	if now, err := c.store.Facts().Get(t.Context(), key); err != nil || string(now.Value) != string(saved.Value) {
		t.Errorf("%s %v", now.Value, err)
	}
	c.overwrite(t, key, "{")
	(&cluster{store: backup}).overwrite(t, key, "7")
	refusedBy(t, "as bad there", from(key), api.CodeStoreNoCopy, "cannot be read either")
	(&cluster{store: backup}).overwrite(t, store.Cluster(), `{"id":"other"}`)
	refusedBy(t, "of another cluster", from(key), api.CodeStoreBackupForeign)
}

// TestRepairOfNewer: a machine that runs a newer version may be the one which can read it, unless it is no JSON at all.
func TestRepairOfNewer(t *testing.T) {
	c := three(t)
	was := c.roster(t, machine.Roster{})
	key := store.Machine(was.Members[1].ID)
	kit := c.kit()
	kit.Version = "0.3.0"
	repair := func() api.Outcome {
		return c.run(machine.NewRepair(kit, salvage(was, nil), api.RepairRequest{Key: string(key)}))
	}
	c.overwrite(t, key, `{"id":7}`)
	refusedBy(t, "of another form", repair(), api.CodeMachineVersion, "may be what wrote it")
	c.overwrite(t, key, `{"id":`)
	must(t, repair())
}

// TestRepairRace: who repaired it meanwhile is not overwritten.
func TestRepairRace(t *testing.T) {
	c := three(t)
	was := c.roster(t, machine.Roster{})
	m := was.Members[1]
	c.overwrite(t, store.Machine(m.ID), "{")
	c.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if strings.HasSuffix(b.ID, "-commit") {
			c.store.SetHooks(memstore.Hooks{})
			c.overwrite(t, store.Machine(m.ID), `{"id":"newer"}`)
		}
		return nil
	}})
	if out := c.run(c.repair(was, api.RepairRequest{Key: string(store.Machine(m.ID))})); out.Outcome != api.RolledBack || out.Error.Code != api.CodeConflict {
		t.Errorf("%s %v", out.Outcome, out.Error)
	}
}

// TestRepairOnServers does it on a real store: the change that was refused goes through again, and the mirror follows.
func TestRepairOnServers(t *testing.T) {
	c := three(t)
	was := c.roster(t, machine.Roster{})
	m := natslab.Start(t)
	s := m.Open()
	ctx, cancel := context.WithTimeout(t.Context(), natslab.Patience)
	defer cancel()
	if err := errors.Join(s.AwaitCore(ctx), s.AwaitEdge(ctx)); err != nil {
		t.Fatal(err)
	}
	copyFacts(t, c.store.Facts(), s.Facts())
	kit := c.kit()
	kit.Facts = s.Facts()
	leases := &coordination.Leases{Facts: kit.Facts}
	runner := c.runner()
	runner.Facts, runner.Log = kit.Facts, s.Log()
	runner.Acquire = func(ctx context.Context, scope string, h coordination.Holder) (operation.Lease, error) {
		return leases.Acquire(ctx, scope, h)
	}
	run := func(op operation.Operation) api.Outcome {
		return runner.Run(ctx, operation.Request{Operation: op, Caller: "root"})
	}
	key, zone := store.Machine(was.Members[1].ID), "elsewhere"
	damage := store.Batch{ID: "damage", Puts: []store.Put{{Key: key, Value: []byte("\x00\xff{")}}}
	if _, err := kit.Facts.Commit(ctx, damage); err != nil {
		t.Fatal(err)
	}
	set := func() api.Outcome {
		return run(machine.NewSet(kit, api.MachineSetRequest{Machine: was.Members[2].Name, Zone: &zone}))
	}
	refusedBy(t, "with the damage", set(), api.CodeStoreUnreadable, "ployzctl store repair "+string(key))
	must(t, run(machine.NewRepair(kit, salvage(was, nil), api.RepairRequest{Key: string(key)})))
	out := set()
	must(t, out)
	if err := s.AwaitMirror(ctx, store.Revision(out.Revision)); err != nil {
		t.Fatal(err)
	}
	if members, unread, err := machine.Readable(ctx, s.View()); err != nil || len(members) != 3 || len(unread) > 0 {
		t.Errorf("the mirror has %d members, %v %v", len(members), unread, err)
	}
}

func copyFacts(t *testing.T, from, to store.Facts) {
	t.Helper()
	list, err := from.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	b := store.Batch{ID: "copy"}
	for _, fact := range list {
		b.Puts = append(b.Puts, store.Put{Key: fact.Key, Value: fact.Value})
	}
	if _, err := to.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}
