package bridge

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/ployz/ployz/datapath/state"
)

// DefaultName is the bridge's name on every machine.
const DefaultName = "ployz0"

// Config describes the machine's bridge.
type Config struct {
	// Name of the interface; "" means DefaultName.
	Name string `json:"name"`
	// MTU in bytes, of the bridge; at least 1280, IPv6's least.
	MTU int `json:"mtu"`
	// V4 is the gateway address with the machine's subnet: 10.101.7.1/24.
	V4 netip.Prefix `json:"v4"`
	// V6 is the machine's overlay address with its subnet: fd…:7::1/64.
	V6 netip.Prefix `json:"v6"`
}

// Workload describes the network of one instance.
type Workload struct {
	// ID names the instance on this machine: letters, digits, dot, dash, underscore.
	ID string `json:"id"`
	// NetnsPath is where its network namespace is pinned.
	NetnsPath string `json:"netns_path"`
	// V4 and V6 are its addresses, inside the bridge's subnets.
	V4 netip.Addr `json:"v4"`
	V6 netip.Addr `json:"v6"`
	// MTU in bytes; 0 means the bridge's.
	MTU int `json:"mtu,omitempty"`
	// MAC of the interface inside, "02:…"; "" derives one from the ID.
	MAC string `json:"mac,omitempty"`
}

// InvalidError says which field of a Config or Workload cannot be.
type InvalidError struct {
	// Field is the field's name in JSON, Value what it holds, Why the rule it breaks.
	Field, Value, Why string
}

// Error returns the field, the value seen and the rule.
func (e *InvalidError) Error() string { return fmt.Sprintf("%s %q: %s", e.Field, e.Value, e.Why) }

// Spelled out instead of regular expressions: compiling those would be a fifth of the time that
// ployz-net takes to start.

func goodName(s string) bool {
	return len(s) > 0 && len(s) <= 15 && only(s[:1], lower) && only(s, lower+digits+"-")
}

func goodID(s string) bool {
	return len(s) > 0 && len(s) <= 128 && only(s[:1], letters+digits) && only(s, letters+digits+"._-")
}

const (
	lower   = "abcdefghijklmnopqrstuvwxyz"
	letters = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)

func only(s, allowed string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(allowed, r) })
}

// Validate returns an *InvalidError for the first field that cannot be, or nil.
func (c Config) Validate() error {
	switch {
	case !goodName(c.name()):
		return &InvalidError{"name", c.Name, "must be an interface name: a letter, then letters, digits, dashes, at most 15"}
	case c.MTU < 1280 || c.MTU > 65535:
		return &InvalidError{"mtu", fmt.Sprint(c.MTU), "must be between 1280 and 65535 bytes"}
	case !c.V4.IsValid() || !c.V4.Addr().Is4() || c.V4.Bits() > 30:
		return &InvalidError{"v4", c.V4.String(), "must be an IPv4 address with its subnet, such as 10.101.7.1/24"}
	case !c.V6.IsValid() || !c.V6.Addr().Is6() || c.V6.Addr().Is4In6() || c.V6.Bits() > 126:
		return &InvalidError{"v6", c.V6.String(), "must be an IPv6 address with its subnet, such as fd00::1/64"}
	}
	return nil
}

// Validate returns an *InvalidError for the first field that cannot be on this bridge, or nil.
func (w Workload) Validate(c Config) error {
	_, macErr := w.mac()
	switch {
	case !goodID(w.ID):
		return &InvalidError{"id", w.ID, "must be 1 to 128 letters, digits, dots, dashes or underscores"}
	case !filepath.IsAbs(w.NetnsPath):
		return &InvalidError{"netns_path", w.NetnsPath, "must be an absolute path"}
	case !inside(c.V4, w.V4):
		return &InvalidError{"v4", w.V4.String(), "must be a workload address in the bridge's subnet " + c.V4.String()}
	case !inside(c.V6, w.V6):
		return &InvalidError{"v6", w.V6.String(), "must be a workload address in the bridge's subnet " + c.V6.String()}
	case w.MTU != 0 && (w.MTU < 1280 || w.MTU > c.MTU):
		return &InvalidError{"mtu", fmt.Sprint(w.MTU), fmt.Sprintf("must be between 1280 and the bridge's %d bytes", c.MTU)}
	case macErr != nil:
		return &InvalidError{"mac", w.MAC, "must be a unicast address such as 02:00:00:00:00:01"}
	}
	return nil
}

// inside tells whether a is in the subnet, and neither its gateway nor one of its ends, which
// for IPv4 are the network and the broadcast address.
func inside(subnet netip.Prefix, a netip.Addr) bool {
	if !subnet.Contains(a) || a == subnet.Addr() || a == subnet.Masked().Addr() {
		return false
	}
	return a.Is6() || subnet.Contains(a.Next())
}

func (c Config) name() string {
	if c.Name == "" {
		return DefaultName
	}
	return c.Name
}

// mac is derived from the addresses, so that a bridge that was made anew is still the
// gateway that the workloads have cached.
func (c Config) mac() net.HardwareAddr {
	return derivedMAC("bridge " + c.V4.String() + " " + c.V6.String())
}

func (w Workload) mac() (net.HardwareAddr, error) {
	if w.MAC == "" {
		return derivedMAC("workload " + w.ID), nil
	}
	mac, err := net.ParseMAC(w.MAC)
	if err == nil && (len(mac) != 6 || mac[0]&1 != 0) {
		return nil, fmt.Errorf("%s is not a unicast address", w.MAC)
	}
	return mac, err
}

// derivedMAC is locally administered and unicast (02:…), with 40 bits of the seed's hash.
func derivedMAC(seed string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(seed))
	return append(net.HardwareAddr{2}, sum[:5]...)
}

func (w Workload) mtu(c Config) int {
	if w.MTU == 0 {
		return c.MTU
	}
	return w.MTU
}

// HostLink returns the name of the workload's interface on the machine: "pz" and 12 digits
// of the hash of its ID, which fits the kernel's 15 bytes.
func (w Workload) HostLink() string {
	return fmt.Sprintf("pz%x", sha256.Sum256([]byte(w.ID)))[:14]
}

// owner is the part of the alias that names the workload, hash the part that names its shape.
func (w Workload) owner() string { return "ployz:" + w.ID + ":" }

func (w Workload) alias(c Config) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "link/1 %s %s %s %s %d %s %s", w.ID, w.NetnsPath, w.V4, w.V6, w.mtu(c), w.MAC, c.V4))
	return fmt.Sprintf("%s%x", w.owner(), sum[:6])
}

// LoadConfig reads bridge.json. Errors: fs.ErrNotExist, *InvalidError.
func LoadConfig(path string) (Config, error) {
	var c Config
	if err := state.Load(path, &c); err != nil {
		return c, err
	}
	return c, in(path, c.Validate())
}

// Save writes bridge.json, so that it is all there after a power cut. Errors: *InvalidError.
func (c Config) Save(path string) error {
	if err := c.Validate(); err != nil {
		return err
	}
	return state.Save(path, c)
}

// LoadWorkload reads a link.json. It is checked against the bridge when it is attached.
func LoadWorkload(path string) (Workload, error) {
	var w Workload
	return w, state.Load(path, &w)
}

// Save writes a link.json, so that it is all there after a power cut.
func (w Workload) Save(path string) error { return state.Save(path, w) }

func in(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", path, err)
}
