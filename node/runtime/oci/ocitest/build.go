package ocitest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's schema 2 media types.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// Built is an image as bytes: what a layout or a registry would hold.
type Built struct {
	// Digest and Manifest describe the platform's image; Platform is what it runs on.
	Digest   digest.Digest
	Manifest v1.Manifest
	Platform v1.Platform
	// MediaType is the manifest's.
	MediaType string
	Reference string
	// Blobs holds the manifest, the config and the layers by digest.
	Blobs map[digest.Digest][]byte
	// Diffs holds the uncompressed layers, lowest first, and DiffIDs their digests.
	Diffs   [][]byte
	DiffIDs []digest.Digest
}

// Build makes the image's bytes. It fails only for entries that a tar cannot hold.
func (img *Image) Build() (*Built, error) {
	b := &Built{Reference: img.Reference, Blobs: map[digest.Digest][]byte{}}
	b.Platform = v1.Platform{OS: "linux", Architecture: img.architecture()}
	b.MediaType = img.pick(v1.MediaTypeImageManifest, dockerManifest)
	b.Manifest = v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: b.MediaType}
	for _, l := range img.Layers {
		if err := b.addLayer(l, img.Docker); err != nil {
			return nil, err
		}
	}
	config := v1.Image{Platform: b.Platform, Created: &Epoch, Config: img.Config}
	config.RootFS = v1.RootFS{Type: "layers", DiffIDs: b.DiffIDs}
	b.Manifest.Config = b.putJSON(config, img.pick(v1.MediaTypeImageConfig, dockerConfig))
	b.Digest = b.putJSON(b.Manifest, b.MediaType).Digest
	return b, nil
}

// MustBuild is Build for images written by hand in a test.
func (img *Image) MustBuild() *Built {
	b, err := img.Build()
	if err != nil {
		panic(err)
	}
	return b
}

func (img *Image) pick(oci, docker string) string {
	if img.Docker {
		return docker
	}
	return oci
}

func (b *Built) addLayer(l Layer, docker bool) error {
	diff, err := l.Tar()
	if err != nil {
		return err
	}
	blob, mediaType, err := compress(diff, l.Compression)
	if err != nil {
		return err
	}
	if docker {
		mediaType = dockerLayer
	}
	b.Diffs = append(b.Diffs, diff)
	b.DiffIDs = append(b.DiffIDs, digest.FromBytes(diff))
	b.Manifest.Layers = append(b.Manifest.Layers, b.Put(blob, mediaType))
	return nil
}

// Put adds a blob and returns its descriptor.
func (b *Built) Put(blob []byte, mediaType string) v1.Descriptor {
	d := digest.FromBytes(blob)
	b.Blobs[d] = blob
	return v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(blob))}
}

func (b *Built) putJSON(v any, mediaType string) v1.Descriptor {
	return b.Put(mustJSON(v), mediaType)
}

// mustJSON marshals types of this package only, which cannot fail.
func mustJSON(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// Descriptor is how an index names the built image.
func (b *Built) Descriptor() v1.Descriptor {
	d := v1.Descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: int64(len(b.Blobs[b.Digest])), Platform: &b.Platform}
	if b.Reference != "" {
		d.Annotations = map[string]string{v1.AnnotationRefName: b.Reference}
	}
	return d
}

// Index builds the image index of several images, one per platform, and returns it with its
// media type.
func Index(images ...*Built) ([]byte, string) {
	mediaType := v1.MediaTypeImageIndex
	if len(images) > 0 && images[0].MediaType == dockerManifest {
		mediaType = dockerList
	}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType}
	for _, b := range images {
		index.Manifests = append(index.Manifests, b.Descriptor())
	}
	return mustJSON(index), mediaType
}

// Tar returns the layer as an uncompressed tar stream.
func (l Layer) Tar() ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range l.Entries {
		h := e.Header
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(e.Body))
		}
		if len(h.PAXRecords) > 0 {
			h.Format = tar.FormatPAX
		}
		if err := w.WriteHeader(&h); err != nil {
			return nil, fmt.Errorf("ocitest: entry %q: %w", h.Name, err)
		}
		if _, err := w.Write(e.Body); err != nil {
			return nil, fmt.Errorf("ocitest: entry %q: %w", h.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func compress(diff []byte, how Compression) ([]byte, string, error) {
	var buf bytes.Buffer
	switch how {
	case Plain:
		return diff, v1.MediaTypeImageLayer, nil
	case Zstd:
		enc, err := zstd.NewWriter(nil)
		if err != nil {
			return nil, "", err
		}
		defer enc.Close()
		return enc.EncodeAll(diff, nil), v1.MediaTypeImageLayerZstd, nil
	default:
		w := gzip.NewWriter(&buf)
		if _, err := w.Write(diff); err != nil {
			return nil, "", err
		}
		err := w.Close()
		return buf.Bytes(), v1.MediaTypeImageLayerGzip, err
	}
}
