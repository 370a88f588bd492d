package routing_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// chaos bends a feed: what it brings may be lost, doubled, held back behind the next ones, or garbled.
type chaos struct {
	random *rand.Rand
	held   []store.Change
}

func (c *chaos) bend(change store.Change) []store.Change {
	out := append([]store.Change{change}, c.held...)
	c.held = nil
	if change.Current {
		return out // a feed without its mark is one that never answers
	}
	switch c.random.IntN(8) {
	case 0:
		return out[1:]
	case 1:
		return append(out, change)
	case 2:
		c.held = append(c.held, change)
		return out[1:]
	case 3:
		out[0].Fact.Value = append([]byte("garbled "), change.Fact.Value...)
	case 4:
		out[0].Removed = !change.Removed
	}
	return out
}

// TestProjectionEqualsTheStore drives a store and a bent feed at random. Whatever happened, once
// the feed is straight and the follower says that it is current, it holds what the store holds.
func TestProjectionEqualsTheStore(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := newRig(t)
			random := rand.New(rand.NewPCG(seed, 1))
			f := r.follower()
			stop := r.run(f)
			c := &chaos{random: rand.New(rand.NewPCG(seed, 2))}
			r.mirror.set(func(m *mirror) { m.bend = c.bend })
			for range 150 {
				r.disturb(random)
			}
			r.store.SetStale("")
			r.mirror.set(func(m *mirror) { m.bend, m.down = nil, nil })
			if random.IntN(2) == 0 { // another one starts from the file
				stop()
				f = r.follower()
				r.run(f)
			}
			want := reference(r)
			r.await(f, "the store's facts", func() bool { return !f.Freshness().Uncertain && reflect.DeepEqual(content(f), want) })
			time.Sleep(10 * time.Millisecond)
			if got := content(f); !reflect.DeepEqual(got, want) {
				t.Errorf("it did not stay so: %v, want %v", got, want)
			}
		})
	}
}

// disturb does one thing to the store or to the mirror.
func (r *rig) disturb(random *rand.Rand) {
	ns := string(rune('a' + random.IntN(6)))
	switch random.IntN(12) {
	case 0:
		r.commit(store.Put{Key: store.Route(ns), Remove: true})
	case 1:
		r.commit(store.Put{Key: store.Route(ns), Value: []byte(`{"schema": 7}`)})
	case 2:
		r.commit(store.Put{Key: store.Head(ns), Value: []byte("{}")}) // not a routing event
	case 3:
		r.store.SetStale([]string{"", "cut off"}[random.IntN(2)])
	case 4:
		r.mirror.set(func(m *mirror) { m.cut = true })
	case 5:
		r.mirror.set(func(m *mirror) { m.down = []error{nil, errDown}[random.IntN(2)] })
	case 6:
		time.Sleep(time.Duration(random.IntN(4)) * time.Millisecond)
	default:
		r.put(ns, fmt.Sprintf("i%d", random.Uint32()))
	}
}

// reference is, by namespace, the instance that the last event names, or "" where it is bad. What
// is served then is the last good view that this follower saw, if any.
func reference(r *rig) map[string]string {
	list, err := r.store.Facts().List(context.Background(), store.Routes())
	if err != nil {
		r.t.Fatal(err)
	}
	want := map[string]string{}
	for _, fact := range list {
		want[fact.Key.Last()] = ""
		if v, err := routing.Decode(fact.Key.Last(), fact.Value); err == nil {
			want[fact.Key.Last()] = fmt.Sprint(fact.Revision, v.Services["web"].Instances[0].ID)
		}
	}
	return want
}

func content(f *routing.Follower) map[string]string {
	got := map[string]string{}
	for ns, a := range f.Projection().Namespaces {
		got[ns] = fmt.Sprint(uint64(a.Revision), serves(f, ns))
		if a.Rejected != nil {
			got[ns] = ""
		}
	}
	return got
}

// FuzzDecode: an event is refused or whole, and what is whole survives a round trip.
func FuzzDecode(f *testing.F) {
	text, err := view("shop", "i1").Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"schema":1,"namespace":"shop","services":{"web":{"instances":[{"v4":"10.0.0.1","v6":"::ffff:1.2.3.4"}]}}}`))
	f.Add([]byte(`{"schema":1,"namespace":"shop","services":{"":{"routes":[{"tcp":1,"port":65536}]}}}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		v, err := routing.Decode("shop", value)
		if err != nil {
			return
		}
		again, err := v.Encode()
		if err != nil {
			t.Fatalf("cannot be encoded again: %v", err)
		}
		if w, err := routing.Decode("shop", again); err != nil || w.Namespace != "shop" {
			t.Fatalf("%v: %s", err, again)
		}
	})
}

// FuzzFile: whatever the file holds, the follower starts.
func FuzzFile(f *testing.F) {
	text, err := json.Marshal(routing.Projection{Namespaces: map[string]routing.Applied{"shop": {View: view("shop", "i1"), Revision: 3}}, Revision: 4, Generation: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"namespaces":{"shop":null,"":{"revision":1}},"revision":18446744073709551615}`))
	path := filepath.Join(f.TempDir(), "projection.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		r := newRig(t)
		r.path = path
		follower := r.follower()
		follower.Load()
		for ns, a := range follower.Projection().Namespaces {
			if a.Revision > 0 && a.View.Namespace != ns {
				t.Fatalf("%s is served a view of %s", ns, a.View.Namespace)
			}
		}
	})
}

// BenchmarkRebuild is a rebuild of 10 000 routes in 100 namespaces, without a consumer.
func BenchmarkRebuild(b *testing.B) {
	s := memstore.New(memstore.Config{})
	for n := range 100 {
		v := view(fmt.Sprintf("ns%d", n), "i1")
		for k := range 100 {
			service := v.Services["web"]
			service.Routes = []api.Route{{Host: fmt.Sprintf("h%d-%d.test", n, k), Port: 80}}
			v.Services[fmt.Sprintf("web%d", k)] = service
		}
		delete(v.Services, "web")
		text, err := v.Encode()
		if err == nil {
			_, err = s.Facts().Commit(b.Context(), store.Batch{ID: v.Namespace, Puts: []store.Put{{Key: store.Route(v.Namespace), Value: text}}})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		f := &routing.Follower{View: s.View(), Log: slog.New(slog.DiscardHandler), Apply: func(routing.Projection) {}}
		fresh := make(chan struct{})
		f.Uncertain = func(why string) {
			if why == "" {
				close(fresh)
			}
		}
		f.Load()
		done := make(chan struct{})
		go func() { f.Run(ctx); close(done) }()
		<-fresh
		cancel()
		<-done
	}
}
