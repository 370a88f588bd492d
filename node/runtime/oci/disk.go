package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
)

// free returns the bytes that the store may still use: the file system's, less the reserve.
func (s *Store) free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.opts.Root, &st); err != nil {
		return 0, fmt.Errorf("oci: statfs %s: %w", s.opts.Root, err)
	}
	return int64(st.Bavail)*st.Bsize - s.opts.ReserveBytes, nil
}

// needs refuses with image.disk-full unless so many bytes are free.
func (s *Store) needs(bytes int64) error {
	free, err := s.free()
	if err != nil {
		return err
	}
	if bytes > free {
		return s.diskFull(bytes, free, nil)
	}
	return nil
}

func (s *Store) diskFull(need, free int64, cause error) *api.Error {
	free = max(free, 0)
	e := api.Errorf(api.CodeImageDiskFull, "%s needs at least %s more and has %s free", s.opts.Root, size(need), size(free))
	if cause != nil {
		e = api.Errorf(api.CodeImageDiskFull, "%s is full: at least %s more were needed, %s are free: %w", s.opts.Root, size(need), size(free), cause)
	}
	return e.WithHint("free space, or remove images nobody uses: ployzctl image prune --plan")
}

// writeError types an error of writing when it means a full disk; need is what was still to come.
func (s *Store) writeError(err error, need int64) error {
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	free, statErr := s.free()
	if statErr != nil {
		return errors.Join(err, statErr)
	}
	return s.diskFull(need, free, err)
}

// size prints bytes for people.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	default:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
}

// writeFile replaces a file so that after a crash it holds either the old or the new content.
func (s *Store) writeFile(name string, body []byte) error {
	f, err := os.CreateTemp(s.session, "file")
	if err != nil {
		return s.writeError(err, int64(len(body)))
	}
	defer os.Remove(f.Name()) // a no-op once renamed
	if _, err := f.Write(body); err != nil {
		f.Close()
		return s.writeError(err, int64(len(body)))
	}
	return s.publish(f, name, 0o644)
}

// publish makes a written file durable under its final name and closes it.
func (s *Store) publish(f *os.File, name string, mode os.FileMode) error {
	err := errors.Join(f.Chmod(mode), f.Sync())
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return s.writeError(err, 0)
	}
	return durable.SyncFolder(filepath.Dir(name))
}
