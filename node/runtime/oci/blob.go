package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ployz/ployz/node/api"
)

func (s *Store) blobPath(d digest.Digest) string { return s.path("blobs", "sha256", d.Encoded()) }

// hasBlob says that the blob is here, and of the declared size unless that is negative. Content is
// trusted to its name; Verify is what looks again.
func (s *Store) hasBlob(d digest.Digest, size int64) bool {
	st, err := os.Stat(s.blobPath(d))
	return err == nil && (size < 0 || st.Size() == size)
}

// Missing returns those of the digests whose blobs are not in the store, so that a client can leave
// the others out of an archive. Malformed digests are image.bad-reference.
func (s *Store) Missing(digests []string) ([]string, error) {
	missing := []string{}
	for _, text := range digests {
		d, err := parseDigest(text)
		if err != nil {
			return nil, err
		}
		if !s.hasBlob(d, -1) {
			missing = append(missing, text)
		}
	}
	return missing, nil
}

// parseDigest accepts sha256 only: nothing else is in use, and every path is named by it.
func parseDigest(text string) (digest.Digest, error) {
	d, err := digest.Parse(text)
	if err != nil || d.Algorithm() != digest.SHA256 {
		return "", api.Errorf(api.CodeImageBadReference, "%q is not a sha256 digest", text)
	}
	return d, nil
}

// partial is a blob on its way in: a temporary file and the hash of what it holds.
type partial struct {
	store *Store
	want  v1.Descriptor // Size is -1 when not known beforehand
	file  *os.File
	hash  hash.Hash
	size  int64
}

func (s *Store) newPartial(want v1.Descriptor) (*partial, error) {
	if err := s.needs(max(want.Size, 0)); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(s.session, "blob")
	if err != nil {
		return nil, s.writeError(err, want.Size)
	}
	return &partial{store: s, want: want, file: f, hash: sha256.New()}, nil
}

// Write appends. More bytes than declared are refused before they are written.
func (p *partial) Write(b []byte) (int, error) {
	if p.want.Size >= 0 && p.size+int64(len(b)) > p.want.Size {
		return 0, p.mismatch("more than the declared %d bytes arrive", p.want.Size)
	}
	n, err := p.file.Write(b)
	p.hash.Write(b[:n])
	p.size += int64(n)
	if err != nil {
		return n, p.store.writeError(err, p.want.Size-p.size)
	}
	return n, nil
}

// reset starts over, for a registry that cannot continue where it broke off.
func (p *partial) reset() error {
	p.hash.Reset()
	p.size = 0
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	_, err := p.file.Seek(0, io.SeekStart)
	return err
}

func (p *partial) digest() digest.Digest {
	return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(p.hash.Sum(nil)))
}

// check compares what arrived with what was declared.
func (p *partial) check() error {
	if p.want.Size >= 0 && p.size != p.want.Size {
		return p.mismatch("%d bytes arrived, %d were declared", p.size, p.want.Size)
	}
	if got := p.digest(); p.want.Digest != "" && got != p.want.Digest {
		return p.mismatch("its bytes hash to %s", got)
	}
	return nil
}

func (p *partial) mismatch(format string, args ...any) *api.Error {
	e := api.Errorf(api.CodeDigestMismatch, format, args...).About(string(p.want.Digest))
	return e.WithHint("nothing of it was kept; ask whoever serves the image, or try another registry")
}

// commit checks the blob and gives it its name.
func (p *partial) commit() error {
	if err := p.check(); err != nil {
		p.discard()
		return err
	}
	if err := p.store.publish(p.file, p.store.blobPath(p.digest()), 0o444); err != nil {
		p.discard()
		return err
	}
	return nil
}

// discard removes the temporary file. That it may be gone already is fine.
func (p *partial) discard() {
	p.file.Close()
	os.Remove(p.file.Name())
}

// putBlob stores bytes in hand, such as a manifest, and returns their digest.
func (s *Store) putBlob(body []byte) (digest.Digest, error) {
	d := digest.FromBytes(body)
	if s.hasBlob(d, int64(len(body))) {
		return d, nil
	}
	return d, s.writeFile(s.blobPath(d), body)
}

// readBlob reads a small blob (manifest, config) and checks it again, since everything else follows
// from it. Errors: image.not-found, image.damaged.
func (s *Store) readBlob(d digest.Digest) ([]byte, error) {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return nil, api.Errorf(api.CodeImageBadReference, "%q is not a sha256 digest", d)
	}
	body, err := os.ReadFile(s.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, api.Errorf(api.CodeImageNotFound, "no blob %s in %s", d, s.opts.Root).About(string(d))
	}
	if err != nil {
		return nil, err
	}
	if digest.FromBytes(body) != d {
		return nil, damaged(string(d), "the stored bytes no longer match the digest")
	}
	return body, nil
}

func damaged(subject, format string, args ...any) *api.Error {
	e := api.Errorf(api.CodeImageDamaged, format, args...).About(subject)
	return e.WithHint("run ployzctl image verify --discard, then pull the image again")
}

// ctxReader makes a long copy end with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// blobSize returns a stored blob's size.
func (s *Store) blobSize(d digest.Digest) (int64, bool) {
	if d.Validate() != nil {
		return 0, false
	}
	st, err := os.Stat(s.blobPath(d))
	if err != nil {
		return 0, false
	}
	return st.Size(), true
}
