package ocitest

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// LayoutFiles returns an OCI layout of the images as path to content. Several images become
// several entries of index.json.
func LayoutFiles(images ...*Built) map[string][]byte {
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	files := map[string][]byte{
		v1.ImageLayoutFile: mustJSON(v1.ImageLayout{Version: v1.ImageLayoutVersion}),
	}
	for _, b := range images {
		index.Manifests = append(index.Manifests, b.Descriptor())
		for d, blob := range b.Blobs {
			files[blobPath(d)] = blob
		}
	}
	files[v1.ImageIndexFile] = mustJSON(index)
	return files
}

func blobPath(d digest.Digest) string {
	return "blobs/" + d.Algorithm().String() + "/" + d.Encoded()
}

// WriteLayout writes an OCI layout of the images into dir, which is made if it is not there.
func WriteLayout(dir string, images ...*Built) error {
	for name, body := range LayoutFiles(images...) {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, body, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// WriteLayoutTar writes an OCI layout of the images as a tar stream.
func WriteLayoutTar(w io.Writer, images ...*Built) error {
	return writeTar(w, LayoutFiles(images...))
}

// WriteDockerArchive writes the image in the form of `docker save` (its classic form:
// manifest.json, the config, and one uncompressed tar per layer).
func WriteDockerArchive(w io.Writer, b *Built) error {
	config := b.Manifest.Config.Digest
	files := map[string][]byte{config.Encoded() + ".json": b.Blobs[config]}
	var layers []string
	for i, diff := range b.Diffs {
		name := b.DiffIDs[i].Encoded() + "/layer.tar"
		files[name] = diff
		layers = append(layers, name)
	}
	entry := map[string]any{"Config": config.Encoded() + ".json", "Layers": layers}
	if b.Reference != "" {
		entry["RepoTags"] = []string{b.Reference}
	}
	files["manifest.json"] = mustJSON([]any{entry})
	return writeTar(w, files)
}

// writeTar writes the files sorted by name, each folder before what is in it.
func writeTar(w io.Writer, files map[string][]byte) error {
	l := Layer{}
	seen := map[string]bool{}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		l.addParents(name, seen)
		l.Entries = append(l.Entries, Entry{Header: File(name, 0o644, "").Header, Body: files[name]})
	}
	stream, err := l.Tar()
	if err != nil {
		return err
	}
	_, err = w.Write(stream)
	return err
}

// Untar reads a tar stream into path to content; for looking at what an export wrote.
func Untar(r io.Reader) (map[string][]byte, error) {
	files := map[string][]byte{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("ocitest: reading tar: %w", err)
		}
		if strings.HasSuffix(h.Name, "/") {
			continue
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			return nil, fmt.Errorf("ocitest: reading %s: %w", h.Name, err)
		}
		files[h.Name] = body
	}
}
