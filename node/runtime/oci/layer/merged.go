package layer

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// found is what the merged view has at a path; kind is 0 where it has nothing.
type found struct {
	kind   uint32 // unix.S_IFDIR, S_IFLNK, ...
	here   bool   // in the layer being made
	layer  int    // descriptor of the layer it is in
	target string // of a symbolic link
	stat   unix.Stat_t
}

// look returns what a resolved path is: in this layer, else in those below, minus what this
// layer has deleted so far.
func (t *tree) look(name string) (found, error) {
	f, err := lookIn(t.root, name)
	if err != nil || f.kind != 0 {
		f.here = f.kind != 0
		return f, err
	}
	if t.hidden[name] {
		return found{}, nil
	}
	return t.lookBelow(name)
}

// lookBelow returns what the lower layers show at a path: the topmost one that has it, unless
// one above it hides it with a whiteout, an opaque folder or something that is no folder.
func (t *tree) lookBelow(name string) (found, error) {
	visible := t.lowers
	parts := strings.Split(name, "/")
	for i := range parts {
		prefix := strings.Join(parts[:i+1], "/")
		if t.opaque[path.Dir(prefix)] || (i < len(parts)-1 && t.hidden[prefix]) {
			return found{}, nil
		}
		first, next, err := scan(visible, prefix)
		if err != nil || first.kind == 0 || i == len(parts)-1 {
			return first, err
		}
		visible = next
	}
	return found{}, nil
}

// scan looks a path up in the layers, topmost first. It returns what is seen there and the layers that
// take part in it when it is a folder.
func scan(layers []int, name string) (found, []int, error) {
	var first found
	var folder []int
	for _, fd := range layers {
		f, err := lookIn(fd, name)
		if err != nil {
			return found{}, nil, err
		}
		if f.kind == 0 {
			continue
		}
		if isWhiteout(f) || (first.kind != 0 && f.kind != unix.S_IFDIR) {
			break
		}
		if first.kind == 0 {
			first = f
		}
		if f.kind != unix.S_IFDIR {
			break
		}
		folder = append(folder, fd)
		if isOpaque(fd, name) {
			break
		}
	}
	return first, folder, nil
}

// lookIn looks into one layer. A link on the way means the path is not there as a folder.
func lookIn(layer int, name string) (found, error) {
	fd, err := openAt(layer, name, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return found{}, nil
	}
	if err != nil {
		return found{}, fmt.Errorf("unpacking: look up %s: %w", name, err)
	}
	defer unix.Close(fd)
	f := found{layer: layer}
	if err := unix.Fstat(fd, &f.stat); err != nil {
		return found{}, fmt.Errorf("unpacking: stat %s: %w", name, err)
	}
	f.kind = f.stat.Mode & unix.S_IFMT
	if f.kind == unix.S_IFLNK {
		f.target, err = readLink(fd)
	}
	return f, err
}

func readLink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", fmt.Errorf("unpacking: readlink: %w", err)
	}
	return string(buf[:n]), nil
}

func isWhiteout(f found) bool { return f.kind == unix.S_IFCHR && f.stat.Rdev == 0 }

func isOpaque(layer int, dir string) bool {
	fd, err := openAt(layer, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	value := make([]byte, 8)
	n, err := unix.Fgetxattr(fd, opaqueAttribute, value)
	return err == nil && n == 1 && value[0] == 'y'
}

// namesIn lists the root of a layer without moving its descriptor's own position.
func namesIn(layer int) ([]string, error) {
	fd, err := openAt(layer, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("unpacking: open the layer below: %w", err)
	}
	dir := os.NewFile(uintptr(fd), "layer")
	defer dir.Close()
	return dir.Readdirnames(-1)
}
