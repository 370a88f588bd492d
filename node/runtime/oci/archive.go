package oci

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// Bounds of what an archive may make us hold in memory, or spread over files.
const (
	maxDocument  = 8 << 20
	maxDocuments = 64 << 20
	maxMembers   = 100_000
)

// intake is an archive on its way in. Blobs wait under temporary names until an image that
// names them is accepted, so a bad archive leaves nothing.
type intake struct {
	store    *Store
	progress runtime.Progress
	// documents are the small JSON files, by path.
	documents map[string][]byte
	held      int
	// blobs are the large ones by digest, files the digest by path (docker's form has names).
	blobs map[digest.Digest]*partial
	files map[string]digest.Digest
	// links are docker's references to a layer that came earlier.
	links map[string]string
}

// Import implements runtime.Images. The archive is an OCI layout or what `docker save` writes, as a
// tar stream, compressed or not. Blobs that the store has already may be left out of an OCI layout
// (see Missing). With an empty reference the archive's own name is taken.
//
// Errors: image.bad-archive, image.bad-reference, image.digest-mismatch, image.no-platform, image.layer-*, image.disk-full.
func (s *Store) Import(ctx context.Context, reference string, archive io.Reader, progress runtime.Progress) (runtime.Image, error) {
	if reference != "" {
		if _, err := parseReference(reference); err != nil {
			return runtime.Image{}, err
		}
	}
	unlock, err := s.lock(ctx, storeLock, false)
	if err != nil {
		return runtime.Image{}, err
	}
	defer unlock()
	in := &intake{store: s, progress: oneAtATime(progress), documents: map[string][]byte{}, blobs: map[digest.Digest]*partial{},
		files: map[string]digest.Digest{}, links: map[string]string{}}
	defer in.discard()
	if err := in.read(ctx, archive); err != nil {
		return runtime.Image{}, err
	}
	chosen, err := in.choose(reference)
	if err != nil {
		return runtime.Image{}, err
	}
	return in.install(ctx, chosen)
}

func badArchive(subject, format string, args ...any) *api.Error {
	e := api.Errorf(api.CodeImageBadArchive, format, args...).About(subject)
	return e.WithHint("write it with docker save NAME, or as an OCI layout in a tar")
}

func (in *intake) discard() {
	for _, p := range in.blobs {
		p.discard()
	}
}

func (in *intake) read(ctx context.Context, archive io.Reader) error {
	plain, err := decompress(ctxReader{ctx, archive})
	if err != nil {
		return err
	}
	defer plain.Close()
	r := tar.NewReader(plain)
	for range maxMembers {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = in.member(ctx, h, r)
		}
		if err != nil {
			return archiveError(err)
		}
	}
	return badArchive("archive", "it has more than %d members", maxMembers)
}

func archiveError(err error) error {
	var typed *api.Error
	if errors.As(err, &typed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return badArchive("archive", "it cannot be read to its end: %w", err)
}

// member takes in one file of the archive. Its name only ever serves as a key, never as a path.
func (in *intake) member(ctx context.Context, h *tar.Header, body io.Reader) error {
	name := path.Clean(h.Name)
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeSymlink, tar.TypeLink:
		in.links[name] = linkTarget(h, name)
		return nil
	default:
		return nil
	}
	if hex, ok := strings.CutPrefix(name, "blobs/sha256/"); ok {
		d, err := parseDigest("sha256:" + hex)
		if err != nil {
			return badArchive(h.Name, "not a blob's name")
		}
		return in.blob(ctx, v1.Descriptor{Digest: d, Size: h.Size}, name, body)
	}
	if strings.HasSuffix(name, ".json") || name == v1.ImageLayoutFile {
		return in.document(name, h.Size, body)
	}
	if strings.HasSuffix(name, ".tar") {
		return in.blob(ctx, v1.Descriptor{Size: h.Size}, name, body)
	}
	return nil
}

func linkTarget(h *tar.Header, name string) string {
	if h.Typeflag == tar.TypeLink {
		return path.Clean(h.Linkname)
	}
	return path.Join(path.Dir(name), h.Linkname)
}

func (in *intake) document(name string, size int64, body io.Reader) error {
	if in.held += int(size); size > maxDocument || in.held > maxDocuments {
		return badArchive(name, "%d bytes of JSON are more than can be right", size)
	}
	text, err := io.ReadAll(io.LimitReader(body, maxDocument))
	in.documents[name] = text
	return err
}

