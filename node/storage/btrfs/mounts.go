package btrfs

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mounts says which mounts, in any mount namespace of this machine, show a folder of the pool or something in it. The
// pool's own mount does not count.
func (p *Pool) mounts(dir string) ([]string, error) {
	own, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return nil, typed(err)
	}
	at, ok := under(own, p.root)
	if !ok {
		return nil, p.unavailable(fmt.Errorf("no mount holds it"))
	}
	relative, err := filepath.Rel(at.point, dir)
	if err != nil {
		return nil, typed(err)
	}
	inside := filepath.Join(at.root, relative)
	tables, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		return nil, typed(err)
	}
	seen, users := map[string]bool{}, []string(nil)
	for _, table := range tables {
		space, err := os.Readlink(filepath.Join(filepath.Dir(table), "ns/mnt"))
		if err != nil || seen[space] {
			continue // a process that ended meanwhile, or a namespace that was looked at
		}
		seen[space] = true
		all, err := readMounts(table)
		if err != nil {
			continue // likewise ended
		}
		for _, m := range all {
			if m.device == at.device && (m.root == inside || strings.HasPrefix(m.root, inside+"/")) {
				users = append(users, fmt.Sprintf("mounted at %s for process %s", m.point, filepath.Base(filepath.Dir(table))))
			}
		}
	}
	return users, nil
}

// mount is a line of mountinfo: which part of which file system is shown where.
type mount struct{ device, root, point string }

func readMounts(table string) ([]mount, error) {
	f, err := os.Open(table)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []mount
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if c := strings.Fields(lines.Text()); len(c) > 5 {
			all = append(all, mount{device: c[2], root: unescape(c[3]), point: unescape(c[4])})
		}
	}
	return all, lines.Err()
}

// unescape undoes what the kernel does to blanks in a path.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// under finds the mount that a path is on: the last of those with the longest mount point.
func under(all []mount, path string) (best mount, ok bool) {
	for _, m := range all {
		if path == m.point || m.point == "/" || strings.HasPrefix(path, m.point+"/") {
			if !ok || len(m.point) >= len(best.point) {
				best, ok = m, true
			}
		}
	}
	return best, ok
}
