// Command ployz-pool puts the machine's pool of volumes back, and ends: it attaches and mounts the pool's file, or
// mounts the live volumes of a ZFS pool. systemd runs it at boot, before every workload that has volumes, so that
// they come up without ployzd.
//
//	ployz-pool up
//
// With everything in place it changes nothing. It needs root. It prints nothing when all went well, and one line on
// stderr when not, with exit status 1 (2 for usage). It never makes a pool: that is done once, by an operation.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

func main() {
	p := Program{State: "/var/lib/ployz"}
	err := p.Run(context.Background(), os.Args[1:])
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "ployz-pool:", strings.ReplaceAll(err.Error(), "\n", "; "))
	if errors.As(err, new(usageError)) {
		os.Exit(2)
	}
	os.Exit(1)
}
