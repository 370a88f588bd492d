package layer

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	whiteoutPrefix  = ".wh."
	opaqueName      = ".wh..wh..opq"
	opaqueAttribute = "trusted.overlay.opaque"
)

// noteWhiteout remembers a deletion; finish applies it.
func (a *applier) noteWhiteout(name, base, entry string) error {
	dir := path.Dir(name)
	if base == opaqueName {
		a.opaques = append(a.opaques, dir)
		a.tree.opaque[dir] = true
		return nil
	}
	if strings.HasPrefix(base, whiteoutPrefix+whiteoutPrefix) {
		return nil // book-keeping of AUFS, which old builders left in
	}
	gone := strings.TrimPrefix(base, whiteoutPrefix)
	if gone == "" || gone == "." || gone == ".." {
		return escape(entry, "it deletes %q, which is no name in a folder", gone)
	}
	a.whiteouts = append(a.whiteouts, path.Join(dir, gone))
	a.tree.hidden[path.Join(dir, gone)] = true
	return nil
}

// finish turns the deletions into overlayfs's form, then sets the folders' times.
//
// A whiteout is only made where a lower layer shows something to hide and no opaque folder hides
// it already: overlayfs lists a needless one as an entry.
func (a *applier) finish() error {
	for _, dir := range a.opaques {
		if err := a.tree.makeOpaque(dir, a.hideAll); err != nil {
			return err
		}
	}
	for _, name := range a.whiteouts {
		if err := a.tree.hide(name); err != nil {
			return err
		}
	}
	return a.tree.setFolderTimes()
}

// hideAll deletes what the layers below have in the root, name by name: overlayfs does not heed an
// opaque mark on the root of a layer.
func (a *applier) hideAll() error {
	for _, lower := range a.tree.lowers {
		names, err := namesIn(lower)
		if err != nil {
			return err
		}
		for _, n := range names {
			a.whiteouts = append(a.whiteouts, n)
		}
	}
	a.tree.opaque["."] = false
	return nil
}

func (t *tree) makeOpaque(dir string, root func() error) error {
	if dir == "." {
		return root()
	}
	resolved, err := t.resolve(dir, path.Join(dir, opaqueName), false)
	if errors.Is(err, unix.ENOENT) {
		return nil // a folder that is nowhere has nothing to hide
	}
	if err != nil {
		return failed("resolve", path.Join(dir, opaqueName), err)
	}
	if resolved, err = t.resolve(resolved, path.Join(dir, opaqueName), true); err != nil {
		return failed("resolve", path.Join(dir, opaqueName), err)
	}
	t.opaque[resolved] = true
	return t.mark(resolved)
}

func (t *tree) mark(dir string) error {
	fd, err := t.openDir(dir)
	if err != nil {
		return fmt.Errorf("unpacking: open %s: %w", dir, err)
	}
	defer unix.Close(fd)
	if err := unix.Fsetxattr(fd, opaqueAttribute, []byte("y"), 0); err != nil {
		return fmt.Errorf("unpacking: mark %s opaque: %w", dir, err)
	}
	return nil
}

// hide makes the whiteout of one name. If the layer has the name too, it replaces what is below:
// a folder by being opaque, anything else by being there.
func (t *tree) hide(name string) error {
	entry := path.Join(path.Dir(name), whiteoutPrefix+path.Base(name))
	dir, err := t.resolve(path.Dir(name), entry, false)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return failed("resolve", entry, err)
	}
	full := path.Join(dir, path.Base(name))
	below, err := t.lookBelow(full)
	if err != nil || below.kind == 0 {
		return err
	}
	here, err := lookIn(t.root, full)
	if err != nil {
		return err
	}
	if here.kind == unix.S_IFDIR {
		return t.mark(full)
	}
	if here.kind != 0 {
		return nil
	}
	return t.makeWhiteout(full, entry)
}

func (t *tree) makeWhiteout(name, entry string) error {
	at, err := t.parentOf(name, entry)
	if err != nil {
		return err
	}
	if err := unix.Mknodat(at.fd, path.Base(name), unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("unpacking: whiteout %s: %w", name, err)
	}
	return nil
}
