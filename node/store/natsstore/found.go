package natsstore

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/ployz/ployz/node/api"
)

// CoreFiles are the paths with which a core is founded and run.
type CoreFiles struct {
	// Program is ployz-nats.
	Program string
	// Config is the rendered core configuration; its store folder is what is founded.
	Config string
	// RouteSecret is the voters' shared secret.
	RouteSecret string
}

// Found makes the store folder of the cluster's first core: clustered, with this one voter. It
// runs before the core's unit is started for the first time and before any stream exists, takes
// about a second, and may be repeated: a folder already founded by this configuration is left as
// it is, and whatever an earlier attempt that died left behind is wiped.
//
// It runs in a process of its own, so that ployzd need not carry a server.
//
// Errors: store.unavailable (it did not work out; try again), store.unsafe-settings (the
// configuration, or what lies in the store folder, is refused).
func Found(ctx context.Context, f CoreFiles) error {
	cmd := exec.CommandContext(ctx, f.Program, "found", "--config", f.Config, "--route-secret", f.RouteSecret)
	// A founding whose ployzd dies must die too: its successor starts another. The signal is bound
	// to the thread that forks, so that one is held on to.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if err == nil {
		return nil
	}
	code := api.CodeStoreUnavailable
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 3 {
		code = api.CodeStoreSettings
	}
	return api.Errorf(code, "founding the store: %w: %s", err, lastLine(out.String())).About(f.Config).
		WithHint("%s found --config %s --route-secret %s shows it at length", f.Program, f.Config, f.RouteSecret)
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// CheckConfig has ployz-nats judge a rendered configuration (role core or edge, with the other
// flags of its unit) without starting it, and returns the digest under which a server will run it.
func CheckConfig(ctx context.Context, program, role string, flags ...string) (string, error) {
	args := append([]string{role, "--check"}, flags...)
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("natsstore: %s %s: %w: %s", program, strings.Join(args, " "), err, lastLine(string(out)))
	}
	return lastLine(string(out)), nil
}
