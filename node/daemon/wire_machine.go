package daemon

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/ployz/ployz/datapath/firewall"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/runtime/runc"
	"golang.org/x/sys/unix"
)

// observe answers what only the machine knows: what it can carry, and who listens on it.
func (d *Daemon) observe(context.Context) (deploy.Observation, error) {
	controllers, err := runc.Controllers()
	if err != nil {
		return deploy.Observation{}, err
	}
	memory, err := memoryBytes()
	if err != nil {
		return deploy.Observation{}, err
	}
	listening, err := listeningPorts()
	return deploy.Observation{
		Controllers: controllers, CPUs: float64(runtime.NumCPU()), MemoryBytes: memory, Listening: listening,
	}, err
}

// listeningPorts are the ports of the machine that programs hold, as "tcp/8080", with who does.
func listeningPorts() (map[string]string, error) {
	held := map[string]string{}
	for _, protocol := range []string{"tcp", "udp"} {
		holders, err := firewall.Listeners(protocol)
		if err != nil {
			return nil, api.Errorf(api.CodeInternal, "looking at the machine's listeners: %w", err)
		}
		for _, h := range holders {
			held[fmt.Sprintf("%s/%d", protocol, h.Port)] = holderName(h)
		}
	}
	return held, nil
}

// holderName is who holds a port, in words that help: systemd holds the gateway's for it.
func holderName(h firewall.Holder) string {
	if h.PID == 1 && (h.Port == 80 || h.Port == 443) && exists("/etc/systemd/system/ployz-gateway.socket") {
		return "Ployz's own gateway, which reaches services by hostname (x-ployz.routes)"
	}
	return h.String()
}

func memoryBytes() (int64, error) {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, api.Errorf(api.CodeInternal, "reading the machine's memory: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			if err != nil {
				break
			}
			return kib << 10, nil
		}
	}
	return 0, api.Errorf(api.CodeInternal, "/proc/meminfo does not say how much memory there is")
}

// need is one thing that the machine must have.
type need struct {
	name string
	// look returns what was seen, and an error when it is not enough.
	look func() (seen string, err *api.Error)
}

// needs are what every machine must have, member or not.
func (d *Daemon) needs() []need {
	return []need{
		{"root", needRoot},
		{"systemd is process 1", func() (string, *api.Error) {
			return needPath("/run/systemd/system", "boot the machine with systemd")
		}},
		{"cgroup v2 alone", needCgroup},
		{"IPv6", func() (string, *api.Error) {
			return needPath("/proc/net/if_inet6", "enable IPv6 in the kernel: take ipv6.disable=1 off its command line")
		}},
		{"overlay file system", needOverlay},
		{"programs", needPrograms},
		{"room for state", d.needRoom},
	}
}

// Look implements machine.Host.
func (h *host) Look(ctx context.Context) ([]*api.Error, error) {
	var unmet []*api.Error
	for _, n := range h.daemon.needs() {
		if _, err := n.look(); err != nil {
			unmet = append(unmet, err)
		}
	}
	if e := h.unfitPool(ctx); e != nil {
		unmet = append(unmet, e)
	}
	return append(unmet, h.takenPorts()...), nil
}

// servedPorts are what Ployz listens on, on all addresses or on ones that others may use too.
var servedPorts = []struct {
	protocol string
	addr     netip.Addr
	port     uint16
}{
	{"tcp", netip.Addr{}, 80}, {"tcp", netip.Addr{}, 443},
	{"tcp", loopbackDNS, 53}, {"udp", loopbackDNS, 53},
	{"tcp", netip.MustParseAddr("127.0.0.1"), 4222},
}

// takenPorts looks for others on our ports; what an interrupted init of ours left does not count.
func (h *host) takenPorts() []*api.Error {
	var unmet []*api.Error
	for _, p := range servedPorts {
		holder, err := firewall.PortTaken(p.protocol, p.addr, p.port, ours)
		switch {
		case err != nil:
			unmet = append(unmet, unfit("ports", "they could not be looked at: %v", err))
		case holder != nil:
			unmet = append(unmet, api.Errorf(api.CodeMachinePortTaken, "%s holds it", holder).
				About(fmt.Sprintf("port %d/%s", p.port, p.protocol)).WithHint("stop it, then repeat: ployzctl init"))
		}
	}
	return unmet
}

// ours tells our own processes, and the sockets that systemd holds for them.
func ours(holder firewall.Holder) bool {
	return strings.HasPrefix(holder.Command, "ployz-") || holder.PID == 1 && exists("/etc/systemd/system/ployz-gateway.socket")
}

func unfit(what, format string, args ...any) *api.Error {
	return api.Errorf(api.CodeMachineUnfit, format, args...).About(what)
}

func needRoot() (string, *api.Error) {
	uid := strconv.Itoa(os.Geteuid())
	if uid != "0" {
		return uid, unfit("root", "the daemon runs as uid %s", uid).WithHint("start it with systemctl start ployzd")
	}
	return "uid 0", nil
}

func needPath(path, hint string) (string, *api.Error) {
	if !exists(path) {
		return "absent", unfit(path, "it is not there").WithHint("%s", hint)
	}
	return path, nil
}

// needCgroup wants the pure v2 tree: under the hybrid one systemd keeps no controllers on v2.
func needCgroup() (string, *api.Error) {
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &fs); err != nil {
		return "absent", unfit("/sys/fs/cgroup", "%v", err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return "v1 or hybrid", unfit("/sys/fs/cgroup", "the machine was booted with cgroup v1").
			WithHint("add systemd.unified_cgroup_hierarchy=1 to the kernel's command line and reboot")
	}
	return "v2", nil
}

func needOverlay() (string, *api.Error) {
	text, err := os.ReadFile("/proc/filesystems")
	if err != nil || !strings.Contains(string(text), "\toverlay\n") {
		return "absent", unfit("overlayfs", "the kernel has none").WithHint("modprobe overlay")
	}
	return "present", nil
}

func needPrograms() (string, *api.Error) {
	for _, name := range []string{"ployz-nats", "ployz-gateway", "ployz-dns", "ployz-net", "ployz-pool", "ployz-wireguard", "runc"} {
		if !exists(program(name)) {
			return "incomplete", unfit(program(name), "it is not there").WithHint("install the package again: apt install --reinstall ployz")
		}
	}
	return "complete", nil
}

// leastRoomBytes is what the store and one small image need.
const leastRoomBytes = 1 << 30

func (d *Daemon) needRoom() (string, *api.Error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(d.State, &fs); err != nil {
		return "unknown", unfit(d.State, "%v", err)
	}
	free := int64(fs.Bavail) * fs.Bsize
	seen := fmt.Sprintf("%d MiB free", free>>20)
	if free < leastRoomBytes {
		return seen, unfit(d.State, "only %s; the store needs at least %d MiB", seen, int64(leastRoomBytes)>>20).
			WithHint("free some, or set data_dir in %s", SettingsPath)
	}
	return seen, nil
}
