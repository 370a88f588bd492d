package natsconf

import (
	"os"

	"golang.org/x/sys/unix"
)

// What must be free where a machine's part of the store lies. A server that meets the end of its disk switches its
// JetStream off by itself, in the middle of a write; these have it stop before, with nothing half done. A core stops
// first, so that an edge beside it can still take what was committed.
const (
	// LowRoomBytes is where an operator is told.
	LowRoomBytes = 256 << 20
	// CoreRoomBytes is below what a core stops voting; it votes again from AgainRoomBytes on.
	CoreRoomBytes = 16 << 20
	// EdgeRoomBytes is below what an edge holds its mirror still, and is read from all the same.
	EdgeRoomBytes = 8 << 20
	// AgainRoomBytes keep a server from going on and off at the line.
	AgainRoomBytes = 32 << 20
)

// FreeBytes is what a process that is not root could still write where dir lies. Errors: *os.PathError.
func FreeBytes(dir string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(fs.Bavail) * fs.Bsize, nil
}
