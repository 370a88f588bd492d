package dev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// routerName is the folder of a machine's cgroup where its router runs, if it is behind NAT.
const routerName = "router"

// addresses are a machine's addresses on the underlay; for one behind NAT they are its router's.
type addresses struct{ v4, v6 netip.Addr }

func (a addresses) String() string { return a.v4.String() + " " + a.v6.String() + "\n" }

// standing are the addresses that a machine has until Readdress.
func standing(number int) addresses {
	return addresses{netip.MustParseAddr(underlay4 + strconv.Itoa(number)), netip.MustParseAddr(underlay6 + strconv.Itoa(number))}
}

// inner are the addresses of a machine behind NAT itself, as boot.sh has them.
func inner(number int) addresses {
	return addresses{netip.MustParseAddr("192.168.90." + strconv.Itoa(number+1)), netip.MustParseAddr("fd93::" + strconv.Itoa(number+1))}
}

func (l *lab) addressFile(machine string) string { return filepath.Join(l.disk(machine), "address") }

// addresses reads a machine's addresses from its disk, where its next boot reads them too. A machine
// that has no disk yet will get the standing ones.
func (l *lab) addresses(machine string) (addresses, error) {
	number, err := l.number(machine)
	if err != nil {
		return addresses{}, err
	}
	text, err := os.ReadFile(l.addressFile(machine))
	if errors.Is(err, fs.ErrNotExist) {
		return standing(number), nil
	}
	if err != nil {
		return addresses{}, err
	}
	v4, v6, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	var a addresses
	if a.v4, err = netip.ParseAddr(v4); err == nil {
		a.v6, err = netip.ParseAddr(v6)
	}
	if err != nil {
		return a, api.Errorf(api.CodeDevBroken, "%s cannot be read: %w", l.addressFile(machine), err).WithHint("ployzctl dev down --name %s", l.name)
	}
	return a, nil
}

// everyAddress is what every machine has; one whose file cannot be read has the standing ones.
func (l *lab) everyAddress() map[string]addresses {
	all := map[string]addresses{}
	for i, m := range l.machines() {
		a, err := l.addresses(m)
		if err != nil {
			a = standing(i + 1)
		}
		all[m] = a
	}
	return all
}

// Readdress gives a machine another address of the underlay in the place of the one of that family, at
// once and for its next boots; for a machine behind NAT it is its router's. Everybody's /etc/hosts
// follows. Errors: dev.no-such-lab, dev.no-such-machine, dev.bad-options.
func Readdress(ctx context.Context, name, machine, address string) error {
	l, err := openLab(name)
	if err != nil {
		return err
	}
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	old, err := l.addresses(machine)
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddr(address)
	if err != nil || !l.onUnderlay(addr) {
		return api.Errorf(api.CodeDevOptions, "%q is no address of the lab's network: machines have %s1 to %s253, and %s1 to %s253",
			address, underlay4, underlay4, underlay6, underlay6).WithHint("ployzctl dev readdress %s/%s %s77", name, machine, underlay4)
	}
	next := old
	if addr.Is4() {
		next.v4 = addr
	} else {
		next.v6 = addr
	}
	if next == old {
		return nil
	}
	if owner := l.ownerOf(addr); owner != "" {
		return api.Errorf(api.CodeDevOptions, "%s is the address of %s/%s", addr, name, owner).WithHint("ployzctl dev ls %s", name)
	}
	return l.readdress(ctx, machine, old, next)
}

// onUnderlay says whether machines may have an address: the first 253 of both networks.
func (l *lab) onUnderlay(addr netip.Addr) bool {
	for n := 1; n < 254; n++ {
		if s := standing(n); addr == s.v4 || addr == s.v6 {
			return true
		}
	}
	return false
}

func (l *lab) ownerOf(addr netip.Addr) string {
	for machine, a := range l.everyAddress() {
		if a.v4 == addr || a.v6 == addr {
			return machine
		}
	}
	return ""
}

func (l *lab) readdress(ctx context.Context, machine string, old, next addresses) error {
	if !fileExists(l.disk(machine)) {
		return api.Errorf(api.CodeDevOff, "%s/%s was never booted", l.name, machine).WithHint("ployzctl dev up --name %s", l.name)
	}
	tmp := l.addressFile(machine) + ".tmp"
	if err := os.WriteFile(tmp, []byte(next.String()), 0o644); err != nil {
		return err
	}
	if err := os.Rename(tmp, l.addressFile(machine)); err != nil {
		return err
	}
	if err := l.swapAddress(ctx, machine, old, next); err != nil {
		return err
	}
	for _, m := range l.machines() {
		if err := l.writeHosts(filepath.Join(l.disk(m), "upper"), m); err != nil {
			return err
		}
	}
	return nil
}

// swapScript changes one family's address and the default route, which may go with it.
const swapScript = `ip addr del "$1" dev "$0"; ip addr add "$2" dev "$0" $4; ip route replace default via "$3"`

// swapAddress changes the addresses of a machine that runs.
func (l *lab) swapAddress(ctx context.Context, machine string, old, next addresses) error {
	pid, device, err := l.outside(machine)
	if err != nil || pid == 0 {
		return err
	}
	swaps := [][]string{}
	if old.v4 != next.v4 {
		swaps = append(swaps, []string{old.v4.String() + "/24", next.v4.String() + "/24", underlay4 + bridgeHost, ""})
	}
	if old.v6 != next.v6 {
		swaps = append(swaps, []string{old.v6.String() + "/64", next.v6.String() + "/64", underlay6 + bridgeHost, "nodad"})
	}
	for _, words := range swaps {
		args := append([]string{"-t", strconv.Itoa(pid), "-n", "--", "sh", "-euc", swapScript, device}, words...)
		if said, err := exec.CommandContext(ctx, "nsenter", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("changing the address of %s: %w: %s", machine, err, said)
		}
	}
	return nil
}

// outside returns a process that has a machine's device on the underlay, and that device's name; 0
// when the machine is off.
func (l *lab) outside(machine string) (pid int, device string, err error) {
	if !slices.Contains(l.plan.NAT, machine) {
		pid, err = l.leader(machine)
		return pid, "eth0", err
	}
	mounts, err := findCgroups()
	if err != nil {
		return 0, "", err
	}
	pids, err := members(l.cgroup(mounts, machine, routerName))
	if err != nil || len(pids) == 0 {
		return 0, "", err
	}
	return pids[0], "wan", nil
}
