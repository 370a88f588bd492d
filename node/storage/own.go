package storage

import (
	"os"
	"syscall"
)

// Own gives a volume's root folder the owner and mode that were asked for. It writes nothing where they are
// so already: a volume that was only looked at can still take increments.
func Own(path string, s Spec) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	is := st.Sys().(*syscall.Stat_t)
	if s.Owner != nil && (int(is.Uid) != s.Owner.UID || int(is.Gid) != s.Owner.GID) {
		if err := os.Chown(path, s.Owner.UID, s.Owner.GID); err != nil {
			return err
		}
	}
	if s.Mode != 0 && st.Mode()&^os.ModeDir != s.Mode {
		return os.Chmod(path, s.Mode)
	}
	return nil
}