// blob spools one blob unless the store has it.
func (in *intake) blob(ctx context.Context, want v1.Descriptor, name string, body io.Reader) error {
	if in.blobs[want.Digest] != nil || (want.Digest != "" && in.store.hasBlob(want.Digest, want.Size)) {
		in.progress(string(want.Digest), want.Size, want.Size)
		return nil
	}
	p, err := in.store.newPartial(want)
	if err != nil {
		return err
	}
	part := string(want.Digest)
	if part == "" {
		part = name
	}
	if err := in.spool(ctx, p, part, body); err != nil {
		p.discard()
		return err
	}
	d := p.digest()
	in.files[name] = d
	if in.blobs[d] != nil {
		p.discard()
		return nil
	}
	in.blobs[d] = p
	return nil
}

func (in *intake) spool(ctx context.Context, p *partial, part string, body io.Reader) error {
	buf := make([]byte, 256<<10)
	for {
		n, readErr := body.Read(buf)
		if _, err := p.Write(buf[:n]); err != nil {
			return err
		}
		in.progress(part, p.size, p.want.Size)
		if readErr == io.EOF {
			return p.check()
		}
		if readErr != nil {
			return readErr
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// bytesOf returns a small blob from the archive or the store.
func (in *intake) bytesOf(d v1.Descriptor, what string) ([]byte, error) {
	if d.Size > maxManifest {
		return nil, badArchive(string(d.Digest), "a %s of %d bytes", what, d.Size)
	}
	if p := in.blobs[d.Digest]; p != nil {
		body := make([]byte, min(p.size, maxManifest))
		_, err := p.file.ReadAt(body, 0)
		return body, err
	}
	body, err := in.store.readBlob(d.Digest)
	if err != nil {
		return nil, badArchive(string(d.Digest), "the archive lacks the %s, and so does the store", what)
	}
	return body, nil
}

// chosen is the image of an archive that is to be kept.
type chosen struct {
	name     string // full, or ""
	body     []byte // the manifest
	manifest content
	index    digest.Digest
}

// install keeps the chosen image: blobs first, then layers, and the name last.
func (in *intake) install(ctx context.Context, c chosen) (runtime.Image, error) {
	subject := c.name
	if subject == "" {
		subject = string(digest.FromBytes(c.body))
	}
	if err := c.manifest.check(subject); err != nil {
		return runtime.Image{}, err
	}
	config, err := in.bytesOf(*c.manifest.Config, "config")
	if err != nil {
		return runtime.Image{}, err
	}
	if _, err := in.store.parseConfig(config, len(c.manifest.Layers), subject); err != nil {
		return runtime.Image{}, err
	}
	blobs := append([]v1.Descriptor{*c.manifest.Config}, c.manifest.Layers...)
	if err := in.has(blobs); err != nil {
		return runtime.Image{}, err
	}
	if err := in.keep(blobs); err != nil {
		return runtime.Image{}, err
	}
	d, err := in.store.putBlob(c.body)
	if err != nil {
		return runtime.Image{}, err
	}
	p, err := in.store.parts(d)
	if err != nil {
		return runtime.Image{}, err
	}
	if err := in.store.unpackAll(ctx, p, nil); err != nil {
		return runtime.Image{}, err
	}
	rec := record{Digest: d, Index: c.index, Origin: "archive", Added: time.Now().UTC()}
	err = in.store.changeIndex(ctx, func(f *indexFile) {
		f.add(rec, c.name)
		if c.name != "" {
			f.name(rec.Digest, c.name, rec.Added)
		}
	})
	return in.store.image(Familiar(subject), p), err
}

// has checks that every blob is there before the first one is kept.
func (in *intake) has(blobs []v1.Descriptor) error {
	for _, d := range blobs {
		p := in.blobs[d.Digest]
		if p == nil && !in.store.hasBlob(d.Digest, d.Size) {
			return badArchive(string(d.Digest), "the archive lacks this blob, and so does the store")
		}
		if p != nil && p.size != d.Size {
			return badArchive(string(d.Digest), "the blob has %d bytes, the manifest says %d", p.size, d.Size)
		}
	}
	return nil
}

// keep gives the spooled blobs their names in the store.
func (in *intake) keep(blobs []v1.Descriptor) error {
	for _, d := range blobs {
		p := in.blobs[d.Digest]
		if p == nil {
			continue
		}
		delete(in.blobs, d.Digest)
		if err := p.commit(); err != nil {
			return err
		}
	}
	return nil
}

// parseDocument reads one of the archive's JSON files.
func (in *intake) parseDocument(name string, into any) error {
	if err := json.Unmarshal(in.documents[name], into); err != nil {
		return badArchive(name, "not readable: %w", err)
	}
	return nil
}
