// Package storetest is the conformance suite of node/store: what every implementation must do,
// as tests. memstore and natsstore run all of it, filestore the parts that it implements.
//
// The suite may share one store among all its tests, so each works under keys and operations of
// its own, and none assumes that the store was empty.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// World is one store to be tried. The three faces belong to the same store. A face or function
// that no chosen part needs may be nil.
type World struct {
	Facts store.Facts
	View  store.View
	Log   store.Log
	// Pass lets that much time pass in the store: moves a clock, or sleeps.
	Pass func(time.Duration)
	// Small returns a store that is full after about 64 KiB; its faces are its own.
	Small func(*testing.T) World
	// Broken returns a store whose writes end with the code: store.unavailable or store.uncertain.
	Broken func(*testing.T, api.Code) World
}

// patience bounds every wait for something that must happen.
const patience = 15 * time.Second

// Part is a share of the suite that a store can be held to by itself.
type Part int

// The parts, with what they need of a World.
const (
	// Facts needs Facts and Pass.
	Facts Part = iota
	// View needs Facts, View and Pass.
	View
	// Log needs Log.
	Log
	// Refusals needs Facts and Log: what a store must turn down.
	Refusals
	// Failures needs Facts, Log, Small and Broken.
	Failures
)

func (p Part) trials() []trial {
	return map[Part][]trial{
		Facts: slices.Concat(factTrials, guardTrials), View: viewTrials, Log: logTrials,
		Refusals: refusalTrials, Failures: failureTrials,
	}[p]
}

// Run runs the whole suite; open is called once per test.
func Run(t *testing.T, open func(*testing.T) World) {
	RunParts(t, open, Facts, View, Log, Refusals, Failures)
}

// RunParts runs some parts of the suite, for a store that is not all of the contract on purpose.
func RunParts(t *testing.T, open func(*testing.T) World, parts ...Part) {
	for _, part := range parts {
		for _, try := range part.trials() {
			t.Run(try.name, func(t *testing.T) { try.run(newBench(t, open(t))) })
		}
	}
}

type trial struct {
	name string
	run  func(*bench)
}

// bench is one test with its store and its own corner of the keys.
type bench struct {
	*testing.T
	World
	ctx  context.Context
	name string
	n    int
}

func newBench(t *testing.T, w World) *bench {
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	t.Cleanup(cancel)
	name := strings.Map(keyRune, t.Name()) + fmt.Sprintf("_%d", time.Now().UnixNano())
	return &bench{T: t, World: w, ctx: ctx, name: name[max(0, len(name)-60):]}
}

func keyRune(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '_'
}

// key returns a key of this test's own.
func (b *bench) key(tokens ...string) store.Key {
	return store.Key(strings.Join(append([]string{"t", b.name}, tokens...), "."))
}

// id returns an ID no other batch has.
func (b *bench) id() string {
	b.n++
	return fmt.Sprintf("%s-%d", b.name, b.n)
}

func (b *bench) commit(puts ...store.Put) (store.Revision, error) {
	return b.Facts.Commit(b.ctx, store.Batch{ID: b.id(), Puts: puts})
}

func (b *bench) mustCommit(puts ...store.Put) store.Revision {
	b.Helper()
	r, err := b.commit(puts...)
	if err != nil {
		b.Fatalf("commit: %v", err)
	}
	if r == 0 {
		b.Fatal("commit returned revision 0")
	}
	return r
}

func (b *bench) wantCode(err error, want api.Code) {
	b.Helper()
	if got := api.CodeOf(err); got != want {
		b.Fatalf("error code %q (%v), want %q", got, err, want)
	}
}

// wantValue wants the leader to hold the value under the key, "" for absent.
func (b *bench) wantValue(k store.Key, want string) store.Fact {
	b.Helper()
	f, err := b.Facts.Get(b.ctx, k)
	if want == "" {
		if !store.IsNotFound(err) {
			b.Fatalf("%s is %q (%v), want it absent", k, f.Value, err)
		}
		return f
	}
	if err != nil || string(f.Value) != want {
		b.Fatalf("%s is %q (%v), want %q", k, f.Value, err, want)
	}
	return f
}

// eventually polls until ok returns "", and fails with its last word.
func (b *bench) eventually(ok func() string) {
	b.Helper()
	deadline := time.Now().Add(patience)
	for {
		why := ok()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("after %s still: %s", patience, why)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func keysOf(facts []store.Fact) string {
	var out []string
	for _, f := range facts {
		out = append(out, string(f.Key)+"="+string(f.Value))
	}
	return strings.Join(out, " ")
}

func put(k store.Key, v string) store.Put { return store.Put{Key: k, Value: []byte(v)} }

func guarded(k store.Key, v string, at store.Revision) store.Put {
	return store.Put{Key: k, Value: []byte(v), Expect: store.Expect(at)}
}

func isDeadline(err error) bool { return errors.Is(err, context.DeadlineExceeded) }
