package storage

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
)

// Mount is a line of a mount table: which part of which file system is shown where, and to whom.
type Mount struct {
	// Device and Source are the file system's, Root the folder in it that is shown at Point.
	Device, Source, Root, Point string
	// PID is a process that sees it.
	PID string
}

func (m Mount) String() string { return "mounted at " + m.Point + " for process " + m.PID }

// OwnMounts is what this process sees.
func OwnMounts() ([]Mount, error) { return readMounts("/proc/self") }

// EveryMount is what any process of this machine sees: one entry for each mount of each mount namespace.
func EveryMount() ([]Mount, error) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	seen, every := map[string]bool{}, []Mount(nil)
	for _, process := range processes {
		namespace, err := os.Readlink(filepath.Join(process, "ns/mnt"))
		if err != nil || seen[namespace] {
			continue // it ended meanwhile, or sees what another does
		}
		all, err := readMounts(process)
		if err != nil {
			continue // it ended meanwhile
		}
		seen[namespace] = true
		every = append(every, all...)
	}
	return every, nil
}

func readMounts(process string) ([]Mount, error) {
	f, err := os.Open(filepath.Join(process, "mountinfo"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []Mount
	for lines := bufio.NewScanner(f); ; {
		if !lines.Scan() {
			return all, lines.Err()
		}
		left, right, _ := strings.Cut(lines.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if len(l) > 4 && len(r) > 1 {
			all = append(all, Mount{Device: l[2], Root: unescape(l[3]), Point: unescape(l[4]), Source: unescape(r[1]), PID: filepath.Base(process)})
		}
	}
}

// unescape undoes what the kernel does to blanks in a path.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}
