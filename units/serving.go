package units

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Lib is the folder of our programs that no one calls by hand.
const Lib = "/usr/lib/ployz"

// Names of the units that there is one of.
const (
	NetService       = "ployz-net.service"
	PoolService      = "ployz-pool.service"
	WireGuardService = "ployz-wireguard.service"
	NATSService      = "ployz-nats.service"
	NATSCoreService  = "ployz-nats-core.service"
	GatewayService   = "ployz-gateway.service"
	GatewaySocket    = "ployz-gateway.socket"
	DNSService       = "ployz-dns.service"
	DNSSocket        = "ployz-dns.socket"
)

// Net returns the one-shot that puts the network back at boot.
func Net() (Unit, error) {
	return render(NetService, "ployz-net.service.tmpl", func(identity string) any {
		return map[string]any{"Identity": identity, "Lib": Lib, "Args": []string{"up"}}
	})
}

// Pool describes the one-shot that puts the pool of volumes back at boot. What has volumes wants PoolService and starts
// after it. It must not require it: systemd would restart it with a unit whose text an upgrade changed. A volume that is
// not there has no path, so that nothing starts without it all the same.
type Pool struct {
	// State is the machine's state folder.
	State string
	// Mount is the folder on which it mounts a file, Foreign one that the machine mounts; "" for none.
	Mount, Foreign string
}

// Render returns the unit. It is ordered after the mount that it makes, too: so at a shutdown that goes only once
// everything that is ordered after the unit has ended.
func (p Pool) Render() (Unit, error) {
	mount := ""
	if p.Mount != "" {
		mount = MountUnit(p.Mount)
	}
	return render(PoolService, "ployz-pool.service.tmpl", func(identity string) any {
		return map[string]any{
			"Identity": identity, "Lib": Lib, "Args": []string{"--state", p.State, "up"},
			"State": p.State, "Folder": p.Foreign, "MountUnit": mount,
		}
	})
}

// MountUnit is systemd's name for what is mounted at an absolute path.
func MountUnit(path string) string {
	var name strings.Builder
	for i, c := range []byte(strings.Trim(path, "/")) {
		switch {
		case c == '/':
			name.WriteByte('-')
		case c == '.' && i > 0, c == '_', c == ':', '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			name.WriteByte(c)
		default:
			fmt.Fprintf(&name, `\x%02x`, c)
		}
	}
	return name.String() + ".mount"
}

// WireGuard returns the userspace device's unit, for a machine whose kernel has none: it makes the interface, and
// lets ployz-net give it key, peers and routes.
func WireGuard(device string) (Unit, error) {
	return render(WireGuardService, "ployz-wireguard.service.tmpl", func(identity string) any {
		return map[string]any{"Identity": identity, "Lib": Lib, "Args": []string{device}, "Configure": []string{"mesh"}}
	})
}

// NATS describes one of the store's units.
type NATS struct {
	// Role is "edge" or "core".
	Role string
	// Config is the server's configuration file, Status where it writes which one it runs with; "" means
	// /var/lib/ployz/nats/ROLE.conf and /run/ployz/nats-ROLE.json.
	Config, Status string
	// Args are further arguments, such as --seed.
	Args []string
}

// Render returns the unit. Its reload fails unless the server says that it took the file over.
func (n NATS) Render() (Unit, error) {
	names := map[string]string{"edge": NATSService, "core": NATSCoreService}
	name, ok := names[n.Role]
	if !ok {
		return Unit{}, fmt.Errorf("units: %q is not a role of the store: edge or core", n.Role)
	}
	if n.Config == "" {
		n.Config = "/var/lib/ployz/nats/" + n.Role + ".conf"
	}
	if n.Status == "" {
		n.Status = "/run/ployz/nats-" + n.Role + ".json"
	}
	files := []string{"--config", n.Config, "--status", n.Status}
	return render(name, "ployz-nats.service.tmpl", func(identity string) any {
		return map[string]any{
			"Identity": identity, "Lib": Lib, "Role": n.Role,
			"Args": slices.Concat([]string{n.Role}, files, n.Args), "Reload": slices.Concat([]string{"reload"}, files),
		}
	})
}

