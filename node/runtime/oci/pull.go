package oci

import (
	"context"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// maxNesting is how deep an index may lie in an index.
const maxNesting = 3

// Ensure implements runtime.Images. A present image whose layers were lost is unpacked again from
// its blobs; a reference by digest is never asked for twice, as it cannot change.
func (s *Store) Ensure(ctx context.Context, reference string, pull runtime.Pull) (runtime.Image, error) {
	ref, err := s.parse(reference)
	if err != nil {
		return runtime.Image{}, err
	}
	img, err := s.ensure(ctx, ref, reference, pull)
	if err != nil || pull.Named.IsZero() {
		return img, err
	}
	tag, _, _ := strings.Cut(reference, "@")
	return img, s.changeIndex(ctx, func(f *indexFile) { f.name(digest.Digest(img.Digest), fullName(tag), pull.Named) })
}

func (s *Store) ensure(ctx context.Context, ref name.Reference, reference string, pull runtime.Pull) (runtime.Image, error) {
	_, fixed := ref.(name.Digest)
	if !pull.Always || fixed {
		img, err := s.present(ctx, reference)
		if err == nil || (api.CodeOf(err) != api.CodeImageNotFound && api.CodeOf(err) != api.CodeImageDamaged) {
			return img, err
		}
	}
	return s.pull(ctx, ref, pull)
}

// present returns a complete image of the store, mending missing layers.
func (s *Store) present(ctx context.Context, reference string) (runtime.Image, error) {
	rec, err := s.find(reference)
	if err != nil {
		return runtime.Image{}, err
	}
	unlock, err := s.lock(ctx, storeLock, false)
	if err != nil {
		return runtime.Image{}, err
	}
	defer unlock()
	p, err := s.parts(rec.Digest)
	if err != nil {
		return runtime.Image{}, err
	}
	if err := s.unpackAll(ctx, p, nil); err != nil {
		return runtime.Image{}, err
	}
	return s.image(reference, p), nil
}

func (s *Store) pull(ctx context.Context, ref name.Reference, pull runtime.Pull) (runtime.Image, error) {
	pull.Progress = oneAtATime(pull.Progress)
	unlock, err := s.lock(ctx, storeLock, false)
	if err != nil {
		return runtime.Image{}, err
	}
	defer unlock()
	img, elsewhere := s.pullFromPeers(ctx, ref, pull)
	if elsewhere == nil || ctx.Err() != nil || api.CodeOf(elsewhere) == api.CodeImageDiskFull {
		return img, elsewhere
	}
	r, err := s.connect(ctx, ref, pull.Auth)
	if err != nil {
		return runtime.Image{}, alsoFailed(err, elsewhere)
	}
	defer r.close()
	img, err = s.pullFrom(ctx, connection{s, ref, r}, pull.Progress)
	return img, alsoFailed(err, elsewhere)
}

// source is where an image comes from: a registry, or other machines.
type source interface {
	// manifest returns a manifest or index by tag or digest; by digest, it is checked.
	manifest(ctx context.Context, id string) ([]byte, error)
	// blob opens a blob where the partial ends; it resets one that cannot be continued.
	blob(ctx context.Context, p *partial) (io.ReadCloser, error)
	// failed types an error of the source.
	failed(err error) error
	// origin is the word for it in the index.
	origin() string
}

// connection is an image on its way from a source into the store.
type connection struct {
	store *Store
	ref   name.Reference
	source
}

func (s *Store) pullFrom(ctx context.Context, c connection, progress runtime.Progress) (runtime.Image, error) {
	rec, p, err := c.resolve(ctx, progress)
	if err != nil {
		return runtime.Image{}, err
	}
	if err := c.fetchLayers(ctx, p, progress); err != nil {
		return runtime.Image{}, err
	}
	rec.Origin, rec.Added = c.origin(), time.Now().UTC()
	if err := s.changeIndex(ctx, func(f *indexFile) { f.add(rec, c.ref.Name()) }); err != nil {
		return runtime.Image{}, err
	}
	return s.image(c.ref.String(), p), nil
}

// resolve follows the reference to this machine's manifest and fetches its config.
func (c connection) resolve(ctx context.Context, progress runtime.Progress) (record, parts, error) {
	var rec record
	var index []byte
	id := c.ref.Identifier()
	for range maxNesting {
		body, err := c.manifest(ctx, id)
		if err != nil {
			return rec, parts{}, err
		}
		m, err := parseContent(body, c.ref.Name())
		if err != nil {
			return rec, parts{}, err
		}
		if m.Config != nil {
			rec.Digest = digest.FromBytes(body)
			p, err := c.complete(ctx, body, m, progress)
			if err == nil && index != nil {
				_, err = c.store.putBlob(index) // so that a peer who asks by its digest can check the choice
			}
			return rec, p, err
		}
		if rec.Index == "" {
			rec.Index, index = digest.FromBytes(body), body
		}
		chosen, err := c.store.choose(m.Manifests, c.ref.Name())
		if err != nil {
			return rec, parts{}, err
		}
		id = string(chosen.Digest)
	}
	return rec, parts{}, unsupported(c.ref.Name(), "its indexes lie in each other more than %d deep", maxNesting)
}

// complete stores manifest and config. Nothing is written for an image that is refused.
func (c connection) complete(ctx context.Context, body []byte, m content, progress runtime.Progress) (parts, error) {
	if err := m.check(c.ref.Name()); err != nil {
		return parts{}, err
	}
	if err := c.fetch(ctx, *m.Config, progress); err != nil {
		return parts{}, err
	}
	if _, err := c.store.putBlob(body); err != nil {
		return parts{}, err
	}
	return c.store.parts(digest.FromBytes(body))
}

// fetchLayers downloads several layers at once and unpacks each as soon as it and those below it
// are there.
func (c connection) fetchLayers(ctx context.Context, p parts, progress runtime.Progress) error {
	if err := c.store.needs(c.store.missingBytes(p.manifest.Layers)); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.store.opts.Parallel + 1)
	ready := make([]chan struct{}, len(p.manifest.Layers))
	for i := range ready {
		ready[i] = make(chan struct{})
	}
	group.Go(func() error { return c.store.unpackAll(ctx, p, ready) })
	for i, l := range p.manifest.Layers {
		group.Go(func() error {
			err := c.fetch(ctx, l, progress)
			if err == nil {
				close(ready[i])
			}
			return err
		})
	}
	return group.Wait()
}

func (s *Store) missingBytes(layers []v1.Descriptor) int64 {
	var sum int64
	for _, l := range layers {
		if !s.hasBlob(l.Digest, l.Size) {
			sum += l.Size
		}
	}
	return sum
}

// oneAtATime lets several downloads share one callback, which may be nil.
func oneAtATime(progress runtime.Progress) runtime.Progress {
	if progress == nil {
		return func(string, int64, int64) {}
	}
	var mu sync.Mutex
	return func(part string, done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		progress(part, done, total)
	}
}
