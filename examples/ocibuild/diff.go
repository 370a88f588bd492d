package main

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
)

// whiteout is the prefix by which a layer says that a file of a lower layer is gone.
const whiteout = ".wh."

// tree is what a tar file holds: every entry's fingerprint by its clean path.
type tree map[string]fingerprint

// fingerprint is all of an entry that an unpacked tree would show. Two entries with the same
// fingerprint need not be stored twice.
type fingerprint struct {
	kind       byte
	mode       int64
	uid, gid   int
	mtime      int64
	link       string
	major      int64
	minor      int64
	xattrs     string
	contentSum [sha256.Size]byte
}

// diffTars writes to outFile the entries of fullFile that baseFile does not have just so, in
// fullFile's order, after a whiteout for each entry that only baseFile has.
func diffTars(baseFile, fullFile, outFile string) error {
	base, err := readTree(baseFile)
	if err != nil {
		return err
	}
	full, err := readTree(fullFile)
	if err != nil {
		return err
	}
	out, err := os.Create(outFile)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(out, 1<<20)
	w := tar.NewWriter(buffered)
	return errors.Join(
		writeWhiteouts(w, base, full),
		copyChanged(w, fullFile, base, full),
		w.Close(), buffered.Flush(), out.Close())
}

func readTree(file string) (tree, error) {
	t := tree{}
	err := walkTar(file, func(h *tar.Header, content io.Reader) error {
		print, err := fingerprintOf(h, content)
		t[cleanName(h)] = print
		return err
	})
	return t, err
}

func walkTar(file string, visit func(*tar.Header, io.Reader) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	r := tar.NewReader(bufio.NewReaderSize(f, 1<<20))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = visit(h, r)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
}

func cleanName(h *tar.Header) string { return path.Clean("/" + h.Name) }

func fingerprintOf(h *tar.Header, content io.Reader) (fingerprint, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, content); err != nil {
		return fingerprint{}, err
	}
	f := fingerprint{
		kind: h.Typeflag, mode: h.Mode, uid: h.Uid, gid: h.Gid, mtime: h.ModTime.Unix(),
		link: h.Linkname, major: h.Devmajor, minor: h.Devminor, xattrs: fmt.Sprint(h.PAXRecords),
	}
	copy(f.contentSum[:], sum.Sum(nil))
	return f, nil
}

// writeWhiteouts hides what is gone. Only the topmost of a vanished folder's entries is named:
// hiding the folder hides the rest.
func writeWhiteouts(w *tar.Writer, base, full tree) error {
	for _, name := range slices.Sorted(maps.Keys(base)) {
		if _, kept := full[name]; kept {
			continue
		}
		if _, parentKept := full[path.Dir(name)]; !parentKept && path.Dir(name) != "/" {
			continue
		}
		gone := path.Join(path.Dir(name), whiteout+path.Base(name))[1:]
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: gone, Mode: 0o644, Format: tar.FormatPAX}); err != nil {
			return err
		}
	}
	return nil
}

func copyChanged(w *tar.Writer, fullFile string, base, full tree) error {
	needed := changedEntries(base, full)
	return walkTar(fullFile, func(h *tar.Header, content io.Reader) error {
		if !needed[cleanName(h)] {
			return nil
		}
		// Names of owners depend on the machine that made the tar; numbers do not.
		h.Uname, h.Gname = "", ""
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.Copy(w, content)
		return err
	})
}

// changedEntries names what the layer must hold: every entry that differs, the folders above
// it (an unpacker that meets a file first would make them with modes of its own), and the
// target of every hard link, which must stand in the same layer.
func changedEntries(base, full tree) map[string]bool {
	needed := map[string]bool{}
	for name, print := range full {
		if base[name] == print {
			continue
		}
		needed[name] = true
		if print.kind == tar.TypeLink {
			needed[path.Clean("/"+print.link)] = true
		}
	}
	for _, name := range slices.Collect(maps.Keys(needed)) {
		for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
			needed[dir] = true
		}
	}
	return needed
}
