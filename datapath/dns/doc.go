// Package dns is the resolver of a machine: it answers for ployz.internal from a Zone that it
// is handed, and forwards everything else to the upstreams that it was given.
//
// It needs bound sockets (package listen) and nothing more: no store, no daemon, no root. It
// must never ask the network who a caller is, send a name under ployz.internal upstream,
// recurse for a stranger, or change the Zone that it serves by itself.
//
// # Who asks
//
// The source address of a query decides what it may see (see Zone for the fields):
//
//	workload   a v4 address of Zone.Locals or of an instance on this machine; a v6 address in
//	           Zone.Subnet6, whose low 64 bits carry the namespace id in their upper half.
//	           Sees its own namespace, and of others what they export to it. What it may not
//	           see is NXDOMAIN, exactly as if it did not exist.
//	machine    loopback and Zone.Self. Sees everything, by full name only.
//	stranger   anyone else. Is told REFUSED.
//
// # Names
//
//	SVC.NS.ployz.internal              A, AAAA: the addresses of the service's instances
//	SLOT.SVC.NS.ployz.internal         A, AAAA: one instance, also while it drains
//	_PORT._PROTO.SVC.NS.ployz.internal SRV: named ports; targets are SLOT.SVC.NS...
//	NAME.machine.ployz.internal        A, AAAA: a machine
//	x.y.in-addr.arpa, ....ip6.arpa     PTR: instances and machines, within Zone.Prefixes
//
// Workloads have "search NS.ployz.internal ployz.internal" in their resolv.conf. A C library
// asks for a name with a dot as it stands before it tries the search list, and some programs
// never read it. So a workload's relative name, one that ends neither in ployz.internal nor in
// a reverse zone of the cluster, is first tried under both search domains in that order, and
// answered under the name that was asked if it exists there: "web" is the service web of the
// caller's own namespace, "web.prod" is web in prod where that is visible, even if "prod"
// happens to be a public top-level domain. Otherwise it is forwarded, but for addresses of a
// single label: these are NXDOMAIN, since a mistyped service is nobody else's business.
//
// # Which instances
//
// Those that are ready and not draining. If there are none, those that are ready and draining;
// if there are none either, all: an address that refuses says more than a missing name.
// Answers are shuffled, those on this machine first.
package dns
