package deploy_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/coordination/membus"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/storage"
)

// porter is a machine's carrier that writes down what it is asked, and answers as it is told.
type porter struct {
	asked []string
	fails error
}

func (p *porter) Offer(_ context.Context, o storage.Offer) error {
	p.asked = append(p.asked, fmt.Sprintf("%s: offer %s@%s to %s", o.Operation, o.Volume, o.Snapshot, o.To))
	return p.fails
}

func (p *porter) Withdraw(_ context.Context, operation, volume string) error {
	p.asked = append(p.asked, fmt.Sprintf("%s: withdraw %s", operation, volume))
	return p.fails
}

func (p *porter) Fetch(ctx context.Context, f storage.Fetch, progress func(storage.Progress)) (storage.Carried, error) {
	p.asked = append(p.asked, fmt.Sprintf("%s: fetch %s@%s from %s", f.Operation, f.As.ID, f.Snapshot, f.From))
	for n := range 3 {
		progress(storage.Progress{Bytes: int64(n), TotalBytes: 3})
	}
	if p.fails != nil && api.CodeOf(p.fails) == api.CodeCancelled {
		<-ctx.Done()
		return storage.Carried{}, context.Cause(ctx)
	}
	return storage.Carried{Volume: f.As.ID, Snapshot: f.Snapshot, GUID: "g", Bytes: 3, Took: time.Second}, p.fails
}

func (p *porter) SnapshotFor(_ context.Context, operation, name string, volumes ...string) ([]storage.Snapshot, error) {
	p.asked = append(p.asked, fmt.Sprintf("%s: snapshot %s of %v", operation, name, volumes))
	return []storage.Snapshot{{Volume: volumes[0], Name: name, GUID: "g"}}, p.fails
}

func (p *porter) WrittenFor(_ context.Context, volume, base string) (int64, error) {
	p.asked = append(p.asked, fmt.Sprintf("written to %s since %s", volume, base))
	return 7, p.fails
}

func (p *porter) ForgetFor(_ context.Context, operation, volume, keep string) error {
	p.asked = append(p.asked, fmt.Sprintf("%s: forget %s but %s", operation, volume, keep))
	return p.fails
}

// carriers are one machine by itself and over the bus.
func carriers(t *testing.T) map[string]func() (deploy.Carrier, *porter) {
	t.Helper()
	local := func() (deploy.LocalCarrier, *porter) {
		fences, err := coordination.OpenFences(filepath.Join(t.TempDir(), "fences.json"))
		if err != nil {
			t.Fatal(err)
		}
		p := &porter{}
		return deploy.LocalCarrier{Carrier: p, Fences: fences}, p
	}
	return map[string]func() (deploy.Carrier, *porter){
		"here": func() (deploy.Carrier, *porter) { return local() },
		"there": func() (deploy.Carrier, *porter) {
			l, p := local()
			return deploy.RemoteCarrier{Machine: "m2", Caller: heard(t, "m2", l.Fences, deploy.ServeCarrier(l))}, p
		},
	}
}

// heard puts verbs on a bus in memory, and returns m1's way to them.
func heard(t *testing.T, id string, fences *coordination.Fences, verbs map[string]coordination.Verb) *coordination.Calls {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	replies, err := coordination.OpenReplies(filepath.Join(t.TempDir(), "replies"))
	if err != nil {
		t.Fatal(err)
	}
	bus := &membus.Bus{}
	r := &coordination.Responder{
		Machine: id, Fences: fences, Replies: replies, Verbs: verbs, Log: slog.New(slog.DiscardHandler), Beat: 100 * time.Millisecond,
		Verify: func(_ context.Context, _ string, text, signature []byte) error {
			if !ed25519.Verify(public, text, signature) {
				return errors.New("a stranger")
			}
			return nil
		},
	}
	t.Cleanup(bus.Listen(id, r.Receive))
	return &coordination.Calls{
		Machine: "m1", Wire: bus, Beat: 100 * time.Millisecond, Sign: func(text []byte) ([]byte, error) { return ed25519.Sign(private, text), nil },
	}
}

