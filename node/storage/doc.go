// Package storage owns the volumes of one machine: what each one is (Spec), the snapshots of it, and the
// contract under which a file system keeps them (Pool). The zfs and btrfs backends obey it, and storagetest
// is the suite that both pass.
//
// # Words
//
//	pool       the place on one machine where a backend keeps volumes
//	volume     a file system tree of its own with a size, that workloads write
//	snapshot   a volume as it was at one moment, never written
//	clone      a volume that began as a snapshot and shares its blocks
//	base       the snapshot both sides of an incremental stream have
//	kept       a volume that has no name at present: deleted and not yet destroyed, swapped out, or received
//
// # The life of a volume
//
//	     Ensure, Clone
//	          │
//	          ▼     Retire
//	     ┌── live ─────────► kept ──Destroy──► gone
//	Swap │    ▲               │ ▲
//	     └──► └────Restore────┘ │
//	                            │ the first stream is whole
//	     Receive ──► incoming ──┘
//
// A live volume has its name and a path to mount; at most one live volume has a name. Every call is safe to
// repeat, and a volume is either in its old state or in its new one after a power cut at any moment: what is
// half made stands under incoming, where List shows it and Destroy clears it.
//
// # Identity
//
// A volume is known by its ID, which whoever asks for it chose and which every copy of it keeps off; where it
// lies on the disk is told by the mark that the backend wrote beside it (properties, or a sidecar file) and
// never guessed from a name. What has no mark of ours is not listed, not changed and not destroyed, whatever
// it is called: a name it occupies is taken.
package storage
