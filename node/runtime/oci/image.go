package oci

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// parts is an image taken apart: what its manifest and config say.
type parts struct {
	subject  string
	digest   digest.Digest
	body     []byte
	manifest content
	config   configFile
	chain    []digest.Digest
}

// parts reads manifest and config of a stored image.
func (s *Store) parts(d digest.Digest) (parts, error) {
	p := parts{subject: string(d), digest: d}
	var err error
	if p.body, err = s.readBlob(d); err != nil {
		return p, err
	}
	if p.manifest, err = parseContent(p.body, p.subject); err != nil {
		return p, err
	}
	if p.manifest.Config == nil {
		return p, unsupported(p.subject, "it is an index, not an image")
	}
	if err = p.manifest.check(p.subject); err != nil {
		return p, err
	}
	config, err := s.readBlob(p.manifest.Config.Digest)
	if err != nil {
		return p, err
	}
	if p.config, err = s.parseConfig(config, len(p.manifest.Layers), p.subject); err != nil {
		return p, err
	}
	p.chain = chainIDs(p.config.RootFS.DiffIDs)
	return p, nil
}

// image puts the contract's view together.
func (s *Store) image(reference string, p parts) runtime.Image {
	img := runtime.Image{Reference: reference, Digest: string(p.digest), Config: imageConfig(p.config)}
	img.Bytes = int64(len(p.body)) + p.manifest.Config.Size
	for i, l := range p.manifest.Layers {
		img.Layers = append(img.Layers, s.layerFS(p.chain[i]))
		img.Bytes += l.Size
	}
	return img
}

func imageConfig(c configFile) runtime.ImageConfig {
	return runtime.ImageConfig{
		Entrypoint:   c.Config.Entrypoint,
		Command:      c.Config.Cmd,
		Env:          c.Config.Env,
		WorkDir:      c.Config.WorkingDir,
		User:         c.Config.User,
		StopSignal:   c.Config.StopSignal,
		ExposedPorts: slices.Sorted(maps.Keys(c.Config.ExposedPorts)),
		Volumes:      slices.Sorted(maps.Keys(c.Config.Volumes)),
		Labels:       c.Config.Labels,
	}
}

// find looks a reference or bare digest up in the index. Errors: image.bad-reference,
// image.not-found.
func (s *Store) find(reference string) (record, error) {
	f, err := s.loadIndex()
	if err != nil {
		return record{}, err
	}
	rec, ok, err := f.lookup(reference)
	if err == nil && !ok {
		err = absent(reference)
	}
	return rec, err
}

func absent(reference string) error {
	e := api.Errorf(api.CodeImageNotFound, "no image %q on this machine", reference).About(reference)
	return e.WithHint("see what is there: ployzctl image ls")
}

// lookup finds by bare digest, by name@digest (the digest decides), or by name.
func (f *indexFile) lookup(reference string) (record, bool, error) {
	if strings.HasPrefix(reference, "sha256:") {
		d, err := parseDigest(reference)
		if err != nil {
			return record{}, false, err
		}
		rec, ok := f.byDigest(d)
		return rec, ok, nil
	}
	ref, err := parseReference(reference)
	if err != nil {
		return record{}, false, err
	}
	if d, ok := ref.(name.Digest); ok {
		rec, found := f.byDigest(digest.Digest(d.DigestStr()))
		return rec, found, nil
	}
	rec, ok := f.byName(ref.Name())
	return rec, ok, nil
}

// Lookup implements runtime.Images. An image with parts missing is image.damaged: Ensure mends it.
func (s *Store) Lookup(_ context.Context, reference string) (runtime.Image, error) {
	rec, err := s.find(reference)
	if err != nil {
		return runtime.Image{}, err
	}
	p, err := s.parts(rec.Digest)
	if err != nil {
		return runtime.Image{}, lost(err, reference)
	}
	for _, chain := range p.chain {
		if _, ok, err := s.readLayer(chain); err != nil || !ok {
			return runtime.Image{}, lost(err, reference)
		}
	}
	img := s.image(reference, p)
	img.Named = rec.named(fullName(reference))
	return img, nil
}

// lost says that an image in the index is not all there.
func lost(err error, reference string) error {
	if err != nil && api.CodeOf(err) != api.CodeImageNotFound {
		return err
	}
	return damaged(reference, "a part of it is no longer in the store").WithHint("pull or push the image again")
}

