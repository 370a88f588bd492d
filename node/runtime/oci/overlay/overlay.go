// Package overlay mounts an instance's root file system: the unpacked layers of an image with a
// writable layer on top, as one overlayfs.
//
// It is apart from the image store because the program that mounts at boot (ployz-net) needs
// this and no registry client. It needs root. It never makes or removes layers.
package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxLayers is the kernel's bound on lower layers of one overlayfs (OVL_MAX_STACK).
const MaxLayers = 500

// Stack describes one mount. All paths are absolute.
type Stack struct {
	// Lower are the layers, the topmost last (the order of an image's manifest).
	Lower []string
	// Upper and Work are on one file system, and Work is empty. Both empty gives a read-only mount.
	Upper string
	Work  string
	// Target is the mount point, an existing folder.
	Target string
}

// ErrTooManyLayers says that the stack is higher than this kernel can mount.
var ErrTooManyLayers = errors.New("overlay: too many layers")

// Mount mounts the stack on its target.
//
// The classic mount call takes one page of options, 4095 bytes: with /var/lib/ployz/images as
// the root, absolute layer paths end at 96 layers. So the layers are handed over one by one where the
// kernel can (lowerdir+, since Linux 6.8); elsewhere by names relative to their common folder,
// 14 bytes each, which ends at about 280 layers. Errors: ErrTooManyLayers, or the kernel's.
func Mount(s Stack) error {
	if len(s.Lower) > MaxLayers {
		return fmt.Errorf("%w: %d, the kernel takes %d", ErrTooManyLayers, len(s.Lower), MaxLayers)
	}
	if len(s.Lower) == 0 {
		return errors.New("overlay: a stack without layers")
	}
	err := mountOneByOne(s)
	if errors.Is(err, errNoAppend) {
		return mountRelative(s)
	}
	return err
}

// Unmount detaches the mount on target; it is no error when there is none.
func Unmount(target string) error {
	err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return &os.PathError{Op: "unmount", Path: target, Err: err}
}

// errNoAppend says that the kernel does not know lowerdir+.
var errNoAppend = errors.New("overlay: the kernel takes layers as one string only")

func mountOneByOne(s Stack) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("overlay: fsopen: %w", err)
	}
	defer unix.Close(fs)
	for i := len(s.Lower) - 1; i >= 0; i-- {
		err := unix.FsconfigSetString(fs, "lowerdir+", s.Lower[i])
		if errors.Is(err, unix.EINVAL) && i == len(s.Lower)-1 {
			return errNoAppend
		}
		if err != nil {
			return fmt.Errorf("overlay: layer %s: %w", s.Lower[i], err)
		}
	}
	if err := configure(fs, s); err != nil {
		return err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("overlay: create: %w%s", err, kernelSays(fs))
	}
	return attach(fs, s.Target)
}

func configure(fs int, s Stack) error {
	if err := unix.FsconfigSetString(fs, "source", "ployz"); err != nil {
		return fmt.Errorf("overlay: source: %w", err)
	}
	if s.Upper == "" {
		return nil
	}
	if err := unix.FsconfigSetString(fs, "upperdir", s.Upper); err != nil {
		return fmt.Errorf("overlay: upper %s: %w", s.Upper, err)
	}
	if err := unix.FsconfigSetString(fs, "workdir", s.Work); err != nil {
		return fmt.Errorf("overlay: work %s: %w", s.Work, err)
	}
	return nil
}

func attach(fs int, target string) error {
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("overlay: fsmount: %w%s", err, kernelSays(fs))
	}
	defer unix.Close(mnt)
	err = unix.MoveMount(mnt, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("overlay: mount on %s: %w", target, err)
	}
	return nil
}

// kernelSays reads the reason that the kernel leaves in the mount's descriptor.
func kernelSays(fs int) string {
	buf := make([]byte, 512)
	n, err := unix.Read(fs, buf)
	if err != nil || n == 0 {
		return ""
	}
	return " (" + strings.TrimSpace(string(buf[:n])) + ")"
}

// mountRelative mounts with names relative to the layers' common folder. The working directory
// belongs to the whole process, so a thread of its own leaves that sharing, changes folder, mounts
// and is thrown away with its locked goroutine.
func mountRelative(s Stack) error {
	base, options, err := Options(s)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		done <- mountIn(base, s.Target, options)
	}()
	return <-done
}

func mountIn(base, target, options string) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("overlay: unshare: %w", err)
	}
	if err := unix.Chdir(base); err != nil {
		return fmt.Errorf("overlay: chdir %s: %w", base, err)
	}
	if err := unix.Mount("ployz", target, "overlay", 0, options); err != nil {
		return fmt.Errorf("overlay: mount on %s: %w", target, err)
	}
	return nil
}

// maxOptions is a page less the terminating zero.
const maxOptions = 4095

// Options returns the option string of the classic mount call, with layer names relative to base.
// Errors: ErrTooManyLayers when it does not fit a page.
func Options(s Stack) (base, options string, err error) {
	base = ancestor(s.Lower)
	names := make([]string, 0, len(s.Lower))
	for i := len(s.Lower) - 1; i >= 0; i-- {
		name, err := filepath.Rel(base, s.Lower[i])
		if err != nil {
			return "", "", fmt.Errorf("overlay: layer %s: %w", s.Lower[i], err)
		}
		names = append(names, escaped(name))
	}
	options = "lowerdir=" + strings.Join(names, ":")
	if s.Upper != "" {
		options += ",upperdir=" + escaped(s.Upper) + ",workdir=" + escaped(s.Work)
	}
	if len(options) > maxOptions {
		return "", "", fmt.Errorf("%w: %d make %d bytes of options, a page takes %d", ErrTooManyLayers, len(s.Lower), len(options), maxOptions)
	}
	return base, options, nil
}

// ancestor is the longest folder above all the layers.
func ancestor(layers []string) string {
	dir := filepath.Dir(layers[0])
	for _, l := range layers {
		for dir != "/" && !strings.HasPrefix(l, dir+"/") {
			dir = filepath.Dir(dir)
		}
	}
	return dir
}

// escaped keeps the option string's own punctuation out of paths.
func escaped(path string) string {
	return strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`).Replace(path)
}
