// Package bridge is a machine's own network: one bridge with the gateway addresses, and one
// veth pair per workload into a network namespace that is pinned, so that it outlives the
// workload's processes.
//
//	workload's namespace              the machine
//	 eth0  10.101.7.5/32  ─── veth ───  pz3f…   port of ployz0 (no learning, hairpin, flooding)
//	       fd…:7::9:5/128                  │ everything received is handed up to
//	 default via 10.101.7.1, …::1         ployz0  10.101.7.1/24, fd…:7::1/64
//
// A workload has no neighbours but the gateway: even a packet to the next workload is routed by
// the machine, where one nftables table and, later, the classifier see it.
//
// It needs root. It must never touch an interface without our mark (the alias "ployz:…"), and
// never needs a daemon: what Ensure and Attach did is carried by the kernel.
package bridge
