// Package runc runs instances as systemd units around the runc program, with no process of ours
// beside them.
//
// An instance is a folder under /var/lib/ployz/workloads and a unit:
//
//	instance.json   what it is: spec, addresses, identity, and a hash of every other file; written last
//	config.json     the OCI bundle, to be read by people
//	rootfs.json     the layers of its root file system; rootfs/ is where it is mounted, upper/ what it wrote
//	secrets.json    sealed values, opened into memory at each start (package boot)
//	files/          configs, and the hosts, hostname and resolv.conf that it sees
//	link.json       its link, written by the network
//
// The unit calls ployz-net, `runc create` and `runc start`, and then the instance's own first
// process is the unit's main process with its output on the journal. Adoption reads; nothing in this package
// restarts an instance that it was not told to.
//
// It needs root, systemd and cgroup v2. It never touches a folder or unit without our mark.
package runc
