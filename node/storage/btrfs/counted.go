package btrfs

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a volume holds is counted from its sub-volume's own tree: the extents of its files. A quota group would know it at
// once, but makes each commit of the file system dear where volumes have snapshots, and kernels stop keeping it when they
// are in doubt.

// counted is what a sub-volume's files have, in bytes: all that they refer to, and what of that is newer than the last
// snapshot that the sub-volume shares, of itself or the one that it began as. Nothing else can have the latter, so that it is
// the least that goes with it: when a snapshot was forgotten since, there is more.
type counted struct{ used, own int64 }

// kernelSearch is struct btrfs_ioctl_search_args_v2 of linux/btrfs_tree.h with room for what is found.
type kernelSearch struct {
	tree                    uint64 // 0 is that of the file that is asked
	firstObject, lastObject uint64
	firstOffset, lastOffset uint64
	oldest, newest          uint64
	firstType, lastType     uint32
	items, _                uint32
	_                       [4]uint64
	roomBytes               uint64
	found                   [searchRoomBytes]byte
}

const (
	searchRoomBytes = 256 << 10
	searchHeadBytes = unsafe.Offsetof(kernelSearch{}.found)
	// searchTree is BTRFS_IOC_TREE_SEARCH_V2.
	searchTree = 3<<30 | searchHeadBytes<<16 | 0x94<<8 | 17

	itemHeadBytes = 32 // struct btrfs_ioctl_search_header
	fileExtent    = 108
	rootItem      = 132
	rootsTree     = 1
	largest       = 1<<64 - 1
)

// count reads the tree of the sub-volume at a path.
func count(path string) (c counted, err error) {
	v, err := show(path)
	if err != nil {
		return c, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return c, typed(err)
	}
	defer dir.Close()
	shared, err := lastShared(dir, v.id)
	if err != nil {
		return c, err
	}
	err = search(dir, &kernelSearch{lastObject: largest, lastOffset: largest, lastType: fileExtent}, func(kind uint32, item []byte) {
		if kind == fileExtent {
			c.add(item, shared)
		}
	})
	return c, err
}

// lately remembers what was counted, for as long as makes all the counting of who looks again and again, such as for
// metrics, a small part of the time: a moment, but for volumes of millions of extents.
type lately struct {
	mu  sync.Mutex
	now map[string]countedAt // guarded by mu; by path
}

type countedAt struct {
	counted
	until time.Time
}

// countShare is how many times what it took a count is believed.
const countShare = 20

func (l *lately) count(path string) (counted, error) {
	l.mu.Lock()
	last, known := l.now[path]
	l.mu.Unlock()
	begun := time.Now()
	if known && begun.Before(last.until) {
		return last.counted, nil
	}
	c, err := count(path)
	if err != nil {
		return c, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.now, func(_ string, c countedAt) bool { return c.until.Before(begun) })
	if l.now == nil {
		l.now = map[string]countedAt{}
	}
	l.now[path] = countedAt{c, begun.Add(countShare * time.Since(begun))}
	return c, nil
}

// Where the fields of struct btrfs_file_extent_item are.
const (
	extentBorn   = 0
	extentRAM    = 8
	extentKind   = 20 // 0 is inline, 1 on the disk, 2 reserved
	extentOnDisk = 21
	extentBytes  = 45
	extentSize   = 53
)

// add counts one extent of a file. A hole has no place on the disk; what is reserved has, and takes it.
func (c *counted) add(item []byte, shared uint64) {
	if len(item) <= extentOnDisk {
		return
	}
	bytes := int64(binary.LittleEndian.Uint64(item[extentRAM:]))
	if item[extentKind] != 0 {
		if len(item) < extentSize || binary.LittleEndian.Uint64(item[extentOnDisk:]) == 0 {
			return
		}
		bytes = int64(binary.LittleEndian.Uint64(item[extentBytes:]))
	}
	c.used += bytes
	if binary.LittleEndian.Uint64(item[extentBorn:]) > shared {
		c.own += bytes
	}
}

// rootLastSnapshot is where struct btrfs_root_item has the transaction of the last snapshot.
const rootLastSnapshot = 160 + 5*8

// lastShared is the transaction up to which a sub-volume may share what it has.
func lastShared(dir *os.File, id uint64) (last uint64, err error) {
	of := &kernelSearch{tree: rootsTree, firstObject: id, lastObject: id, firstType: rootItem, lastType: rootItem, lastOffset: largest}
	err = search(dir, of, func(kind uint32, item []byte) {
		if kind == rootItem && len(item) >= rootLastSnapshot+8 {
			last = binary.LittleEndian.Uint64(item[rootLastSnapshot:])
		}
	})
	return last, err
}

// search tells each what a tree has within the bounds of a search, in order.
func search(dir *os.File, args *kernelSearch, each func(kind uint32, item []byte)) error {
	args.newest = largest
	for {
		args.items, args.roomBytes = 1<<32-1, searchRoomBytes
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), uintptr(searchTree), uintptr(unsafe.Pointer(args))); errno != 0 {
			return typed(fmt.Errorf("reading the tree of %s: %w", dir.Name(), errno))
		}
		if args.items == 0 {
			return nil
		}
		at := 0
		for range args.items {
			head := args.found[at:]
			length := int(binary.LittleEndian.Uint32(head[28:]))
			kind := binary.LittleEndian.Uint32(head[24:])
			each(kind, head[itemHeadBytes:itemHeadBytes+length])
			args.firstObject, args.firstOffset, args.firstType = binary.LittleEndian.Uint64(head[8:]), binary.LittleEndian.Uint64(head[16:]), kind
			at += itemHeadBytes + length
		}
		if !args.next() {
			return nil
		}
	}
}

// next goes on after the last key; false is after the end.
func (s *kernelSearch) next() bool {
	if s.firstOffset++; s.firstOffset == 0 {
		if s.firstType++; s.firstType > 255 {
			s.firstType = 0
			s.firstObject++
		}
	}
	return s.firstObject <= s.lastObject && s.firstObject != 0
}
