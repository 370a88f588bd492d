package layer

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// ReadFile reads a regular file as an instance stacked from the layers (topmost first) would see
// it, without mounting anything: whiteouts count, links are followed inside the image only. Errors:
// fs.ErrNotExist, also for anything that is no regular file; more than limit bytes are an error.
func ReadFile(layers []string, name string, limit int64) ([]byte, error) {
	t := &tree{root: -1}
	defer func() {
		for _, fd := range t.lowers {
			unix.Close(fd)
		}
	}()
	for _, l := range layers {
		fd, err := openFolder(l)
		if err != nil {
			return nil, err
		}
		t.lowers = append(t.lowers, fd)
	}
	f, at, err := t.follow(name)
	if err != nil {
		return nil, err
	}
	fd, err := openAt(f.layer, at, unix.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("reading %s of the image: %w", name, err)
	}
	return readLimited(fd, name, limit)
}

func readLimited(fd int, name string, limit int64) ([]byte, error) {
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	body, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = fmt.Errorf("%s of the image has more than %d bytes", name, limit)
	}
	return body, err
}

// follow finds the regular file that name leads to.
func (t *tree) follow(name string) (found, string, error) {
	todo, done := strings.Split(name, "/"), "."
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			done = path.Dir(done) // the root's parent is the root, as in the instance
			continue
		}
		next := path.Join(done, part)
		f, err := t.lookBelow(next)
		if err != nil {
			return f, "", err
		}
		switch {
		case f.kind == unix.S_IFLNK && links < maxLinks:
			links++
			if strings.HasPrefix(f.target, "/") {
				done = "."
			}
			todo = append(strings.Split(f.target, "/"), todo...)
		case f.kind == unix.S_IFDIR:
			done = next
		case f.kind == unix.S_IFREG && len(todo) == 0:
			return f, next, nil
		default:
			return f, "", &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
		}
	}
	return found{}, "", &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
}
