package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Export writes a present image as an OCI layout in a tar stream, leaving out the blobs that skip
// says the receiver has (nil: none). Every blob is hashed on its way out, so damage here does not
// travel. Errors: image.not-found, image.damaged, or the writer's.
func (s *Store) Export(ctx context.Context, reference string, w io.Writer, skip func(digest string) bool) error {
	unlock, err := s.lock(ctx, storeLock, false)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := s.find(reference)
	if err != nil {
		return err
	}
	p, err := s.parts(rec.Digest)
	if err != nil {
		return lost(err, reference)
	}
	out := tar.NewWriter(w)
	if err := writeLayoutHead(out, p, rec.exportName(reference)); err != nil {
		return err
	}
	for _, d := range p.blobs() {
		if skip != nil && skip(string(d)) {
			continue
		}
		if err := s.exportBlob(ctx, out, d); err != nil {
			return lost(err, reference)
		}
	}
	return out.Close()
}

// blobs are all blobs of the image, the manifest first, each once.
func (p parts) blobs() []digest.Digest {
	all := []digest.Digest{p.digest, p.manifest.Config.Digest}
	for _, l := range p.manifest.Layers {
		if !slices.Contains(all, l.Digest) {
			all = append(all, l.Digest)
		}
	}
	return all
}

// exportName is the name the archive carries: the one asked for, else the image's first.
func (r record) exportName(reference string) string {
	if full := fullName(reference); slices.Contains(r.References, full) {
		return full
	}
	if len(r.References) > 0 {
		return r.References[0]
	}
	return ""
}

func writeLayoutHead(out *tar.Writer, p parts, name string) error {
	d := v1.Descriptor{MediaType: p.manifest.MediaType, Digest: p.digest, Size: int64(len(p.body)), Platform: &p.config.Platform}
	if d.MediaType == "" {
		d.MediaType = v1.MediaTypeImageManifest
	}
	if name != "" {
		d.Annotations = map[string]string{containerdName: name, v1.AnnotationRefName: name}
	}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{d}}
	if err := writeDocument(out, v1.ImageLayoutFile, v1.ImageLayout{Version: v1.ImageLayoutVersion}); err != nil {
		return err
	}
	return writeDocument(out, v1.ImageIndexFile, index)
}

func writeDocument(out *tar.Writer, name string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeMember(out, name, int64(len(body)), bytes.NewReader(body))
}

func writeMember(out *tar.Writer, name string, size int64, body io.Reader) error {
	if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size}); err != nil {
		return err
	}
	_, err := io.Copy(out, body)
	return err
}

func (s *Store) exportBlob(ctx context.Context, out *tar.Writer, d digest.Digest) error {
	f, err := os.Open(s.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return damaged(string(d), "this blob is gone")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	verify := d.Verifier()
	if err := writeMember(out, blobMember(d), st.Size(), io.TeeReader(ctxReader{ctx, f}, verify)); err != nil {
		return err
	}
	if !verify.Verified() {
		return damaged(string(d), "the stored bytes no longer match the digest")
	}
	return nil
}

func blobMember(d digest.Digest) string { return "blobs/sha256/" + d.Encoded() }

// LayoutBlobs lists the digests of an OCI layout folder's blobs, for the client to ask Missing.
func LayoutBlobs(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, badArchive(dir, "not an OCI layout: it has no blobs/sha256")
	}
	if err != nil {
		return nil, err
	}
	digests := []string{}
	for _, e := range entries {
		digests = append(digests, "sha256:"+e.Name())
	}
	return digests, nil
}

// WriteLayout streams an OCI layout folder as the tar that Import reads, without the blobs that skip
// names. It runs on the operator's side.
func WriteLayout(ctx context.Context, dir string, w io.Writer, skip func(digest string) bool) error {
	digests, err := LayoutBlobs(dir)
	if err != nil {
		return err
	}
	names := []string{v1.ImageLayoutFile, v1.ImageIndexFile}
	for _, d := range digests {
		if skip == nil || !skip(d) {
			names = append(names, "blobs/sha256/"+strings.TrimPrefix(d, "sha256:"))
		}
	}
	out := tar.NewWriter(w)
	for _, name := range names {
		if err := copyMember(ctx, out, dir, name); err != nil {
			return err
		}
	}
	return out.Close()
}

func copyMember(ctx context.Context, out *tar.Writer, dir, name string) error {
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return badArchive(dir, "not an OCI layout: it has no %s", name)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return writeMember(out, name, st.Size(), ctxReader{ctx, f})
}
