package runc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// lingering bounds the wait for output that a child in the background holds open after the command
// itself has ended.
const lingering = 5 * time.Second

// Exec implements runtime.Console through `runc exec`. When ctx ends, the command is killed.
func (r *Runtime) Exec(ctx context.Context, id string, c runtime.Command) (int, error) {
	if _, err := r.running(ctx, id); err != nil {
		return -1, err
	}
	dir, err := os.MkdirTemp("", "ployz-exec-")
	if err != nil {
		return -1, api.Errorf(api.CodeExecFailed, "%w", err).About("instance " + id)
	}
	defer os.RemoveAll(dir)
	args, err := r.execArgs(ctx, id, c, dir)
	if err != nil {
		return -1, err
	}
	cmd := exec.CommandContext(ctx, r.Program, args...)
	cmd.WaitDelay = lingering
	cmd.Cancel = func() error { return errors.Join(killInside(filepath.Join(dir, "pid")), cmd.Process.Kill()) }
	said, err := runCommand(cmd, c, filepath.Join(dir, "log"))
	if said != "" && ctx.Err() == nil {
		return -1, execRefused(id, said)
	}
	return exitStatus(ctx, id, err)
}

// runCommand runs `runc exec` and returns what runc itself had to say, "" when the command ran.
func runCommand(cmd *exec.Cmd, c runtime.Command, log string) (said string, err error) {
	words := &stderrFilter{w: io.Discard}
	run, output := runOnPipes, &c.Stderr
	if c.TTY {
		run, output = runOnTerminal, &c.Stdout
	}
	if *output != nil {
		words.w = *output
	}
	*output = words
	err = run(cmd, c)
	said = words.saidLast(runcSaid(log), err)
	words.flush() //nolint:errcheck // to a client that may be gone
	return said, err
}

func (r *Runtime) execArgs(ctx context.Context, id string, c runtime.Command, dir string) ([]string, error) {
	args := []string{"--root", r.runcRoot(), "--log", filepath.Join(dir, "log"), "--log-format", "json", "exec", "--pid-file", filepath.Join(dir, "pid")}
	if c.User != "" {
		in, err := r.instance(id)
		if err != nil {
			return nil, err
		}
		u, err := r.user(ctx, in.Image, c.User)
		if err != nil {
			return nil, err
		}
		args = append(args, "--user", strconv.Itoa(int(u.UID))+":"+strconv.Itoa(int(u.GID)))
		for _, g := range u.AdditionalGids {
			args = append(args, "--additional-gids", strconv.Itoa(int(g)))
		}
	}
	if c.WorkDir != "" {
		args = append(args, "--cwd", c.WorkDir)
	}
	for _, v := range c.Env {
		args = append(args, "--env", v)
	}
	if c.TTY {
		args = append(args, "--tty")
	}
	return append(append(args, id), c.Args...), nil
}

// killInside ends the command in the instance; killing runc alone would leave it there.
func killInside(pidFile string) error {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return nil // it never started
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// runOnPipes feeds standard input beside the command: an input that never ends, such as an
// operator's idle terminal, must not keep a finished command waiting.
func runOnPipes(cmd *exec.Cmd, c runtime.Command) error {
	cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
	if c.Stdin == nil {
		return cmd.Run()
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer in.Close()
		io.Copy(in, c.Stdin) //nolint:errcheck // a command may end without reading all of it
	}()
	return cmd.Wait()
}

// runOnTerminal gives runc a terminal of our own as its standard streams: it passes bytes, sizes
// and the exit status between that and the one it makes inside.
func runOnTerminal(cmd *exec.Cmd, c runtime.Command) error {
	ours, path, err := console.NewPty()
	if err != nil {
		return err
	}
	defer ours.Close()
	theirs, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer theirs.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	theirs.Close()
	done := make(chan struct{})
	go resize(ours, c.Resize, done)
	if c.Stdin != nil {
		go io.Copy(ours, c.Stdin) //nolint:errcheck // ends when the terminal is closed
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		io.Copy(c.Stdout, ours) //nolint:errcheck // a terminal ends with EIO
	}()
	err = cmd.Wait()
	close(done)
	select {
	case <-copied:
	case <-time.After(lingering):
	}
	return err
}

func resize(terminal console.Console, sizes <-chan runtime.Size, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case size, ok := <-sizes:
			if !ok {
				return
			}
			// A size that cannot be set leaves the old one, which is no reason to end a session.
			terminal.Resize(console.WinSize{Width: size.Columns, Height: size.Rows}) //nolint:errcheck
		}
	}
}

// runcSaid returns the last error that runc itself logged, "" when the command ran.
func runcSaid(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return ""
	}
	said := ""
	for scanner := bufio.NewScanner(bytes.NewReader(text)); scanner.Scan(); {
		var line struct{ Level, Msg string }
		if json.Unmarshal(scanner.Bytes(), &line) == nil && (line.Level == "error" || line.Level == "fatal") {
			said = line.Msg
		}
	}
	return said
}

func exitStatus(ctx context.Context, id string, err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return -1, api.Errorf(api.CodeExecFailed, "the command was ended: %w", context.Cause(ctx)).About("instance " + id)
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return 0, nil
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	}
	return -1, api.Errorf(api.CodeExecFailed, "%w", err).About("instance " + id)
}
