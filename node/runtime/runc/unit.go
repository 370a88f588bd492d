package runc

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/units"
)

// unit renders the instance's unit.
func (r *Runtime) unit(in Input) (units.Unit, error) {
	signal, err := stopSignal(in)
	if err != nil {
		return units.Unit{}, err
	}
	id, spec := in.Spec.ID, in.Spec
	directives, _ := limits(spec.Resources)
	w := units.Workload{
		ID: id, Namespace: spec.Namespace, Service: spec.Service, Slot: first(spec.Slot, id),
		PIDFile: r.pidFile(id), RuntimeDirectory: runtimeDirectory(id), ExitFile: r.exitFile(id),
		Restart: restartPolicy(in), RestartDelay: time.Duration(spec.Restart.Delay), MaxAttempts: spec.Restart.MaxAttempts,
		Window: time.Duration(spec.Restart.Window), StopSignal: signal, StopGrace: time.Duration(spec.Process.StopGrace), Limits: directives,
	}
	for _, m := range spec.Mounts {
		w.Folders = append(w.Folders, m.Source)
	}
	runc := func(args ...string) []string { return append([]string{r.Program, "--root", r.runcRoot()}, args...) }
	for _, c := range []struct {
		into *string
		argv []string
	}{
		{&w.Prepare, append(append([]string{}, r.Boot...), id)},
		{&w.Create, runc("create", "--bundle", in.BundleDir(), "--pid-file", w.PIDFile, id)},
		{&w.Start, runc("start", id)},
		{&w.Delete, runc("delete", id)},
		{&w.ForceDelete, runc("delete", "--force", id)},
	} {
		if *c.into, err = units.Command(c.argv...); err != nil {
			return units.Unit{}, err
		}
	}
	u, err := w.Render()
	if err != nil {
		return u, in.invalid("%w", err)
	}
	return u, nil
}

func runtimeDirectory(id string) string { return "ployz/instances/" + id }

func (r *Runtime) pidFile(id string) string {
	return filepath.Join("/run", runtimeDirectory(id), "pid")
}
func (r *Runtime) exitFile(id string) string { return filepath.Join(r.Run, "exits", id) }
func (r *Runtime) runcRoot() string          { return filepath.Join(r.Run, "runc") }

// restartPolicy is systemd's word; a job runs once.
func restartPolicy(in Input) string {
	if in.Spec.Job {
		return "no"
	}
	return first(in.Spec.Restart.Policy, "always")
}

// stopSignal is the spec's, else the image's, else SIGTERM, by its full name.
func stopSignal(in Input) (string, error) {
	wanted := first(in.Spec.Process.StopSignal, in.Image.Config.StopSignal, "SIGTERM")
	name := strings.ToUpper(wanted)
	if n, err := strconv.Atoi(wanted); err == nil {
		name = unix.SignalName(unix.Signal(n))
	} else if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if unix.SignalNum(name) == 0 {
		return "", in.invalid("%q is not a signal: a name such as SIGQUIT is", wanted)
	}
	return name, nil
}
