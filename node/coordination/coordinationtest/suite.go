// Package coordinationtest is what every bus must do, run by each of them: who is reached, what comes back and
// in which order, and what silence means; and, over it, every rule that a machine holds commands against.
package coordinationtest

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
)

// Bus is a bus under test with the machines A and B on it; A coordinates.
type Bus struct {
	A, B string
	// Wire is A's.
	Wire coordination.Wire
	// Listen puts a machine's receiver on the bus and returns when it can be reached.
	Listen func(t *testing.T, machine string, receive coordination.Receive) (stop func())
	// Sign is A's, Verify everybody's.
	Sign   coordination.Sign
	Verify coordination.Verify
}

// beat is short, so that silence is soon heard.
const beat = 200 * time.Millisecond

// Run runs the suite. open may return the same bus every time.
func Run(t *testing.T, open func(t *testing.T) Bus) {
	for name, test := range map[string]func(*testing.T, *bench){
		"a command is answered":                 answered,
		"progress comes in order":               progress,
		"a large answer comes whole":            large,
		"a typed error travels as it is":        typed,
		"nobody listens":                        nobody,
		"an unknown verb":                       unknown,
		"silence":                               silence,
		"a machine that vanishes":               vanished,
		"work is not silence":                   busy,
		"a deadline is the machine's too":       deadline,
		"a cancelled call ends on the machine":  cancelled,
		"a command changed on the way":          tampered,
		"a command for another machine":         misdirected,
		"a command that is too old":             expired,
		"a command from a stranger":             stranger,
		"an older fence":                        fenced,
		"a repeated command acts once":          repeated,
		"a refusal is remembered":               refusal,
		"what may pass later is not remembered": passing,
		"a time-out is not remembered":          timeout,
		"replies outlive a restart":             restarted,
		"a repeat joins what is under way":      joined,
		"an undo does not overtake its step":    overtaken,
		"a straggler does not act":              straggler,
		"a new coordinator ends the old one's":  takenOver,
		"steps of one operation go on together": together,
		"a command without a scope cannot act":  scopeless,
	} {
		t.Run(name, func(t *testing.T) { test(t, newBench(t, open(t))) })
	}
}

// bench is a bus with B listening.
type bench struct {
	Bus
	calls *coordination.Calls
	b     *coordination.Responder
	dir   string
	stop  func()
	// acted counts what B did.
	acted atomic.Int64
	// began tells that a waiting verb is at work; gate lets it end.
	began, gate chan struct{}
}

func newBench(t *testing.T, bus Bus) *bench {
	b := &bench{Bus: bus, dir: t.TempDir(), began: make(chan struct{}, 10), gate: make(chan struct{})}
	b.calls = &coordination.Calls{Machine: bus.A, Sign: bus.Sign, Wire: bus.Wire, Beat: beat}
	b.listen(t)
	t.Cleanup(func() { b.stop() })
	return b
}

// listen starts B anew with what is on its disk.
func (b *bench) listen(t *testing.T) {
	t.Helper()
	fences, err := coordination.OpenFences(filepath.Join(b.dir, "fences.json"))
	must(t, err)
	replies, err := coordination.OpenReplies(filepath.Join(b.dir, "replies"))
	must(t, err)
	b.b = &coordination.Responder{
		Machine: b.B, Verify: b.Verify, Fences: fences, Replies: replies, Verbs: b.verbs(), Beat: beat,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	b.stop = sync.OnceFunc(b.Listen(t, b.B, b.b.Receive))
}

func (b *bench) verbs() map[string]coordination.Verb {
	return map[string]coordination.Verb{
		"test.echo": {Do: func(_ context.Context, cmd coordination.Command, _ func(json.RawMessage)) (json.RawMessage, error) {
			return cmd.Body, nil
		}},
		"test.count":  {Do: counting},
		"test.large":  {Do: b.large},
		"test.refuse": {Acts: true, Do: b.refuse},
		"test.wait":   {Do: b.wait},
		"test.act":    {Acts: true, Do: b.act},
		"test.slow":   {Acts: true, Do: b.wait},
		"test.look": {Do: func(context.Context, coordination.Command, func(json.RawMessage)) (json.RawMessage, error) {
			return b.said(), nil
		}},
	}
}

func counting(_ context.Context, _ coordination.Command, progress func(json.RawMessage)) (json.RawMessage, error) {
	for i := range counted {
		progress(json.RawMessage(strconv.Itoa(i)))
	}
	return nil, nil
}

const counted = 500

func (b *bench) said() json.RawMessage { return json.RawMessage(strconv.FormatInt(b.acted.Load(), 10)) }

func (b *bench) large(context.Context, coordination.Command, func(json.RawMessage)) (json.RawMessage, error) {
	return json.Marshal(strings.Repeat("x", 3<<19))
}

func (b *bench) act(context.Context, coordination.Command, func(json.RawMessage)) (json.RawMessage, error) {
	b.acted.Add(1)
	return b.said(), nil
}

// refuse refuses with the error in the body.
func (b *bench) refuse(_ context.Context, cmd coordination.Command, _ func(json.RawMessage)) (json.RawMessage, error) {
	b.acted.Add(1)
	var e api.Error
	if err := json.Unmarshal(cmd.Body, &e); err != nil {
		return nil, err
	}
	return nil, &e
}

// wait works until the gate is open or its context ends.
func (b *bench) wait(ctx context.Context, _ coordination.Command, _ func(json.RawMessage)) (json.RawMessage, error) {
	b.began <- struct{}{}
	select {
	case <-b.gate:
		b.acted.Add(1)
		return b.said(), nil
	case <-ctx.Done():
		b.acted.Add(100) // it ended otherwise, which a test can see
		return nil, ctx.Err()
	}
}

func within(t *testing.T) context.Context {
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(stop)
	return ctx
}

func command(verb string, body any) coordination.Command {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // a test's own value
	}
	return coordination.Command{Verb: verb, Operation: "op1", Step: "step1", Scope: "ns/shop", Fence: 5, Body: text}
}

