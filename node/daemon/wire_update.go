package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store/natsstore"
)

// Commands about the appliance's own package.
const (
	verbVersion = "package.version"
	verbCopy    = "package.copy"
	verbDrop    = "package.drop"
	verbInstall = "package.install"
)

// copyBody has a machine fetch a package from a member.
type copyBody struct {
	Digest string `json:"digest"`
	From   string `json:"from"`
}

type digestBody struct {
	Digest string `json:"digest"`
}

// packages reaches the package on every machine: machine.Packages.
type packages struct {
	daemon *Daemon
	self   machine.Identity
}

// Held implements machine.Packages.
func (p packages) Held(ctx context.Context, digest string) (api.Package, error) {
	return p.daemon.shelf().Held(ctx, digest)
}

// Observe implements machine.Packages.
func (p packages) Observe(ctx context.Context, m machine.Member) (api.MachineVersion, error) {
	return command[api.MachineVersion](ctx, p.daemon, m.ID, coordination.Command{Verb: verbVersion}, struct{}{})
}

// Copy implements machine.Packages.
func (p packages) Copy(ctx context.Context, act *operation.Act, m machine.Member, pkg api.Package) error {
	_, err := command[struct{}](ctx, p.daemon, m.ID, commandOf(act, verbCopy), copyBody{pkg.Digest, p.self.ID})
	return err
}

// Drop implements machine.Packages.
func (p packages) Drop(ctx context.Context, act *operation.Act, m machine.Member, pkg api.Package) error {
	_, err := command[struct{}](ctx, p.daemon, m.ID, commandOf(act, verbDrop), digestBody{pkg.Digest})
	return err
}

// Install implements machine.Packages.
func (p packages) Install(ctx context.Context, act *operation.Act, m machine.Member, pkg api.Package) error {
	_, err := command[struct{}](ctx, p.daemon, m.ID, commandOf(act, verbInstall), digestBody{pkg.Digest})
	return err
}

// awaitPause is the pause between two looks at a machine that is being updated.
const awaitPause = 250 * time.Millisecond

// Await implements machine.Packages. A machine that does not answer is one whose daemon restarts.
func (p packages) Await(ctx context.Context, m machine.Member, pkg api.Package) error {
	for {
		missing, failed := p.missing(ctx, m, pkg)
		if failed != nil || missing == "" {
			return failed
		}
		select {
		case <-ctx.Done():
			return api.Errorf(api.CodePackageFailed, "in the time that it has for that: %s", missing).About(m.Name).
				WithHint("on %s: journalctl -u ployz-update -u ployzd", m.Name)
		case <-time.After(awaitPause):
		}
	}
}

// missing says what an update still lacks, or that it has failed.
func (p packages) missing(ctx context.Context, m machine.Member, pkg api.Package) (missing string, failed error) {
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	v, err := p.Observe(bounded, m)
	if err != nil {
		return "it does not answer: " + err.Error(), nil
	}
	if failed := installFailed(v, m.Name, pkg); failed != nil {
		return "", failed
	}
	switch {
	case v.Version != pkg.Version || v.Install == nil || v.Install.State != api.InstallDone:
		return fmt.Sprintf("it runs %s, and is to run %s", v.Version, pkg.Version), nil
	case !v.Adopted:
		return "its daemon has not brought everything to its version yet", nil
	case len(v.Problems) > 0:
		return "", api.Errorf(api.CodePackageFailed, "it runs %s, but not everything of it does: %s", v.Version, strings.Join(v.Problems, "; ")).About(m.Name).
			WithHint("on %s: ployzctl status", m.Name)
	}
	unmet, err := p.Ready(bounded)
	switch {
	case err != nil:
		return "the store does not say how its voters are: " + err.Error(), nil
	case len(unmet) > 0:
		return unmet[0].Error(), nil
	}
	return "", nil
}

func installFailed(v api.MachineVersion, name string, pkg api.Package) error {
	if v.Install == nil || v.Install.Digest != pkg.Digest || v.Install.State != api.InstallFailed {
		return nil
	}
	e := api.Errorf(api.CodePackageFailed, "dpkg could not install it: %s", strings.Join(v.Install.Log, " ")).About(name).
		WithHint("on %s: dpkg -i /var/lib/ployz/packages/%s.deb", name, pkg.Digest)
	e.Log = v.Install.Log
	return e
}

// Ready implements machine.Packages.
func (p packages) Ready(ctx context.Context) ([]*api.Error, error) {
	t, err := p.daemon.store.Load().Settled(ctx)
	if err != nil {
		return nil, err
	}
	members, err := p.daemon.peering.Load().members(ctx)
	if err != nil {
		return nil, err
	}
	roster, err := machine.LoadRoster(p.daemon.State)
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "the roster: %w", err)
	}
	return plain(unready(t, roster), members), nil
}

// unready are the voters that must come back or catch up before another may restart.
func unready(t natsstore.Topology, r machine.Roster) []*api.Error {
	var list []*api.Error
	for _, name := range missingVoters(r, t) {
		list = append(list, api.Errorf(api.CodeStoreNoQuorum, "it votes in the store and does not answer; no other voter may restart before it is back").
			About(name).WithHint("ployzctl store status"))
	}
	for _, v := range t.Voters {
		if v.Answers && !(v.Online && v.Current) {
			list = append(list, api.Errorf(api.CodeStoreNoQuorum, "its copy of the store is %d behind", v.Lag).About(v.Name).Again().WithHint("ployzctl store status"))
		}
	}
	if len(list) == 0 && !t.HasQuorum() {
		list = append(list, api.Errorf(api.CodeStoreNoQuorum, "the store has no leader").About("store").Again().WithHint("ployzctl store status"))
	}
	return list
}

