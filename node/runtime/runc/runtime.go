package runc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/runc/boot"
	"github.com/ployz/ployz/units"
)

// Runtime implements runtime.Runtime and runtime.Console. Its fields are set once, before the first call.
type Runtime struct {
	// State is the folder of what boot needs, Run the one that a reboot empties.
	State, Run string
	// Program is the runc binary; Boot the command that prepares an instance, to which its id is added.
	Program string
	Boot    []string
	Units   runtime.Units
	Freezer runtime.Freezer
	Network runtime.Network
	// Users resolves a user by name inside an image; numbers never need it.
	Users func(ctx context.Context, image runtime.Image, user string) (uid, gid uint32, groups []uint32, err error)
	// Nameservers answer the instances, at the bridge's addresses; Domain is the cluster's.
	Nameservers func() []netip.Addr
	Domain      string
	// Controllers are the cgroup controllers that limits may use.
	Controllers func() ([]string, error)
}

// New returns a runtime with the paths of an installed machine; Units, Freezer, Network, Users and
// Nameservers are still to be set.
func New() *Runtime {
	return &Runtime{
		State: "/var/lib/ployz", Run: "/run/ployz", Program: units.Lib + "/runc", Boot: []string{units.Lib + "/ployz-net", "workload"},
		Domain: "ployz.internal", Controllers: Controllers,
	}
}

func (r *Runtime) dir(id string) string { return filepath.Join(r.State, "workloads", id) }

// Prepare implements runtime.Runtime.
func (r *Runtime) Prepare(ctx context.Context, spec runtime.Spec, image runtime.Image, addrs runtime.Addresses) error {
	if err := r.check(spec); err != nil {
		return err
	}
	identity, err := runtime.Identity(spec, image, addrs)
	if err != nil {
		return err
	}
	have, err := readInstance(r.dir(spec.ID))
	switch {
	case err == nil && have.Identity != identity:
		return api.Errorf(api.CodeRuntimeConflict, "exists with identity %s, wanted is %s", have.Identity, identity).About("instance " + spec.ID)
	case err == nil:
		// instance.json is written last: all else was there.
		return r.Network.Attach(ctx, spec.ID, spec.NamespaceID, addrs)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	in, err := r.input(ctx, spec, image, addrs, identity)
	if err != nil {
		return err
	}
	return r.write(ctx, in)
}

func (r *Runtime) check(spec runtime.Spec) error {
	if err := spec.Check(); err != nil {
		return err
	}
	if spec.Security.Init {
		return api.Errorf(api.CodeRuntimeUnsupported, "`init` is not supported yet").
			About("instance " + spec.ID).WithHint("start the program through an init of the image's own, such as tini")
	}
	available, err := r.Controllers()
	if err != nil {
		return err
	}
	return checkLimits(spec, available)
}

func (r *Runtime) input(ctx context.Context, spec runtime.Spec, image runtime.Image, addrs runtime.Addresses, identity string) (Input, error) {
	in := Input{
		Spec: spec, Image: image, Addresses: addrs, Identity: identity, Dir: r.dir(spec.ID), Run: r.Run,
		Domain: r.Domain, Seccomp: defaultSeccomp,
	}
	if err := in.checkTargets(); err != nil {
		return in, err
	}
	for _, a := range r.Nameservers() {
		in.Nameservers = append(in.Nameservers, a.String())
	}
	var err error
	if in.User, err = r.user(ctx, image, first(spec.Process.User, image.Config.User)); err != nil {
		return in, err
	}
	in.Devices, err = lookUpDevices(spec)
	return in, err
}

// user resolves a name in the image. A bare number gets group 0, as in Docker when the image does not know it.
func (r *Runtime) user(ctx context.Context, image runtime.Image, user string) (u specs.User, err error) {
	if user == "" {
		return u, nil
	}
	if r.Users != nil {
		u.UID, u.GID, u.AdditionalGids, err = r.Users(ctx, image, user)
		return u, err
	}
	u, ok := numericUser(user)
	if !ok {
		return u, api.Errorf(api.CodeRuntimeInvalid, "user %q cannot be looked up without an image store", user)
	}
	return u, nil
}

// write makes the folder, then the link and the unit, and marks the folder as an instance at the end.
func (r *Runtime) write(ctx context.Context, in Input) error {
	files, err := r.render(in)
	if err != nil {
		return err
	}
	unit, err := r.unit(in)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(in.Dir, 0o711); err != nil {
		return fullOr(err)
	}
	if err := r.Network.Attach(ctx, in.Spec.ID, in.Spec.NamespaceID, in.Addresses); err != nil {
		return err
	}
	if err := r.Units.Write(ctx, unit); err != nil {
		return err
	}
	if err := makeUpper(in.Dir, in.Image.Layers); err != nil {
		return err
	}
	return writeFolder(in.Dir, files, Instance{
		Identity: in.Identity, Spec: in.Spec, Image: in.Image, Addresses: in.Addresses, Unit: unit.Identity,
	})
}

// render makes every file of the folder but its mark.
func (r *Runtime) render(in Input) ([]content, error) {
	bundle, err := in.Bundle()
	if err != nil {
		return nil, err
	}
	set, err := bounding()
	if err != nil {
		return nil, err
	}
	if missing := withheld(bundle.Process.Capabilities, set); len(missing) > 0 {
		return nil, api.Errorf(api.CodeRuntimeUnsupported, "this machine cannot grant %s", strings.Join(missing, ", ")).
			About("instance " + in.Spec.ID).WithHint("drop it with `cap_drop:`, or run `ployzctl doctor`")
	}
	files := in.files()
	add := func(name string, v any) {
		text, jsonErr := json.MarshalIndent(v, "", "  ")
		err = errors.Join(err, jsonErr)
		files = append(files, content{name: name, text: append(text, '\n'), mode: 0o600})
	}
	add(boot.ConfigFile, bundle)
	add(boot.RootfsFile, boot.Rootfs{Layers: in.Image.Layers, Upper: "upper", Work: "work", Target: "rootfs"})
	if secrets, ok := in.secrets(); ok {
		add(boot.SecretsFile, secrets)
	}
	return files, err
}

// Start implements runtime.Runtime.
func (r *Runtime) Start(ctx context.Context, id string) error {
	in, err := r.instance(id)
	if err != nil {
		return err
	}
	seen, err := r.Units.Observe(ctx, units.WorkloadService(id))
	if err != nil {
		return err
	}
	if !seen.Running() {
		if err := r.start(ctx, id); err != nil {
			return err
		}
	}
	if err := r.checkCgroup(ctx, id); err != nil || in.Spec.Job {
		return err
	}
	return r.Units.Enable(ctx, units.WorkloadService(id), true)
}

// start tells an instance that never ran from one that ran and has ended already: only the
// first is a failed start.
func (r *Runtime) start(ctx context.Context, id string) error {
	if err := os.Remove(r.exitFile(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	name := units.WorkloadService(id)
	err := r.Units.Start(ctx, name)
	if err != nil && api.CodeOf(err) != api.CodeServiceFailed {
		return err
	}
	seen, seeErr := r.settled(ctx, name)
	if seeErr != nil || seen.Active == "active" || r.lastExit(id) >= 0 {
		return seeErr
	}
	why, lines := "its unit is "+seen.Active, []string(nil)
	if err != nil {
		why, lines = api.AsError(err).Message, api.AsError(err).Log
	}
	return startFailed(id, why, lines)
}

// settled waits until a unit is past its stop commands: the job of a start ends before them.
func (r *Runtime) settled(ctx context.Context, name string) (units.Observation, error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		o, err := r.Units.Observe(ctx, name)
		if err != nil || o.Active != "deactivating" {
			return o, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return o, context.Cause(ctx)
		}
	}
}

// checkCgroup looks at where the process is in the end: with a wrong path everything else
// looks right, but limits and stopping would miss the process.
func (r *Runtime) checkCgroup(ctx context.Context, id string) error {
	o, err := r.Units.Observe(ctx, units.WorkloadService(id))
	if err != nil || o.MainPID == 0 {
		return err
	}
	cgroup, err := cgroupOf(o.MainPID)
	if err != nil || cgroup == "" || strings.HasPrefix(cgroup, o.ControlGroup+"/") {
		return err
	}
	return api.Errorf(api.CodeStartFailed, "its process %d is in cgroup %s, outside its unit's %s", o.MainPID, cgroup, o.ControlGroup).About("instance " + id)
}

// cgroupOf returns a process's cgroup, "" when it has ended.
func cgroupOf(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return "", nil
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSpace(path), nil
		}
	}
	return "", err
}

