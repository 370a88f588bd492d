// Package zfs keeps volumes as datasets of OpenZFS 2.x. What go-zfs can do is done with it; the zfs command is run
// for what it cannot: bulk properties, snapshots of several datasets at one moment, holds, sizes in advance,
// resumable streams.
//
// # In the pool
//
//	POOL/ployz                          ployz:pool marks it; mountpoint=legacy, so that nobody mounts what we
//	                                    do not
//	POOL/ployz/volumes/NAMESPACE.NAME   a live volume; its identity is in ployz:volume, set on it and not
//	                                    inherited
//	POOL/ployz/kept/ID                  a volume without a name
//	POOL/ployz/incoming/ID/data         what a first stream has brought so far; the mark is on incoming/ID
//	…@NAME                              a snapshot, if ployz:snapshot says so
//
// A live volume is mounted under the folder that Create was given.
package zfs
