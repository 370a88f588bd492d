package main

import (
	"fmt"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// reload asks the running server to load its configuration again and waits until it says that it
// did, or why not: systemd's own reload knows neither.
func reload(f settings) error {
	if f.status == "" {
		return errUsage
	}
	want, err := server.ProcessConfigFile(f.config)
	if err != nil {
		return refusal{err}
	}
	before, err := readReport(f.status)
	if err != nil {
		return refuse("no running server: %w", err)
	}
	if err := syscall.Kill(before.PID, syscall.SIGHUP); err != nil {
		return refuse("process %d: %w", before.PID, err)
	}
	return awaitReload(f, before.Reloads, want.ConfigDigest())
}

func awaitReload(f settings, before int, want string) error {
	for deadline := time.Now().Add(f.timeout); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		now, err := readReport(f.status)
		if err != nil || now.Reloads == before {
			continue
		}
		if now.ReloadError != "" {
			return refuse("the server keeps its old configuration: %s", now.ReloadError)
		}
		if now.ConfigDigest == want {
			return nil
		}
	}
	return fmt.Errorf("the server did not take the configuration with digest %s within %s", want, f.timeout)
}
