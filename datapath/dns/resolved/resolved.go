// Package resolved tells systemd-resolved to ask the machine's own resolver for ployz.internal.
//
// It sets the DNS servers and the routing domain of one link over D-Bus. resolved keeps the
// rest of the machine's configuration, and no file is edited. It needs the system bus and root.
// It must never make our resolver the default one for other names: ours forwards to what
// resolved knows, so that would be a circle.
package resolved

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"syscall"

	"github.com/godbus/dbus/v5"
)

// State is what was found or done.
type State string

// States.
const (
	Applied    State = "applied"
	NotRunning State = "not-running" // there is no systemd-resolved, or no system bus
)

const (
	service = "org.freedesktop.resolve1"
	object  = dbus.ObjectPath("/org/freedesktop/resolve1")
	iface   = "org.freedesktop.resolve1.Manager"

	familyV4 = int32(syscall.AF_INET)
	familyV6 = int32(syscall.AF_INET6)
)

// Link is what a link is to be asked for.
type Link struct {
	Index   int          // of the interface
	Servers []netip.Addr // resolvers reached through it, on port 53
	Domains []string     // names they are asked for, and everything below: "ployz.internal"
}

// server and domain are the D-Bus forms (iay) and (sb).
type server struct {
	Family  int32
	Address []byte
}

type domain struct {
	Name        string
	RoutingOnly bool
}

// Ensure gives resolved the link's servers and domains; doing it again changes nothing. A
// resolved that is not running is a state and no error: nothing is left to do then, since the
// machine's C library reads /etc/resolv.conf. Other errors name the call that failed.
func Ensure(ctx context.Context, l Link) (State, error) {
	return withSystemBus(ctx, func(b dbus.BusObject) error { return ensure(ctx, b, l) })
}

// Revert takes back all that was set on the link.
func Revert(ctx context.Context, index int) (State, error) {
	return withSystemBus(ctx, func(b dbus.BusObject) error {
		return call(ctx, b, "RevertLink", int32(index))
	})
}

func withSystemBus(ctx context.Context, do func(dbus.BusObject) error) (State, error) {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return NotRunning, nil
		}
		return "", fmt.Errorf("resolved: system bus: %w", err)
	}
	defer conn.Close()
	if err := do(conn.Object(service, object)); err != nil {
		if isAbsent(err) {
			return NotRunning, nil
		}
		return "", err
	}
	return Applied, nil
}

func ensure(ctx context.Context, b dbus.BusObject, l Link) error {
	servers := []server{}
	for _, a := range l.Servers {
		family := familyV6
		if a.Is4() {
			family = familyV4
		}
		servers = append(servers, server{family, a.AsSlice()})
	}
	domains := []domain{}
	for _, d := range l.Domains {
		domains = append(domains, domain{d, true})
	}
	index := int32(l.Index)
	// Domains first: a link with servers and no routing domain is asked for everything.
	if err := call(ctx, b, "SetLinkDomains", index, domains); err != nil {
		return err
	}
	if err := call(ctx, b, "SetLinkDefaultRoute", index, false); err != nil {
		return err
	}
	return call(ctx, b, "SetLinkDNS", index, servers)
}

// call does not start resolved where it is installed but switched off: that is the operator's
// choice.
func call(ctx context.Context, b dbus.BusObject, method string, args ...any) error {
	err := b.CallWithContext(ctx, iface+"."+method, dbus.FlagNoAutoStart, args...).Err
	if err != nil {
		return fmt.Errorf("resolved: %s of link %v: %w", method, args[0], err)
	}
	return nil
}

func isAbsent(err error) bool {
	var e dbus.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Name {
	case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner":
		return true
	}
	return false
}
