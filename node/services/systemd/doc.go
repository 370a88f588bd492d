// Package systemd is the service supervisor over systemd's own bus.
//
// It speaks to systemd directly (/run/systemd/private), as systemctl does for root, so it needs no
// bus daemon; where that socket is not to be had it goes over the system bus. Unit files are
// written by temporary file, fsync and rename, and enabled by symbolic links, so that what boot needs is
// durable when a call returns. It must never touch a unit file that does not carry our identity.
package systemd
