package layer

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// confined is how every path below a root is opened: no link on the way, nothing above the root,
// no other mount.
const confined = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// maxLinks is the kernel's own bound on links in one path.
const maxLinks = 40

// tree is the layer being made, with the layers below it.
type tree struct {
	root   int
	lowers []int // topmost first
	// dest is root for the rare removal of a whole folder.
	dest *os.Root
	// times are set last, by resolved path; a later entry of the same folder replaces them.
	times map[string][2]unix.Timespec
	// hidden and opaque are the deletions read so far, by cleaned name.
	hidden map[string]bool
	opaque map[string]bool
	// last is the parent folder of the previous entry: archives go folder by folder.
	last     parent
	lastName string
}

// parent is an open folder and its resolved path.
type parent struct {
	fd   int
	path string
}

func openTree(dest string, lowers []string) (*tree, error) {
	t := &tree{root: -1, times: map[string][2]unix.Timespec{}, hidden: map[string]bool{}, opaque: map[string]bool{}}
	t.last.fd = -1
	var err error
	if t.dest, err = os.OpenRoot(dest); err != nil {
		return nil, err
	}
	if t.root, err = openFolder(dest); err != nil {
		t.close()
		return nil, err
	}
	for _, l := range lowers {
		fd, err := openFolder(l)
		if err != nil {
			t.close()
			return nil, err
		}
		t.lowers = append(t.lowers, fd)
	}
	return t, nil
}

func openFolder(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return fd, nil
}

func (t *tree) close() {
	t.forget()
	for _, fd := range t.lowers {
		unix.Close(fd)
	}
	if t.root >= 0 {
		unix.Close(t.root)
	}
	t.dest.Close()
}

// forget drops the remembered parent; needed whenever a folder goes away.
func (t *tree) forget() {
	if t.last.fd >= 0 {
		unix.Close(t.last.fd)
	}
	t.last = parent{fd: -1}
}

// parentOf returns the folder an entry goes into, made if needed. The descriptor stays valid until
// the next call.
func (t *tree) parentOf(name, entry string) (parent, error) {
	dir := path.Dir(name)
	if t.last.fd >= 0 && t.lastName == dir {
		return t.last, nil
	}
	t.forget()
	resolved := dir
	fd, err := t.openDir(dir)
	if err != nil {
		if resolved, err = t.resolve(dir, entry, true); err != nil {
			return parent{}, failed("reach the folder of", entry, err)
		}
		if fd, err = t.openDir(resolved); err != nil {
			return parent{}, failed("open the folder of", entry, err)
		}
	}
	t.last, t.lastName = parent{fd, resolved}, dir
	return t.last, nil
}

// openDir opens a folder of this layer by its resolved path.
func (t *tree) openDir(dir string) (int, error) {
	return openAt(t.root, dir, unix.O_RDONLY|unix.O_DIRECTORY)
}

