package firewall

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Holder is a program of the machine that listens on a port.
type Holder struct {
	// Protocol is "tcp" or "udp".
	Protocol string
	// Addr and Port are what it listens on; Addr may be unspecified.
	Addr netip.Addr
	Port uint16
	// UID owns the socket.
	UID int
	// PID and Command are 0 and "" where /proc does not tell (another user's, without root, or
	// a socket of another PID namespace).
	PID     int
	Command string

	inode string
}

// String returns the holder for an error message: "nginx (pid 812) on tcp 0.0.0.0:80".
func (h Holder) String() string {
	who := fmt.Sprintf("a program of user %d", h.UID)
	if h.PID != 0 {
		who = fmt.Sprintf("%s (pid %d)", h.Command, h.PID)
	}
	return fmt.Sprintf("%s on %s %s", who, h.Protocol, netip.AddrPortFrom(h.Addr, h.Port))
}

// PortTaken returns who listens on a port of the machine, nil for nobody. An addr that is
// invalid or unspecified asks for every address. Publishing would take the port away from
// such a listener without an error, so ask before. Published ports hold no socket and are
// not found here: Config.Validate finds those. ours may be nil, or tell that a holder
// does not count. Errors: what /proc refused.
func PortTaken(protocol string, addr netip.Addr, port uint16, ours func(Holder) bool) (*Holder, error) {
	sockets, err := listeners(protocol)
	if err != nil {
		return nil, err
	}
	for _, h := range sockets {
		if h.Port != port || !overlaps(h.Addr, addr) {
			continue
		}
		h.PID, h.Command = owner(h.inode)
		if ours == nil || !ours(h) {
			return &h, nil
		}
	}
	return nil, nil
}

// Listeners returns every program that listens on the machine, of "tcp" or "udp". Errors: what
// /proc refused.
func Listeners(protocol string) ([]Holder, error) {
	sockets, err := listeners(protocol)
	for i := range sockets {
		sockets[i].PID, sockets[i].Command = owner(sockets[i].inode)
	}
	return sockets, err
}

// overlaps: a listener on :: also has IPv4, unless it asked not to, which /proc does not tell.
func overlaps(held, wanted netip.Addr) bool {
	if !wanted.IsValid() || wanted.IsUnspecified() || held == wanted {
		return true
	}
	return held.IsUnspecified() && (held.Is6() || wanted.Is4())
}

func listeners(protocol string) ([]Holder, error) {
	var out []Holder
	for _, family := range []string{"", "6"} {
		file, err := os.Open("/proc/thread-self/net/" + protocol + family)
		if family == "6" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			if h, ok := parseSocket(protocol, lines.Text()); ok {
				out = append(out, h)
			}
		}
		if err := errors.Join(lines.Err(), file.Close()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// States in /proc/net: a TCP socket that listens; a UDP socket that is not connected.
var waiting = map[string]string{"tcp": "0A", "udp": "07"}

// parseSocket reads a line such as
//
//	0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 48213 …
//
// and answers false for the heading and for sockets that are in use by a connection.
func parseSocket(protocol, line string) (Holder, bool) {
	f := strings.Fields(line)
	if len(f) < 10 || f[3] != waiting[protocol] {
		return Holder{}, false
	}
	addr, port, ok := parseLocal(f[1])
	uid, err := strconv.Atoi(f[7])
	return Holder{Protocol: protocol, Addr: addr, Port: port, UID: uid, inode: f[9]}, ok && err == nil
}

// parseLocal reads "0100007F:1F90": the address in words of four bytes, each in the
// machine's byte order (little-endian on all that we build for), then the port.
func parseLocal(s string) (netip.Addr, uint16, bool) {
	hexAddr, hexPort, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(hexAddr)
	port, portErr := strconv.ParseUint(hexPort, 16, 16)
	if err != nil || portErr != nil || len(raw)%4 != 0 {
		return netip.Addr{}, 0, false
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	addr, ok := netip.AddrFromSlice(raw)
	return addr.Unmap(), uint16(port), ok
}

// owner finds the program that has the socket open: 0 and "" where /proc does not tell.
func owner(inode string) (pid int, command string) {
	wanted := "socket:[" + inode + "]"
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed, the only error there is
	for _, dir := range dirs {
		if !holds(dir, wanted) {
			continue
		}
		pid, _ = strconv.Atoi(filepath.Base(dir)) // the pattern lets only digits begin it
		comm, err := os.ReadFile(dir + "/comm")
		if err != nil {
			return pid, "?"
		}
		return pid, strings.TrimSpace(string(comm))
	}
	return 0, ""
}

func holds(dir, wanted string) bool {
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return false // it ended, or is not ours to look into
	}
	for _, fd := range fds {
		if target, err := os.Readlink(dir + "/fd/" + fd.Name()); err == nil && target == wanted {
			return true
		}
	}
	return false
}
