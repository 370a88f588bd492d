package oci

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime/oci/layer"
)

// layerFile is layer.json: what an unpacked layer is.
type layerFile struct {
	Chain digest.Digest `json:"chain"`
	Diff  digest.Digest `json:"diff"`
	// Parent is the chain id of the layers below, empty for the lowest.
	Parent  digest.Digest `json:"parent,omitempty"`
	Blob    digest.Digest `json:"blob"`
	Entries int           `json:"entries"`
	Bytes   int64         `json:"bytes"`
}

// shortName is a layer's folder: 50 bits of its chain id. Short, as 120 of them must fit a page of
// mount options; two chains that agree in it are found by layer.json.
func shortName(chain digest.Digest) string {
	raw, err := hex.DecodeString(chain.Encoded())
	if err != nil {
		return chain.Encoded()[:10] // not reached: digests are validated where they come in
	}
	return strings.ToLower(base32.StdEncoding.EncodeToString(raw)[:10])
}

func (s *Store) layerDir(chain digest.Digest) string { return s.path("layers", shortName(chain)) }

// layerFS is the folder that goes into an overlay mount.
func (s *Store) layerFS(chain digest.Digest) string { return filepath.Join(s.layerDir(chain), "fs") }

func (s *Store) readLayer(chain digest.Digest) (layerFile, bool, error) {
	var f layerFile
	body, err := os.ReadFile(filepath.Join(s.layerDir(chain), "layer.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return f, false, nil
	}
	if err != nil {
		return f, false, err
	}
	if err := json.Unmarshal(body, &f); err != nil {
		return f, false, damaged(s.layerDir(chain), "layer.json is not readable: %w", err)
	}
	if f.Chain != chain {
		return f, false, damaged(s.layerDir(chain), "it holds the layer %s where %s belongs", f.Chain, chain)
	}
	return f, true, nil
}

// unpackAll unpacks the image's layers from the lowest up, waiting for each blob if ready is given.
func (s *Store) unpackAll(ctx context.Context, p parts, ready []chan struct{}) error {
	var lowers []string
	for i := range p.manifest.Layers {
		if ready != nil {
			select {
			case <-ready[i]:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := s.unpackOnce(ctx, p, i, lowers); err != nil {
			return err
		}
		lowers = append([]string{s.layerFS(p.chain[i])}, lowers...)
	}
	return nil
}

// unpackOnce unpacks one layer unless it is there. Whoever comes second waits and finds it.
func (s *Store) unpackOnce(ctx context.Context, p parts, i int, lowers []string) error {
	if _, ok, err := s.readLayer(p.chain[i]); ok || err != nil {
		return err
	}
	unlock, err := s.lock(ctx, stripe(p.chain[i]), true)
	if err != nil {
		return err
	}
	defer unlock()
	if _, ok, err := s.readLayer(p.chain[i]); ok || err != nil {
		return err
	}
	work, err := os.MkdirTemp(s.session, "unpack")
	if err != nil {
		return s.writeError(err, 0)
	}
	if err = s.unpackInto(ctx, work, p, i, lowers); err == nil {
		err = s.keepLayer(work, p.chain[i])
	}
	if err == nil {
		return nil
	}
	// First the room, then the report: disk-full tells what is free after the clean-up.
	if clean := os.RemoveAll(work); clean != nil {
		return errors.Join(err, clean)
	}
	return s.unpackError(err, p.manifest.Layers[i])
}

func (s *Store) unpackError(err error, l v1.Descriptor) error {
	var typed *api.Error
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return s.writeError(err, s.unpackedFloor(l))
	case errors.As(err, &typed) && typed.Code != api.CodeDigestMismatch && typed.Code != api.CodeImageNotFound:
		typed.Message = "layer " + string(l.Digest) + ": " + typed.Message
	}
	return err
}

func (s *Store) unpackInto(ctx context.Context, work string, p parts, i int, lowers []string) error {
	l := p.manifest.Layers[i]
	if err := s.needs(s.unpackedFloor(l)); err != nil {
		return err
	}
	root := filepath.Join(work, "fs")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	// The umask of whoever runs us must not decide what instances may read.
	if err := os.Chmod(root, 0o755); err != nil {
		return err
	}
	applied, diff, err := s.applyBlob(ctx, l.Digest, root, lowers)
	if err != nil {
		return err
	}
	if diff != p.config.RootFS.DiffIDs[i] {
		return api.Errorf(api.CodeLayerCorrupt, "it unpacks to %s, the image's config says %s", diff, p.config.RootFS.DiffIDs[i]).About(p.subject)
	}
	f := layerFile{Chain: p.chain[i], Diff: diff, Blob: l.Digest, Entries: applied.Entries, Bytes: applied.Bytes}
	if i > 0 {
		f.Parent = p.chain[i-1]
	}
	body, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(work, "layer.json"), append(body, '\n'), 0o644)
}

// applyBlob unpacks a stored blob into root and returns the digest of its uncompressed form.
func (s *Store) applyBlob(ctx context.Context, blob digest.Digest, root string, lowers []string) (layer.Applied, digest.Digest, error) {
	f, err := os.Open(s.blobPath(blob))
	if errors.Is(err, fs.ErrNotExist) {
		return layer.Applied{}, "", api.Errorf(api.CodeImageNotFound, "its layer %s is not in the store", blob).About(string(blob)).
			WithHint("push the image again with all its layers")
	}
	if err != nil {
		return layer.Applied{}, "", err
	}
	defer f.Close()
	plain, err := decompress(f)
	if err != nil {
		return layer.Applied{}, "", err
	}
	defer plain.Close()
	sum := sha256.New()
	ahead := newReadAhead(plain, sum)
	defer ahead.stop()
	applied, err := layer.Apply(ctx, ahead, root, lowers, s.opts.Limits)
	if err != nil {
		return applied, "", err
	}
	return applied, digest.NewDigest(digest.SHA256, sum), nil
}

// keepLayer makes the finished layer durable and gives it its name. One syncfs costs less than an
// fsync for each of its thousands of files.
func (s *Store) keepLayer(work string, chain digest.Digest) error {
	dir, err := os.Open(work)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("oci: syncing %s: %w", work, err)
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return err
	}
	if err := os.Rename(work, s.layerDir(chain)); err != nil {
		return err
	}
	return durable.SyncFolder(s.path("layers"))
}

// unpackedFloor is the least that the layer unpacks to. A gzip stream ends with its size modulo 4 GiB,
// which is the best there is without unpacking; otherwise the packed size has to do.
func (s *Store) unpackedFloor(l v1.Descriptor) int64 {
	f, err := os.Open(s.blobPath(l.Digest))
	if err != nil {
		return l.Size
	}
	defer f.Close()
	var head [2]byte
	var tail [4]byte
	if _, err := f.ReadAt(head[:], 0); err != nil || !bytes.Equal(head[:], gzipMagic) {
		return l.Size
	}
	if _, err := f.ReadAt(tail[:], l.Size-4); err != nil {
		return l.Size
	}
	return max(l.Size, int64(binary.LittleEndian.Uint32(tail[:])))
}

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// decompress reads gzip, zstd or plain, told by the first bytes: builders mislabel layers.
func decompress(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	head, err := in.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, api.Errorf(api.CodeLayerCorrupt, "the gzip stream does not begin: %w", err)
		}
		return z, nil
	case bytes.HasPrefix(head, zstdMagic):
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, api.Errorf(api.CodeLayerCorrupt, "the zstd stream does not begin: %w", err)
		}
		return z.IOReadCloser(), nil
	default:
		return io.NopCloser(in), nil
	}
}
