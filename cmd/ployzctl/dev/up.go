package dev

import (
	"context"
	_ "embed"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ployz/ployz/node/api"
)

//go:embed hold.sh
var holdScript string

//go:embed boot.sh
var bootScript string

// bootLimit is far above the second or so that a boot takes; it is for a busy computer.
const bootLimit = 90 * time.Second

// Up makes a lab be there as asked: every machine booted, every package installed. It may be
// repeated: what is there already is left alone, what an interrupted Up left half made is finished,
// and with a larger number machines are added. A smaller number is refused.
//
// Errors: dev.host-unfit, dev.bad-name, dev.bad-options, dev.boot-failed, dev.install-failed.
func Up(ctx context.Context, o Options) (*Lab, error) {
	l, err := newLab(o.Name)
	if err != nil {
		return nil, err
	}
	if err := checkHost(o); err != nil {
		return nil, err
	}
	digests, err := digestAll(o.Debs)
	if err != nil {
		return nil, err
	}
	unlock, err := l.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := l.adoptOptions(o); err != nil {
		removeEmpty(l.state, l.run, stateRoot()) // a lab that was refused was never there
		return nil, err
	}
	if err := l.ensureTree(ctx, o); err != nil {
		return nil, err
	}
	if err := l.ensureHolder(ctx); err != nil {
		return nil, err
	}
	if err := l.eachMachine(func(m string) error { return l.ensureMachine(ctx, m, o) }); err != nil {
		return nil, err
	}
	if err := l.install(ctx, o, digests); err != nil {
		return nil, err
	}
	return l.inspect()
}

// ensureTree unpacks a tar to boot from, once per lab.
func (l *lab) ensureTree(ctx context.Context, o Options) error {
	tree := l.plan.Tree
	if tree == "" || isFolder(tree) {
		return nil
	}
	if _, err := os.Stat(tree); err != nil {
		return api.Errorf(api.CodeDevOptions, "the tree to boot from: %w", err).About("--tree " + tree).
			WithHint("mmdebstrap --include=systemd-sysv,dbus,iproute2 bookworm tree.tar")
	}
	if isFolder(l.path("tree")) {
		return nil
	}
	o.say("unpacking", tree)
	half := l.path("tree.half")
	if err := os.RemoveAll(half); err != nil {
		return err
	}
	if err := os.Mkdir(half, 0o755); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "tar", "-x", "--numeric-owner", "--xattrs", "-C", half, "-f", tree).CombinedOutput()
	if err != nil {
		return api.Errorf(api.CodeDevOptions, "tar: %w: %s", err, strings.TrimSpace(string(out))).About("--tree " + tree)
	}
	return os.Rename(half, l.path("tree"))
}

// ensureHolder starts the process that owns the lab's network, if it is not there.
func (l *lab) ensureHolder(ctx context.Context) error {
	pid, err := l.holder()
	if err != nil {
		return err
	}
	if pid != 0 && fileExists(l.path("ready")) {
		return nil
	}
	// Machines hang on the network of a holder that is gone: they go with it and boot again.
	if err := l.killAll(); err != nil {
		return err
	}
	if err := os.RemoveAll(l.path("ready")); err != nil {
		return err
	}
	mounts, err := findCgroups()
	if err != nil {
		return err
	}
	script, err := l.script("hold.sh", holdScript)
	if err != nil {
		return err
	}
	argv := []string{"unshare", "--mount", "--net", "sh", script,
		l.cgroup(mounts, "hold"), l.path("ready")}
	if booted() {
		argv = append([]string{"systemd-run", "--scope", "--quiet", "--collect", "--slice=system.slice",
			"--unit=" + l.unit(), "--description=Ployz dev lab " + l.name, "-p", "Delegate=yes", "--"}, argv...)
	}
	if err := l.launch(l.path("hold.log"), argv); err != nil {
		return err
	}
	err = poll(ctx, 30*time.Second, func() (bool, error) { return fileExists(l.path("ready")), nil })
	if err != nil {
		return l.bootError("the lab's network did not come up", l.path("hold.log"), err)
	}
	return l.shareControllers(mounts)
}

