// Package storagetest is the conformance suite of storage.Pool: the zfs and the btrfs backend pass the same one, each
// on a real file system of its own.
package storagetest
