package routing_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
)

var errDown = store.Unavailable("the mirror", errors.New("no edge here"))

// TestServesFromDiskWithoutTheStore: a second process starts with the store gone.
func TestServesFromDiskWithoutTheStore(t *testing.T) {
	r := newRig(t)
	at := r.put("shop", "i1")
	first := r.follower()
	stop := r.run(first)
	r.awaitFresh(first)
	stop() // also writes what was not written yet
	r.mirror.set(func(m *mirror) { m.down = errDown })

	second := r.follower()
	second.Load()
	if serves(second, "shop") != "i1" || len(r.history()) == 0 {
		t.Fatalf("not served at once: %+v", second.Projection())
	}
	fresh := second.Freshness()
	if !fresh.Uncertain || !strings.Contains(fresh.Why, "from disk") || fresh.Revision != at || time.Duration(fresh.Age) > time.Minute {
		t.Errorf("freshness from disk: %+v", fresh)
	}
	stop = r.run(second)
	r.await(second, "the reason names the edge", func() bool { return strings.Contains(second.Freshness().Why, "no edge here") })
	if serves(second, "shop") != "i1" || r.told() == "" {
		t.Errorf("served %+v, told %q", second.Projection(), r.told())
	}
	r.mirror.set(func(m *mirror) { m.down = nil })
	r.awaitFresh(second)
	if r.told() != "" {
		t.Errorf("the consumer was not told that its view is current: %q", r.told())
	}
}

// TestDamagedFile: what is good of it is served, the store brings the rest.
func TestDamagedFile(t *testing.T) {
	r := newRig(t)
	r.put("shop", "i1")
	r.put("blog", "i2")
	stop := r.run(r.follower())
	r.await(r.follower(), "the file is written", func() bool { text, _ := os.ReadFile(r.path); return strings.Contains(string(text), "i2") })
	stop()
	good, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ text, shop, blog string }{
		"whole":              {string(good), "i1", "i2"},
		"empty":              {"", "", ""},
		"cut":                {string(good[:len(good)/2]), "", ""},
		"not JSON":           {"\x00\x00\x00", "", ""},
		"another shape":      {`[1, 2]`, "", ""},
		"one namespace torn": {strings.Replace(string(good), `"instances":[{"id":"i1"`, `"instances":[{"id":1`, 1), "", "i2"},
		"one with no route":  {strings.Replace(string(good), `"host":"shop.test"`, `"host":""`, 1), "", "i2"},
		"one of the future":  {strings.Replace(string(good), `{"view":{"schema":1`, `{"view":{"schema":99`, 1), "i1", ""}, // blog is first
		"unknown fields": {strings.NewReplacer(`{"namespaces"`, `{"added":{"x":[1]},"namespaces"`, `"view":{`, `"view":{"weights":{"i1":3},`,
			`"id":"i1"`, `"id":"i1","zone":"b"`).Replace(string(good)), "i1", "i2"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(r.path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			f := r.follower()
			f.Load()
			if serves(f, "shop") != c.shop || serves(f, "blog") != c.blog {
				t.Errorf("served shop %q, blog %q; want %q, %q", serves(f, "shop"), serves(f, "blog"), c.shop, c.blog)
			}
			if !f.Freshness().Uncertain {
				t.Error("it is certain of a file")
			}
			stop := r.run(f)
			r.awaitFresh(f)
			stop()
			if serves(f, "shop") != "i1" || serves(f, "blog") != "i2" {
				t.Errorf("after the rebuild: %+v", f.Projection())
			}
		})
	}
}

// TestNoDisk: a folder in the file's place keeps nobody from serving.
func TestNoDisk(t *testing.T) {
	r := newRig(t)
	r.path = filepath.Dir(r.path)
	r.put("shop", "i1")
	f := r.follower()
	r.run(f)
	r.awaitFresh(f)
	if serves(f, "shop") != "i1" {
		t.Errorf("%+v", f.Projection())
	}
}

