package link

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// EnsureHandUp makes everything that comes in on the port appear as received by the bridge
// device itself, before the bridge and br_netfilter see it (a clsact filter with one
// redirect).
//
// Why: with net.bridge.bridge-nf-call-iptables on (Docker turns it on, some kernels start
// with it), a frame is translated inside the bridge, and a workload that calls its own
// published port would be bridged back to the port it came from, which a port without
// hairpin drops. Handed up first, it takes the same routed way with and without br_netfilter.
// The port must have the bridge's own MAC, else the frame counts as someone else's.
func (k *Kernel) EnsureHandUp(port, bridge string) error {
	l, err := k.need(port)
	if err != nil || l == nil {
		return err
	}
	br, err := k.need(bridge)
	if err != nil || br == nil {
		return err
	}
	if err := k.ensureClsact(l); err != nil {
		return err
	}
	target := br.Attrs().Index
	found, err := k.handle.FilterList(l, netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return &Error{"list filters on " + port, err}
	}
	for _, f := range found {
		if redirectsTo(f, target) {
			return nil
		}
	}
	return k.do(func() error { return needsTC(k.handle.FilterReplace(handUp(l, target))) }, "hand what comes in on %s to %s", port, bridge)
}

func (k *Kernel) ensureClsact(l netlink.Link) error {
	list, err := k.handle.QdiscList(l)
	if err != nil {
		return &Error{"list queueing disciplines of " + l.Attrs().Name, err}
	}
	for _, q := range list {
		if q.Type() == "clsact" {
			return nil
		}
	}
	attrs := netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}
	return k.do(func() error { return needsTC(k.handle.QdiscAdd(&netlink.Clsact{QdiscAttrs: attrs})) }, "put clsact on %s", l.Attrs().Name)
}

// needsTC names what is missing where the kernel does not know what we asked it for.
func needsTC(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: %w sch_ingress, cls_u32 or act_mirred", err, ErrKernelLacks)
	}
	return err
}

// handUp matches any packet: a u32 filter whose one key has an empty mask.
func handUp(l netlink.Link, target int) *netlink.U32 {
	return &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS,
			Priority: handUpPriority, Protocol: unix.ETH_P_ALL,
		},
		Sel: &netlink.TcU32Sel{Nkeys: 1, Flags: netlink.TC_U32_TERMINAL, Keys: []netlink.TcU32Key{{}}},
		Actions: []netlink.Action{&netlink.MirredAction{
			ActionAttrs:  netlink.ActionAttrs{Action: netlink.TC_ACT_STOLEN},
			MirredAction: netlink.TCA_INGRESS_REDIR, Ifindex: target,
		}},
	}
}

// handUpPriority is late, so that another tool's filters with lower numbers still run.
const handUpPriority = 49000

func redirectsTo(f netlink.Filter, target int) bool {
	u, ok := f.(*netlink.U32)
	if !ok || u.Priority != handUpPriority {
		return false
	}
	for _, a := range u.Actions {
		if m, ok := a.(*netlink.MirredAction); ok && m.MirredAction == netlink.TCA_INGRESS_REDIR && m.Ifindex == target {
			return true
		}
	}
	return false
}
