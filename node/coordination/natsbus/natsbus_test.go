package natsbus_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/coordination/coordinationtest"
	"github.com/ployz/ployz/node/coordination/natsbus"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// lab is m1 with core and edge, and m2 whose edge is a leaf of it.
//
//	coordinator ── m1's core ══ leaf ══ m2's edge ── participant
type lab struct {
	m1, m2 *natslab.Machine
	wire   *natsbus.Wire
}

func newLab(t *testing.T) *lab {
	t.Helper()
	m2 := natslab.NewLeaf(t, "m2")
	m1 := natslab.New(t, natslab.Knows(m2))
	m1.Found()
	m1.Core.Start()
	m1.Edge.Start()
	m2.Join(m1)
	return &lab{m1, m2, dial(t, m1, m1)}
}

// dial connects a machine's coordinator to the core of m1.
func dial(t testing.TB, core, self *natslab.Machine) *natsbus.Wire {
	t.Helper()
	wire, err := natsbus.Dial(natsbus.Core{
		URLs: core.Config().CoreURLs, Seed: self.Seed(natsconf.RoleCoordinatorBus),
		Inbox: natsconf.Inbox(self.ID), Commands: natsconf.CommandSubject,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(wire.Close)
	return wire
}

func (l *lab) machine(id string) *natslab.Machine {
	if id == l.m1.ID {
		return l.m1
	}
	return l.m2
}

// listen listens on a machine's edge until stop, and waits until the core knows of it.
func (l *lab) listen(t testing.TB, id string, receive coordination.Receive) (stop func()) {
	t.Helper()
	m := l.machine(id)
	listener, err := natsbus.Listen(natsbus.Edge{
		URL: m.EdgeURL(), Seed: m.Seed(natsconf.RoleLocalBus), Inbox: natsconf.Inbox(id), Commands: natsconf.CommandSubject(id),
	}, receive)
	if err != nil {
		t.Fatal(err)
	}
	l.await(t, id, true)
	return func() {
		listener.Close()
		l.await(t, id, false)
	}
}

// await waits until somebody, or nobody, listens for the machine.
func (l *lab) await(t testing.TB, id string, listens bool) {
	t.Helper()
	for deadline := time.Now().Add(natslab.Patience); l.heard(t, id) != listens; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("that somebody listens for %s did not become %t", id, listens)
		}
	}
}

// heard asks whether anybody takes what is sent to the machine. What is sent is no command.
func (l *lab) heard(t testing.TB, id string) bool {
	t.Helper()
	c, err := l.wire.Send(t.Context(), id, "nothing", nil)
	if err != nil {
		return false
	}
	defer c.Close()
	ctx, stop := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer stop()
	_, err = c.Next(ctx)
	return !errors.Is(err, coordination.ErrNobody)
}

// verify knows both machines' keys, as the facts of their memberships would say them.
func (l *lab) verify() coordination.Verify {
	return natsbus.Verifier(func(_ context.Context, machine string) (string, error) {
		if machine != "m1" && machine != "m2" {
			return "", errors.New("no such member")
		}
		return l.machine(machine).Keys[natsconf.RoleCoordinatorBus], nil
	})
}

func TestBus(t *testing.T) {
	l := newLab(t)
	coordinationtest.Run(t, func(t *testing.T) coordinationtest.Bus {
		return coordinationtest.Bus{
			A: "m1", B: "m2", Wire: l.wire,
			Listen: func(t *testing.T, id string, receive coordination.Receive) func() { return l.listen(t, id, receive) },
			Sign:   natsbus.Signer(l.m1.Seed(natsconf.RoleCoordinatorBus)), Verify: l.verify(),
		}
	})
	t.Run("both directions", l.bothDirections)
	t.Run("subjects", l.subjects)
	t.Run("cut off", l.cutOff)
	t.Run("moved", l.moved)
}

func (l *lab) responder(t testing.TB, id string) *coordination.Responder {
	t.Helper()
	fences, err := coordination.OpenFences(filepath.Join(t.TempDir(), "fences.json"))
	if err != nil {
		t.Fatal(err)
	}
	replies, err := coordination.OpenReplies(filepath.Join(t.TempDir(), "replies"))
	if err != nil {
		t.Fatal(err)
	}
	return &coordination.Responder{Machine: id, Verify: l.verify(), Fences: fences, Replies: replies, Log: slog.New(slog.DiscardHandler)}
}

// ping calls from one machine to another.
func (l *lab) ping(t *testing.T, from, to string) error {
	t.Helper()
	wire := l.wire
	if from != "m1" {
		wire = dial(t, l.m1, l.machine(from))
		for deadline := time.Now().Add(natslab.Patience); !wire.Connected(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the core lets nobody in")
			}
		}
	}
	calls := coordination.Calls{Machine: from, Sign: natsbus.Signer(l.machine(from).Seed(natsconf.RoleCoordinatorBus)), Wire: wire}
	ctx, stop := context.WithTimeout(context.Background(), natslab.Patience)
	defer stop()
	_, err := calls.Call(ctx, to, coordination.Command{Verb: coordination.Ping}, nil)
	return err
}

// bothDirections has every machine ask every machine: the leaf's coordinator goes to the core of m1 too.
func (l *lab) bothDirections(t *testing.T) {
	for _, id := range []string{"m1", "m2"} {
		defer l.listen(t, id, l.responder(t, id).Receive)()
	}
	for _, from := range []string{"m1", "m2"} {
		for _, to := range []string{"m1", "m2"} {
			if err := l.ping(t, from, to); err != nil {
				t.Errorf("%s asks %s: %v", from, to, err)
			}
		}
	}
}