// TestCarriers: a machine carries the same by itself and over the bus, as long as the fence is not too old; what was
// done is not done twice, but an offer that was forgotten is made again, and what broke off goes on.
func TestCarriers(t *testing.T) {
	offer := storage.Offer{Volume: "v1", Snapshot: "s1", To: "m3"}
	fetch := storage.Fetch{From: "m1", As: storage.Spec{ID: "v1"}, Snapshot: "s1"}
	by := deploy.Fenced{Operation: "op1", Step: "send", Scope: "ns/shop", Fence: 5}
	for name, open := range carriers(t) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			c, p := open()
			for range 2 {
				if err := c.OfferVolume(ctx, by, offer); err != nil {
					t.Fatal(err)
				}
			}
			var told []int64
			p.fails = storage.TransferCut(errors.New("the sender is gone"))
			_, err := c.FetchVolume(ctx, by, fetch, func(p storage.Progress) { told = append(told, p.Bytes) })
			if api.CodeOf(err) != api.CodeVolumeTransferCut {
				t.Fatal(err)
			}
			p.fails = nil
			got, err := c.FetchVolume(ctx, by, fetch, func(p storage.Progress) { told = append(told, p.Bytes) })
			if want := (storage.Carried{Volume: "v1", Snapshot: "s1", GUID: "g", Bytes: 3, Took: time.Second}); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%+v, %v", got, err)
			}
			if !slices.Equal(told, []int64{0, 1, 2, 0, 1, 2}) {
				t.Errorf("told %v", told)
			}
			if err := c.WithdrawVolume(ctx, by, "v1"); err != nil {
				t.Fatal(err)
			}
			if want := []string{
				"op1: offer v1@s1 to m3", "op1: offer v1@s1 to m3", "op1: fetch v1@s1 from m1", "op1: fetch v1@s1 from m1", "op1: withdraw v1",
			}; !slices.Equal(p.asked, want) {
				t.Fatalf("it was asked %q", p.asked)
			}
			taken, err := c.SnapshotVolumes(ctx, by, "s2", "v1", "v2")
			if err != nil || len(taken) != 1 || taken[0].GUID != "g" {
				t.Errorf("%+v, %v", taken, err)
			}
			if bytes, err := c.WrittenVolume(ctx, "v1", "s1"); bytes != 7 || err != nil {
				t.Errorf("%d, %v", bytes, err)
			}
			if err := c.ForgetSnapshots(ctx, by, "v1", "s2"); err != nil {
				t.Error(err)
			}
			if want := []string{"op1: snapshot s2 of [v1 v2]", "written to v1 since s1", "op1: forget v1 but s2"}; !slices.Equal(p.asked[5:], want) {
				t.Errorf("it was asked %q", p.asked[5:])
			}
			stale := deploy.Fenced{Operation: "op0", Step: "send", Scope: "ns/shop", Fence: 4}
			_, err = c.FetchVolume(ctx, stale, fetch, nil)
			_, err2 := c.SnapshotVolumes(ctx, stale, "s3", "v1")
			for _, err := range []error{err, err2, c.ForgetSnapshots(ctx, stale, "v1", ""), c.OfferVolume(ctx, stale, offer), c.WithdrawVolume(ctx, stale, "v1")} {
				if api.CodeOf(err) != api.CodeLeaseLost {
					t.Errorf("an older coordinator: %v", err)
				}
			}
			if len(p.asked) != 8 {
				t.Errorf("an older coordinator was obeyed: %q", p.asked[8:])
			}
		})
	}
}

// TestFetchEndsWithItsCoordinator: another that takes the scope over ends what arrives for the first.
func TestFetchEndsWithItsCoordinator(t *testing.T) {
	c, p := carriers(t)["there"]()
	p.fails = api.Errorf(api.CodeCancelled, "it waits")
	fetch := storage.Fetch{From: "m1", As: storage.Spec{ID: "v1"}, Snapshot: "s1"}
	first, begun := make(chan error, 1), make(chan struct{}, 3)
	go func() {
		_, err := c.FetchVolume(t.Context(), deploy.Fenced{Operation: "op1", Step: "send", Scope: "ns/shop", Fence: 5}, fetch, func(storage.Progress) { begun <- struct{}{} })
		first <- err
	}()
	<-begun
	ctx, stop := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() {
		_, err := c.FetchVolume(ctx, deploy.Fenced{Operation: "op2", Step: "send", Scope: "ns/shop", Fence: 6}, fetch, nil)
		second <- err
	}()
	if err := <-first; api.CodeOf(err) != api.CodeLeaseLost {
		t.Errorf("the first: %v", err)
	}
	stop()
	if err := <-second; err == nil {
		t.Error("the second was cancelled, and ended well")
	}
}
