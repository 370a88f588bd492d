package oci

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

var _ runtime.Blobs = (*Store)(nil)

// OpenBlob implements runtime.Blobs. What is handed out is not hashed again: the receiver does that.
func (s *Store) OpenBlob(text string) (io.ReadSeekCloser, error) {
	d, err := parseDigest(text)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(s.blobPath(d))
	if errors.Is(err, os.ErrNotExist) {
		return nil, absentBlob(text)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func absentBlob(digest string) *api.Error {
	return api.Errorf(api.CodeImageNotFound, "the machine has no such blob").About(digest)
}

// pullFromPeers takes an image from other machines. They are asked by digest alone, and every byte is held
// against one, so that all a peer can do is to have nothing. Errors: image.not-found when none has it.
func (s *Store) pullFromPeers(ctx context.Context, ref name.Reference, pull runtime.Pull) (runtime.Image, error) {
	if _, fixed := ref.(name.Digest); !fixed || len(pull.Peers) == 0 {
		return runtime.Image{}, absentBlob(ref.Identifier())
	}
	return s.pullFrom(ctx, connection{s, ref, &peers{list: pull.Peers}}, pull.Progress)
}

// alsoFailed adds to a registry's failure why the image did not come from another machine, where one had it.
func alsoFailed(err, elsewhere error) error {
	if err == nil || api.CodeOf(elsewhere) == api.CodeImageNotFound {
		return err
	}
	e := *api.AsError(err)
	e.Details = append(e.Details, api.AsError(elsewhere))
	return &e
}

// peers is a source of several machines. Each blob, and each further try, begins with the next of them, which
// spreads the layers and leaves behind one that broke off.
type peers struct {
	list []runtime.Peer
	turn atomic.Uint64
}

func (p *peers) origin() string { return "machine" }

func (p *peers) failed(err error) error {
	var typed *api.Error
	if errors.As(err, &typed) || errors.Is(err, context.Canceled) {
		return err
	}
	return api.Errorf(api.CodeRegistryDown, "the machines that have the image cannot be read from: %w", err).Again()
}

// open returns the blob from the first machine that has it.
func (p *peers) open(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	first := p.turn.Add(1)
	var failed error
	for i := range uint64(len(p.list)) {
		body, err := p.list[(first+i)%uint64(len(p.list))].Blob(ctx, string(d), offset)
		if err == nil {
			return body, nil
		}
		if failed == nil || api.CodeOf(failed) == api.CodeImageNotFound {
			failed = err // what may pass counts more than an absence
		}
	}
	return nil, failed
}

// blob implements source.
func (p *peers) blob(ctx context.Context, part *partial) (io.ReadCloser, error) {
	return p.open(ctx, part.want.Digest, part.size)
}

// manifest implements source. It is small, so that a try that broke off is simply made at the next machine.
func (p *peers) manifest(ctx context.Context, id string) (text []byte, err error) {
	for range p.list {
		if text, err = p.read(ctx, id); err == nil {
			return text, nil
		}
	}
	return nil, p.failed(err)
}

func (p *peers) read(ctx context.Context, id string) ([]byte, error) {
	body, err := p.open(ctx, digest.Digest(id), 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, maxManifest+1))
	if err != nil {
		return nil, err
	}
	return text, checkManifest(text, id)
}
