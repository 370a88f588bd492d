package overlay

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ployz/ployz/datapath/link"
)

// DefaultInterface is the device's name on every machine.
const DefaultInterface = "ployz-wg"

// ErrNeedsUserspace says that the device is not there and the kernel has no WireGuard: a process must make it.
var ErrNeedsUserspace = errors.New("needs the userspace device (ployz-wireguard)")

// alias marks the device. It has no hash: all of it can be changed in place.
const alias = "ployz:overlay"

// Config describes the device and its routes.
type Config struct {
	// Interface is the device's name; "" means DefaultInterface.
	Interface string
	// MTU in bytes; 1420 fits an underlay of 1500.
	MTU int
	// Source4 and Source6 are the machine's own addresses on the bridge.
	Source4, Source6 netip.Addr
	// Routes are the other machines' subnets.
	Routes []netip.Prefix
	// Cluster are the prefixes of all machines' subnets. What goes there and to no machine is refused at once: an
	// absent machine's traffic must not leave by the default route. Empty for a device that is not the cluster's.
	Cluster []netip.Prefix
}

// InvalidError says which field of a Config cannot be.
type InvalidError struct {
	// Field is the field's name, Value what it holds, Why the rule it breaks.
	Field, Value, Why string
}

// Error returns the field, the value seen and the rule.
func (e *InvalidError) Error() string { return fmt.Sprintf("%s %q: %s", e.Field, e.Value, e.Why) }

// Validate returns an *InvalidError for the first field that cannot be, or nil.
func (c Config) Validate() error {
	switch {
	case len(c.name()) > 15:
		return &InvalidError{"interface", c.Interface, "must be an interface name of at most 15 bytes"}
	case c.MTU < 1280 || c.MTU > 65535:
		return &InvalidError{"mtu", fmt.Sprint(c.MTU), "must be between 1280 and 65535 bytes"}
	case !c.Source4.Is4():
		return &InvalidError{"source4", c.Source4.String(), "must be the machine's IPv4 address on the bridge"}
	case !c.Source6.Is6():
		return &InvalidError{"source6", c.Source6.String(), "must be the machine's overlay address"}
	}
	for _, to := range slices.Concat(c.Routes, c.Cluster) {
		if !to.IsValid() || to != to.Masked() || to.Bits() == 0 {
			return &InvalidError{"route", to.String(), "must be another machine's subnet, or the cluster's"}
		}
	}
	return nil
}

func (c Config) name() string {
	if c.Interface == "" {
		return DefaultInterface
	}
	return c.Interface
}

func (c Config) device() link.WireGuard {
	return link.WireGuard{Name: c.name(), MTU: c.MTU, Alias: alias}
}

// Ensure makes the device be there, up, with its MTU and exactly these routes. It returns what it
// changed, also after an error. Errors: *InvalidError, ErrNeedsUserspace, *link.ConflictError, *link.Error.
func Ensure(c Config) (link.Changes, error) { return run(link.Open, c, ensure) }

// EnsureDevice is Ensure without the routes: they are to come when the device has its peers. Errors as of Ensure.
func EnsureDevice(c Config) (link.Changes, error) { return run(link.Open, c, ensureDevice) }

// Inspect returns what Ensure would change: nothing where all is well.
func Inspect(c Config) (link.Changes, error) { return run(link.Inspect, c, ensure) }

// Remove deletes the device, and with it its routes, and what was refused for the cluster's sake. One that is not there is no error. A process that
// made it must be stopped first, or it ends by itself. Errors: *link.ConflictError.
func Remove(c Config) (link.Changes, error) {
	return run(link.Open, c, func(k *link.Kernel, c Config) error {
		if len(c.Cluster) > 0 {
			if err := k.EnsureUnreachable(); err != nil {
				return err
			}
		}
		return k.RemoveWireGuard(c.device())
	})
}

// NeedsUserspace tells whether a process must make the device on this machine: the kernel has none.
func NeedsUserspace() (bool, error) {
	has, err := link.KernelHasWireGuard()
	return !has, err
}

func run(open func() (*link.Kernel, error), c Config, fn func(*link.Kernel, Config) error) (link.Changes, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	k, err := open()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	err = fn(k, c)
	return k.Changes(), err
}

func ensure(k *link.Kernel, c Config) error {
	if err := ensureDevice(k, c); err != nil {
		return err
	}
	err := k.EnsureRouteSet(link.RouteSet{Device: c.name(), Source4: c.Source4, Source6: c.Source6, To: c.Routes})
	if err != nil || len(c.Cluster) == 0 {
		return err
	}
	return k.EnsureUnreachable(c.Cluster...)
}

func ensureDevice(k *link.Kernel, c Config) error {
	err := k.EnsureWireGuard(c.device())
	if errors.Is(err, link.ErrKernelLacks) {
		return fmt.Errorf("%w: %w", err, ErrNeedsUserspace)
	}
	if err != nil {
		return err
	}
	// Routes of IPv6 need it on, whatever new interfaces are told; nobody on it announces any.
	for _, s := range [][2]string{{"disable_ipv6", "0"}, {"accept_ra", "0"}} {
		if err := k.EnsureSysctl("ipv6/conf/"+c.name()+"/"+s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}
