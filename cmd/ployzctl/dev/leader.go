package dev

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// leader returns the PID of a machine's own PID 1, or 0 when it is not booted. It is looked
// for in the machine's cgroup each time, so it is never a number that has gone stale.
func (l *lab) leader(machine string) (int, error) {
	mounts, err := findCgroups()
	if err != nil {
		return 0, err
	}
	pids, err := members(l.cgroup(mounts, machine, "machine"))
	if err != nil {
		return 0, err
	}
	depth := len(namespacePIDs(os.Getpid()))
	for _, pid := range pids {
		if inner := namespacePIDs(pid); len(inner) == depth+1 && inner[depth] == "1" {
			return pid, nil
		}
	}
	return 0, nil
}

// namespacePIDs are the numbers of a process in each PID namespace from ours inwards; none when it is gone.
func namespacePIDs(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil
	}
	for _, line := range strings.Split(string(text), "\n") {
		if rest, found := strings.CutPrefix(line, "NSpid:"); found {
			return strings.Fields(rest)
		}
	}
	return nil
}

// holder returns the PID of the process that owns the lab's network, or 0.
func (l *lab) holder() (int, error) {
	mounts, err := findCgroups()
	if err != nil {
		return 0, err
	}
	pids, err := members(l.cgroup(mounts, "hold"))
	if err != nil || len(pids) == 0 {
		return 0, err
	}
	return pids[0], nil
}

// askLimit bounds a question to a machine's systemd; one that shuts down may never answer.
const askLimit = 10 * time.Second

// ask runs a short command in a machine and returns what it printed. Its exit status is not
// looked at: systemctl repeats in it what it prints.
func ask(leader int, argv ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), askLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", enterArgs(leader, "", argv...)...)
	var out strings.Builder
	cmd.Stdout, cmd.WaitDelay = &out, time.Second
	if err := cmd.Start(); err != nil {
		return ""
	}
	stop := keepAwake(cmd.Process)
	defer stop()
	_ = cmd.Wait()
	wakeLeader(leader)
	return strings.TrimSpace(out.String())
}

// keepAwake watches over an nsenter until it is stopped. nsenter stops itself when its child is
// stopped, and a machine that shuts down stops every process in it before it ends them: nobody
// would wake nsenter to notice, and the machine would wait for the dead child that it never reaps.
// One whose child is still stopped is left, as that is somebody's ^Z.
func keepAwake(nsenter *os.Process) (stop func()) {
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
				if runState(nsenter.Pid) == 'T' && !slices.ContainsFunc(children(nsenter.Pid), isStopped) {
					_ = nsenter.Signal(syscall.SIGCONT) // ended meanwhile is as good
				}
			}
		}
	}()
	return func() { close(done) }
}

// wakeLeader makes a machine's PID 1 look at its processes after a command from outside ended. When
// the machine shuts down PID 1 waits for all of them, up to 10 s, but hears only of its own children's end.
func wakeLeader(leader int) {
	_ = syscall.Kill(leader, syscall.SIGCHLD) // gone meanwhile is as good, and nobody minds this signal
}

func isStopped(pid int) bool { return runState(pid) == 'T' }

// runState is the kernel's letter for what a process does: 'S' sleeps, 'T' is stopped; 0 is gone.
func runState(pid int) byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name before it may hold anything, also brackets.
	end := strings.LastIndex(string(stat), ") ")
	if end < 0 || end+2 >= len(stat) {
		return 0
	}
	return stat[end+2]
}

// children are the processes that a process started and that nobody has reaped.
func children(pid int) []int {
	pids, err := readPIDs(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	return pids
}

// systemState asks systemd in a machine how it is; Off when there is nothing to ask. With "--wait" the
// answer of one that boots takes until it has booted, or askLimit, and costs no more than that.
func (l *lab) systemState(machine string, options ...string) (State, int) {
	leader, err := l.leader(machine)
	if err != nil || leader == 0 {
		return Off, 0
	}
	state := State(ask(leader, append([]string{"systemctl", "is-system-running"}, options...)...))
	if state == "" || state == "offline" || state == "unknown" {
		state = "starting"
	}
	return state, leader
}

// failedUnits names the units that failed in a machine.
func (l *lab) failedUnits(leader int) []string {
	var units []string
	for _, line := range strings.Split(ask(leader, "systemctl", "list-units", "--failed", "--plain", "--no-legend"), "\n") {
		if words := strings.Fields(line); len(words) > 0 {
			units = append(units, words[0])
		}
	}
	return units
}

// enterArgs are nsenter's arguments for running argv in every namespace of a machine, in a folder
// of it. The shell changes folder since nsenter's own option for that is too new for some.
func enterArgs(leader int, dir string, argv ...string) []string {
	args := []string{"-t", fmt.Sprint(leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "--"}
	if dir != "" {
		args = append(args, "sh", "-c", `cd "$0" && exec "$@"`, dir)
	}
	return append(args, argv...)
}

// List returns every lab of this computer, as found now.
func List() ([]Lab, error) {
	found, err := filepath.Glob(filepath.Join(stateRoot(), "*", "lab.json"))
	if err != nil {
		return nil, err
	}
	labs := []Lab{}
	for _, file := range found {
		lab, err := Inspect(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		labs = append(labs, *lab)
	}
	return labs, nil
}

// Inspect returns one lab as found now. Errors: dev.no-such-lab, dev.bad-name, dev.broken-state.
func Inspect(name string) (*Lab, error) {
	l, err := openLab(name)
	if err != nil {
		return nil, err
	}
	return l.inspect()
}

func (l *lab) inspect() (*Lab, error) {
	lab := &Lab{Name: l.name, Tree: l.plan.Tree, Packages: l.plan.Packages, Folder: l.state, DiskImages: l.plan.DiskImages}
	for _, name := range l.machines() {
		at, err := l.addresses(name)
		if err != nil {
			return nil, err
		}
		m := Machine{Name: name, IPv4: at.v4.String(), IPv6: at.v6.String(), NAT: slices.Contains(l.plan.NAT, name)}
		m.State, m.Leader = l.systemState(name)
		if m.State == "degraded" {
			m.Failed = l.failedUnits(m.Leader)
		}
		lab.Machines = append(lab.Machines, m)
	}
	var err error
	lab.Faults, err = l.faults()
	return lab, err
}