// Details is everything Inspect can say of an image.
type Details struct {
	runtime.Image
	References  []string       `json:"references"`
	Platform    string         `json:"platform"`
	Created     *time.Time     `json:"created,omitempty"`
	Added       time.Time      `json:"added"`
	Origin      string         `json:"origin"`
	Healthcheck *Healthcheck   `json:"healthcheck,omitempty"`
	Stack       []LayerDetails `json:"stack"`
}

// LayerDetails is one layer, lowest first in Details.Stack. Bytes is the unpacked size.
type LayerDetails struct {
	Digest      string `json:"digest"`
	Diff        string `json:"diff"`
	Chain       string `json:"chain"`
	Folder      string `json:"folder"`
	PackedBytes int64  `json:"packedBytes"`
	Bytes       int64  `json:"bytes"`
	Entries     int    `json:"entries"`
}

// Inspect returns all that is known of a present image, by reference or digest. Errors as Lookup.
func (s *Store) Inspect(ctx context.Context, reference string) (Details, error) {
	img, err := s.Lookup(ctx, reference)
	if err != nil {
		return Details{}, err
	}
	rec, err := s.find(reference)
	if err != nil {
		return Details{}, err
	}
	p, err := s.parts(rec.Digest)
	if err != nil {
		return Details{}, err
	}
	d := Details{Image: img, References: familiarAll(rec.References), Platform: platformName(p.config.Platform),
		Created: p.config.Created, Added: rec.Added, Origin: rec.Origin, Healthcheck: p.config.Config.Healthcheck}
	for i, l := range p.manifest.Layers {
		f, _, err := s.readLayer(p.chain[i])
		if err != nil {
			return Details{}, err
		}
		d.Stack = append(d.Stack, LayerDetails{Digest: string(l.Digest), Diff: string(f.Diff), Chain: string(f.Chain),
			Folder: s.layerFS(f.Chain), PackedBytes: l.Size, Bytes: f.Bytes, Entries: f.Entries})
	}
	return d, nil
}

// List implements runtime.Images. An image that cannot be read is listed with no bytes, so that it
// can be seen and removed.
func (s *Store) List(context.Context) ([]runtime.ImageEntry, error) {
	f, err := s.loadIndex()
	if err != nil {
		return nil, err
	}
	entries := []runtime.ImageEntry{}
	for _, rec := range f.Images {
		e := runtime.ImageEntry{References: familiarAll(rec.References), Digest: string(rec.Digest), Added: rec.Added, InUse: s.opts.InUse(string(rec.Digest))}
		if p, err := s.parts(rec.Digest); err == nil {
			e.Bytes = s.image("", p).Bytes
			if p.config.Created != nil {
				e.Created = *p.config.Created
			}
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func familiarAll(full []string) []string {
	short := make([]string, len(full))
	for i, f := range full {
		short[i] = Familiar(f)
	}
	return short
}

// Remove implements runtime.Images: it forgets one name; a bare digest forgets the image with all
// its names. Errors: image.not-found, image.in-use when an instance runs from it and this is its last name.
func (s *Store) Remove(ctx context.Context, reference string) error {
	var result error
	err := s.changeIndex(ctx, func(f *indexFile) { result = s.removeFrom(f, reference) })
	if err != nil {
		return err
	}
	return result
}

func (s *Store) removeFrom(f *indexFile, reference string) error {
	rec, ok, err := f.lookup(reference)
	if err != nil {
		return err
	}
	if !ok {
		return absent(reference)
	}
	full := fullName(reference)
	last := full == "" || !slices.Contains(rec.References, full) || len(rec.References) == 1
	if !last {
		f.forget(full)
		return nil
	}
	if s.opts.InUse(string(rec.Digest)) {
		e := api.Errorf(api.CodeImageInUse, "an instance runs from it (%s)", rec.Digest).About(reference)
		return e.WithHint("see which: ployzctl service ls; remove or update that service first")
	}
	f.Images = slices.DeleteFunc(f.Images, func(r record) bool { return r.Digest == rec.Digest })
	return nil
}

// fullName is a reference's full name, or "" for a bare digest.
func fullName(reference string) string {
	if strings.HasPrefix(reference, "sha256:") {
		return ""
	}
	ref, err := parseReference(reference)
	if err != nil {
		return ""
	}
	return ref.Name()
}
