package runc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/units"
)

// container is what runc reports of one that it made.
type container struct {
	ID          string            `json:"id"`
	PID         int               `json:"pid"`
	Status      string            `json:"status"`
	Annotations map[string]string `json:"annotations"`
}

// Inspect implements runtime.Runtime.
func (r *Runtime) Inspect(ctx context.Context, id string) (runtime.Observation, error) {
	if err := runtime.CheckID(id); err != nil {
		return runtime.Observation{}, err
	}
	unit, err := r.Units.Observe(ctx, units.WorkloadService(id))
	if err != nil {
		return runtime.Observation{}, err
	}
	var reported map[string]container
	if unit.Running() {
		if reported, err = r.reported(ctx, "state", id); err != nil {
			return runtime.Observation{}, err
		}
	}
	o, ours := r.observe(id, unit, reported)
	if !ours {
		return o, notFound(id)
	}
	return o, nil
}

// List implements runtime.Runtime. It asks runc once for all.
func (r *Runtime) List(ctx context.Context) ([]runtime.Observation, error) {
	loaded, err := r.Units.List(ctx, units.WorkloadPattern)
	if err != nil {
		return nil, err
	}
	byID := map[string]units.Observation{}
	for _, u := range loaded {
		byID[strings.TrimSuffix(strings.TrimPrefix(u.Name, units.WorkloadPrefix), ".service")] = u
	}
	ids, err := r.folders()
	if err != nil {
		return nil, err
	}
	reported, err := r.reported(ctx, "list", "--format", "json")
	if err != nil {
		return nil, err
	}
	for id := range byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var all []runtime.Observation
	for _, id := range slices.Compact(ids) {
		unit, ok := byID[id]
		if !ok {
			unit = units.Observation{Name: units.WorkloadService(id), Active: "inactive", ExitCode: -1}
		}
		if o, ours := r.observe(id, unit, reported); ours {
			all = append(all, o)
		}
	}
	return all, nil
}

// folders returns the ids that have a folder.
func (r *Runtime) folders() (ids []string, err error) {
	entries, err := os.ReadDir(filepath.Join(r.State, "workloads"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if e.IsDir() && runtime.CheckID(e.Name()) == nil {
			ids = append(ids, e.Name())
		}
	}
	return ids, err
}

// reported asks runc for one (`state ID`) or all (`list`). A container that runc does not know is not an error.
func (r *Runtime) reported(ctx context.Context, args ...string) (map[string]container, error) {
	cmd := exec.CommandContext(ctx, r.Program, append([]string{"--root", r.runcRoot()}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if strings.Contains(errs.String(), "does not exist") || strings.Contains(errs.String(), "no such file") {
			return nil, nil
		}
		return nil, fmt.Errorf("runc %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return parseReport(out.Bytes())
}

// parseReport reads one object, or a list of them, or "null" for none.
func parseReport(text []byte) (map[string]container, error) {
	var list []container
	text = bytes.TrimSpace(text)
	if len(text) > 0 && text[0] == '{' {
		text = slices.Concat([]byte("["), text, []byte("]"))
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("runc: report: %w", err)
	}
	byID := map[string]container{}
	for _, c := range list {
		byID[c.ID] = c
	}
	return byID, nil
}

// observe puts folder, unit and runc's report together. ours is false when nothing of it carries our mark.
func (r *Runtime) observe(id string, unit units.Observation, reported map[string]container) (o runtime.Observation, ours bool) {
	in, err := readInstance(r.dir(id))
	o = runtime.Observation{
		ID: id, Spec: in.Spec, Addresses: in.Addresses, Unit: unit.Name, MainPID: unit.MainPID, Started: unit.Started,
		Restarts: unit.Restarts, ExitCode: unit.ExitCode, Boot: unit.Enabled, Frozen: unit.Frozen,
	}
	if unit.MainPID == 0 {
		o.ExitCode = r.lastExit(id)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && unit.Identity == "":
		return o, false
	case errors.Is(err, fs.ErrNotExist):
		o.State, o.Drift = state(unit, o, false), []string{"its unit is there but " + filepath.Join(r.dir(id), instanceFile) + " is missing"}
		return o, true
	case err != nil:
		o.State, o.Drift = runtime.StateUnknown, []string{err.Error()}
		return o, true
	}
	o.State = state(unit, o, in.Spec.Job)
	o.Drift = slices.Concat(unitDrift(in, unit), in.changed(r.dir(id)))
	if unit.MainPID != 0 && unit.Active == "active" {
		o.Drift = append(o.Drift, runningDrift(&o, in, unit, reported[id])...)
	}
	return o, true
}

// state words what systemd says of the unit.
func state(unit units.Observation, o runtime.Observation, job bool) string {
	switch unit.Active {
	case "active", "deactivating", "reloading":
		return runtime.StateRunning
	case "activating":
		return runtime.StateStarting
	case "inactive", "failed", "":
	default:
		return runtime.StateUnknown
	}
	failed := unit.Active == "failed" || o.ExitCode > 0
	if unit.Result == "protocol" && o.ExitCode == 0 {
		// A process that ends well before `runc start` has returned breaks systemd's forking
		// protocol: its word for an end that was only quick.
		failed = false
	}
	// A service that was told to stop has stopped, however its process took it.
	if failed && (job || unit.Enabled) {
		return runtime.StateFailed
	}
	return runtime.StateStopped
}

func unitDrift(in Instance, unit units.Observation) (drift []string) {
	switch {
	case unit.Masked:
		drift = append(drift, "its unit is masked")
	case !unit.File:
		drift = append(drift, "its unit file is missing")
	case unit.Identity != in.Unit || !unit.Intact:
		drift = append(drift, "its unit file was changed")
	}
	for _, d := range unit.DropIns {
		drift = append(drift, "its unit is changed by "+d)
	}
	if unit.NeedReload {
		drift = append(drift, "systemd holds an older text of its unit")
	}
	return drift
}

// runningDrift compares what runs with what was written. Without any boot link a service would not come back
// after a power cut.
func runningDrift(o *runtime.Observation, in Instance, unit units.Observation, c container) (drift []string) {
	cgroup, err := cgroupOf(unit.MainPID)
	o.Cgroup = cgroup
	switch {
	case err != nil:
		drift = append(drift, "its cgroup cannot be read: "+err.Error())
	case cgroup != "" && !strings.HasPrefix(cgroup, unit.ControlGroup+"/"):
		drift = append(drift, "its process is in cgroup "+cgroup+", outside its unit")
	}
	switch {
	case c.ID == "":
		drift = append(drift, "runc does not know it")
	case c.PID != unit.MainPID:
		drift = append(drift, fmt.Sprintf("systemd's main process is %d, runc's is %d", unit.MainPID, c.PID))
	case c.Status != "running":
		drift = append(drift, "runc calls it "+c.Status)
	case c.Annotations[annotationIdentity] != in.Identity:
		drift = append(drift, "it was started from another bundle, "+c.Annotations[annotationIdentity])
	}
	if !in.Spec.Job && !unit.Enabled {
		drift = append(drift, "it runs but does not start at boot")
	}
	return drift
}

// lastExit reads what the unit wrote when its process ended, such as "exited 3" or "killed TERM"; -1
// when there is nothing, or the process never ran.
func (r *Runtime) lastExit(id string) int {
	text, err := os.ReadFile(r.exitFile(id))
	if err != nil {
		return -1
	}
	how, status, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if how == "exited" {
		if n, err := strconv.Atoi(status); err == nil {
			return n
		}
	}
	if n := unix.SignalNum("SIG" + status); n != 0 {
		return 128 + int(n)
	}
	return -1
}
