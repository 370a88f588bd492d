package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// place is where an entry goes: a folder's descriptor, the name in it, and the resolved path
// from the root for messages and book-keeping.
type place struct {
	fd   int
	path string
	base string
}

func (a *applier) create(at place, h *tar.Header, body io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return a.createDir(at, h)
	case tar.TypeReg, tar.TypeGNUSparse:
		return a.createFile(at, h, body)
	case tar.TypeSymlink:
		return a.createSymlink(at, h)
	case tar.TypeLink:
		return a.createLink(at, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return a.createNode(at, h)
	default:
		return corrupt(h.Name, "a layer cannot hold an %s", typeName(h.Typeflag))
	}
}

// again runs make, and once more after clearing the way when the name was taken: in a layer the
// later entry of a name wins.
func (a *applier) again(at place, makeIt func() error) error {
	err := makeIt()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := a.tree.remove(at); err != nil {
		return err
	}
	return makeIt()
}

func (a *applier) createDir(at place, h *tar.Header) error {
	err := unix.Mkdirat(at.fd, at.base, 0o700)
	if errors.Is(err, unix.EEXIST) && !a.tree.isDir(at) {
		err = a.again(at, func() error { return unix.Mkdirat(at.fd, at.base, 0o700) })
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return failed("mkdir", h.Name, err)
	}
	return a.tree.dirMetadata(at.path, h)
}

func (a *applier) createFile(at place, h *tar.Header, body io.Reader) error {
	var fd int
	err := a.again(at, func() (err error) {
		fd, err = unix.Openat(at.fd, at.base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return failed("create", h.Name, err)
	}
	err = a.fill(fd, h, body)
	if closeErr := unix.Close(fd); err == nil && closeErr != nil {
		err = failed("close", h.Name, closeErr)
	}
	if err != nil {
		return err
	}
	return failed("set times of", h.Name, setTimes(at.fd, at.base, h))
}

// fill writes content, then owner, then mode: a change of owner clears setuid bits, so the mode comes last.
func (a *applier) fill(fd int, h *tar.Header, body io.Reader) error {
	if err := a.copyBody(fd, h, body); err != nil {
		return err
	}
	if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
		return failed("chown", h.Name, err)
	}
	if err := setAttributes(h, func(name string, value []byte) error { return unix.Fsetxattr(fd, name, value, 0) }); err != nil {
		return err
	}
	return failed("chmod", h.Name, unix.Fchmod(fd, permissions(h)))
}

func (a *applier) copyBody(fd int, h *tar.Header, body io.Reader) error {
	for {
		n, readErr := body.Read(a.buf)
		if err := writeAll(fd, a.buf[:n]); err != nil {
			return failed("write", h.Name, err)
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return readError("in "+h.Name, readErr)
		}
		if err := a.ctx.Err(); err != nil {
			return err
		}
	}
}

func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func (a *applier) createSymlink(at place, h *tar.Header) error {
	if h.Linkname == "" {
		return corrupt(h.Name, "a symbolic link without a target")
	}
	err := a.again(at, func() error { return unix.Symlinkat(h.Linkname, at.fd, at.base) })
	if err != nil {
		return failed("symlink", h.Name, err)
	}
	return a.nodeMetadata(at, h)
}

// createLink links to a name of this layer. The target is resolved like an entry's own name, so a
// link cannot reach a file outside the root and hand it into the container.
func (a *applier) createLink(at place, h *tar.Header) error {
	target, err := a.clean(h.Linkname, h.Name)
	if err != nil {
		return err
	}
	dir, err := a.tree.resolve(path.Dir(target), h.Name, false)
	if err != nil {
		return a.linkError(h, err)
	}
	from := path.Join(dir, path.Base(target))
	if from == at.path || strings.HasPrefix(from, at.path+"/") {
		return corrupt(h.Name, "a hard link to itself")
	}
	fromFD, err := a.tree.openDir(dir)
	if err != nil {
		return a.linkError(h, err)
	}
	defer unix.Close(fromFD)
	err = a.again(at, func() error { return unix.Linkat(fromFD, path.Base(from), at.fd, at.base, 0) })
	return a.linkError(h, err)
}

// linkError tells a bad archive from a failing disk.
func (a *applier) linkError(h *tar.Header, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return corrupt(h.Name, "a hard link to %q, which this layer does not have", h.Linkname)
	case errors.Is(err, unix.EPERM):
		return corrupt(h.Name, "a hard link to %q, which is a folder", h.Linkname)
	default:
		return failed("link", h.Name, err)
	}
}