// instance reads an instance that must be there.
func (r *Runtime) instance(id string) (Instance, error) {
	if err := runtime.CheckID(id); err != nil {
		return Instance{}, err
	}
	in, err := readInstance(r.dir(id))
	if errors.Is(err, fs.ErrNotExist) {
		return in, notFound(id)
	}
	return in, err
}

func notFound(id string) error {
	return api.Errorf(api.CodeRuntimeNotFound, "no such instance on this machine").About("instance " + id).WithHint("ployzctl service ls")
}

// Stop implements runtime.Runtime. First it keeps the instance from starting at boot, so that a power cut
// in between leaves it stopped.
func (r *Runtime) Stop(ctx context.Context, id string) error {
	if err := runtime.CheckID(id); err != nil {
		return err
	}
	name := units.WorkloadService(id)
	if err := r.Units.Enable(ctx, name, false); err != nil {
		return err
	}
	if err := r.Units.Stop(ctx, name); err != nil {
		if api.CodeOf(err) == api.CodeServiceStop {
			return api.Errorf(api.CodeStopFailed, "%s", api.AsError(err).Message).About("instance "+id).WithHint("systemctl status %s", name)
		}
		return err
	}
	return os.RemoveAll(boot.SecretsDir(r.Run, id))
}

// Remove implements runtime.Runtime.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	if err := runtime.CheckID(id); err != nil {
		return err
	}
	name := units.WorkloadService(id)
	o, err := r.Units.Observe(ctx, name)
	if err != nil {
		return err
	}
	if o.Running() {
		return api.Errorf(api.CodeRuntimeBusy, "runs as pid %d", o.MainPID).About("instance " + id)
	}
	if err := r.Units.Remove(ctx, name); err != nil {
		return err
	}
	if err := r.Network.Detach(ctx, id); err != nil {
		return err
	}
	return r.removeFolder(id)
}

// trash begins the names of folders that are being deleted. No instance can have such a name.
const trash = ".removed-"

// removeFolder renames before it deletes: a deletion that is interrupted must not leave half an
// instance behind. What an earlier one left is deleted along.
func (r *Runtime) removeFolder(id string) error {
	dir := r.dir(id)
	if err := unmount(filepath.Join(dir, "rootfs")); err != nil {
		return err
	}
	err := os.Rename(dir, filepath.Join(r.State, "workloads", trash+id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	left, err := filepath.Glob(filepath.Join(r.State, "workloads", trash+"*"))
	for _, path := range append(left, r.exitFile(id), boot.SecretsDir(r.Run, id)) {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

func unmount(target string) error {
	mounted, err := boot.Mounted(target)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !mounted {
		return err
	}
	if err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW); err != nil {
		return &os.PathError{Op: "unmount", Path: target, Err: err}
	}
	return nil
}