// TestBadEvent: each spoils nothing but its own namespace's progress, live and in a rebuild.
func TestBadEvent(t *testing.T) {
	alien, _ := view("other", "x").Encode()
	noAddress, _ := view("shop", "x").Encode()
	for name, value := range map[string]string{
		"not JSON":          "{]",
		"empty":             "",
		"unknown schema":    `{"schema": 99, "namespace": "shop"}`,
		"no schema":         `{"namespace": "shop"}`,
		"other namespace":   string(alien),
		"no address":        strings.ReplaceAll(string(noAddress), "10.101.1.2", ""),
		"route to nowhere":  strings.ReplaceAll(string(noAddress), `"port":80`, `"port":0`),
		"refused by Check":  strings.ReplaceAll(string(noAddress), "shop.test", "refuse.test"),
		"a list not a view": `[]`,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			good := r.put("shop", "i1")
			r.put("blog", "i2")
			f := r.follower()
			f.Check = func(v routing.View) error {
				for _, s := range v.Services {
					if s.Routes[0].Host == "refuse.test" {
						return errors.New("not that host")
					}
				}
				return nil
			}
			stop := r.run(f)
			r.awaitFresh(f)
			bad := r.commit(store.Put{Key: store.Route("shop"), Value: []byte(value)})
			last := r.put("blog", "i3")
			check := func(f *routing.Follower, when string) {
				t.Helper()
				r.await(f, when, func() bool { return serves(f, "blog") == "i3" && !f.Freshness().Uncertain })
				a := f.Projection().Namespaces["shop"]
				if serves(f, "shop") != "i1" || a.Revision != good || a.Rejected == nil || a.Rejected.Revision != bad || a.Rejected.Error.Message == "" {
					t.Errorf("%s: %+v", when, a)
				}
				if got := f.Freshness().Revision; got < last {
					t.Errorf("%s: looked at %d of %d", when, got, last)
				}
				if s := f.Statement("shop", good); s.Revision != good {
					t.Errorf("%s: statement %+v", when, s)
				}
			}
			check(f, "live")
			r.mirror.set(func(m *mirror) { m.cut = true })
			r.put("third", "i4")
			r.await(f, "rebuilt", func() bool { return serves(f, "third") == "i4" })
			check(f, "after a rebuild")
			stop()
			again := r.follower()
			again.Check = f.Check
			r.run(again)
			check(again, "after a restart")
			r.put("shop", "i9")
			r.await(again, "mended", func() bool {
				return serves(again, "shop") == "i9" && again.Projection().Namespaces["shop"].Rejected == nil
			})
		})
	}
}

// TestRemoval: also one that a rebuild no longer sees, and one that somebody waits for.
func TestRemoval(t *testing.T) {
	r := newRig(t)
	r.put("shop", "i1")
	r.put("blog", "i2")
	f := r.follower()
	stop := r.run(f)
	r.awaitFresh(f)
	gone := r.commit(store.Put{Key: store.Route("shop"), Remove: true})
	r.await(f, "removed", func() bool { return f.Statement("shop", 0).Revision >= gone })
	if _, there := f.Projection().Namespaces["shop"]; there || serves(f, "blog") != "i2" {
		t.Errorf("%+v", f.Projection())
	}
	stop()
	gone = r.commit(store.Put{Key: store.Route("blog"), Remove: true})
	again := r.follower()
	r.run(again)
	r.awaitFresh(again)
	if len(again.Projection().Namespaces) != 0 || again.Statement("blog", 0).Revision < gone {
		t.Errorf("after a restart: %+v", again.Projection())
	}
}

// TestStaleMirror: it goes on, says so, and is not certain again before a rebuild.
func TestStaleMirror(t *testing.T) {
	r := newRig(t)
	r.put("shop", "i1")
	f := r.follower()
	r.run(f)
	r.awaitFresh(f)
	r.store.SetStale("cut off")
	r.await(f, "uncertain", func() bool { return f.Freshness().Why == "cut off" && r.told() == "cut off" })
	r.put("shop", "i2")
	r.await(f, "the event came all the same", func() bool { return serves(f, "shop") == "i2" })
	if fresh := f.Freshness(); !fresh.Uncertain || r.told() == "" {
		t.Errorf("an event made it certain: %+v, told %q", fresh, r.told())
	}
	// What the feed lost while the mirror was stale must be found.
	r.mirror.set(func(m *mirror) { m.bend = func(store.Change) []store.Change { return nil } })
	r.put("shop", "i3")
	r.put("blog", "b1")
	time.Sleep(5 * time.Millisecond)
	r.mirror.set(func(m *mirror) { m.bend = nil })
	r.store.SetStale("")
	r.awaitFresh(f)
	if serves(f, "shop") != "i3" || serves(f, "blog") != "b1" {
		t.Errorf("certain of an old view: %+v", f.Projection())
	}
}

