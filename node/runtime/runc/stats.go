package runc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/units"
)

const cgroupRoot = "/sys/fs/cgroup"

// Stats implements runtime.Console: cgroup files, and the network as the instance itself sees it.
func (r *Runtime) Stats(ctx context.Context, id string) (runtime.Stats, error) {
	unit, err := r.running(ctx, id)
	if err != nil {
		return runtime.Stats{}, err
	}
	dir := filepath.Join(cgroupRoot, unit.ControlGroup)
	s := runtime.Stats{
		CPU: -1, MemoryBytes: number(dir, "memory.current"), PIDs: number(dir, "pids.current"), ReadBytes: -1, WriteBytes: -1,
	}
	if s.PIDs < 0 {
		s.PIDs = countProcesses(dir)
	}
	if usec, ok := keyed(dir, "cpu.stat", "usage_usec"); ok {
		s.CPU = time.Duration(usec) * time.Microsecond
	}
	s.ReadBytes, s.WriteBytes = ioBytes(dir)
	s.RxBytes, s.TxBytes = networkBytes(fmt.Sprintf("/proc/%d/net/dev", unit.MainPID))
	return s, nil
}

// running observes the unit of an instance that must run.
func (r *Runtime) running(ctx context.Context, id string) (units.Observation, error) {
	if _, err := r.instance(id); err != nil {
		return units.Observation{}, err
	}
	unit, err := r.Units.Observe(ctx, units.WorkloadService(id))
	if err == nil && (unit.MainPID == 0 || unit.Active != "active") {
		err = api.Errorf(api.CodeNotRunning, "its unit is %s", unit.Active).About("instance "+id).WithHint("systemctl status %s", unit.Name)
	}
	return unit, err
}

// number reads a file of one number; -1 where this kernel does not keep it.
func number(dir, file string) int64 {
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return -1
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

func keyed(dir, file, key string) (int64, bool) {
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, key+" "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// ioBytes sums io.stat over devices: "8:0 rbytes=1 wbytes=2 …". An empty file is no use yet, a missing one is -1.
func ioBytes(dir string) (read, written int64) {
	text, err := os.ReadFile(filepath.Join(dir, "io.stat"))
	if err != nil {
		return -1, -1
	}
	for _, field := range strings.Fields(string(text)) {
		key, value, _ := strings.Cut(field, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			continue
		}
		switch key {
		case "rbytes":
			read += n
		case "wbytes":
			written += n
		}
	}
	return read, written
}

// countProcesses is for kernels without the pids controller.
func countProcesses(dir string) int64 {
	count := int64(0)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" {
			return err
		}
		text, err := os.ReadFile(path)
		count += int64(strings.Count(string(text), "\n"))
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return -1
	}
	return count
}

// networkBytes sums every interface but loopback. Its columns are bytes received first and bytes
// sent ninth.
func networkBytes(file string) (rx, tx int64) {
	text, err := os.ReadFile(file)
	if err != nil {
		return -1, -1
	}
	for line := range strings.Lines(string(text)) {
		name, columns, ok := strings.Cut(line, ":")
		fields := strings.Fields(columns)
		if !ok || strings.TrimSpace(name) == "lo" || len(fields) < 9 {
			continue
		}
		r, rErr := strconv.ParseInt(fields[0], 10, 64)
		t, tErr := strconv.ParseInt(fields[8], 10, 64)
		if rErr != nil || tErr != nil {
			return -1, -1
		}
		rx, tx = rx+r, tx+t
	}
	return rx, tx
}
