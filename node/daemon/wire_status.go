package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/units"
	"golang.org/x/sys/unix"
)

// status observes this machine. Every part is asked at the same time, and one that does not answer
// says so in its own place.
func (d *Daemon) status(ctx context.Context) (api.Status, error) {
	s := api.Status{
		Daemon:  api.DaemonStatus{State: api.StateUp, PID: os.Getpid(), Version: d.Version, Since: d.started.UTC()},
		Machine: api.MachineStatus{Name: hostName(), Kernel: kernelRelease()},
		Store:   api.StoreStatus{State: api.StateAbsent}, Gateway: api.ServingStatus{State: api.StateAbsent}, DNS: api.ServingStatus{State: api.StateAbsent},
		Pool:      api.PoolStatus{State: api.StateAbsent},
		Workloads: api.WorkloadsStatus{Drift: []api.Drift{}}, Notes: []string{},
	}
	if a := d.adopted.Load(); a != nil {
		s.Daemon.Adopted, s.Daemon.AdoptionTook = a.list, api.Duration(a.took)
	}
	self, err := machine.LoadIdentity(d.State)
	m := d.member.Load()
	if err != nil || m == nil {
		return d.outside(s, err)
	}
	s.Machine.Name, s.Machine.ID = self.Name, self.ID
	s.Machine.Addresses = []netip.Addr{self.Overlay, self.Gateway4()}
	s.Machine.Subnets = []netip.Prefix{self.Subnet4, self.Subnet6}
	s.Cluster = d.clusterStatus(self)
	var wg sync.WaitGroup
	wg.Go(func() { s.Store = d.storeStatus(ctx, m) })
	wg.Go(func() { s.Gateway = d.servingStatus(ctx, "gateway", []string{":80", ":443"}) })
	wg.Go(func() { s.DNS = d.servingStatus(ctx, "dns", dnsListen(self)) })
	wg.Go(func() { s.Pool, _ = observePool(ctx, m.Volumes) })
	wg.Go(func() { s.Workloads = workloadsStatus(ctx, m.Instances) })
	wg.Wait()
	s.Notes = append(notes(s), d.hiddenNote()...)
	for _, e := range d.leftOut() {
		s.Notes = append(s.Notes, fmt.Sprintf("Machine %s is left out here: %s. See: ployzctl doctor", e.Subject, e.Message))
	}
	for _, e := range d.unreadable() {
		s.Notes = append(s.Notes, fmt.Sprintf("The fact %s cannot be read here, and what it said before stays: %s. See: ployzctl store verify", e.Subject, e.Message))
	}
	return s, nil
}

// clusterStatus is what this machine last read of the membership.
func (d *Daemon) clusterStatus(self machine.Identity) api.ClusterStatus {
	s := api.ClusterStatus{Name: self.ClusterName, ID: self.Cluster, Generation: self.Generation, Voters: []string{}}
	roster, err := machine.LoadRoster(d.State)
	if err != nil { // it was founded a moment ago
		s.Machines, s.Voters = 1, []string{self.Name}
		return s
	}
	s.Machines = len(roster.Members)
	for _, m := range roster.Members {
		if slices.Contains(roster.Cluster.Voters, m.ID) {
			s.Voters = append(s.Voters, m.Name)
		}
	}
	slices.Sort(s.Voters)
	return s
}

// outside is the status of a machine that is not, or not quite, part of a cluster.
func (d *Daemon) outside(s api.Status, err error) (api.Status, error) {
	switch {
	case api.CodeOf(err) == api.CodeNotInitialised:
		s.Notes = append(s.Notes, "This machine belongs to no cluster yet. Found one: ployzctl init")
	case err != nil:
		return s, err
	default:
		s.Notes = append(s.Notes, "A `ployzctl init` was begun here and did not end. Run it again: it goes on from there.")
	}
	return s, nil
}

func dnsListen(self machine.Identity) []string {
	var list []string
	for _, a := range append(resolvers(self)(), loopbackDNS) {
		list = append(list, netip.AddrPortFrom(a, 53).String())
	}
	return list
}

