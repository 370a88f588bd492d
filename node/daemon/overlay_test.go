package daemon_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/daemon"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/oci"
	"github.com/ployz/ployz/node/runtime/oci/ocitest"
)

// overlay is a cluster on loopback: m1, m2 and m3 are 127.0.0.1x, and each has a key.
//
//	127.0.0.11  m1, asks
//	127.0.0.12  m2, is asked
//	127.0.0.13  m3, a member too
//	127.0.0.14  nobody
type overlay struct {
	t    *testing.T
	keys map[string]ed25519.PrivateKey

	mu      sync.Mutex
	members []machine.Member // guarded by mu

	port    uint16
	store   daemon.PeerStore   // m2's; nil where nobody asks
	volumes daemon.PeerVolumes // m2's too
}

func newOverlay(t *testing.T) *overlay {
	o := &overlay{t: t, keys: map[string]ed25519.PrivateKey{}}
	for i, id := range []string{"m1", "m2", "m3"} {
		_, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		o.keys[id] = private
		o.members = append(o.members, machine.Member{ID: id, Name: "machine-" + id, Overlay: address(11 + i)})
	}
	return o
}

func address(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, byte(n)}) }

func (o *overlay) list(context.Context) ([]machine.Member, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]machine.Member{}, o.members...), nil
}

// remove takes a machine out of the cluster.
func (o *overlay) remove(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, m := range o.members {
		if m.ID == id {
			o.members = append(o.members[:i:i], o.members[i+1:]...)
			return
		}
	}
}

func (o *overlay) sign(id string) coordination.Sign {
	return func(text []byte) ([]byte, error) { return ed25519.Sign(o.keys[id], text), nil }
}

// verify lets in the members that are named; nobody named is all.
func (o *overlay) verify(ids ...string) coordination.Verify {
	return func(_ context.Context, sender string, text, signature []byte) error {
		key, known := o.keys[sender]
		if !known || len(ids) > 0 && !strings.Contains(strings.Join(ids, " "), sender) {
			return errors.New("it may not")
		}
		if !ed25519.Verify(key.Public().(ed25519.PublicKey), text, signature) {
			return errors.New("the signature is wrong")
		}
		return nil
	}
}

// serve opens m2's surface, where m1 may operate and m3 may only fetch.
func (o *overlay) serve(blobs runtime.Blobs, member *daemon.Member, wrap func(net.Listener) net.Listener) (stop func()) {
	o.t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(address(12), o.port).String())
	if err != nil {
		o.t.Fatal(err)
	}
	o.port = l.Addr().(*net.TCPAddr).AddrPort().Port()
	if wrap != nil {
		l = wrap(l)
	}
	surface := &daemon.PeerSurface{
		ID: "m2", Members: o.list, Machine: o.verify(), Operator: o.verify("m1"),
		Member: func() *daemon.Member { return member }, Blobs: blobs, Store: o.store, Packages: onePackage(o.t), Observed: seesM1, Volumes: o.volumes,
		Log: slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); surface.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	o.t.Cleanup(stop)
	return stop
}

func (o *overlay) neighbours(id string, from int) *daemon.Neighbours {
	n := &daemon.Neighbours{
		ID: id, Overlay: address(from), Members: o.list, Machine: o.sign(id), Operator: o.sign(id), Port: o.port,
	}
	o.t.Cleanup(n.Close)
	return n
}

// shelf is an image store of one blob.
type shelf struct{ content []byte }

