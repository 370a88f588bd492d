package oci

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Damage is one thing that Verify found wrong.
type Damage struct {
	Blob    string `json:"blob"`
	Problem string `json:"problem"`
	// Images are the digests of the images that need the blob.
	Images []string `json:"images"`
}

// Verify hashes every blob again and looks whether every image is complete. With discard it removes damaged blobs,
// so that the next pull fetches them anew; unpacked layers stay, instances run from them.
func (s *Store) Verify(ctx context.Context, discard bool) ([]Damage, error) {
	unlock, err := s.lock(ctx, storeLock, discard)
	if err != nil {
		return nil, err
	}
	defer unlock()
	f, err := s.loadIndex()
	if err != nil {
		return nil, err
	}
	found, err := s.verifyBlobs(ctx, discard)
	if err != nil {
		return found, err
	}
	for _, r := range f.Images {
		found = s.verifyImage(r, found)
	}
	return found, nil
}

func (s *Store) verifyBlobs(ctx context.Context, discard bool) ([]Damage, error) {
	found := []Damage{}
	entries, err := os.ReadDir(s.path("blobs", "sha256"))
	if err != nil {
		return found, err
	}
	for _, e := range entries {
		d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		problem, err := s.verifyBlob(ctx, d)
		if err != nil {
			return found, err
		}
		if problem == "" {
			continue
		}
		found = append(found, Damage{Blob: string(d), Problem: problem, Images: []string{}})
		if discard {
			if err := os.Remove(s.path("blobs", "sha256", e.Name())); err != nil {
				return found, err
			}
		}
	}
	return found, nil
}

// verifyBlob returns what is wrong with a blob, or "". An error of reading is a finding: that is how
// a failing disk shows.
func (s *Store) verifyBlob(ctx context.Context, d digest.Digest) (string, error) {
	if d.Validate() != nil {
		return "not a blob's name", nil
	}
	f, err := os.Open(s.blobPath(d))
	if err != nil {
		return err.Error(), nil
	}
	defer f.Close()
	v := d.Verifier()
	n, err := io.Copy(v, ctxReader{ctx, f})
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return err.Error(), nil
	case !v.Verified():
		return fmt.Sprintf("its %d bytes hash to something else", n), nil
	default:
		return "", nil
	}
}

// verifyImage adds what the image misses, and its digest to the damage it suffers from.
func (s *Store) verifyImage(r record, found []Damage) []Damage {
	p, err := s.parts(r.Digest)
	if err != nil {
		return append(found, Damage{Blob: string(r.Digest), Problem: err.Error(), Images: []string{string(r.Digest)}})
	}
	for _, d := range p.blobs() {
		at := slices.IndexFunc(found, func(f Damage) bool { return f.Blob == string(d) })
		switch {
		case at >= 0:
			found[at].Images = append(found[at].Images, string(r.Digest))
		case !s.hasBlob(d, -1):
			found = append(found, Damage{Blob: string(d), Problem: "gone", Images: []string{string(r.Digest)}})
		}
	}
	for _, c := range p.chain {
		if _, ok, err := s.readLayer(c); err != nil || !ok {
			found = append(found, Damage{Blob: string(c), Problem: "unpacked layer gone: " + s.layerDir(c), Images: []string{string(r.Digest)}})
		}
	}
	return found
}
