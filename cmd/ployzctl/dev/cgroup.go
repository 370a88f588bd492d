package dev

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ployz/ployz/node/api"
)

// cgroupMounts are the trees that a lab leaves folders in.
type cgroupMounts struct {
	v2    string // the cgroup v2 tree, where every process of a lab is
	named string // systemd's own v1 tree of a hybrid host, into which nspawn copies its folders; may be ""
}

func findCgroups() (cgroupMounts, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return cgroupMounts{}, err
	}
	defer f.Close()
	var m cgroupMounts
	for lines := bufio.NewScanner(f); lines.Scan(); {
		w := strings.Fields(lines.Text())
		switch {
		case len(w) < 4:
		case w[2] == "cgroup2" && m.v2 == "":
			m.v2 = w[1]
		case w[2] == "cgroup" && strings.Contains(w[3], "name=systemd") && m.named == "":
			m.named = w[1]
		}
	}
	if m.v2 == "" {
		return m, api.Errorf(api.CodeDevHost, "no cgroup v2 tree is mounted on this computer").
			WithHint("mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified, or boot with systemd.unified_cgroup_hierarchy=1")
	}
	return m, nil
}

// booted says whether systemd runs this computer; then the lab's tree is a delegated scope of its.
func booted() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

func (l *lab) unit() string { return "ployz-dev-" + l.name }

// tree is the lab's place below a cgroup mount: "/ployz-dev-NAME", or the scope's.
func (l *lab) tree() string {
	if booted() {
		return "/system.slice/" + l.unit() + ".scope"
	}
	return "/" + l.unit()
}

// cgroup is a folder of the lab's v2 tree.
func (l *lab) cgroup(m cgroupMounts, parts ...string) string {
	return filepath.Join(append([]string{m.v2, l.tree()}, parts...)...)
}

// members lists the processes in a cgroup tree; a tree that is not there has none.
func members(folder string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return skipGone(err)
		}
		if !d.IsDir() {
			return nil
		}
		found, err := readPIDs(filepath.Join(path, "cgroup.procs"))
		pids = append(pids, found...)
		return skipGone(err)
	})
	return pids, err
}

// skipGone forgives what vanished under the walk: systemd in a machine removes folders at any time.
func skipGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.EOPNOTSUPP) {
		return nil
	}
	return err
}

func readPIDs(file string) ([]int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, word := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			return nil, err
		}
		if pid != 0 { // 0 is a process of a PID namespace we cannot see
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// killTree kills everything in a cgroup tree at once and waits until it is empty.
func killTree(folder string) error {
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.WriteFile(filepath.Join(folder, "cgroup.kill"), []byte("1"), 0); err != nil {
		return skipGone(err)
	}
	return poll(context.Background(), 30*time.Second, func() (bool, error) {
		pids, err := members(folder)
		return len(pids) == 0, err
	})
}

// removeTree removes a cgroup tree whose processes are gone, deepest folder first.
func removeTree(folder string) error {
	var dirs []string
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return skipGone(err)
	})
	if err != nil {
		return err
	}
	sort.Sort(sort.Reverse(sort.StringSlice(dirs)))
	for _, dir := range dirs {
		if err := removeCgroup(dir); err != nil {
			return err
		}
	}
	return nil
}

// removeCgroup waits a moment for the kernel, which takes its time over the last exiting task.
func removeCgroup(dir string) error {
	return poll(context.Background(), 10*time.Second, func() (bool, error) {
		err := syscall.Rmdir(dir)
		if errors.Is(err, syscall.EBUSY) {
			return false, nil
		}
		return true, skipGone(err)
	})
}

// poll asks until the answer is yes, an error, or the time is up.
func poll(ctx context.Context, limit time.Duration, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		done, err := ask()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