// shareControllers lets machines use what cgroup controllers a delegated scope has. Without
// systemd on the host nothing was delegated, and the trees above are not ours to change.
func (l *lab) shareControllers(mounts cgroupMounts) error {
	if !booted() {
		return nil
	}
	text, err := os.ReadFile(l.cgroup(mounts, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, c := range strings.Fields(string(text)) {
		if err := os.WriteFile(l.cgroup(mounts, "cgroup.subtree_control"), []byte("+"+c), 0); err != nil {
			return err
		}
	}
	return nil
}

// script puts a script into the lab's folder, where ps and systemd can name it. It is renamed into
// its place, since a shell reads on in the file that it has open.
func (l *lab) script(name, text string) (string, error) {
	tmp, err := os.CreateTemp(l.state, name)
	if err != nil {
		return "", err
	}
	_, err = tmp.WriteString(text)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return "", err
	}
	return l.path(name), os.Rename(tmp.Name(), l.path(name))
}

// launch starts a script that outlives this process: a session of its own, its output in a file.
// The script has the lab's lock too, as its descriptor 3, until it is in its cgroup: were this
// process killed right now, Down would wait until it can find what was started.
func (l *lab) launch(logFile string, argv []string) error {
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.ExtraFiles = []*os.File{l.held}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait() // leaves no zombie while we live; init has it after
	return nil
}

// eachMachine works on all machines, a few at a time, and returns the first machine's error.
func (l *lab) eachMachine(work func(machine string) error) error {
	names := l.machines()
	errs := make([]error, len(names))
	slots := make(chan struct{}, 4)
	var wg sync.WaitGroup
	for i, m := range names {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = work(m)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// ensureMachine makes one machine's disk, boots it unless it runs, and waits until it is up.
func (l *lab) ensureMachine(ctx context.Context, machine string, o Options) error {
	if err := l.prepareDisk(machine); err != nil {
		return err
	}
	leader, err := l.leader(machine)
	if err != nil {
		return err
	}
	if leader == 0 {
		o.say("booting", l.name+"/"+machine)
		if err := l.start(machine); err != nil {
			return err
		}
	}
	state, leader, err := l.awaitBoot(ctx, machine, 0)
	if err != nil {
		return err
	}
	if state == "degraded" {
		o.say(l.name+"/"+machine, "is up, but these units failed:", strings.Join(l.failedUnits(leader), " "))
	}
	return nil
}

// start launches a machine that is off.
func (l *lab) start(machine string) error {
	mounts, err := findCgroups()
	if err != nil {
		return err
	}
	n, err := l.number(machine)
	if err != nil {
		return err
	}
	holder, err := l.holder()
	if err != nil {
		return err
	}
	if err := killTree(l.cgroup(mounts, machine)); err != nil {
		return err
	}
	script, err := l.script("boot.sh", bootScript)
	if err != nil {
		return err
	}
	return l.launch(l.console(machine), []string{"unshare", "--mount", "sh", script,
		l.cgroup(mounts, machine), l.disk(machine), l.lower(), machine, strconv.Itoa(n), strconv.Itoa(holder), l.unit(), l.nat(machine)})
}

// nat is the boot script's word for a machine behind NAT.
func (l *lab) nat(machine string) string {
	if slices.Contains(l.plan.NAT, machine) {
		return "nat"
	}
	return ""
}

// awaitBoot waits until a machine's systemd has finished booting, under another leader than old.
func (l *lab) awaitBoot(ctx context.Context, machine string, old int) (State, int, error) {
	var state State
	var leader int
	started := time.Now()
	err := poll(ctx, bootLimit, func() (bool, error) {
		// The old leader is on its way out, and is better not asked.
		if pid, err := l.leader(machine); err == nil && pid == old && pid != 0 {
			return false, nil
		}
		state, leader = l.systemState(machine, "--wait")
		if state == Off && time.Since(started) > 3*time.Second && !l.launching(machine) {
			return false, errors.New("it ended")
		}
		return leader != old && (state == "running" || state == "degraded"), nil
	})
	if err != nil {
		return state, leader, l.bootError(l.name+"/"+machine+" did not boot (last seen "+string(state)+")", l.console(machine), err)
	}
	return state, leader, nil
}

// launching says whether the script that boots a machine runs.
func (l *lab) launching(machine string) bool {
	mounts, err := findCgroups()
	if err != nil {
		return false
	}
	pids, err := members(l.cgroup(mounts, machine))
	return err == nil && len(pids) > 0
}

// bootError carries the end of the log, since the log goes when the lab does.
func (l *lab) bootError(what, logFile string, cause error) error {
	text, err := os.ReadFile(logFile)
	if err != nil {
		text = []byte(err.Error())
	}
	if len(text) > 2000 {
		text = text[len(text)-2000:]
	}
	return api.Errorf(api.CodeDevBoot, "%s: %w; the end of its log:\n%s", what, cause, text).
		About("lab "+l.name).WithHint("look at %s; ployzctl dev down --name %s", logFile, l.name)
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
