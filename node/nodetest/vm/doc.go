// Package vm boots a real kernel, Debian's with its WireGuard device and OpenZFS, in QEMU's software emulation, and runs
// in it what only that can show. `make test-vm` runs it; image/build.sh makes the machine's disk and keeps it.
//
// # Topology
//
//	test ──ssh──► 127.0.0.1:port ──QEMU's own network──► machine: /dev/vda its disk (an overlay of the
//	                                                      built one), /dev/vdb what the test brought
//
// Two machines of a pair (StartPair) also have a network of their own, 10.9.0.1 and 10.9.0.2 on eth1, and an empty disk,
// /dev/vdc.
//
// A machine belongs to one test and is gone with it. Cut ends it as a power cut does: what the guest had flushed to its
// disk is there at the next Boot, and nothing else.
package vm
