// Package layer unpacks one layer of an image into a folder in overlayfs form.
//
// Why not umoci's extractor: it bends an escaping name back into the root and goes on, where we
// must refuse and name the entry; it resolves every path as text, where one openat2 per folder does it in
// the kernel; and it has no limits on entries or bytes. What it taught is kept: whiteouts are
// applied after the last entry, so their place in the archive does not matter.
//
// A layer is unpacked knowing the layers below it. Only so can a folder that the archive leaves
// out get the mode and owner it has below, an entry go through a link of a lower layer (/lib on a
// merged-/usr system), and a whiteout of something absent vanish instead of showing up as a file.
//
// It needs root (owners, devices, trusted attributes) and a destination nobody else writes to.
// It must never follow a link out of the destination and never touch the lower layers.
package layer

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// Limits bounds what one layer may unpack to.
type Limits struct {
	MaxEntries int   // 0 means DefaultMaxEntries
	MaxBytes   int64 // sum of the files' sizes; 0 means DefaultMaxBytes
	// RootedNames accepts entry names and hard link targets with a leading slash, as meant
	// from the image's root. Off, they are refused as escapes.
	RootedNames bool
}

// The limits where the caller gives none: far above any real layer, far below a disk's inodes.
const (
	DefaultMaxEntries = 2_000_000
	DefaultMaxBytes   = 256 << 30
)

// Applied counts what was unpacked.
type Applied struct {
	Entries int
	Bytes   int64
}

// Apply unpacks the uncompressed tar stream into dest, an existing empty folder; lowers are the
// unpacked layers below, topmost first. It reads the stream to its end, trailing bytes included,
// so that a hash over it is complete. On error dest is left half done and must be discarded.
//
// Errors: image.layer-escape (names the entry), image.layer-corrupt, image.layer-too-large; an
// error of the file system is wrapped, so errors.Is(err, unix.ENOSPC) tells a full disk.
func Apply(ctx context.Context, stream io.Reader, dest string, lowers []string, limits Limits) (Applied, error) {
	t, err := openTree(dest, lowers)
	if err != nil {
		return Applied{}, err
	}
	defer t.close()
	if err := t.inheritRoot(); err != nil {
		return Applied{}, err
	}
	a := &applier{ctx: ctx, tree: t, limits: limits.filled(), buf: make([]byte, 256<<10)}
	if err := a.entries(tar.NewReader(stream)); err != nil {
		return a.applied, err
	}
	if err := a.finish(); err != nil {
		return a.applied, err
	}
	if _, err := io.CopyBuffer(io.Discard, stream, a.buf); err != nil {
		return a.applied, readError("after the last entry", err)
	}
	return a.applied, nil
}

func (l Limits) filled() Limits {
	if l.MaxEntries == 0 {
		l.MaxEntries = DefaultMaxEntries
	}
	if l.MaxBytes == 0 {
		l.MaxBytes = DefaultMaxBytes
	}
	return l
}

type applier struct {
	ctx     context.Context
	tree    *tree
	limits  Limits
	applied Applied
	buf     []byte
	// whiteouts and opaques wait for finish; in archive order, names cleaned.
	whiteouts []string
	opaques   []string
}

func (a *applier) entries(r *tar.Reader) error {
	for {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return readError("between entries", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := a.count(h); err != nil {
			return err
		}
		if err := a.entry(h, r); err != nil {
			return err
		}
	}
}

// count holds the entry against the limits before anything of it is written.
func (a *applier) count(h *tar.Header) error {
	a.applied.Entries++
	if a.applied.Entries > a.limits.MaxEntries {
		return api.Errorf(api.CodeImageTooLarge, "the layer has more than %d entries", a.limits.MaxEntries).About(h.Name)
	}
	if h.Size < 0 || h.Size > a.limits.MaxBytes-a.applied.Bytes {
		return api.Errorf(api.CodeImageTooLarge, "the layer's files exceed %d bytes: this one says %d, those before it %d",
			a.limits.MaxBytes, h.Size, a.applied.Bytes).About(h.Name)
	}
	a.applied.Bytes += h.Size
	return nil
}

func (a *applier) entry(h *tar.Header, body io.Reader) error {
	if !ownerID(h.Uid) || !ownerID(h.Gid) {
		return corrupt(h.Name, "no such owner: uid %d, gid %d", h.Uid, h.Gid)
	}
	name, err := a.clean(h.Name, h.Name)
	if err != nil {
		return err
	}
	if base := path.Base(name); strings.HasPrefix(base, whiteoutPrefix) {
		return a.noteWhiteout(name, base, h.Name)
	}
	if name == "." {
		return a.rootEntry(h)
	}
	parent, err := a.tree.parentOf(name, h.Name)
	if err != nil {
		return err
	}
	return a.create(place{fd: parent.fd, path: path.Join(parent.path, path.Base(name)), base: path.Base(name)}, h, body)
}

// rootEntry takes over the metadata of "./"; any other type there would replace the root.
func (a *applier) rootEntry(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return corrupt(h.Name, "the image's root cannot be a %s", typeName(h.Typeflag))
	}
	return a.tree.dirMetadata(".", h)
}

// clean returns the name relative to the root, or image.layer-escape about the entry. A ".."
// is refused even where it would stay inside: no builder writes one.
func (a *applier) clean(name, entry string) (string, error) {
	if strings.HasPrefix(name, "/") && !a.limits.RootedNames {
		return "", escape(entry, "the name %q starts at the root of the file system", name)
	}
	for _, part := range strings.Split(name, "/") {
		if part == ".." {
			return "", escape(entry, "the name %q contains \"..\"", name)
		}
	}
	if strings.ContainsRune(name, 0) {
		return "", corrupt(entry, "the name contains a zero byte")
	}
	return path.Clean(strings.TrimLeft(name, "/")), nil
}

func escape(entry, format string, args ...any) *api.Error {
	e := api.Errorf(api.CodeLayerEscape, format, args...).About(entry)
	return e.WithHint("do not use this image: an entry of it reaches outside its own root")
}

func corrupt(entry, format string, args ...any) *api.Error {
	return api.Errorf(api.CodeLayerCorrupt, format, args...).About(entry)
}

// readError types an error of the stream; one that is typed already, a cancel, and a full disk
// keep what they are.
func readError(where string, err error) error {
	var typed *api.Error
	if errors.As(err, &typed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return api.Errorf(api.CodeLayerCorrupt, "the layer's archive cannot be read %s: %w", where, err)
}

func typeName(flag byte) string {
	names := map[byte]string{
		tar.TypeReg: "file", tar.TypeLink: "hard link", tar.TypeSymlink: "symbolic link",
		tar.TypeChar: "character device", tar.TypeBlock: "block device", tar.TypeFifo: "fifo",
	}
	if n, ok := names[flag]; ok {
		return n
	}
	return "entry of type " + string(rune(flag))
}

// ownerID says that an id fits the kernel's 32 bits; -1 would mean "leave it alone".
func ownerID(id int) bool { return id >= 0 && int64(id) < 1<<32-1 }
