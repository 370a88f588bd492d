// Package link makes the kernel's network objects be as described: bridges, veth pairs, bridge
// ports, addresses, routes, neighbours, sysctls and pinned network namespaces.
//
// It is the only importer of netlink. Every call is ensure-shaped: it looks at the kernel as
// found, changes only what differs, and writes down each change (Kernel.Changes), so that a
// second run can be shown to have changed nothing. A Kernel from Inspect goes through the same
// code and writes down what it would have changed.
//
// It needs CAP_NET_ADMIN (and CAP_SYS_ADMIN for namespaces). It must never touch an interface
// that does not carry the identity it was given: that is a *ConflictError.
package link
