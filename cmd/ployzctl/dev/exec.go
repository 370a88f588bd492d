package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
)

// Streams are a command's three streams; nil ones are empty or thrown away.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// TTY says that In is a terminal that the command shall have as its own: keys such as ^C
	// then reach it directly and are not forwarded.
	TTY bool
	// Signals are passed on to the command. Nil forwards nothing; see ForwardedSignals.
	Signals <-chan os.Signal
	// Dir is the working folder: "" is / in a machine, and the caller's own at the client.
	Dir string
}

// Terminal returns this process's own streams, with every signal that a user may send.
// The returned function stops listening.
func Terminal() (Streams, func()) {
	_, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS)
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, TTY: err == nil, Signals: signals}, func() { signal.Stop(signals) }
}

// Exec runs a command in a machine, in all of its namespaces, and returns its exit status as a
// shell would: 128 and the signal's number for one that was killed, 127 for one that is not there.
// machine "client" is the lab's own network, outside of every machine, with this computer's files.
//
// The error says why nothing could be run: dev.no-such-lab, dev.no-such-machine, dev.machine-off,
// dev.bad-options. When ctx ends the command is killed.
func Exec(ctx context.Context, name, machine string, argv []string, s Streams) (int, error) {
	if len(argv) == 0 {
		return 0, api.Errorf(api.CodeDevOptions, "no command given").WithHint("ployzctl dev exec %s/%s -- systemctl status", name, machine)
	}
	l, err := openLab(name)
	if err != nil {
		return 0, err
	}
	place, err := l.place(machine, argv, s)
	if err != nil {
		return 0, err
	}
	defer place.folder.Close()
	return place.run(ctx, s)
}

// Shell runs a login shell in a machine, or the caller's shell at the client.
func Shell(ctx context.Context, name, machine string, s Streams) (int, error) {
	if machine == clientPlace {
		shell := os.Getenv("SHELL")
		if shell == "" {
			shell = "/bin/sh"
		}
		return Exec(ctx, name, machine, []string{shell}, s)
	}
	s.Dir = "/root"
	return Exec(ctx, name, machine, []string{"/bin/bash", "-l"}, s)
}

// place is a command that is ready to run somewhere in a lab.
type place struct {
	cmd    *exec.Cmd
	folder *os.File // the cgroup it starts in
	leader int      // of the machine; 0 at the client
}

func (l *lab) place(machine string, argv []string, s Streams) (*place, error) {
	mounts, err := findCgroups()
	if err != nil {
		return nil, err
	}
	if machine == clientPlace {
		return l.clientPlace(mounts, argv, s)
	}
	if _, err := l.number(machine); err != nil {
		return nil, err
	}
	leader, err := l.leader(machine)
	if err != nil {
		return nil, err
	}
	if leader == 0 {
		return nil, l.off(machine)
	}
	root, err := payload(mounts, leader)
	if err != nil {
		return nil, err
	}
	p, err := newPlace(root, "ployz-dev-exec", machineEnv(), exec.Command("nsenter", enterArgs(leader, s.Dir, argv...)...))
	if err != nil {
		return nil, err
	}
	p.leader = leader
	return p, nil
}

func (l *lab) off(machine string) error {
	return api.Errorf(api.CodeDevOff, "%s/%s is not booted", l.name, machine).WithHint("ployzctl dev up --name %s", l.name)
}

// payload is the cgroup folder that a machine sees as the root of the tree.
func payload(mounts cgroupMounts, leader int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", leader))
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(string(text), "\n") {
		if path, found := strings.CutPrefix(line, "0::"); found {
			return filepath.Join(mounts.v2, strings.TrimSuffix(path, "/init.scope")), nil
		}
	}
	return "", fmt.Errorf("process %d is in no cgroup v2 folder", leader)
}

// clientPlace gives a command the lab's network and its names, and this computer's files.
func (l *lab) clientPlace(mounts cgroupMounts, argv []string, s Streams) (*place, error) {
	holder, err := l.holder()
	if err != nil {
		return nil, err
	}
	if holder == 0 {
		return nil, l.off(clientPlace)
	}
	if err := os.WriteFile(l.path("hosts"), []byte(l.hosts(clientPlace)), 0o644); err != nil {
		return nil, err
	}
	const enter = `mount --bind "$1" /etc/hosts && shift && exec "$@"`
	args := append([]string{"-t", strconv.Itoa(holder), "-n", "--", "unshare", "--mount", "sh", "-c", enter, "sh", l.path("hosts")}, argv...)
	cmd := exec.Command("nsenter", args...)
	cmd.Dir = s.Dir
	return newPlace(l.cgroup(mounts), clientPlace, os.Environ(), cmd)
}

func newPlace(parent, child string, env []string, cmd *exec.Cmd) (*place, error) {
	dir := filepath.Join(parent, child)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(folder.Fd())}
	return &place{cmd: cmd, folder: folder}, nil
}

// machineEnv is what a root login would have; nothing of the caller's but the kind of terminal.
func machineEnv() []string {
	term := os.Getenv("TERM")
	if term == "" {
		term = "dumb"
	}
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root",
		"LOGNAME=root", "SHELL=/bin/bash", "LANG=C.UTF-8", "TERM=" + term}
}

// run waits for the command, passing signals on, and turns its end into an exit status.
func (p *place) run(ctx context.Context, s Streams) (int, error) {
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = s.In, s.Out, s.Err
	// On a terminal the command must be in our process group to read keys; elsewhere it must not
	// be, or a ^C would reach it twice.
	p.cmd.SysProcAttr.Setpgid = !s.TTY
	if err := p.cmd.Start(); err != nil {
		return 0, api.Errorf(api.CodeDevOptions, "running in the lab: %w", err)
	}
	awake := keepAwake(p.cmd.Process)
	defer awake()
	done := make(chan struct{})
	go p.forward(ctx, s, done)
	err := p.cmd.Wait()
	close(done)
	if p.leader != 0 {
		wakeLeader(p.leader)
	}
	if ctx.Err() != nil {
		return exitStatus(p.cmd.ProcessState), ctx.Err()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && p.cmd.ProcessState == nil {
		return 0, err
	}
	return exitStatus(p.cmd.ProcessState), nil
}

func (p *place) forward(ctx context.Context, s Streams, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			p.signal(syscall.SIGKILL)
			return
		case got := <-s.Signals:
			if s.TTY && (got == syscall.SIGINT || got == syscall.SIGQUIT) {
				continue // the terminal gave it to the command already
			}
			p.signal(got.(syscall.Signal))
		}
	}
}

// signal reaches the command itself: nsenter, which is its parent, would not pass it on.
func (p *place) signal(sig syscall.Signal) {
	targets := children(p.cmd.Process.Pid)
	if len(targets) == 0 {
		targets = []int{p.cmd.Process.Pid}
	}
	for _, child := range targets {
		// It may have ended between the two calls; then there is nobody left to tell.
		_ = syscall.Kill(child, sig)
	}
}

func exitStatus(state *os.ProcessState) int {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return state.ExitCode()
}
