package oci_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/oci"
	. "github.com/ployz/ployz/node/runtime/oci/ocitest"
)

// peer is another machine's store, with what can go wrong on the way to it.
type peer struct {
	blobs runtime.Blobs
	// answer, when set, changes what comes back.
	answer func(digest string, body []byte) ([]byte, error)

	mu    sync.Mutex
	asked []ask // guarded by mu
}

type ask struct {
	digest string
	offset int64
}

// Blob implements runtime.Peer. After an answer that was cut short the way breaks.
func (p *peer) Blob(_ context.Context, digest string, offset int64) (io.ReadCloser, error) {
	p.mu.Lock()
	p.asked = append(p.asked, ask{digest, offset})
	p.mu.Unlock()
	f, err := p.blobs.OpenBlob(digest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(f)
	if p.answer == nil || err != nil {
		return io.NopCloser(bytes.NewReader(body)), err
	}
	part, err := p.answer(digest, body)
	if err != nil {
		return nil, err
	}
	if len(part) == len(body) {
		return io.NopCloser(bytes.NewReader(part)), nil
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(part), broken{})), nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the cable was cut") }

// holder is a store that holds an image which no registry has, and a reference to it.
func holder(t *testing.T) (*oci.Store, *Built, string) {
	t.Helper()
	b := web().MustBuild()
	s, _ := open(t)
	img, err := importTar(t, s, "own:1", b)
	must(t, err)
	return s, b, "localhost:1/own@" + img.Digest
}

func TestImageFromAPeer(t *testing.T) {
	from, b, ref := holder(t)
	to, root := open(t)
	p := &peer{blobs: from}
	shown := map[string]int64{}
	img, err := to.Ensure(ctx, ref, runtime.Pull{Peers: []runtime.Peer{p}, Progress: func(part string, done, _ int64) { shown[part] = done }})
	must(t, err)
	if img.Digest != string(b.Digest) || readIn(t, img, 0, "last") != "three" {
		t.Errorf("got %+v", img)
	}
	for _, l := range b.Manifest.Layers {
		if shown[string(l.Digest)] != l.Size {
			t.Errorf("progress of %s ended at %d of %d", l.Digest, shown[string(l.Digest)], l.Size)
		}
	}
	asked := len(p.asked)
	_, err = to.Ensure(ctx, ref, runtime.Pull{Peers: []runtime.Peer{p}})
	must(t, err)
	if len(p.asked) != asked {
		t.Error("a present image was asked for again")
	}
	d, err := to.Inspect(ctx, img.Digest)
	must(t, err)
	if d.Origin != "machine" {
		t.Errorf("its origin is %q", d.Origin)
	}
	damage, err := to.Verify(ctx, false)
	if err != nil || len(damage) > 0 {
		t.Errorf("damage: %v %v", damage, err)
	}
	clean(t, root, len(b.Blobs), len(b.Manifest.Layers))
}

// TestCutPeerIsContinued: the way breaks again and again, and no byte travels twice.
func TestCutPeerIsContinued(t *testing.T) {
	from, b, ref := holder(t)
	layer := b.Manifest.Layers[1]
	piece := int(layer.Size)/5 + 1
	cut := func(digest string, body []byte) ([]byte, error) {
		if digest == string(layer.Digest) {
			body = body[:min(piece, len(body))]
		}
		return body, nil
	}
	one, two := &peer{blobs: from, answer: cut}, &peer{blobs: from, answer: cut}
	to, root := open(t)
	_, err := to.Ensure(ctx, ref, runtime.Pull{Peers: []runtime.Peer{one, two}})
	must(t, err)
	clean(t, root, len(b.Blobs), len(b.Manifest.Layers))
	seen := map[int64]bool{}
	for _, a := range append(one.asked, two.asked...) {
		if a.digest != string(layer.Digest) {
			continue
		}
		if seen[a.offset] || a.offset%int64(piece) != 0 {
			t.Errorf("byte %d on was asked for twice, or nothing ended there", a.offset)
		}
		seen[a.offset] = true
	}
	if len(seen) != 5 || len(one.asked) == 0 || len(two.asked) == 0 {
		t.Errorf("%d pieces, %d requests to one, %d to two", len(seen), len(one.asked), len(two.asked))
	}
}

// TestPeersThatFail: whatever one machine does, the image comes from another or from the registry, or not at all.
func TestPeersThatFail(t *testing.T) {
	from, b, ref := holder(t)
	host := serve(t, nil)
	push(t, http.DefaultClient, "http://"+host, "own", "1", b)
	empty, _ := open(t)
	good := &peer{blobs: from}
	lying := &peer{blobs: from, answer: func(_ string, body []byte) ([]byte, error) {
		body = bytes.Clone(body)
		body[len(body)/2] ^= 1
		return body, nil
	}}
	dead := &peer{blobs: from, answer: func(string, []byte) ([]byte, error) { return nil, errors.New("no route to host") }}
	inRegistry := host + "/own@" + string(b.Digest)
	for name, c := range map[string]struct {
		peers  []runtime.Peer
		ref    string
		origin string
		code   api.Code
	}{
		"one has it":              {[]runtime.Peer{&peer{blobs: empty}, dead, good}, ref, "machine", ""},
		"only the registry":       {[]runtime.Peer{&peer{blobs: empty}}, inRegistry, "registry", ""},
		"a liar":                  {[]runtime.Peer{lying}, inRegistry, "registry", ""},
		"a dead one":              {[]runtime.Peer{dead}, inRegistry, "registry", ""},
		"a liar and no registry":  {[]runtime.Peer{lying}, ref, "", api.CodeRegistryDown},
		"nobody and no registry":  {nil, ref, "", api.CodeRegistryDown},
		"a tag is asked upstream": {[]runtime.Peer{good}, host + "/own:1", "registry", ""},
	} {
		t.Run(name, func(t *testing.T) {
			to, root := open(t)
			img, err := to.Ensure(ctx, c.ref, runtime.Pull{Peers: c.peers})
			expectCode(t, err, c.code)
			if err != nil {
				clean(t, root, 0, 0)
				return
			}
			d, err := to.Inspect(ctx, img.Digest)
			must(t, err)
			if d.Origin != c.origin || img.Digest != string(b.Digest) {
				t.Errorf("%s came from a %s", img.Digest, d.Origin)
			}
		})
	}
}

// TestPeerOfAnotherPlatform: asked by the digest of an index, a machine takes what is built for it, or the registry's.
func TestPeerOfAnotherPlatform(t *testing.T) {
	host := serve(t, nil)
	var built []*Built
	for _, arch := range []string{"amd64", "arm64"} {
		i := New("", map[string]string{"arch": arch})
		i.Architecture = arch
		built = append(built, i.MustBuild())
		push(t, http.DefaultClient, "http://"+host, "multi", arch, built[len(built)-1])
	}
	index, mediaType := Index(built...)
	request(t, http.DefaultClient, http.MethodPut, "http://"+host+"/v2/multi/manifests/1", mediaType, index)
	from, _ := open(t, func(o *oci.Options) { o.Architecture = "amd64" })
	_, err := from.Ensure(ctx, host+"/multi:1", runtime.Pull{})
	must(t, err)
	byIndex, err := from.Resolve(ctx, host+"/multi:1", nil)
	must(t, err)
	plan, err := from.PlanPrune(ctx, func(string) bool { return true }, 0)
	if err != nil || len(plan.Blobs) > 0 {
		t.Errorf("a prune would take %v, %v", plan.Blobs, err)
	}
	for i, arch := range []string{"amd64", "arm64"} {
		to, _ := open(t, func(o *oci.Options) { o.Architecture = arch })
		img, err := to.Ensure(ctx, host+"/multi@"+byIndex, runtime.Pull{Peers: []runtime.Peer{&peer{blobs: from}}})
		if err != nil || img.Digest != string(built[i].Digest) || readIn(t, img, 0, "arch") != arch {
			t.Fatalf("%s: %+v %v", arch, img, err)
		}
		d, err := to.Inspect(ctx, img.Digest)
		must(t, err)
		if want := map[string]string{"amd64": "machine", "arm64": "registry"}[arch]; d.Origin != want {
			t.Errorf("%s came from a %s", arch, d.Origin)
		}
	}
}

func TestOpenBlob(t *testing.T) {
	from, b, _ := holder(t)
	f, err := from.OpenBlob(string(b.Digest))
	must(t, err)
	defer f.Close()
	if body, err := io.ReadAll(f); err != nil || !bytes.Equal(body, b.Blobs[b.Digest]) {
		t.Errorf("%q %v", body, err)
	}
	_, err = from.OpenBlob("sha256:" + strings.Repeat("0", 64))
	expectCode(t, err, api.CodeImageNotFound)
	for _, bad := range []string{"", "../../index.json", "sha256:../../index.json", "sha512:" + strings.Repeat("0", 128)} {
		_, err = from.OpenBlob(bad)
		expectCode(t, err, api.CodeImageBadReference)
	}
}
