package link

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// threadNetns is the calling thread's network namespace; /proc/self would be the main thread's.
const threadNetns = "/proc/thread-self/ns/net"

// EnsureNetns pins a new network namespace at a path, by a bind mount, so that it outlives
// every program in it. One that is pinned there already is kept. The folder is made (0755).
func (k *Kernel) EnsureNetns(path string) error {
	pinned, err := NetnsPinned(path)
	if err != nil || pinned {
		return err
	}
	return k.do(func() error { return pin(path) }, "pin network namespace %s", path)
}

// RemoveNetns takes the pin away; the namespace ends with its last program. A path that is
// not there is no error, one that is a plain file with content is left alone and is one.
func (k *Kernel) RemoveNetns(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &Error{"look at " + path, err}
	}
	pinned, err := NetnsPinned(path)
	if err != nil {
		return err
	}
	if !pinned && (!info.Mode().IsRegular() || info.Size() > 0) {
		return &ConflictError{path, "something that is not a pinned namespace", "look at it, and remove it yourself"}
	}
	return k.do(func() error { return unpin(path, pinned) }, "remove network namespace %s", path)
}

func unpin(path string, pinned bool) error {
	if pinned {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount: %w", err)
		}
	}
	return os.Remove(path)
}

// NetnsPinned tells whether a namespace is pinned at the path.
func NetnsPinned(path string) (bool, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(path, &fs)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &Error{"look at " + path, err}
	}
	return fs.Type == unix.NSFS_MAGIC, nil
}

func pin(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Mount(threadNetns, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind mount: %w", err)
		}
		return nil
	})
}

// InNetns runs fn on a thread that is in the pinned namespace. Sockets that fn opens belong
// to that namespace for good; goroutines that it starts do not run in it. Errors:
// os.ErrNotExist where there is no such path.
func InNetns(path string, fn func() error) error {
	target, err := netns.GetFromPath(path)
	if err != nil {
		return &Error{"open network namespace " + path, err}
	}
	defer target.Close()
	return onOwnThread(func() error {
		if err := netns.Set(target); err != nil {
			return &Error{"enter network namespace " + path, err}
		}
		return fn()
	})
}

// onOwnThread runs fn on a locked thread that afterwards goes back to where it came from. One
// that cannot go back is never unlocked, so the runtime ends it instead of using it again.
func onOwnThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			runtime.UnlockOSThread()
			done <- &Error{"remember this network namespace", err}
			return
		}
		defer home.Close()
		err = fn()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// Inside runs fn with a Kernel of the pinned namespace. Its changes count as k's, with the
// path in front. When inspecting and the namespace is not there, fn is not run.
func (k *Kernel) Inside(path string, fn func(in *Kernel) error) error {
	if pinned, err := NetnsPinned(path); err != nil || (!pinned && k.inspecting) {
		return err
	}
	return InNetns(path, func() error {
		in, err := Open()
		if err != nil {
			return err
		}
		defer in.Close()
		in.inspecting, in.place = k.inspecting, filepath.Base(path)+": "
		err = fn(in)
		k.changes = append(k.changes, in.changes...)
		return err
	})
}
