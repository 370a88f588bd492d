package memworld

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/daemon"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/storage/mempool"
	"github.com/ployz/ployz/node/store"
)

// Second is a second machine, m2, whose peer surface the first reaches over loopback as over the overlay.
type Second struct {
	Runtime *memruntime.Runtime
	Images  *memruntime.Images
	Volumes *Volumes
	// Neighbours is m1's way to it.
	Neighbours *daemon.Neighbours
	// Stop cuts the machine off: nothing answers any more.
	Stop func()
}

// AddSecond founds the world with two machines. dir is for what is on m2's disk.
func (w *World) AddSecond(dir string) (*Second, error) {
	s := &Second{Runtime: memruntime.New(), Images: memruntime.NewImages(), Volumes: newVolumes()}
	s.Runtime.Program, s.Runtime.Command = w.program, command
	for _, ref := range []string{"app:v1", "app:v2", "web:v1", "db:v1"} {
		s.Images.Serve(ref, ref, runtime.ImageConfig{})
	}
	fences, err := coordination.OpenFences(filepath.Join(dir, "fences.json"))
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.others = map[string]deploy.Participant{"m2": &deploy.Local{
		Runtime: s.Runtime, Images: s.Images, Network: memruntime.NewNetwork(), Console: s.Runtime, Fences: fences, Pool: mempool.New(""),
		Subnet:  deploy.Subnet{V4: netip.MustParsePrefix("10.101.2.0/24"), V6: netip.MustParsePrefix("fd00:1:2:2::/64")},
		Machine: w.observe, Serving: w.serving,
	}}
	w.mu.Unlock()
	if err := w.join(s); err != nil {
		return nil, err
	}
	m := *w.future
	m.Elsewhere = s.Neighbours
	w.member.Store(&m)
	return s, nil
}

// The machines' addresses, as if on the overlay.
var overlays = map[string]netip.Addr{"m1": netip.MustParseAddr("127.0.0.2"), "m2": netip.MustParseAddr("127.0.0.3")}

// join writes the memberships, and opens m2's surface to m1.
func (w *World) join(s *Second) error {
	var puts []store.Put
	for name, overlay := range overlays {
		value, err := json.Marshal(machine.Member{Operation: "test", ID: name, Name: name, Recipient: "age1" + name, Overlay: overlay})
		if err != nil {
			return err
		}
		puts = append(puts, store.Put{Key: store.Machine(name), Value: value})
	}
	if _, err := w.Store.Facts().Commit(context.Background(), store.Batch{ID: "found-two", Puts: puts}); err != nil {
		return err
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", netip.AddrPortFrom(overlays["m2"], 0).String())
	if err != nil {
		return err
	}
	members := func(ctx context.Context) ([]machine.Member, error) { return machine.Members(ctx, w.Store.Facts()) }
	sign := func(text []byte) ([]byte, error) { return ed25519.Sign(private, text), nil }
	verify := func(_ context.Context, sender string, text, signature []byte) error {
		if sender != "m1" || !ed25519.Verify(public, text, signature) {
			return errors.New("a stranger")
		}
		return nil
	}
	s.Neighbours = &daemon.Neighbours{
		ID: "m1", Overlay: overlays["m1"], Members: members, Machine: sign, Operator: sign,
		Port: listener.Addr().(*net.TCPAddr).AddrPort().Port(),
	}
	far := &daemon.Member{
		Machine: "m2", Facts: w.Store.Facts(), View: w.Store.View(), Instances: s.Runtime, Console: s.Runtime, Images: s.Images,
		Volumes: s.Volumes,
	}
	surface := &daemon.PeerSurface{
		ID: "m2", Members: members, Machine: verify, Operator: verify, Member: func() *daemon.Member { return far },
		Blobs: noBlobs{}, Log: slog.New(slog.DiscardHandler),
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); surface.Serve(ctx, listener) }()
	s.Stop = func() { stop(); <-done }
	return nil
}

// noBlobs is an image store that has none.
type noBlobs struct{}

// OpenBlob implements runtime.Blobs.
func (noBlobs) OpenBlob(digest string) (io.ReadSeekCloser, error) {
	return nil, api.Errorf(api.CodeImageNotFound, "there is none").About(digest)
}
