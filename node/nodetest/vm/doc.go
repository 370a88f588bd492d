// Package vm boots a real kernel, Debian's with its WireGuard device and OpenZFS, in QEMU's software emulation, and runs
// in it what only that can show. `make test-vm` runs it; image/build.sh makes the machine's disk and keeps it.
//
// # Topology
//
//	test ──ssh──► 127.0.0.1:port ──QEMU's own network──► machine: /dev/vda its disk (an overlay of the
//	                                                      built one), /dev/vdb what the test brought
//
// A machine belongs to one test and is gone with it. Cut ends it as a power cut does: what the guest had flushed to its
// disk is there at the next Boot, and nothing else.
package vm