func (s shelf) digest() string {
	sum := sha256.Sum256(s.content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// OpenBlob implements runtime.Blobs.
func (s shelf) OpenBlob(digest string) (io.ReadSeekCloser, error) {
	if digest != s.digest() {
		return nil, api.Errorf(api.CodeImageNotFound, "there is none").About(digest)
	}
	return struct {
		io.ReadSeeker
		io.Closer
	}{bytes.NewReader(s.content), io.NopCloser(nil)}, nil
}

func TestPeersMayFetch(t *testing.T) {
	o, blob := newOverlay(t), shelf{[]byte("the bytes of a layer")}
	stop := o.serve(blob, nil, nil)
	for _, id := range []string{"m1", "m3"} {
		holders := o.neighbours(id, map[string]int{"m1": 11, "m3": 13}[id]).Holders(t.Context(), blob.digest())
		if len(holders) != 1 {
			t.Fatalf("%s finds %d", id, len(holders))
		}
		for _, offset := range []int64{0, 4} {
			body, err := holders[0].Blob(t.Context(), blob.digest(), offset)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(body)
			body.Close()
			if err != nil || string(text) != string(blob.content[offset:]) {
				t.Errorf("from %d on: %q %v", offset, text, err)
			}
		}
		_, err := holders[0].Blob(t.Context(), "sha256:"+strings.Repeat("0", 64), 0)
		want(t, err, api.CodeImageNotFound)
	}
	n := o.neighbours("m1", 11)
	if holders := n.Holders(t.Context(), "sha256:"+strings.Repeat("0", 64)); len(holders) != 0 {
		t.Errorf("%d have what nobody has", len(holders))
	}
	stop()
	if holders := n.Holders(t.Context(), blob.digest()); len(holders) != 0 {
		t.Errorf("%d answer", len(holders))
	}
}

// TestWhoMayNot: neither a member's address alone lets anybody in, nor a member's key alone.
func TestWhoMayNot(t *testing.T) {
	o, blob := newOverlay(t), shelf{[]byte("x")}
	o.serve(blob, nil, nil)
	ask := daemon.Ask{Method: http.MethodGet, Path: "/v1/instances"}
	_, err := o.neighbours("m1", 11).Do(t.Context(), "machine-m2", ask)
	want(t, err, api.CodeNotInitialised) // it was let in
	_, err = o.neighbours("m3", 13).Do(t.Context(), "machine-m2", ask)
	want(t, err, api.CodeParticipantRefused) // may fetch, not operate
	_, err = o.neighbours("m1", 13).Do(t.Context(), "machine-m2", ask)
	want(t, err, api.CodeParticipantRefused) // m1's key from m3's address
	stranger := o.neighbours("m1", 11)
	stranger.Operator = o.sign("m3")
	_, err = stranger.Do(t.Context(), "machine-m2", ask)
	want(t, err, api.CodeParticipantRefused) // another's signature
	fetcher := o.neighbours("m1", 11)
	fetcher.Operator = nil
	_, err = fetcher.Do(t.Context(), "machine-m2", ask)
	want(t, err, api.CodePermission)
	for _, from := range []int{14, 12} { // nobody's address, and the machine's own
		_, err = o.neighbours("m1", from).Do(t.Context(), "machine-m2", ask)
		want(t, err, api.CodeMachineSilent)
	}
	o.remove("m1")
	_, err = o.neighbours("m1", 11).Do(t.Context(), "machine-m2", ask)
	want(t, err, api.CodeMachineSilent)
	_, err = o.neighbours("m3", 13).Do(t.Context(), "machine-m9", ask)
	want(t, err, api.CodeNotFound)
}

// TestPassIsForOneRequest: a pass that was overheard opens nothing else, and without one nothing is open.
func TestPassIsForOneRequest(t *testing.T) {
	o, blob := newOverlay(t), shelf{[]byte("x")}
	o.serve(blob, nil, nil)
	pass := func(audience, request string) string {
		text, err := coordination.IssuePass(coordination.Pass{Sender: "m1", Request: request}, audience, o.sign("m1"))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	client := http.Client{Transport: &http.Transport{
		DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 11)}}).DialContext, DisableKeepAlives: true,
	}}
	path := "/v1/blobs/" + blob.digest()
	for name, c := range map[string]struct {
		pass   string
		status int
	}{
		"its own":         {pass("m2", "GET "+path), http.StatusOK},
		"none":            {"", http.StatusUnprocessableEntity},
		"nonsense":        {"%%%", http.StatusUnprocessableEntity},
		"another request": {pass("m2", "GET /v1/instances"), http.StatusUnprocessableEntity},
		"another method":  {pass("m2", "HEAD "+path), http.StatusUnprocessableEntity},
		"another machine": {pass("m3", "GET "+path), http.StatusUnprocessableEntity},
	} {
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.12:%d%s", o.port, path), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Ployz-Pass", c.pass)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
}

// TestStrangersAreClosed: a stranger's connection ends before it could say anything, and holds up nobody.
func TestStrangersAreClosed(t *testing.T) {
	o, blob := newOverlay(t), shelf{[]byte("x")}
	o.serve(blob, nil, nil)
	for range 20 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 14)}}
		conn, err := d.Dial("tcp", fmt.Sprintf("127.0.0.12:%d", o.port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Fatalf("a stranger reads %d bytes, %v", n, err)
		}
	}
	if holders := o.neighbours("m1", 11).Holders(t.Context(), blob.digest()); len(holders) != 1 {
		t.Error("a member is not answered")
	}
}

