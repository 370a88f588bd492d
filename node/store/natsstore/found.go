package natsstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/ployz/ployz/datapath/durable"
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
	return f.make(ctx, "found", "founding the store")
}

// PrepareJoin makes the empty store folder of a core that will join a group, marked as the one of this
// incarnation. It runs before the core's unit is started for the first time, with a configuration
// whose routes name every voter, and may be repeated. A folder of another incarnation, or of another
// cluster, is refused here as it is by the core itself: see RetireCore.
//
// Errors: store.unavailable, store.unsafe-settings.
func PrepareJoin(ctx context.Context, f CoreFiles) error {
	return f.make(ctx, "join", "making the folder of a joining core")
}

// RetireCore removes the store folder of a core that is a voter no more, or that was given up. The
// core must not run. It is renamed first, so that what is left of an interrupted removal is never
// taken for a store.
func RetireCore(storeDir string) error {
	retired := storeDir + ".retired"
	if err := os.RemoveAll(retired); err != nil {
		return err
	}
	err := os.Rename(storeDir, retired)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(durable.SyncFolder(filepath.Dir(storeDir)), os.RemoveAll(retired))
}

// make has ployz-nats make the store folder.
func (f CoreFiles) make(ctx context.Context, verb, what string) error {
	cmd := exec.CommandContext(ctx, f.Program, verb, "--config", f.Config, "--route-secret", f.RouteSecret)
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
	return api.Errorf(code, "%s: %w: %s", what, err, lastLine(out.String())).About(f.Config).
		WithHint("%s %s --config %s --route-secret %s shows it at length", f.Program, verb, f.Config, f.RouteSecret)
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
