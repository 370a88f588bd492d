package testenv

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// VM is for tests that boot a real kernel: they run where PLOYZ_VM names what node/nodetest/vm/image/build.sh
// printed, as `make test-vm` sets it.
var VM = Feature{"vm", missingVM}

// VMImage is the folder with the virtual machine's kernel, disk and ssh key, or "".
func VMImage() string { return os.Getenv("PLOYZ_VM") }

func missingVM() string {
	if VMImage() == "" {
		return "run `make test-vm`, or set PLOYZ_VM"
	}
	return missingFile(filepath.Join(VMImage(), "disk.img"))()
}

// Controllers is for tests of limits: a cgroup v2 hierarchy with the controllers that they need.
var Controllers = Feature{"controllers", missingControllers}

func missingControllers() string {
	text, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	if err != nil {
		return err.Error()
	}
	for _, c := range []string{"cpu", "memory", "pids", "io"} {
		if !slices.Contains(strings.Fields(string(text)), c) {
			return "the cgroup hierarchy has no controller " + c
		}
	}
	return ""
}
