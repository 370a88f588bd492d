package dev

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev/wire"
	"github.com/ployz/ployz/node/api"
)

//go:embed wire.sh
var wireScript string

// wireLimit is far above the moment that a port of the bridge takes to come up.
const wireLimit = 20 * time.Second

// wirePort is the bridge's port for a machine whose line is bad. The kernel takes 15 letters.
func wirePort(machine string) string { return machine + "-wire" }

// Delay makes a machine's line to the underlay a bad one, in place of what it was; it survives the
// machine's reboots. program runs `ployzctl dev wire` or a twin of it, to which it adds the words.
// Errors: dev.no-such-lab, dev.no-such-machine, dev.bad-options, dev.machine-off, dev.boot-failed.
func Delay(ctx context.Context, name, machine string, line wire.Line, program ...string) error {
	l, err := openLab(name)
	if err != nil {
		return err
	}
	if _, err := l.number(machine); err != nil {
		return err
	}
	if err := line.Check(); err != nil {
		return api.Errorf(api.CodeDevOptions, "%w", err).WithHint("ployzctl dev delay %s/%s 50ms --jitter 10ms --loss 1%%", name, machine)
	}
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.startWire(machine, line, program); err != nil {
		return err
	}
	return l.awaitWire(ctx, machine)
}

// wireCgroup is where a machine's wire runs: outside of the machine, whose reboots it outlives.
func (l *lab) wireCgroup(m cgroupMounts, machine string) string {
	return l.cgroup(m, wirePort(machine))
}

func (l *lab) startWire(machine string, line wire.Line, program []string) error {
	mounts, err := findCgroups()
	if err != nil {
		return err
	}
	if err := killTree(l.wireCgroup(mounts, machine)); err != nil {
		return err
	}
	script, err := l.script("wire.sh", wireScript)
	if err != nil {
		return err
	}
	argv := []string{"sh", script, l.wireCgroup(mounts, machine), machine, wirePort(machine)}
	argv = append(append(argv, program...), machine, wirePort(machine), line.String())
	cmd, err := l.inNetwork(argv...)
	if err != nil {
		return err
	}
	return l.launch(l.path(wirePort(machine)+".log"), cmd.Args)
}

// awaitWire waits until the bridge forwards to a wire, which it does once the program has it.
func (l *lab) awaitWire(ctx context.Context, machine string) error {
	err := poll(ctx, wireLimit, func() (bool, error) {
		cmd, err := l.inNetwork("ip", "-d", "-o", "link", "show", "dev", wirePort(machine))
		if err != nil {
			return false, err
		}
		said, _ := cmd.Output() // an error is "not yet there"
		return strings.Contains(string(said), "state forwarding"), nil
	})
	if err != nil {
		return l.bootError("the bad line of "+machine+" did not come up", l.path(wirePort(machine)+".log"), err)
	}
	return nil
}

// removeWires gives machines their own cables back.
func (l *lab) removeWires(machines []string) error {
	mounts, err := findCgroups()
	if err != nil {
		return err
	}
	for _, m := range machines {
		if !fileExists(l.wireCgroup(mounts, m)) {
			continue
		}
		if err := killTree(l.wireCgroup(mounts, m)); err != nil {
			return err
		}
		if err := l.unwire(m); err != nil {
			return err
		}
		// Last, as it is by this folder that a heal which was interrupted finds what is left to do.
		if err := removeTree(l.wireCgroup(mounts, m)); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) unwire(machine string) error {
	// A machine that is off has no cable, and comes back with one in the bridge.
	const script = `ip link del "$1" 2>/dev/null || true
		! [ -e "/proc/sys/net/ipv4/conf/$0" ] || ip link set "$0" master lab0`
	cmd, err := l.inNetwork("sh", "-euc", script, machine, wirePort(machine))
	if err != nil {
		return err
	}
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("giving %s its cable back: %w: %s", machine, err, said)
	}
	return nil
}

// wires are the bad lines, as the programs that make them say on their command lines.
func (l *lab) wires() ([]Fault, error) {
	mounts, err := findCgroups()
	if err != nil {
		return nil, err
	}
	var faults []Fault
	for _, m := range l.machines() {
		pids, err := members(l.wireCgroup(mounts, m))
		if err != nil {
			return nil, err
		}
		for _, pid := range pids {
			words := commandLine(pid)
			if n := len(words); n > 3 && words[n-3] == m && words[n-2] == wirePort(m) && words[0] != "sh" {
				faults = append(faults, Fault{Text: "delay " + m + " " + words[n-1]})
			}
		}
	}
	return faults, nil
}

// commandLine are the words that a process was started with; none when it is gone.
func commandLine(pid int) []string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}
