package daemon

import (
	"context"
	"slices"
	"time"

	"github.com/ployz/ployz/metrics"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/mesh"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/storage"
)

// metrics is the page of this daemon.
func (d *Daemon) metrics() *metrics.Page {
	f := &figures{
		operations: d.API().running.figures,
		adopted:    d.adopted.Load,
		member:     d.member.Load,
		roster:     func() (machine.Roster, error) { return machine.LoadRoster(d.State) },
		mesh:       d.meshSeen,
		pool:       func(ctx context.Context) (api.PoolStatus, []storage.Volume) { return observePool(ctx, d.pool) },
	}
	return &metrics.Page{Program: metrics.Daemon, Version: d.Version, Log: d.Log, Fill: f.tell}
}

// figures are what a daemon tells of its machine. What does not answer in time is left out.
type figures struct {
	operations func() (now int, endings map[ending]uint64)
	adopted    func() *adoption
	member     func() *Member
	roster     func() (machine.Roster, error)
	mesh       func(ctx context.Context) (mesh.Seen, error)
	pool       func(ctx context.Context) (api.PoolStatus, []storage.Volume)
}

// tell fills a sheet.
func (f *figures) tell(sheet *metrics.Sheet) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	now, endings := f.operations()
	sheet.Put("ployz_operations_running", float64(now))
	for e, n := range endings {
		sheet.Put("ployz_operations_total", float64(n), e.kind, string(e.outcome))
	}
	if a := f.adopted(); a != nil {
		tellAdoption(sheet, a)
	}
	if roster, err := f.roster(); err == nil {
		sheet.Put("ployz_cluster_members", float64(len(roster.Members)))
		sheet.Put("ployz_cluster_voters", float64(len(roster.Cluster.Voters)))
		f.tellMesh(ctx, sheet, roster)
	}
	if m := f.member(); m != nil {
		tellWorkloads(ctx, sheet, m)
		tellPool(ctx, sheet, f.pool)
		tellStore(ctx, sheet, m)
	}
}

func tellAdoption(sheet *metrics.Sheet, a *adoption) {
	sheet.Put("ployz_adoption_seconds", a.took.Seconds())
	verdicts := map[string]int{}
	for _, one := range a.list {
		verdicts[one.Verdict]++
	}
	for verdict, n := range verdicts {
		sheet.Put("ployz_adopted", float64(n), verdict)
	}
}

// tellMesh knows peers by their machines' names; a key that is no member's, such as a token's, is left out.
func (f *figures) tellMesh(ctx context.Context, sheet *metrics.Sheet, roster machine.Roster) {
	seen, err := f.mesh(ctx)
	if err != nil {
		return
	}
	names := map[string]string{}
	for _, m := range roster.Members {
		names[m.MeshKey] = m.Name
	}
	for _, p := range seen.Peers {
		name := names[p.PublicKey.String()]
		if name == "" {
			continue
		}
		sheet.Put("ployz_mesh_received_bytes_total", float64(p.Rx), name)
		sheet.Put("ployz_mesh_sent_bytes_total", float64(p.Tx), name)
		if !p.LastHandshake.IsZero() {
			sheet.Put("ployz_mesh_handshake_age_seconds", time.Since(p.LastHandshake).Seconds(), name)
		}
	}
}

func tellWorkloads(ctx context.Context, sheet *metrics.Sheet, m *Member) {
	list, err := m.Instances.List(ctx)
	if err != nil {
		return
	}
	states, drifted := map[string]int{}, 0
	for _, o := range list {
		states[o.State]++
		if len(o.Drift) > 0 {
			drifted++
		}
	}
	for _, state := range []string{runtime.StateRunning, runtime.StateStarting, runtime.StateStopped, runtime.StateFailed, runtime.StateUnknown} {
		sheet.Put("ployz_workloads", float64(states[state]), state)
	}
	sheet.Put("ployz_workloads_drifted", float64(drifted))
}

func tellPool(ctx context.Context, sheet *metrics.Sheet, look func(context.Context) (api.PoolStatus, []storage.Volume)) {
	s, volumes := look(ctx)
	sheet.Flag("ployz_pool_up", s.State == api.StateUp)
	if s.State != api.StateUp {
		return
	}
	sheet.Put("ployz_pool_size_bytes", float64(s.SizeBytes), s.Backend)
	sheet.Put("ployz_pool_free_bytes", float64(s.FreeBytes), s.Backend)
	sheet.Put("ployz_pool_promised_bytes", float64(s.PromisedBytes), s.Backend)
	for _, state := range []storage.State{storage.StateLive, storage.StateKept, storage.StateIncoming} {
		sheet.Put("ployz_volumes", float64(s.Volumes[string(state)]), string(state))
	}
	damaged := slices.DeleteFunc(volumes, func(v storage.Volume) bool { return v.Problem == nil })
	sheet.Put("ployz_volumes", float64(len(damaged)), "damaged")
}

func tellStore(ctx context.Context, sheet *metrics.Sheet, m *Member) {
	fresh, err := m.View.Freshness(ctx)
	sheet.Flag("ployz_store_answers", err == nil)
	if err != nil {
		return
	}
	sheet.Flag("ployz_store_fresh", fresh.Fresh)
	sheet.Put("ployz_store_age_seconds", fresh.Active.Seconds())
	sheet.Put("ployz_store_revision", float64(fresh.Last))
}
