// Package wire is a bad cable: a process that carries frames between a machine's cable and a port of
// the lab's bridge, late, and not all of them. The kernel could do so with the netem discipline, but
// many kernels come without it, and this needs only a TAP device and a packet socket.
//
// It needs CAP_NET_ADMIN and CAP_NET_RAW in the lab's network namespace. Frames are carried as the
// kernel has them, with their virtio header, so that what the machines' kernels left for a network card
// to do, such as checksums and segments, is left for the next kernel.
package wire