func (d *Daemon) shelf() shelf { return shelf{filepath.Join(d.State, "packages")} }

// copyPackage fetches a package from another machine; the digest proves that it is the one.
func (d *Daemon) copyPackage(ctx context.Context, b copyBody) error {
	if _, err := d.shelf().Held(ctx, b.Digest); err == nil || api.CodeOf(err) != api.CodePackageAbsent {
		return err
	}
	body, err := d.peering.Load().Neighbours.Package(ctx, b.From, b.Digest)
	if err != nil {
		return err
	}
	defer body.Close()
	got, err := d.shelf().Take(ctx, body)
	if err == nil && got.Digest != b.Digest {
		err = errors.Join(api.Errorf(api.CodePackageInvalid, "another package arrived: %s", got.Digest).About(b.Digest).Again(), d.shelf().drop(got.Digest))
	}
	return err
}

// Package opens a package of another machine.
func (n *Neighbours) Package(ctx context.Context, id, digest string) (io.ReadCloser, error) {
	members, err := n.others(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.ID != id {
			continue
		}
		resp, err := n.ask(ctx, m, Ask{Method: http.MethodGet, Path: "/v1/packages/" + digest}, n.Machine)
		if err != nil {
			return nil, err
		}
		return resp.Body, nil
	}
	return nil, api.Errorf(api.CodeMachineAbsent, "the package is on a machine that is no member").About(id)
}

// installUnit runs dpkg outside of this daemon, which the package restarts. There is one at a time.
const installUnit = "ployz-update.service"

// install begins to install a package. Its progress is on disk, where the next daemon finds it.
func (d *Daemon) install(ctx context.Context, digest string) error {
	if _, err := d.shelf().Held(ctx, digest); err != nil {
		return err
	}
	if err := d.shelf().keepOnly(digest); err != nil {
		return api.Errorf(api.CodeInternal, "making place for the installation: %w", err)
	}
	base := filepath.Join(d.shelf().folder, digest)
	if err := renameio.WriteFile(base+".status", []byte("begun\n"), 0o600); err != nil {
		return api.Errorf(api.CodeInternal, "noting that the installation begins: %w", err)
	}
	const script = `dpkg --force-confold -i "$1.deb" >"$1.log" 2>&1; echo $? >"$1.new"; sync "$1.new"; mv "$1.new" "$1.status"`
	out, err := exec.CommandContext(ctx, "systemd-run", "--quiet", "--collect", "--unit", installUnit, "--description", "Update of Ployz itself",
		"--setenv", "DEBIAN_FRONTEND=noninteractive", "/bin/sh", "-c", script, "sh", base).CombinedOutput()
	if err != nil {
		return api.Errorf(api.CodePackageFailed, "the installation could not begin: %w: %s", err, strings.TrimSpace(string(out))).About(d.selfName()).
			WithHint("systemctl status %s", installUnit)
	}
	return nil
}

// installation reads how far the last installation is; nil where there was none.
func (d *Daemon) installation(ctx context.Context) (*api.Installation, error) {
	files, _ := filepath.Glob(filepath.Join(d.shelf().folder, "*.status")) // the pattern is sound
	if len(files) == 0 {
		return nil, nil
	}
	base := strings.TrimSuffix(files[0], ".status")
	i := &api.Installation{Digest: filepath.Base(base), State: api.InstallFailed}
	seen, err := d.units.Observe(ctx, installUnit)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(files[0]) // after the look at the unit: it writes the file before it ends
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "how the installation went: %w", err)
	}
	switch status := strings.TrimSpace(string(text)); {
	case status == "0":
		i.State = api.InstallDone
	case status == "begun" && (seen.Running() || seen.Active == "activating"):
		i.State = api.InstallUnderWay
	case status == "begun":
		i.Log = []string{"the installation was cut short"}
	default:
		i.Log = dpkgSaid(base+".log", 10)
	}
	return i, nil
}

// dpkgSaid is decoration of an error, and so is why it cannot be read.
func dpkgSaid(path string, count int) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return []string{err.Error()}
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[max(0, len(lines)-count):]
}

// versionHere is what this machine runs.
func (d *Daemon) versionHere(ctx context.Context) (api.MachineVersion, error) {
	v := api.MachineVersion{Machine: d.selfName(), Version: d.Version, Architecture: runtime.GOARCH, Holds: d.shelf().digests()}
	if a := d.adopted.Load(); a != nil {
		v.Adopted = true
		for _, one := range a.list {
			if one.Error != nil {
				v.Problems = append(v.Problems, one.Unit+": "+one.Error.Message)
			}
		}
	}
	out, err := exec.CommandContext(ctx, "dpkg-query", "--show", "--showformat", "${Version}", "ployz").Output()
	if err == nil { // else it was not installed by dpkg
		v.Installed = string(out)
	}
	v.Install, err = d.installation(ctx)
	return v, err
}

// updateVerbs are the commands about the package that this machine obeys.
func (d *Daemon) updateVerbs() map[string]coordination.Verb {
	return map[string]coordination.Verb{
		verbVersion: verb(false, func(ctx context.Context, _ struct{}) (any, error) { return d.versionHere(ctx) }),
		verbCopy:    verb(true, func(ctx context.Context, b copyBody) (any, error) { return struct{}{}, d.copyPackage(ctx, b) }),
		verbDrop:    verb(true, func(_ context.Context, b digestBody) (any, error) { return struct{}{}, d.shelf().drop(b.Digest) }),
		verbInstall: verb(true, func(ctx context.Context, b digestBody) (any, error) { return struct{}{}, d.install(ctx, b.Digest) }),
	}
}
