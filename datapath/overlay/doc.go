// Package overlay is the part of the mesh that the kernel's routing sees: the WireGuard device of a machine,
// and one route per subnet that is on another machine.
//
//	workload ── ployz0 10.101.7.1/24, fd…:7::1/64 ──(routes)── ployz-wg ── WireGuard ── 10.101.8.0/24, fd…:8::/64
//
// The device has no address of its own: what the machine itself sends goes out from its addresses on
// the bridge. Which peer has which subnet is WireGuard's business, and not known here.
//
// The kernel's device comes first. Where there is none, a process makes a TUN device of the same name
// (ployz-wireguard), and it is taken as found. It needs root, and the bridge's addresses. It must never touch an
// interface without our mark.
package overlay