// openAt opens below root, confined. EAGAIN is a rename racing somewhere on the machine.
func openAt(root int, name string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: confined}
	for {
		fd, err := unix.Openat2(root, name, &how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

func (t *tree) isDir(at place) bool {
	var st unix.Stat_t
	err := unix.Fstatat(at.fd, at.base, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// remove clears a name for a later entry of the same name.
func (t *tree) remove(at place) error {
	if !t.isDir(at) {
		return unix.Unlinkat(at.fd, at.base, 0)
	}
	return t.dest.RemoveAll(at.path)
}

// resolve walks a folder's name part by part in the merged view and returns its path without
// links. With make, folders that only exist below, or nowhere, are made in this layer; without,
// they are ENOENT when they exist nowhere.
//
// Links are followed inside the image only. One that this very layer brought may not be absolute: an
// archive written from a file tree has no entry behind its own link, so this is an attempt.
func (t *tree) resolve(dir, entry string, makeIt bool) (string, error) {
	todo, done, links := strings.Split(dir, "/"), ".", 0
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			if done == "." {
				return "", escape(entry, "a link on its way leads above the image's root")
			}
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		found, err := t.look(next)
		if err != nil {
			return "", err
		}
		if found.kind != unix.S_IFLNK {
			if err := t.enter(next, entry, found, makeIt); err != nil {
				return "", err
			}
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", corrupt(entry, "more than %d links on its way", maxLinks)
		}
		if strings.HasPrefix(found.target, "/") {
			if found.here {
				return "", escape(entry, "it goes through %s, a link of the same layer to %s", next, found.target)
			}
			done = "."
		}
		todo = append(strings.Split(found.target, "/"), todo...)
	}
	return done, nil
}

// enter makes sure that next is a folder of this layer.
func (t *tree) enter(next, entry string, found found, makeIt bool) error {
	switch {
	case found.here && found.kind == unix.S_IFDIR:
		return nil
	case found.here:
		return corrupt(entry, "it lies in %s, which is not a folder", next)
	case !makeIt && found.kind != unix.S_IFDIR:
		return unix.ENOENT
	case !makeIt:
		return nil
	default:
		return t.makeDir(next, found)
	}
}

// makeDir makes a folder that the archive left out, like the one below if there is one. Its parent
// exists: resolve goes from the root down.
func (t *tree) makeDir(dir string, below found) error {
	up, err := t.openDir(path.Dir(dir))
	if err != nil {
		return fmt.Errorf("unpacking: open %s: %w", path.Dir(dir), err)
	}
	defer unix.Close(up)
	if err := unix.Mkdirat(up, path.Base(dir), 0o755); err != nil {
		return fmt.Errorf("unpacking: mkdir %s: %w", dir, err)
	}
	fd, err := t.openDir(dir)
	if err != nil {
		return fmt.Errorf("unpacking: open %s: %w", dir, err)
	}
	defer unix.Close(fd)
	if below.kind != unix.S_IFDIR {
		return unix.Fchmod(fd, 0o755)
	}
	return t.copyDir(fd, dir, below)
}

// inheritRoot gives the root what it has in the layer below, for archives without a "./" entry: overlayfs
// shows the root of the topmost layer.
func (t *tree) inheritRoot() error {
	if len(t.lowers) == 0 {
		return nil
	}
	below, err := lookIn(t.lowers[0], ".")
	if err != nil {
		return err
	}
	return t.copyDir(t.root, ".", below)
}

// copyDir gives the open folder the metadata it has in the layer below.
func (t *tree) copyDir(fd int, dir string, below found) error {
	st := below.stat
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("unpacking: chown %s: %w", dir, err)
	}
	if err := copyAttributes(below.layer, dir, fd); err != nil {
		return fmt.Errorf("unpacking: attributes of %s: %w", dir, err)
	}
	t.times[dir] = [2]unix.Timespec{st.Atim, st.Mtim}
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return fmt.Errorf("unpacking: chmod %s: %w", dir, err)
	}
	return nil
}

func copyAttributes(layer int, dir string, to int) error {
	from, err := openAt(layer, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	names := make([]byte, 64<<10)
	n, err := unix.Flistxattr(from, names)
	if err != nil {
		return err
	}
	value := make([]byte, 64<<10)
	for _, name := range strings.Split(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		if name == "" || strings.HasPrefix(name, "trusted.overlay.") || machineLabel(name) {
			continue
		}
		size, err := unix.Fgetxattr(from, name, value)
		if err != nil {
			return err
		}
		if err := unix.Fsetxattr(to, name, value[:size], 0); err != nil {
			return err
		}
	}
	return nil
}

// setFolderTimes is the last act: everything before it touches folders.
func (t *tree) setFolderTimes() error {
	for dir, times := range t.times {
		fd, err := t.openDir(dir)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue // replaced by a later entry
		}
		if err != nil {
			return fmt.Errorf("unpacking: open %s: %w", dir, err)
		}
		err = unix.UtimesNanoAt(fd, ".", times[:], 0)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("unpacking: set times of %s: %w", dir, err)
		}
	}
	return nil
}
