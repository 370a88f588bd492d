package systemd

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/ployz/ployz/units"
)

// errGone says that the main process ended while it was looked at.
var errGone = errors.New("systemd: the process has ended")

// inspectMain fills in what /proc knows of the main process. Only processes that we started by a unit of
// ours are looked at beyond their start time: what an instance runs is its own affair.
func inspectMain(o *units.Observation) error {
	dir := "/proc/" + strconv.Itoa(o.MainPID)
	start, err := startTime(dir)
	if err != nil {
		return err
	}
	o.ProcessStart = start
	environ, err := os.ReadFile(dir + "/environ")
	if err != nil {
		return gone(err)
	}
	for _, v := range bytes.Split(environ, []byte{0}) {
		if id, ok := strings.CutPrefix(string(v), units.IdentityVariable+"="); ok {
			o.RunningIdentity = id
		}
	}
	if o.RunningIdentity == "" {
		return nil
	}
	o.Executable, o.ExecutableStale, err = executable(dir)
	return err
}

func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return errGone
	}
	return fmt.Errorf("systemd: %w", err)
}

// startTime reads field 22 of stat, counted from after the name, which may hold anything.
func startTime(dir string) (uint64, error) {
	text, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return 0, gone(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("systemd: %s/stat has only %d fields", dir, len(fields)+2)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// executable returns the path that the process was started from, and whether another program is there
// now. The same bytes in a new file, as after a reinstall, are the same program.
func executable(dir string) (path string, stale bool, err error) {
	path, err = os.Readlink(dir + "/exe")
	if err != nil {
		return "", false, gone(err)
	}
	path = strings.TrimSuffix(path, " (deleted)")
	running, err := os.Stat(dir + "/exe")
	if err != nil {
		return "", false, gone(err)
	}
	onDisk, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, true, nil
	}
	if err != nil {
		return path, false, fmt.Errorf("systemd: %w", err)
	}
	if os.SameFile(running, onDisk) {
		return path, false, nil
	}
	same, err := sameBytes(dir+"/exe", path)
	return path, !same, err
}

func sameBytes(a, b string) (bool, error) {
	x, err := digest(a)
	if err != nil {
		return false, gone(err)
	}
	y, err := digest(b)
	return x == y, err
}

func digest(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
