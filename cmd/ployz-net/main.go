// Command ployz-net puts the machine's network back, and ends: bridge, firewall, workload
// links and mesh from the last good state on disk. systemd runs it at boot and before each workload,
// so that both come up without ployzd.
//
//	ployz-net up            sysctls, bridge, firewall, every workload's link, the mesh
//	ployz-net mesh          the mesh alone, for the unit of the userspace device
//	ployz-net workload ID   one workload's link, then its root file system
//	ployz-net down ID       takes one workload's link away
//
// It needs root. It prints nothing when all went well, and one line on stderr when not, with
// exit status 1 (2 for usage). It must start in a few milliseconds, since every workload's
// start waits for it: no imports that do work before main.
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	p := Program{State: "/var/lib/ployz"}
	err := p.Run(os.Args[1:])
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "ployz-net:", err)
	if errors.As(err, new(usageError)) {
		os.Exit(2)
	}
	os.Exit(1)
}
