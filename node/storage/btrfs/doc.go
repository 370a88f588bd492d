// Package btrfs keeps volumes as sub-volumes of a Btrfs file system: one that the machine has, or one in a
// file of its own (CreateFile), so that volumes work on any Linux. It runs the btrfs command of btrfs-progs.
//
// # On the disk
//
//	ployz-pool.json                         the mark of the pool: a folder without it is not ours
//	volumes/NAMESPACE.NAME/                 a live volume
//	    volume.json                         its mark and identity (the sidecar)
//	    data/                               the sub-volume that workloads see, with a quota
//	    snapshots/NAME/snapshot.json        a snapshot's mark; holds are files beside it, hold-TAG
//	    snapshots/NAME/data/                the read-only sub-volume
//	kept/ID/                                the same without a name; data is absent while only received
//	incoming/…                              what is being made; renamed to its place when whole
//
// All that belongs to a volume lies in one folder, so that one rename(2) moves it with its identity, and one
// exchange of two names swaps two.
package btrfs
