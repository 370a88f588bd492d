// Package ocitest makes small, real OCI images for tests and examples: layers from lists of
// files, written as an OCI layout (folder or tar stream) or as a docker-save archive.
//
// It needs no registry, no daemon and no root. It writes what it is told to, including
// archives that no honest builder would make, so that unpacking can be tested against them; it
// must therefore never be used to build something that is shipped.
package ocitest

import (
	"archive/tar"
	"bytes"
	"path"
	"runtime"
	"sort"
	"strings"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Epoch is the time stamp of everything made here, so that equal input gives equal digests.
var Epoch = time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)

// Compression is how a layer's tar stream is stored.
type Compression string

// The compressions a layer may have.
const (
	Gzip  Compression = "gzip"
	Zstd  Compression = "zstd"
	Plain Compression = "plain"
)

// Entry is one tar entry, exactly as written; a regular file's Size is set from Body.
type Entry struct {
	tar.Header
	Body []byte
}

// Layer is one layer of an image, lowest first in Image.Layers.
type Layer struct {
	Entries     []Entry
	Compression Compression // "" means Gzip
}

// Image describes an image to build. The zero value of every field has a sensible meaning.
type Image struct {
	// Reference is written as the annotation org.opencontainers.image.ref.name and as the
	// docker archive's RepoTags; empty leaves both out.
	Reference string
	// Architecture is Go's word for it; empty means the one this program runs on.
	Architecture string
	// Config is the image's run configuration: entrypoint, user, environment.
	Config v1.ImageConfig
	Layers []Layer
	// Docker selects Docker's schema 2 media types instead of OCI's.
	Docker bool
}

// New returns an image with one layer made by Files; entrypoint is what it runs.
func New(reference string, files map[string]string, entrypoint ...string) *Image {
	return &Image{
		Reference: reference,
		Config:    v1.ImageConfig{Entrypoint: entrypoint},
		Layers:    []Layer{Files(files)},
	}
}

// Files returns a layer with the given files, name to content, and with the folders above
// them. Files are 0644, or 0755 if they look like a program (ELF, or a #! line), and belong to root.
func Files(files map[string]string) Layer {
	seen := map[string]bool{}
	var l Layer
	for _, name := range sortedNames(files) {
		clean := strings.TrimPrefix(path.Clean("/"+name), "/")
		l.addParents(clean, seen)
		body := []byte(files[name])
		l.Entries = append(l.Entries, File(clean, modeFor(body), string(body)))
	}
	return l
}

func (l *Layer) addParents(name string, seen map[string]bool) {
	dir := path.Dir(name)
	if dir == "." || seen[dir] {
		return
	}
	l.addParents(dir, seen)
	seen[dir] = true
	l.Entries = append(l.Entries, Dir(dir, 0o755))
}

func modeFor(body []byte) int64 {
	if bytes.HasPrefix(body, []byte("\x7fELF")) || bytes.HasPrefix(body, []byte("#!")) {
		return 0o755
	}
	return 0o644
}

func sortedNames(files map[string]string) []string {
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// File returns a regular file owned by root. mode takes the tar bits (04000 is setuid).
func File(name string, mode int64, body string) Entry {
	h := tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, ModTime: Epoch}
	return Entry{Header: h, Body: []byte(body)}
}

// Dir returns a folder owned by root.
func Dir(name string, mode int64) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, ModTime: Epoch}}
}

// Symlink returns a symbolic link with the given target text.
func Symlink(name, target string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: Epoch}}
}

// Hardlink returns a hard link to another name of the same layer.
func Hardlink(name, target string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644, ModTime: Epoch}}
}

// Whiteout returns the entry that hides name of the layers below.
func Whiteout(name string) Entry {
	dir, base := path.Split(name)
	return File(dir+".wh."+base, 0, "")
}

// Opaque returns the entry that hides everything the layers below have in the folder.
func Opaque(dir string) Entry {
	return File(path.Join(dir, ".wh..wh..opq"), 0, "")
}

func (img *Image) architecture() string {
	if img.Architecture != "" {
		return img.Architecture
	}
	return runtime.GOARCH
}