// Serving is a service with its sockets. The service's text does not depend on which extra sockets there are,
// so that adding one is not drift of what serves.
type Serving struct {
	Service Unit
	Sockets []Unit
}

// Gateway describes the gateway's units.
type Gateway struct {
	Args []string
	// TCP are the extra ports of layer-4 routes.
	TCP []uint16
	// Drain is how long open connections may go on after a stop; 0 means 30 s.
	Drain time.Duration
}

// Render returns the gateway's service and its sockets: http on 80, https on 443, tcp-PORT for the
// others, each named so in FileDescriptorName=.
func (g Gateway) Render() (Serving, error) {
	fixed := []listener{
		{unit: GatewaySocket, fd: "http", stream: []string{"80"}, title: "Ployz gateway, HTTP"},
		{unit: "ployz-gateway-https.socket", fd: "https", stream: []string{"443"}, title: "Ployz gateway, HTTPS"},
	}
	all := slices.Clone(fixed)
	ports := slices.Clone(g.TCP)
	slices.Sort(ports)
	for _, port := range slices.Compact(ports) {
		name := "tcp-" + strconv.Itoa(int(port))
		all = append(all, listener{unit: "ployz-gateway-" + name + ".socket", fd: name, stream: []string{strconv.Itoa(int(port))}, title: "Ployz gateway, TCP port " + strconv.Itoa(int(port))})
	}
	return serving{name: GatewayService, title: "Ployz gateway", program: "ployz-gateway", state: "gateway", args: g.Args, drain: g.Drain}.render(fixed, all, "both")
}

// DNS describes the resolver's units.
type DNS struct {
	Args []string
	// Addresses are the ones to answer on, port 53: the bridge's and 127.0.0.55.
	Addresses []netip.Addr
	// Drain is how long open queries may go on after a stop; 0 means 30 s.
	Drain time.Duration
}

// Render returns the resolver's service and its sockets, dns-udp and dns-tcp.
func (d DNS) Render() (Serving, error) {
	var where []string
	for _, a := range d.Addresses {
		where = append(where, netip.AddrPortFrom(a, 53).String())
	}
	sockets := []listener{
		{unit: DNSSocket, fd: "dns-udp", datagram: where, title: "Ployz resolver, UDP"},
		{unit: "ployz-dns-tcp.socket", fd: "dns-tcp", stream: where, title: "Ployz resolver, TCP"},
	}
	return serving{name: DNSService, title: "Ployz resolver", program: "ployz-dns", state: "dns", args: d.Args, drain: d.Drain}.render(sockets, sockets, "ipv6-only")
}

type listener struct {
	unit, fd, title  string
	stream, datagram []string
}

type serving struct {
	name, title, program, state string
	args                        []string
	drain                       time.Duration
}

// render makes the service, ordered after the fixed sockets, and all sockets.
func (s serving) render(fixed, all []listener, ipv6 string) (Serving, error) {
	if s.drain == 0 {
		s.drain = 30 * time.Second
	}
	var names []string
	for _, l := range fixed {
		names = append(names, l.unit)
	}
	service, err := render(s.name, "serving.service.tmpl", func(identity string) any {
		return map[string]any{
			"Identity": identity, "Description": s.title, "Lib": Lib, "Program": s.program, "Args": s.args,
			"Sockets": names, "Drain": seconds(s.drain), "State": s.state,
		}
	})
	if err != nil {
		return Serving{}, err
	}
	out := Serving{Service: service}
	for _, l := range all {
		socket, err := l.render(s.name, ipv6)
		if err != nil {
			return Serving{}, err
		}
		out.Sockets = append(out.Sockets, socket)
	}
	return out, nil
}

func (l listener) render(service, ipv6 string) (Unit, error) {
	return render(l.unit, "serving.socket.tmpl", func(identity string) any {
		return map[string]any{
			"Identity": identity, "Description": l.title, "Stream": l.stream, "Datagram": l.datagram,
			"FDName": l.fd, "Service": service, "IPv6Only": ipv6,
		}
	})
}

// seconds is a duration as systemd reads it, to the millisecond.
func seconds(d time.Duration) string {
	if d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10)
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}