func (a *applier) createNode(at place, h *tar.Header) error {
	mode, dev := uint32(unix.S_IFIFO), 0
	if h.Typeflag != tar.TypeFifo {
		dev = int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
		mode = unix.S_IFBLK
	}
	if h.Typeflag == tar.TypeChar {
		mode = unix.S_IFCHR
	}
	if mode == unix.S_IFCHR && dev == 0 {
		return corrupt(h.Name, "a device 0/0, which overlayfs takes for a deletion; layers delete with .wh. files")
	}
	err := a.again(at, func() error { return unix.Mknodat(at.fd, at.base, mode|0o600, dev) })
	if err != nil {
		return failed("mknod", h.Name, err)
	}
	if err := a.nodeMetadata(at, h); err != nil {
		return err
	}
	if err := unix.Fchmodat(at.fd, at.base, permissions(h), 0); err != nil {
		return failed("chmod", h.Name, err)
	}
	return failed("set times of", h.Name, setTimes(at.fd, at.base, h))
}

// nodeMetadata sets what a name without an open descriptor can carry, never following a link.
func (a *applier) nodeMetadata(at place, h *tar.Header) error {
	if err := unix.Fchownat(at.fd, at.base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return failed("chown", h.Name, err)
	}
	full := fmt.Sprintf("/proc/self/fd/%d/%s", at.fd, at.base)
	err := setAttributes(h, func(name string, value []byte) error { return unix.Lsetxattr(full, name, value, 0) })
	if err != nil {
		return err
	}
	return failed("set times of", h.Name, setTimes(at.fd, at.base, h))
}

// dirMetadata sets owner, mode and attributes of a folder now and remembers its times, which
// every later entry in it would change.
func (t *tree) dirMetadata(dir string, h *tar.Header) error {
	fd, err := t.openDir(dir)
	if err != nil {
		return failed("open", h.Name, err)
	}
	defer unix.Close(fd)
	if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
		return failed("chown", h.Name, err)
	}
	if err := setAttributes(h, func(name string, value []byte) error { return unix.Fsetxattr(fd, name, value, 0) }); err != nil {
		return err
	}
	t.times[dir] = timesOf(h)
	return failed("chmod", h.Name, unix.Fchmod(fd, permissions(h)))
}

func permissions(h *tar.Header) uint32 { return uint32(h.Mode) & 0o7777 }

func setTimes(dirFD int, base string, h *tar.Header) error {
	ts := timesOf(h)
	return unix.UtimesNanoAt(dirFD, base, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

// timesOf returns access and modification time; archives often leave the first one out.
func timesOf(h *tar.Header) [2]unix.Timespec {
	access := h.AccessTime
	if access.IsZero() {
		access = h.ModTime
	}
	return [2]unix.Timespec{timespec(access), timespec(h.ModTime)}
}

func timespec(at time.Time) unix.Timespec {
	return unix.Timespec{Sec: at.Unix(), Nsec: int64(at.Nanosecond())}
}

const attributePrefix = "SCHILY.xattr."

// setAttributes sets the extended attributes an image may carry. Labels that belong to a machine
// (SELinux, IMA) are left behind as every builder does; overlayfs's own would let an image
// redirect a folder to elsewhere, so they are refused, as is anything unknown.
func setAttributes(h *tar.Header, set func(name string, value []byte) error) error {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, attributePrefix)
		if !ok || machineLabel(name) {
			continue
		}
		if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			return escape(h.Name, "it carries the attribute %s, which steers overlayfs", name)
		}
		err := set(name, []byte(value))
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ERANGE) {
			return corrupt(h.Name, "the attribute %s (%d bytes) cannot be set: %w", name, len(value), err)
		}
		if err != nil {
			return failed("set attribute "+name+" of", h.Name, err)
		}
	}
	return nil
}

func machineLabel(name string) bool {
	return name == "security.selinux" || name == "security.ima" || name == "security.evm"
}

// failed wraps an error of the file system with what was tried; names that no file system can
// hold are the archive's fault.
func failed(what, entry string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENAMETOOLONG) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return corrupt(entry, "cannot %s it: %w", what, err)
	}
	return fmt.Errorf("unpacking: %s %s: %w", what, entry, err)
}
