package link

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Changes is what was changed, one phrase each, in the order in which it happened.
type Changes []string

// Kernel is a connection to the network configuration of one network namespace. It belongs to
// one goroutine.
type Kernel struct {
	handle     *netlink.Handle
	inspecting bool
	changes    Changes
	// place is put before each change: the namespace's path, or "" for the machine's own.
	place string
}

// Open returns a Kernel for the calling thread's network namespace.
func Open() (*Kernel, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, &Error{"open a netlink socket", err}
	}
	return &Kernel{handle: handle}, nil
}

// Inspect is like Open, but the Kernel changes nothing: Changes tells what would be changed.
func Inspect() (*Kernel, error) {
	k, err := Open()
	if err == nil {
		k.inspecting = true
	}
	return k, err
}

// Close gives the socket back. The Changes stay readable.
func (k *Kernel) Close() { k.handle.Close() }

// Changes returns what was changed so far, also after an error.
func (k *Kernel) Changes() Changes { return k.changes }

// Inspecting tells whether this Kernel only looks.
func (k *Kernel) Inspecting() bool { return k.inspecting }

// do makes one change and writes it down, or only writes it down when inspecting.
func (k *Kernel) do(act func() error, format string, args ...any) error {
	what := k.place + fmt.Sprintf(format, args...)
	if !k.inspecting {
		if err := act(); err != nil {
			return &Error{what, err}
		}
	}
	k.changes = append(k.changes, what)
	return nil
}

// find returns the interface, or nil where there is none.
func (k *Kernel) find(name string) (netlink.Link, error) {
	found, err := k.handle.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, &Error{k.place + "look for interface " + name, err}
	}
	return found, nil
}

// need returns the interface or an error that is ErrNotFound. When inspecting, an interface
// that would have been made by now is a nil interface and no error.
func (k *Kernel) need(name string) (netlink.Link, error) {
	found, err := k.find(name)
	if err == nil && found == nil && !k.inspecting {
		return nil, &Error{k.place + "interface " + name, ErrNotFound}
	}
	return found, err
}

// describe tells what an interface is, for a ConflictError.
func describe(l netlink.Link) string {
	a := l.Attrs()
	if a.Alias == "" {
		return fmt.Sprintf("a %s interface without our mark (index %d, address %s)", l.Type(), a.Index, a.HardwareAddr)
	}
	return fmt.Sprintf("a %s interface marked %q (index %d)", l.Type(), a.Alias, a.Index)
}