func (b *bench) call(t *testing.T, cmd coordination.Command) (json.RawMessage, error) {
	t.Helper()
	return b.calls.Call(within(t), b.B, cmd, nil)
}

// answer is what a call comes to, sent from a goroutine.
type answer struct {
	body json.RawMessage
	err  error
}

func (b *bench) start(ctx context.Context, cmd coordination.Command) <-chan answer {
	out := make(chan answer, 1)
	go func() {
		body, err := b.calls.Call(ctx, b.B, cmd, nil)
		out <- answer{body, err}
	}()
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err error, code api.Code) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Errorf("got %v, want %q", err, code)
	}
}

func (b *bench) wantActed(t *testing.T, n int64) {
	t.Helper()
	if got := b.acted.Load(); got != n {
		t.Errorf("it acted %d times, want %d", got, n)
	}
}

func answered(t *testing.T, b *bench) {
	body, err := b.call(t, command("test.echo", map[string]string{"a": "é\u0000"}))
	must(t, err)
	if string(body) != `{"a":"é\u0000"}` {
		t.Errorf("it answered %s", body)
	}
	_, err = b.call(t, coordination.Command{Verb: coordination.Ping})
	must(t, err)
}

func progress(t *testing.T, b *bench) {
	next := 0
	_, err := b.calls.Call(within(t), b.B, command("test.count", nil), func(body json.RawMessage) {
		if string(body) != strconv.Itoa(next) {
			t.Errorf("%s came, not %d", body, next)
		}
		next++
	})
	must(t, err)
	if next != counted {
		t.Errorf("%d reports came", next)
	}
}

func large(t *testing.T, b *bench) {
	body, err := b.call(t, command("test.large", nil))
	must(t, err)
	var text string
	must(t, json.Unmarshal(body, &text))
	if len(text) != 3<<19 {
		t.Errorf("%d bytes came", len(text))
	}
	_, err = b.call(t, command("test.echo", strings.Repeat("x", 2<<20)))
	if err != nil && api.CodeOf(err) != api.CodeBadRequest {
		t.Errorf("a command that is too large for the bus: %v", err)
	}
}

func typed(t *testing.T, b *bench) {
	sent := api.Errorf(api.CodeNotReady, "it did not become ready").About("shop/web-0").WithHint("look").Again()
	sent.Log, sent.Details = []string{"one", "two"}, []*api.Error{api.Errorf(api.CodePortTaken, "held")}
	_, err := b.call(t, command("test.refuse", sent))
	got, _ := json.Marshal(api.AsError(err)) // plain values
	if expected, _ := json.Marshal(sent); string(got) != string(expected) {
		t.Errorf("%s came back, not %s", got, expected)
	}
}

func nobody(t *testing.T, b *bench) {
	b.stop()
	began := time.Now()
	_, err := b.call(t, command("test.act", nil))
	want(t, err, api.CodeParticipantAbsent)
	if took := time.Since(began); took > beat {
		t.Errorf("that took %s", took)
	}
	b.wantActed(t, 0)
	b.listen(t)
	_, err = b.call(t, command("test.act", nil))
	must(t, err)
}

func unknown(t *testing.T, b *bench) {
	_, err := b.call(t, command("test.nothing", nil))
	want(t, err, api.CodeUnknownOperation)
}

func silence(t *testing.T, b *bench) {
	b.stop()
	b.stop = b.Listen(t, b.B, func(context.Context, []byte, func([]byte) error) {})
	began := time.Now()
	_, err := b.call(t, command("test.act", nil))
	want(t, err, api.CodeParticipantSilent)
	if took := time.Since(began); took < 3*beat || took > 30*beat {
		t.Errorf("silence was called after %s", took)
	}
}

func vanished(t *testing.T, b *bench) {
	b.stop()
	for _, frames := range [][]string{
		{`{"n":1,"kind":"beat"}`, `{"n":2,"kind":"progress","body":1}`}, // and then it dies
		{`{"n":2,"kind":"answer","body":1}`},                            // the first was lost
		{`{`},
	} {
		stop := b.Listen(t, b.B, func(_ context.Context, _ []byte, reply func([]byte) error) {
			for _, f := range frames {
				if err := reply([]byte(f)); err != nil {
					t.Error(err)
				}
			}
		})
		_, err := b.call(t, command("test.act", nil))
		want(t, err, api.CodeParticipantSilent)
		stop()
	}
}

