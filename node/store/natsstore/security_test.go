package natsstore_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// client connects with one role's key, as a program of an intruder would.
func client(t *testing.T, url, seed, inbox string) *nats.Conn {
	t.Helper()
	key, err := nats.NkeyOptionFromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(url, key, nats.CustomInboxPrefix(inbox), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatalf("%s: %v", seed, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func (f *fixture) core() string { return f.m.Config().CoreURLs[0] }

// fixture is one machine that several tests share, since none of them breaks it.
type fixture struct {
	m *natslab.Machine
	s *natsstore.Store
	// stolen is the folder of the second machine's keys.
	stolen string
}

// TestKeysAreBounded tries what a stolen key of each role could try. A second machine is known to
// the core, so that there is somebody to attack. Its leaf keys are let in as clients too: an
// intruder speaks the leaf protocol with a program of his own, which an honest edge does not.
func TestKeysAreBounded(t *testing.T) {
	stolen := t.TempDir()
	other, err := natsstore.EnsureKeys(stolen, natsconf.Roles())
	if err != nil {
		t.Fatal(err)
	}
	m := natslab.Start(t, func(m *natslab.Machine) {
		m.CoreConfig.Machines = append(m.CoreConfig.Machines, natsconf.Machine{ID: "m2", Keys: other.Shared()})
		m.Edit = func(text string) string {
			for _, role := range []natsconf.Role{natsconf.RoleEdge, natsconf.RoleEdgeBus} {
				text = strings.Replace(text, other[role]+`, allowed_connection_types: ["LEAFNODE"]`, other[role], 1)
			}
			return text
		}
	})
	f := &fixture{m, m.Open(), stolen}
	ready(t, f.s)
	mustPut(t, f.s, "machine.m2", "theirs")
	t.Run("an edge writes nothing", f.edgeWrites)
	t.Run("an edge changes no stream", f.edgeAdministers)
	t.Run("an edge hears only its own commands", f.edgeCommands)
	t.Run("a consumer's deliver subject does not reach commands", f.deliverSubject)
	t.Run("a reader reads", f.reader)
	t.Run("a key opens one door", f.doors)
}

// edges are the two ways of a stolen edge key: through the machine's own edge, and directly.
func (f *fixture) edges(t *testing.T) map[string]*nats.Conn {
	return map[string]*nats.Conn{
		"over the leaf": client(t, f.m.EdgeURL(), f.m.Seed(natsconf.RoleLocal), natsconf.Inbox("m1")),
		"directly":      client(t, f.core(), natsstore.SeedFile(f.stolen, natsconf.RoleEdge), natsconf.Inbox("m2")),
	}
}

func (f *fixture) edgeWrites(t *testing.T) {
	for way, nc := range f.edges(t) {
		for _, subject := range []string{
			natsconf.FactsSubject(1) + "machine.m2", natsconf.FactsSubject(1) + "cluster", natsconf.FactsSubject(1) + "lease.x",
			natsconf.LedgerSubject(1) + "op",
		} {
			if m, err := nc.Request(subject, []byte("mine"), 200*time.Millisecond); err == nil {
				t.Errorf("%s: wrote %s: %s", way, subject, m.Data)
			}
		}
	}
	wantFacts(t, f.s, "machine.m2=theirs")
	if refusal := `Publish Violation - Subject "` + natsconf.FactsSubject(1) + "machine.m2"; !strings.Contains(f.m.Core.Log(), refusal) {
		t.Errorf("the core refused nothing: the writes failed for another reason")
	}
}

func (f *fixture) edgeAdministers(t *testing.T) {
	facts := natsconf.FactsStream(1)
	for way, nc := range f.edges(t) {
		api := "$JS.core.API."
		for _, verb := range []string{
			"STREAM.PURGE." + facts, "STREAM.DELETE." + facts, "STREAM.UPDATE." + facts, "STREAM.SNAPSHOT." + facts, "STREAM.MSG.DELETE." + facts,
			"STREAM.CREATE.mine", "STREAM.LEADER.STEPDOWN." + facts, "META.LEADER.STEPDOWN", "SERVER.REMOVE", "CONSUMER.LIST." + facts,
		} {
			for _, prefix := range []string{api, "$JS.API."} {
				if prefix == "$JS.API." && way == "over the leaf" {
					continue // there it is the edge's own, which may well answer
				}
				if m, err := nc.Request(prefix+verb, nil, 100*time.Millisecond); err == nil {
					t.Errorf("%s: %s was answered: %s", way, verb, m.Data)
				}
			}
		}
		if way == "directly" {
			continue // the domain's prefix is taken off before permissions are judged: even looking is refused
		}
		if m, err := nc.Request(api+"STREAM.INFO."+facts, nil, 5*time.Second); err != nil || !strings.Contains(string(m.Data), `"deny_purge":true`) {
			t.Errorf("%s: an edge must be able to look: %v", way, err)
		}
	}
}

// inbox collects the subjects and payloads that arrive.
type inbox struct {
	mu  sync.Mutex
	got []string
}

func (i *inbox) take(m *nats.Msg) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.got = append(i.got, m.Subject)
}

func (i *inbox) has(subject string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, s := range i.got {
		if s == subject {
			return true
		}
	}
	return false
}

func (i *inbox) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.got)
}