// subjects has a program on m2's own edge publish what only looks like a command.
func (l *lab) subjects(t *testing.T) {
	heard := make(chan string, 10)
	defer l.listen(t, "m2", func(_ context.Context, sealed []byte, _ func([]byte) error) { heard <- string(sealed) })()
	for len(heard) > 0 {
		<-heard
	}
	key, err := nats.NkeyOptionFromSeed(l.m2.Seed(natsconf.RoleLocalBus))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(l.m2.EdgeURL(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for subject, payload := range map[string]string{"cmd.m1.x": "another's", "cmd.m2x.y": "a prefix", "cmd.m2": "no verb"} {
		if err := nc.PublishRequest(subject, "_INBOX.m2.x", []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.PublishRequest("cmd.m2.z", "_INBOX.m2.x", []byte("its own")); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != "its own" {
		t.Errorf("it heard %q", got)
	}
}

// cutOff stops the edge's process: a black hole, in which nobody refuses. Then it is killed, and nobody is there.
func (l *lab) cutOff(t *testing.T) {
	defer l.listen(t, "m2", l.responder(t, "m2").Receive)()
	calls := coordination.Calls{
		Machine: "m1", Sign: natsbus.Signer(l.m1.Seed(natsconf.RoleCoordinatorBus)), Wire: l.wire, Beat: 200 * time.Millisecond,
	}
	ask := func() error {
		_, err := calls.Call(t.Context(), "m2", coordination.Command{Verb: coordination.Ping}, nil)
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	l.m2.Edge.Signal(syscall.SIGSTOP)
	if err := ask(); api.CodeOf(err) != api.CodeParticipantSilent {
		t.Errorf("a black hole answers %v", err)
	}
	l.m2.Edge.Signal(syscall.SIGCONT)
	l.m2.Edge.Kill()
	for deadline := time.Now().Add(natslab.Patience); ; time.Sleep(10 * time.Millisecond) {
		if err := ask(); api.CodeOf(err) == api.CodeParticipantAbsent {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is not absent")
		}
	}
	l.m2.Edge.Start()
	l.await(t, "m2", true)
}

// moved has a coordinator follow the voters to where they are, with a command under way.
func (l *lab) moved(t *testing.T) {
	began := make(chan bool, 10)
	r := l.responder(t, "m2")
	r.Verbs = map[string]coordination.Verb{"test.wait": {Do: func(ctx context.Context, _ coordination.Command, _ func(json.RawMessage)) (json.RawMessage, error) {
		began <- true
		<-ctx.Done()
		return nil, ctx.Err()
	}}}
	defer l.listen(t, "m2", r.Receive)()
	wire := dial(t, l.m1, l.m1)
	for deadline := time.Now().Add(natslab.Patience); !wire.Connected(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the core lets nobody in")
		}
	}
	calls := coordination.Calls{Machine: "m1", Sign: natsbus.Signer(l.m1.Seed(natsconf.RoleCoordinatorBus)), Wire: wire}
	ended := make(chan error, 1)
	go func() {
		_, err := calls.Call(t.Context(), "m2", coordination.Command{Verb: "test.wait", Deadline: time.Now().Add(3 * time.Second)}, nil)
		ended <- err
	}()
	<-began
	if err := wire.Move([]string{"nats://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; api.CodeOf(err) != api.CodeParticipantSilent {
		t.Errorf("the one under way: %v", err)
	}
	ping := coordination.Command{Verb: coordination.Ping}
	if _, err := calls.Call(t.Context(), "m2", ping, nil); api.CodeOf(err) != api.CodeParticipantAbsent {
		t.Errorf("with no core there: %v", err)
	}
	if err := wire.Move(l.m1.Config().CoreURLs); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(natslab.Patience); ; time.Sleep(5 * time.Millisecond) {
		_, err := calls.Call(t.Context(), "m2", ping, nil)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestNoCore: with no core to send to, nothing was sent, and it says so at once.
func TestNoCore(t *testing.T) {
	m := natslab.NewLeaf(t, "m1")
	wire, err := natsbus.Dial(natsbus.Core{
		URLs: []string{"nats://127.0.0.1:1"}, Seed: m.Seed(natsconf.RoleCoordinatorBus), Inbox: "_INBOX.m1", Commands: natsconf.CommandSubject,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	calls := coordination.Calls{Machine: "m1", Sign: natsbus.Signer(m.Seed(natsconf.RoleCoordinatorBus)), Wire: wire}
	_, err = calls.Call(t.Context(), "m2", coordination.Command{Verb: "x.y", Body: json.RawMessage(`1`)}, nil)
	if api.CodeOf(err) != api.CodeParticipantAbsent {
		t.Errorf("got %v", err)
	}
}

// BenchmarkCall is a small command from m1 to m2: sealed, sent over core and leaf, checked, answered.
func BenchmarkCall(b *testing.B) {
	m2 := natslab.NewLeaf(b, "m2")
	m1 := natslab.New(b, natslab.Knows(m2))
	m1.Found()
	m1.Core.Start()
	m1.Edge.Start()
	m2.Join(m1)
	l := &lab{m1, m2, dial(b, m1, m1)}
	defer l.listen(b, "m2", l.responder(b, "m2").Receive)()
	calls := coordination.Calls{Machine: "m1", Sign: natsbus.Signer(m1.Seed(natsconf.RoleCoordinatorBus)), Wire: l.wire}
	for b.Loop() {
		if _, err := calls.Call(b.Context(), "m2", coordination.Command{Verb: coordination.Ping}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