func busy(t *testing.T, b *bench) {
	out := b.start(within(t), command("test.wait", nil))
	<-b.began
	select {
	case a := <-out:
		t.Fatalf("it ended: %v", a.err)
	case <-time.After(6 * beat):
	}
	close(b.gate)
	must(t, (<-out).err)
}

func deadline(t *testing.T, b *bench) {
	cmd := command("test.wait", nil)
	cmd.Deadline = time.Now().Add(3 * beat)
	_, err := b.call(t, cmd)
	want(t, err, api.CodeParticipantSilent)
	b.wantActed(t, 100)
	ctx, stop := context.WithTimeout(context.Background(), 3*beat)
	defer stop()
	_, err = b.calls.Call(ctx, b.B, command("test.wait", nil), nil)
	want(t, err, api.CodeParticipantSilent)
	b.wantActed(t, 200) // its end was awaited
	cmd.Deadline = time.Now().Add(-time.Second)
	_, err = b.call(t, cmd)
	want(t, err, api.CodeParticipantRefused)
}

func cancelled(t *testing.T, b *bench) {
	ctx, stop := context.WithCancel(context.Background())
	out := b.start(ctx, command("test.wait", nil))
	<-b.began
	stop()
	want(t, (<-out).err, api.CodeCancelled)
	b.wantActed(t, 100)
	_, err := b.calls.Call(ctx, b.B, command("test.act", nil), nil)
	want(t, err, api.CodeParticipantAbsent) // nothing was sent
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the cause is lost: %v", err)
	}
}

// bent is a wire that changes what goes over it.
type bent struct {
	coordination.Wire
	bend func(machine string, sealed []byte) (string, []byte)
}

// Send implements coordination.Wire.
func (w bent) Send(ctx context.Context, machine, verb string, sealed []byte) (coordination.Conversation, error) {
	machine, sealed = w.bend(machine, sealed)
	return w.Wire.Send(ctx, machine, verb, sealed)
}

func tampered(t *testing.T, b *bench) {
	for name, bend := range map[string]func(string) string{
		"body":      func(s string) string { return strings.Replace(s, `"body":1`, `"body":2`, 1) },
		"fence":     func(s string) string { return strings.Replace(s, `"fence":5`, `"fence":6`, 1) },
		"unsigned":  func(s string) string { _, text, _ := strings.Cut(s, "\n"); return text },
		"cut":       func(s string) string { return s[:len(s)/2] },
		"empty":     func(string) string { return "" },
		"signature": func(s string) string { return strings.Repeat("A", 86) + "==" + s[strings.Index(s, "\n"):] },
	} {
		b.calls.Wire = bent{b.Wire, func(m string, sealed []byte) (string, []byte) { return m, []byte(bend(string(sealed))) }}
		_, err := b.call(t, command("test.act", 1))
		if want(t, err, api.CodeParticipantRefused); t.Failed() {
			t.Fatal(name)
		}
	}
	b.wantActed(t, 0)
}

func misdirected(t *testing.T, b *bench) {
	b.calls.Wire = bent{b.Wire, func(_ string, sealed []byte) (string, []byte) { return b.B, sealed }}
	_, err := b.calls.Call(within(t), b.A, command("test.act", nil), nil)
	want(t, err, api.CodeParticipantRefused)
	b.wantActed(t, 0)
}

func expired(t *testing.T, b *bench) {
	for _, off := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		b.calls.Now = func() time.Time { return time.Now().Add(off) }
		_, err := b.call(t, command("test.act", nil))
		want(t, err, api.CodeParticipantRefused)
	}
	b.wantActed(t, 0)
	b.calls.Now = func() time.Time { return time.Now().Add(-time.Minute) } // clocks do differ a little
	_, err := b.call(t, command("test.act", nil))
	must(t, err)
}

func stranger(t *testing.T, b *bench) {
	b.calls.Machine = "m-unknown"
	_, err := b.call(t, command("test.act", nil))
	want(t, err, api.CodeParticipantRefused)
	b.calls.Machine = b.B // a member, whose key this is not
	_, err = b.call(t, command("test.act", nil))
	want(t, err, api.CodeParticipantRefused)
	b.wantActed(t, 0)
}

func fenced(t *testing.T, b *bench) {
	newer := command("test.act", nil)
	newer.Operation, newer.Fence = "op2", 9
	_, err := b.call(t, newer)
	must(t, err)
	_, err = b.call(t, command("test.act", nil))
	want(t, err, api.CodeLeaseLost)
	elsewhere := command("test.act", nil)
	elsewhere.Scope = "ns/other"
	_, err = b.call(t, elsewhere)
	must(t, err)
	_, err = b.call(t, command("test.look", nil)) // looking needs no fence
	must(t, err)
	b.wantActed(t, 2)
}