func (d *Daemon) storeStatus(ctx context.Context, m *Member) api.StoreStatus {
	s := api.StoreStatus{State: api.StateUp, Units: d.unitStatus(ctx, units.NATSCoreService, units.NATSService)}
	if room, err := d.storeRoom(); err == nil {
		s.Room = &room
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	fresh, err := m.View.Freshness(ctx)
	if err != nil {
		s.State, s.Why = api.StateDown, err.Error()
		return s
	}
	s.Sequence, s.Generation, s.Age = uint64(fresh.Last), fresh.Generation, api.Duration(fresh.Active.Round(time.Millisecond))
	if !fresh.Fresh {
		s.State, s.Uncertain, s.Why = api.StateUncertain, true, fresh.Why
	}
	return s
}

func (d *Daemon) unitStatus(ctx context.Context, names ...string) []api.UnitStatus {
	var list []api.UnitStatus
	for _, name := range names {
		seen, err := d.units.Observe(ctx, name)
		if err != nil {
			list = append(list, api.UnitStatus{Unit: name, State: err.Error()})
			continue
		}
		list = append(list, api.UnitStatus{Unit: name, State: seen.Active, PID: seen.MainPID, Since: seen.Started})
	}
	return list
}

// servingStatus asks a serving process for its own word.
func (d *Daemon) servingStatus(ctx context.Context, name string, listen []string) api.ServingStatus {
	var said struct {
		PID       int          `json:"pid"`
		Version   string       `json:"version"`
		Started   time.Time    `json:"started"`
		Sequence  uint64       `json:"sequence"`
		Age       api.Duration `json:"age"`
		Uncertain bool         `json:"uncertain"`
		Why       string       `json:"why"`
		Rejected  []string     `json:"rejectedNamespaces"`
	}
	if err := d.ask(ctx, name, "/freshness", &said); err != nil {
		return api.ServingStatus{State: api.StateDown, Why: err.Error(), Listen: listen}
	}
	s := api.ServingStatus{
		State: api.StateUp, Why: said.Why, Sequence: said.Sequence, Age: said.Age, Uncertain: said.Uncertain,
		PID: said.PID, Version: said.Version, Since: said.Started, Listen: listen, Rejected: said.Rejected,
	}
	if s.Uncertain {
		s.State = api.StateUncertain
	}
	return s
}

func workloadsStatus(ctx context.Context, instances Instances) api.WorkloadsStatus {
	s := api.WorkloadsStatus{Drift: []api.Drift{}}
	list, err := instances.List(ctx)
	if err != nil {
		s.Drift = append(s.Drift, api.Drift{Subject: "workloads", Reasons: []string{err.Error()}})
		return s
	}
	s.Count = len(list)
	for _, o := range list {
		if o.State == runtime.StateRunning {
			s.Running++
		}
		if len(o.Drift) > 0 {
			s.Drift = append(s.Drift, api.Drift{Subject: o.ID, Reasons: o.Drift})
		}
	}
	return s
}

// notes say in plain words what an operator should know next.
func notes(s api.Status) []string {
	list := []string{fmt.Sprintf("Store voters: %d: %s.", len(s.Cluster.Voters), machine.MayBeLost(len(s.Cluster.Voters)))}
	if s.Store.State != api.StateUp {
		list = append(list, "The store is "+s.Store.State+": what runs goes on running and being served, but nothing can be changed. "+
			"See: journalctl -u ployz-nats -u ployz-nats-core")
	}
	if r := s.Store.Room; r != nil && r.State != api.RoomEnough {
		e := roomError(s.Machine.Name, *r)
		list = append(list, e.Message+". "+e.Hint)
	}
	for _, a := range s.Daemon.Adopted {
		if a.Verdict == "leave" || a.Error != nil {
			list = append(list, fmt.Sprintf("%s was left alone at the daemon's start: %s", a.Unit, strings.Join(a.Reasons, "; ")))
		}
	}
	if s.Pool.State == api.StateDown {
		list = append(list, "The pool is down: what has volumes does not run. "+s.Pool.Error.Message+". See: ployzctl doctor")
	}
	if failed := s.Workloads.Count - s.Workloads.Running; failed > 0 {
		list = append(list, fmt.Sprintf("%d of %d instances do not run. See: ployzctl service ls", failed, s.Workloads.Count))
	}
	return list
}

// hiddenNote says that the machine is behind a NAT.
func (d *Daemon) hiddenNote() []string {
	if f := d.following.Load(); f != nil {
		if at := f.hiddenAt(); at.IsValid() {
			return []string{fmt.Sprintf("Others see this machine only at %s, which it has not itself: it is behind a NAT, and keeps its way out open.", at)}
		}
	}
	return nil
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	name, _, _ = strings.Cut(strings.ToLower(name), ".")
	return name
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