// cutting is a listener whose connections break after some bytes, as long as it is asked to.
type cutting struct {
	net.Listener
	after int64
	cuts  atomic.Int64 // how many are left
	sent  atomic.Int64
}

// Accept implements net.Listener.
func (c *cutting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	return &cut{Conn: conn, by: c}, err
}

type cut struct {
	net.Conn
	by   *cutting
	sent int64
}

// Write implements net.Conn.
func (c *cut) Write(b []byte) (int, error) {
	if c.sent+int64(len(b)) > c.by.after && c.by.cuts.Add(-1) >= 0 {
		c.Conn.Close()
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Write(b)
	c.sent += int64(n)
	c.by.sent.Add(int64(n))
	return n, err
}

// TestImageBetweenMachines copies an image from m2's real store into m1's over a line that is cut five times.
func TestImageBetweenMachines(t *testing.T) {
	testenv.Require(t, testenv.Root)
	image := ocitest.New("own:1", map[string]string{"small": "1"})
	noise := ocitest.Files(map[string]string{"large": incompressible(4 << 20)})
	image.Layers = append(image.Layers, noise)
	built := image.MustBuild()
	var archive bytes.Buffer
	if err := ocitest.WriteLayoutTar(&archive, built); err != nil {
		t.Fatal(err)
	}
	from, to := imageStore(t), imageStore(t)
	img, err := from.Import(t.Context(), "own:1", &archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	o := newOverlay(t)
	var line *cutting
	o.serve(from, nil, func(l net.Listener) net.Listener {
		line = &cutting{Listener: l, after: 600_000}
		return line
	})
	line.cuts.Store(5)
	n := o.neighbours("m1", 11)
	got, err := to.Ensure(t.Context(), "localhost:1/own@"+img.Digest, runtime.Pull{Peers: n.Holders(t.Context(), img.Digest)})
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != img.Digest || line.cuts.Load() > 0 {
		t.Errorf("%s came, %d cuts are left", got.Digest, line.cuts.Load())
	}
	size := built.Manifest.Layers[0].Size + built.Manifest.Layers[1].Size
	if sent := line.sent.Load(); sent > size+size/4 {
		t.Errorf("%d bytes were sent for an image of %d: it began anew", sent, size)
	}
	if damage, err := to.Verify(t.Context(), false); err != nil || len(damage) > 0 {
		t.Errorf("damage: %v %v", damage, err)
	}
}

// incompressible is text that gzip cannot make much smaller, always the same.
func incompressible(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16)})
		b.Write(sum[:])
	}
	return b.String()
}

func imageStore(t *testing.T) *oci.Store {
	t.Helper()
	s, err := oci.Open(oci.Options{Root: filepath.Join(t.TempDir(), "images"), RetryDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// onePackage is a shelf on which every package is one file.
func onePackage(t *testing.T) daemon.PackageShelf {
	path := filepath.Join(t.TempDir(), "p.deb")
	if err := os.WriteFile(path, []byte("a package"), 0o600); err != nil {
		t.Fatal(err)
	}
	return fileShelf(path)
}

type fileShelf string

func (fileShelf) Take(context.Context, io.Reader) (api.Package, error) { return api.Package{}, nil }

func (f fileShelf) Open(digest string) (*os.File, error) {
	if digest != "known" {
		return nil, api.Errorf(api.CodePackageAbsent, "the package is not here").About(digest)
	}
	return os.Open(string(f))
}

func seesM1(context.Context) (map[string]netip.AddrPort, error) {
	return map[string]netip.AddrPort{"key of m1": netip.MustParseAddrPort("192.0.2.1:4711")}, nil
}

func TestPeersMayFetchPackagesAndAskWhereMachinesAre(t *testing.T) {
	o := newOverlay(t)
	o.serve(shelf{}, nil, nil)
	n := o.neighbours("m3", 13)
	body, err := n.Package(t.Context(), "m2", "known")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(body)
	body.Close()
	if err != nil || string(text) != "a package" {
		t.Errorf("it sends %q %v", text, err)
	}
	_, err = n.Package(t.Context(), "m2", "other")
	want(t, err, api.CodePackageAbsent)
	_, err = n.Package(t.Context(), "m9", "known")
	want(t, err, api.CodeMachineAbsent)
	seen, err := n.Observed(t.Context(), machine.Member{ID: "m2", Name: "m2", Overlay: address(12)})
	if err != nil || seen["key of m1"] != netip.MustParseAddrPort("192.0.2.1:4711") {
		t.Errorf("it reaches others at %v, %v", seen, err)
	}
}
