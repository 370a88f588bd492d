package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/ployz/ployz/datapath/bridge"
	"github.com/ployz/ployz/datapath/firewall"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/services"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/units"
)

// adoption is what the daemon found when it started, and what it did about it.
type adoption struct {
	list []api.Adoption
	took time.Duration
}

// Resume joins the cluster that the machine's identity names, before anybody is answered: a member
// that is just starting must not say that it is none. It asks nobody and takes no time.
func (d *Daemon) Resume() error {
	self, err := machine.LoadIdentity(d.State)
	if api.CodeOf(err) == api.CodeNotInitialised || err == nil && !self.Member {
		return nil
	}
	if err != nil {
		return err
	}
	return d.Join(self)
}

// Adopt looks at everything that serves on this machine: observe → verdict → act, once. What runs as
// it should is not touched. Workloads are only looked at: nothing here starts or stops one.
func (d *Daemon) Adopt(ctx context.Context) error {
	self, err := machine.LoadIdentity(d.State)
	if api.CodeOf(err) == api.CodeNotInitialised || d.member.Load() == nil {
		return nil
	}
	if err != nil {
		return err
	}
	if err := d.host.renderStore(self); err != nil {
		return err
	}
	pool := d.adoptPool(ctx)
	wanted, err := d.wanted(self)
	if err != nil {
		return err
	}
	a := &adoption{list: pool}
	for _, part := range partOrder {
		for _, w := range wanted[part] {
			a.list = append(a.list, d.adoptOne(ctx, w))
		}
	}
	a.list = append(a.list, d.adoptBridge(self), d.adoptFirewall(self))
	a.list = append(a.list, d.lookAtWorkloads(ctx)...)
	a.took = time.Since(d.started)
	d.adopted.Store(a)
	d.Log.Info("adopted", "units", len(a.list), "took", a.took.Round(time.Millisecond))
	return nil
}

// adoptBridge changes only what differs: an upgrade may want more of the bridge than it has.
func (d *Daemon) adoptBridge(self machine.Identity) api.Adoption {
	changes, err := bridge.Ensure(bridgeConfig(self))
	var reasons []string
	for _, c := range changes {
		reasons = append(reasons, fmt.Sprint(c))
	}
	return d.adoptedKernel(bridge.DefaultName, reasons, err)
}

// adoptFirewall replaces the table in one batch, and only when it differs; flows go on.
func (d *Daemon) adoptFirewall(self machine.Identity) api.Adoption {
	config, err := d.firewallConfig(self)
	var changed []string
	if err == nil {
		changed, err = firewall.Ensure(config)
	}
	return d.adoptedKernel("table inet ployz", changed, err)
}

func (d *Daemon) adoptedKernel(what string, changed []string, err error) api.Adoption {
	a := api.Adoption{Unit: what, Verdict: string(services.Adopt), Reasons: changed}
	switch {
	case err != nil:
		a.Verdict, a.Error = string(services.Leave), api.Errorf(api.CodeNetworkFailed, "%w", err).About(what).WithHint("systemctl restart ployz-net")
		a.Reasons = append(a.Reasons, err.Error())
	case len(changed) > 0:
		a.Verdict = string(services.Replace)
	}
	if a.Verdict != string(services.Adopt) {
		d.Log.Warn("not adopted as it was", "what", what, "verdict", a.Verdict, "reasons", a.Reasons)
	}
	return a
}

// firewallConfig is the table that this machine should have.
func (d *Daemon) firewallConfig(self machine.Identity) (firewall.Config, error) {
	published, err := firewall.LoadPublished(d.host.path("net", "ports.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return firewall.Config{}, err
	}
	return firewallOf(self, published), nil
}

func (d *Daemon) adoptOne(ctx context.Context, w services.Wanted) api.Adoption {
	if err := d.wantedDigest(ctx, &w); err != nil {
		return api.Adoption{Unit: w.Unit.Name, Verdict: string(services.Leave), Reasons: []string{err.Error()}, Error: api.AsError(err)}
	}
	report := services.Ensure(ctx, d.units, w, d.digest(w.Unit.Name))
	if report.Act != services.Adopt {
		d.Log.Warn("not adopted as it was", "unit", w.Unit.Name, "verdict", report.Act, "reasons", report.Reasons, "error", report.Err)
	}
	return api.Adoption{Unit: report.Unit, Verdict: string(report.Act), Reasons: report.Reasons, Error: report.Err}
}

// wantedDigest asks ployz-nats under which digest the configuration on disk will run.
func (d *Daemon) wantedDigest(ctx context.Context, w *services.Wanted) error {
	role := map[string]string{units.NATSService: "edge", units.NATSCoreService: "core"}[w.Unit.Name]
	if role == "" {
		return nil
	}
	flags := []string{"--config", d.host.path("nats", role+".conf")}
	if role == "core" {
		flags = append(flags, "--route-secret", d.host.routeSecret())
	} else {
		flags = append(flags, d.edgeSeeds()...)
	}
	digest, err := natsstore.CheckConfig(ctx, program("ployz-nats"), role, flags...)
	w.Config = digest
	return err
}

// lookAtWorkloads lists the instances that are not what their own record says.
func (d *Daemon) lookAtWorkloads(ctx context.Context) []api.Adoption {
	instances, err := d.member.Load().Instances.List(ctx)
	if err != nil {
		return []api.Adoption{{Unit: units.WorkloadPattern, Verdict: string(services.Leave), Error: api.AsError(err), Reasons: []string{err.Error()}}}
	}
	var list []api.Adoption
	for _, o := range instances {
		a := api.Adoption{Unit: o.Unit, Verdict: string(services.Adopt), Reasons: o.Drift}
		if len(o.Drift) > 0 {
			a.Verdict = string(services.Leave)
		}
		list = append(list, a)
	}
	return list
}
