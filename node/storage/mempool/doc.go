// Package mempool keeps volumes in memory, for tests of what is above node/storage. It passes the part of storagetest
// that a file system is not needed for; its limits do not bite.
//
// With a Root, volumes and snapshots are folders with real files, which is how the suite looks into them; without one
// a volume's path is only a name, and what it holds is what Write said. Nothing here is for production.
package mempool
