package daemon

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/datapath/bridge"
	"github.com/ployz/ployz/datapath/firewall"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/runtime/runc"
)

// doctor looks at everything that the machine needs, changes nothing, and says for each what was
// seen.
func (d *Daemon) doctor(ctx context.Context) []api.Check {
	var checks []api.Check
	for _, n := range d.needs() {
		seen, err := n.look()
		checks = append(checks, check(n.name, seen, err))
	}
	checks = append(checks, checkRunc(ctx), checkControllers())
	self, err := machine.LoadIdentity(d.State)
	if err != nil || !self.Member {
		return append(checks, api.Check{Name: "cluster", Result: api.CheckSkipped, Error: api.AsError(machine.NotInitialised())})
	}
	return append(checks, d.checkPool(ctx), d.checkStore(ctx), checkRoom(d, self), d.checkMembers(), checkBridge(self), d.checkFirewall(self), d.checkServing(ctx, "gateway"), d.checkServing(ctx, "dns"))
}

func check(name, seen string, err *api.Error) api.Check {
	if err != nil {
		return api.Check{Name: name, Result: api.CheckFailed, Seen: seen, Error: err}
	}
	return api.Check{Name: name, Result: api.CheckOK, Seen: seen}
}

func checkRunc(ctx context.Context) api.Check {
	out, err := exec.CommandContext(ctx, program("runc"), "--version").Output()
	if err != nil {
		return check("runc", "", unfit("runc", "it does not run: %v", err).WithHint("install the package again: apt install --reinstall ployz"))
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return check("runc", first, nil)
}

// checkControllers only warns: limits are refused one by one where a deploy asks for them.
func checkControllers() api.Check {
	have, err := runc.Controllers()
	if err != nil {
		return check("cgroup controllers", "", api.AsError(err))
	}
	missing := slices.DeleteFunc([]string{"cpu", "io", "memory", "pids"}, func(c string) bool { return slices.Contains(have, c) })
	c := api.Check{Name: "cgroup controllers", Result: api.CheckOK, Seen: strings.Join(have, " ")}
	if len(missing) > 0 {
		c.Result = api.CheckWarning
		c.Error = unfit("cgroup controllers", "limits of %s cannot be enforced here; deploys that ask for them are refused", strings.Join(missing, ", "))
	}
	return c
}

// storeCheckTimeout bounds the look at the store, whose requests wait for a store that is away.
const storeCheckTimeout = 15 * time.Second

func (d *Daemon) checkStore(ctx context.Context) api.Check {
	opened := d.store.Load()
	if opened == nil {
		return check("store", "", unfit("store", "the daemon has not opened it").WithHint("systemctl restart ployzd"))
	}
	if m := d.member.Load(); m != nil {
		if s := d.storeStatus(ctx, m); s.State == api.StateDown {
			return check("store", s.State, unfit("store", "%s", s.Why).WithHint("systemctl status ployz-nats ployz-nats-core"))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, storeCheckTimeout)
	defer cancel()
	err := opened.CheckSettings(ctx)
	if err == nil {
		err = opened.Verify(ctx)
	}
	switch {
	case err == nil:
		return check("store", "settings as required; the mirror equals the core", nil)
	case ctx.Err() != nil:
		return check("store", "", unfit("store", "it does not answer in %s: %v", storeCheckTimeout, err).
			WithHint("systemctl status ployz-nats ployz-nats-core"))
	}
	return check("store", "", api.AsError(err))
}

// checkMembers names those that this machine cannot know, as when a fact was written by hand.
func (d *Daemon) checkMembers() api.Check {
	left := append(slices.Clone(d.leftOut()), d.unreadable()...)
	if len(left) == 0 {
		return check("members", "all of them are known here", nil)
	}
	c := check("members", fmt.Sprintf("%d are left out, or as they were before", len(left)), left[0])
	if len(left) > 1 {
		c.Error = api.Errorf(api.CodeMeshInvalid, "%d members cannot be", len(left)).About("members")
		c.Error.Details = left
	}
	return c
}

func checkBridge(self machine.Identity) api.Check {
	changes, err := bridge.Inspect(bridgeConfig(self))
	if err != nil {
		return check("bridge", "", unfit(bridge.DefaultName, "%v", err).WithHint("systemctl restart ployz-net"))
	}
	if len(changes) > 0 {
		return check("bridge", "different", unfit(bridge.DefaultName, "it differs from what it should be: %v", changes).
			WithHint("systemctl restart ployz-net"))
	}
	return check("bridge", bridge.DefaultName+" as it should be", nil)
}

func (d *Daemon) checkFirewall(self machine.Identity) api.Check {
	config, err := d.firewallConfig(self)
	var diff []string
	if err == nil {
		diff, err = firewall.Inspect(config)
	}
	if err != nil {
		return check("firewall", "", unfit("nftables", "%v", err))
	}
	if len(diff) > 0 {
		return check("firewall", "different", unfit("nftables", "the table inet ployz differs: %s", strings.Join(diff, "; ")).
			WithHint("systemctl restart ployz-net"))
	}
	return check("firewall", "table inet ployz as it should be", nil)
}

func (d *Daemon) checkServing(ctx context.Context, name string) api.Check {
	s := d.servingStatus(ctx, name, nil)
	if s.State == api.StateUp {
		return check(name, "serves the current view", nil)
	}
	return api.Check{Name: name, Result: api.CheckFailed, Seen: s.State, Error: unfit(name, "%s", s.Why).
		WithHint("systemctl status ployz-%s", name)}
}