func subscribe(t *testing.T, nc *nats.Conn, subject string) *inbox {
	t.Helper()
	var i inbox
	if _, err := nc.Subscribe(subject, i.take); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return &i
}

// edgeCommands subscribes to everything on the edge's bus, and commands as a coordinator.
func (f *fixture) edgeCommands(t *testing.T) {
	local := client(t, f.m.EdgeURL(), f.m.Seed(natsconf.RoleLocalBus), natsconf.Inbox("m1"))
	heard := subscribe(t, local, ">")
	own := subscribe(t, local, natsconf.CommandSubject("m1")+">")
	subscribe(t, local, natsconf.CommandSubject("m2")+">")
	boss := client(t, f.core(), f.m.Seed(natsconf.RoleCoordinatorBus), natsconf.Inbox("m1"))
	for deadline := time.Now().Add(natslab.Patience); !own.has("cmd.m1.ping"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the machine's own command did not arrive")
		}
		for _, subject := range []string{"cmd.m2.stop", "cmd.m1.ping"} {
			if err := boss.Publish(subject, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if heard.has("cmd.m2.stop") {
		t.Error("an edge heard another machine's command")
	}
	f.stolenBus(t, boss)
	if _, err := local.Request("cmd.m2.stop", nil, 300*time.Millisecond); err == nil {
		t.Error("an edge commanded another machine")
	}
}

// stolenBus listens with m2's key to m1's commands and answers, and commands it.
func (f *fixture) stolenBus(t *testing.T, boss *nats.Conn) {
	nc := client(t, f.core(), natsstore.SeedFile(f.stolen, natsconf.RoleEdgeBus), natsconf.Inbox("m2"))
	foreign := subscribe(t, nc, natsconf.CommandSubject("m1")+">")
	replies := subscribe(t, nc, natsconf.Inbox("m1")+".>")
	own := subscribe(t, nc, natsconf.CommandSubject("m2")+">")
	if _, err := boss.Request("cmd.m1.snooped", nil, 200*time.Millisecond); err == nil {
		t.Error("somebody answered for m1")
	}
	if err := boss.Publish("cmd.m2.mine", nil); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(natslab.Patience); !own.has("cmd.m2.mine"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("its own command did not arrive")
		}
	}
	if foreign.count() > 0 || replies.count() > 0 {
		t.Errorf("a stolen key heard %v %v", foreign.got, replies.got)
	}
	if _, err := nc.Request("cmd.m1.stop", nil, 100*time.Millisecond); err == nil {
		t.Error("a stolen key commanded m1")
	}
}

// deliverSubject makes the core deliver a fact under a command's subject. It works, in STORE:
// which is why commands are not there.
func (f *fixture) deliverSubject(t *testing.T) {
	const target = "cmd.m1.container.stop"
	bus := subscribe(t, client(t, f.m.EdgeURL(), f.m.Seed(natsconf.RoleLocalBus), natsconf.Inbox("m1")), natsconf.CommandSubject("m1")+">")
	inStore := subscribe(t, client(t, f.core(), f.m.Seed(natsconf.RoleCoordinator), natsconf.Inbox("m1")), target)
	local := client(t, f.m.EdgeURL(), f.m.Seed(natsconf.RoleLocal), natsconf.Inbox("m1"))
	stream := natsconf.FactsStream(1)
	body, err := json.Marshal(map[string]any{"stream_name": stream, "config": map[string]any{
		"name": "evil", "deliver_subject": target, "deliver_policy": "all", "ack_policy": "none",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := local.Request("$JS.core.API.CONSUMER.CREATE."+stream+".evil", body, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(natslab.Patience); inStore.count() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the attack did not even work in STORE: this test proves nothing")
		}
	}
	time.Sleep(200 * time.Millisecond) // what would arrive in BUS has had more time than in STORE
	if bus.count() > 0 {
		t.Errorf("facts arrived as commands: %v", bus.got)
	}
}

func (f *fixture) reader(t *testing.T) {
	s := f.m.Open(func(c *natsstore.Config) {
		c.Reader, c.EdgeSeed, c.CoreURLs = natsconf.RoleGateway, f.m.Seed(natsconf.RoleGateway), nil
	})
	ctx := within(t, natslab.Patience)
	if err := s.AwaitEdge(ctx); err != nil {
		t.Fatal(err)
	}
	if fact, err := s.View().Get(ctx, "machine.m2"); err != nil || string(fact.Value) != "theirs" {
		t.Errorf("%+v, %v", fact, err)
	}
	if list, err := s.View().List(ctx, "machine"); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	feed, err := s.View().Follow(ctx, "machine")
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	if c, err := feed.Next(ctx); err != nil || !c.Current {
		t.Errorf("%+v, %v", c, err)
	}
	if fresh, err := s.View().Freshness(ctx); err != nil || !fresh.Fresh {
		t.Errorf("%+v, %v", fresh, err)
	}
	nc := client(t, f.m.EdgeURL(), f.m.Seed(natsconf.RoleGateway), natsconf.Inbox("gateway"))
	for _, subject := range []string{"$JS.API.STREAM.DELETE." + natsconf.FactsStream(1), "$JS.API.STREAM.CREATE.x", "$JS.core.API.STREAM.INFO." + natsconf.FactsStream(1), natsconf.FactsSubject(1) + "status.m1.x"} {
		if m, err := nc.Request(subject, nil, 200*time.Millisecond); err == nil {
			t.Errorf("a reader did %s: %s", subject, m.Data)
		}
	}
}

// doors tries every key as a client where it does not belong.
func (f *fixture) doors(t *testing.T) {
	for _, c := range []struct {
		url  string
		role natsconf.Role
	}{
		{f.core(), natsconf.RoleEdge}, {f.core(), natsconf.RoleEdgeBus}, {f.core(), natsconf.RoleLocal}, {f.core(), natsconf.RoleGateway},
		{f.m.EdgeURL(), natsconf.RoleCoordinator}, {f.m.EdgeURL(), natsconf.RoleSystem}, {f.m.EdgeURL(), natsconf.RoleEdge},
	} {
		key, err := nats.NkeyOptionFromSeed(f.m.Seed(c.role))
		if err != nil {
			t.Fatal(err)
		}
		if nc, err := nats.Connect(c.url, key); err == nil {
			nc.Close()
			t.Errorf("the %s key opened %s", c.role, c.url)
		}
	}
	if nc, err := nats.Connect(f.core()); err == nil {
		nc.Close()
		t.Error("the core lets in whoever has no key")
	}
	if nc, err := nats.Connect(f.m.EdgeURL()); err == nil {
		nc.Close()
		t.Error("the edge lets in whoever has no key")
	}
}