// TestStaleFromTheStart: what the mirror has is served, but never called current.
func TestStaleFromTheStart(t *testing.T) {
	r := newRig(t)
	r.put("shop", "i1")
	r.store.SetStale("never reached the core")
	f := r.follower()
	r.run(f)
	r.await(f, "served", func() bool { return serves(f, "shop") == "i1" })
	for range 20 {
		if !f.Freshness().Uncertain {
			t.Fatal("certain of a stale mirror")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestGenerationChange(t *testing.T) {
	r := newRig(t)
	r.put("shop", "i1")
	f := r.follower()
	r.run(f)
	r.awaitFresh(f)
	r.mirror.set(func(m *mirror) { m.generation = 1 })
	r.await(f, "rebuilt", func() bool { return f.Projection().Generation == 2 && !f.Freshness().Uncertain })
	if serves(f, "shop") != "i1" {
		t.Errorf("%+v", f.Projection())
	}
}

// TestNothingPartialIsShown: of ten namespaces a rebuild shows all or none.
func TestNothingPartialIsShown(t *testing.T) {
	r := newRig(t)
	names := strings.Split("abcdefghij", "")
	for _, ns := range names {
		r.put(ns, "i1")
	}
	f := r.follower()
	r.run(f)
	r.awaitFresh(f)
	for range 20 {
		hold := make(chan struct{})
		r.mirror.set(func(m *mirror) { m.cut, m.hold, m.waiting = true, hold, 0 })
		r.put("a", "i1") // breaks the feed
		r.await(f, "the rebuild has begun", func() bool { r.mirror.mu.Lock(); defer r.mirror.mu.Unlock(); return r.mirror.waiting > 1 })
		if fresh := f.Freshness(); !fresh.Uncertain {
			t.Fatalf("certain during a rebuild: %+v", fresh)
		}
		r.mirror.set(func(m *mirror) { m.hold = nil })
		close(hold)
		r.awaitFresh(f)
	}
	for i, p := range r.history()[1:] { // the first is the missing file
		if len(p.Namespaces) != len(names) {
			t.Fatalf("projection %d has %v", i+1, p.Names())
		}
	}
}

// TestMirrorThatHasLess: an edge that lost its files, or a store that went back.
func TestMirrorThatHasLess(t *testing.T) {
	r := newRig(t)
	r.put("shop", "i1")
	r.put("shop", "i2")
	f := r.follower()
	stop := r.run(f)
	r.awaitFresh(f)
	stop()

	empty := newRig(t)
	empty.path = r.path
	empty.store.SetStale("the mirror is 2 writes behind")
	f = empty.follower()
	empty.run(f)
	empty.await(f, "the reason", func() bool { return strings.Contains(f.Freshness().Why, "revision 2 is served") })
	empty.store.SetStale("")
	time.Sleep(5 * time.Millisecond)
	if serves(f, "shop") != "i2" {
		t.Fatalf("an empty mirror was believed at once")
	}
	empty.await(f, "believed after a while", func() bool { return !f.Freshness().Uncertain })
	if len(f.Projection().Namespaces) != 0 {
		t.Errorf("%+v", f.Projection())
	}
}

// TestNewGenerationMustBeWhole: its mirror may still be filling.
func TestNewGenerationMustBeWhole(t *testing.T) {
	r := newRig(t)
	r.put("shop", "i1")
	f := r.follower()
	stop := r.run(f)
	r.awaitFresh(f)
	stop()
	empty := newRig(t)
	empty.path = r.path
	empty.mirror.generation = 1
	empty.store.SetStale("the mirror is 1 writes behind")
	f = empty.follower()
	empty.run(f)
	empty.await(f, "refused", func() bool { return strings.Contains(f.Freshness().Why, "generation 2") })
	empty.put("shop", "i5")
	time.Sleep(5 * time.Millisecond)
	if serves(f, "shop") != "i1" {
		t.Fatal("a mirror that is filling was believed")
	}
	empty.store.SetStale("")
	empty.awaitFresh(f)
	if serves(f, "shop") != "i5" {
		t.Errorf("%+v", f.Projection())
	}
}

// TestCoalesces: events that wait while the consumer is busy cost one Apply.
func TestCoalesces(t *testing.T) {
	r := newRig(t)
	f := r.follower()
	busy := make(chan struct{})
	var applied int
	apply := f.Apply
	f.Apply = func(p routing.Projection) {
		if applied++; applied == 3 { // the file, the rebuild, the first event
			<-busy
		}
		apply(p)
	}
	stop := r.run(f)
	r.awaitFresh(f)
	r.put("shop", "i0")
	time.Sleep(5 * time.Millisecond)
	for range 100 {
		r.put("shop", "i1")
	}
	time.Sleep(20 * time.Millisecond) // for the feed to be read
	close(busy)
	r.await(f, "the last one", func() bool { return serves(f, "shop") == "i1" && f.Freshness().Revision == 101 })
	stop()
	if applied > 20 {
		t.Errorf("%d times for 101 events", applied)
	}
}

// TestLeaksNothing: a follower that was run through all its states leaves no goroutine.
func TestLeaksNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 20 {
		r := newRig(t)
		r.put("shop", "i1")
		f := r.follower()
		stop := r.run(f)
		r.awaitFresh(f)
		r.store.SetStale("cut off")
		r.await(f, "uncertain", func() bool { return f.Freshness().Uncertain })
		r.store.SetStale("")
		r.mirror.set(func(m *mirror) { m.cut = true })
		r.put("shop", "i2")
		r.await(f, "rebuilt", func() bool { return serves(f, "shop") == "i2" && !f.Freshness().Uncertain })
		stop()
	}
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// TestOpening: the view is opened once that works, and not again.
func TestOpening(t *testing.T) {
	r := newRig(t)
	r.put("shop", "i1")
	tries := 0
	f := r.follower()
	f.View = &routing.Opening{Open: func() (store.View, error) {
		if tries++; tries < 5 {
			return nil, errors.New("no seed yet")
		}
		return r.mirror, nil
	}}
	f.Load()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	r.awaitFresh(f)
	cancel()
	<-done
	if tries != 5 || serves(f, "shop") != "i1" {
		t.Errorf("%d tries, %+v", tries, f.Projection())
	}
}

// TestOutOfOrder: an older event after a newer one is never served; the view is read anew.
func TestOutOfOrder(t *testing.T) {
	r := newRig(t)
	r.put("shop", "i1")
	f := r.follower()
	f.Audit = time.Hour
	r.run(f)
	r.awaitFresh(f)
	swap := &chaosSwap{}
	r.mirror.set(func(m *mirror) { m.bend = swap.bend })
	r.put("shop", "i2")
	last := r.put("shop", "i3")
	r.await(f, "rebuilt after the swap", func() bool { return swap.done.Load() && len(r.history()) > 2 && !f.Freshness().Uncertain })
	if a := f.Projection().Namespaces["shop"]; a.Revision != last || a.Rejected != nil {
		t.Errorf("%+v", a)
	}
	for i, p := range r.history()[1:] {
		if p.Revision < r.history()[i].Revision {
			t.Errorf("projection %d went back", i+1)
		}
	}
}

// chaosSwap brings the first two changes in the wrong order, and those after as they are.
type chaosSwap struct {
	held []store.Change
	done atomic.Bool
}

func (c *chaosSwap) bend(change store.Change) []store.Change {
	switch {
	case c.done.Load():
		return []store.Change{change}
	case c.held == nil:
		c.held = []store.Change{change}
		return nil
	}
	c.done.Store(true)
	return append([]store.Change{change}, c.held...)
}

// TestAudit: what a feed leaves out or garbles without a sign is found by comparing with the list.
func TestAudit(t *testing.T) {
	for name, bend := range map[string]func(store.Change) []store.Change{
		"lost":    func(store.Change) []store.Change { return nil },
		"garbled": func(c store.Change) []store.Change { c.Fact.Value = []byte("{]"); return []store.Change{c} },
		"removed": func(c store.Change) []store.Change { c.Removed = true; return []store.Change{c} },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.put("shop", "i1")
			r.put("blog", "i1")
			f := r.follower()
			r.run(f)
			r.awaitFresh(f)
			r.mirror.set(func(m *mirror) {
				m.bend = func(c store.Change) []store.Change {
					r.mirror.set(func(m *mirror) { m.bend = nil })
					return bend(c)
				}
			})
			r.put("shop", "i2")
			r.await(f, "found", func() bool { return serves(f, "shop") == "i2" && !f.Freshness().Uncertain })
			r.mirror.set(func(m *mirror) {
				m.bend = func(c store.Change) []store.Change {
					r.mirror.set(func(m *mirror) { m.bend = nil })
					return nil
				}
			})
			r.commit(store.Put{Key: store.Route("blog"), Remove: true})
			r.await(f, "the removal was found", func() bool { return len(f.Projection().Namespaces) == 1 })
		})
	}
}

// TestLooks counts how often the mirror is asked: rarely while its origin gives signs, five times
// as often once one is missing.
func TestLooks(t *testing.T) {
	r := newRig(t)
	f := r.follower()
	f.Poll, f.Audit = 400*time.Millisecond, time.Hour
	looks := func() (n int) {
		r.mirror.set(func(m *mirror) { n = m.looks })
		return n
	}
	perPeriods := func(n int) int {
		before := looks()
		time.Sleep(time.Duration(n) * f.Poll)
		return looks() - before
	}
	r.run(f)
	r.awaitFresh(f)
	if n := perPeriods(3); n < 1 || n > 4 {
		t.Errorf("%d looks in three periods at rest; want 3", n)
	}
	r.mirror.set(func(m *mirror) { m.active = f.Poll })
	r.await(f, "a look at the silence", func() bool { return looks() > 4 })
	if n := perPeriods(3); n < 6 {
		t.Errorf("%d looks in three periods of silence; want 15", n)
	}
}
