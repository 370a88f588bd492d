// Package dev boots small clusters of real systemd machines on one computer, for trying
// Ployz out and for its tests. A lab is a private network with machines m1…mK on it; each
// machine is a systemd-nspawn container over an overlay of the host's own root file system
// (or of a Debian tree), cleaned of the host's habits, with the .deb really installed in it.
//
// What holds a lab together, so that nothing can be left behind:
//
//   - one cgroup tree per lab: every process of a lab is in it, so "kill the lab" is one write
//     to cgroup.kill, and no pid file can be wrong;
//   - one holder: a sleeping process that owns the lab's network namespace, with the bridge that
//     is the machines' underlay; the namespace is never pinned in the file system;
//   - one mount namespace per machine: overlays are mounted only in there and vanish with it;
//   - two folders: the machines' disks and lab.json under /var/lib/ployz-dev/NAME (or under
//     $PLOYZ_DEV_STATE, which must be on a real file system), and the lock under
//     /run/ployz-dev/NAME.
//
// Its underlay can be made bad: Partition and BlockProtocol are rules of nftables at the bridge, Delay is
// a process in the place of a cable. Both live in the lab's network namespace and cgroup tree, so that
// they are observed there and end with them. PowerCut ends a machine, and with disk images also loses
// what it had not synced to /var/lib/ployz.
//
// It needs root, systemd-nspawn (Debian: systemd-container), dbus, util-linux and iproute2, and a
// mounted cgroup v2 tree with cgroup.kill (Linux 5.14); for faults and NAT also nftables with the bridge
// family, and for disk images e2fsprogs. The host's PID 1 may be anything. Addresses
// are the same in every lab, as each lab has a network of its own; there is no way out of it.
//
// A lab must never touch the host's network, its mounts as others see them, or any process that
// is not in the lab's own cgroup tree.
package dev
