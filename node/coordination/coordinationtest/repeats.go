package coordinationtest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
)

func repeated(t *testing.T, b *bench) {
	for range 3 {
		body, err := b.call(t, command("test.act", 1))
		must(t, err)
		if string(body) != "1" {
			t.Errorf("it answered %s", body)
		}
	}
	b.wantActed(t, 1)
	other := command("test.act", 2)
	_, err := b.call(t, other)
	must(t, err)
	other.Step = "step2"
	_, err = b.call(t, other)
	must(t, err)
	other.Operation = "op2"
	_, err = b.call(t, other)
	must(t, err)
	b.wantActed(t, 4)
}

func refusal(t *testing.T, b *bench) {
	for range 3 {
		_, err := b.call(t, command("test.refuse", api.Errorf(api.CodeStartFailed, "no")))
		want(t, err, api.CodeStartFailed)
	}
	b.wantActed(t, 1)
}

func passing(t *testing.T, b *bench) {
	for range 3 {
		_, err := b.call(t, command("test.refuse", api.Errorf(api.CodeRegistryDown, "later").Again()))
		want(t, err, api.CodeRegistryDown)
	}
	b.wantActed(t, 3)
}

func timeout(t *testing.T, b *bench) {
	cmd := command("test.slow", nil)
	cmd.Deadline = time.Now().Add(2 * beat)
	_, err := b.call(t, cmd)
	want(t, err, api.CodeParticipantSilent)
	b.wantActed(t, 100)
	close(b.gate)
	cmd.Deadline = time.Time{}
	_, err = b.call(t, cmd)
	must(t, err)
	b.wantActed(t, 101)
}

func restarted(t *testing.T, b *bench) {
	_, err := b.call(t, command("test.act", nil))
	must(t, err)
	b.stop()
	b.listen(t)
	body, err := b.call(t, command("test.act", nil))
	must(t, err)
	if string(body) != "1" {
		t.Errorf("it answered %s", body)
	}
	b.wantActed(t, 1)
	older := command("test.act", nil)
	older.Fence = 4
	_, err = b.call(t, older)
	want(t, err, api.CodeLeaseLost) // also where an answer is remembered
}

func joined(t *testing.T, b *bench) {
	first := b.start(within(t), command("test.slow", nil))
	<-b.began
	second := b.start(within(t), command("test.slow", nil))
	select {
	case a := <-second:
		t.Fatalf("the repeat ended by itself: %v", a.err)
	case <-b.began:
		t.Fatal("the repeat acts")
	case <-time.After(3 * beat):
	}
	close(b.gate)
	for _, out := range []<-chan answer{first, second} {
		a := <-out
		must(t, a.err)
		if string(a.body) != "1" {
			t.Errorf("it answered %s", a.body)
		}
	}
}

func overtaken(t *testing.T, b *bench) {
	step := b.start(within(t), command("test.slow", nil))
	<-b.began
	body, err := b.call(t, command("test.act", "undo"))
	must(t, err)
	if string(body) != "101" { // the step's end came first
		t.Errorf("it answered %s", body)
	}
	want(t, (<-step).err, api.CodeCancelled)
}

// straggler has a step's command arrive after its undo.
func straggler(t *testing.T, b *bench) {
	var kept []byte
	b.calls.Wire = bent{b.Wire, func(machine string, sealed []byte) (string, []byte) {
		if kept == nil {
			kept, sealed = sealed, nil
		}
		return machine, sealed
	}}
	_, err := b.call(t, command("test.act", "do"))
	want(t, err, api.CodeParticipantRefused) // it was held back
	_, err = b.call(t, command("test.act", "undo"))
	must(t, err)
	late, err := b.Wire.Send(within(t), b.B, "test.act", kept)
	must(t, err)
	defer late.Close()
	for {
		text, err := late.Next(within(t))
		must(t, err)
		if strings.Contains(string(text), `"kind":"answer"`) {
			if !strings.Contains(string(text), string(api.CodeParticipantRefused)) {
				t.Errorf("it is answered %s", text)
			}
			break
		}
	}
	b.wantActed(t, 1)
}

func takenOver(t *testing.T, b *bench) {
	old := b.start(within(t), command("test.slow", nil))
	<-b.began
	newer := command("test.act", nil)
	newer.Operation, newer.Fence = "op2", 9
	body, err := b.call(t, newer)
	must(t, err)
	if string(body) != "101" {
		t.Errorf("it answered %s", body)
	}
	want(t, (<-old).err, api.CodeLeaseLost)
}

func together(t *testing.T, b *bench) {
	ctx, stop := context.WithCancel(within(t))
	defer stop()
	one := b.start(ctx, command("test.slow", nil))
	<-b.began
	other := command("test.slow", nil)
	other.Step = "step2"
	two := b.start(ctx, other)
	<-b.began
	close(b.gate)
	must(t, (<-one).err)
	must(t, (<-two).err)
}

func scopeless(t *testing.T, b *bench) {
	cmd := command("test.act", nil)
	cmd.Scope = ""
	_, err := b.call(t, cmd)
	want(t, err, api.CodeBadRequest)
	b.wantActed(t, 0)
}
