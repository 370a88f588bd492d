package daemon

import (
	"context"
	"maps"
	"net/http"
	"net/netip"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/store"
)

// listServices answers GET /v1/services?namespace=&service= from what was committed and what runs
// here now. Without the store it still answers what the machine itself knows.
func listServices(r *http.Request, m *Member) (any, error) {
	q := r.URL.Query()
	l := listing{m: m, reads: newReads(m), namespace: q.Get("namespace"), service: q.Get("service")}
	return l.list(r.Context())
}

// listing is one look at services.
type listing struct {
	m                  *Member
	reads              *reads
	namespace, service string
	// seen is what runs, by machine and instance; a machine that did not answer has no entry.
	seen      map[string]map[string]runtime.Observation
	uncertain string
}

func (l *listing) list(ctx context.Context) (api.ServiceList, error) {
	l.observe(ctx)
	commits, err := l.commits(ctx)
	if store.IsUnavailable(err) && l.seen[l.m.Machine] != nil {
		l.uncertain = "neither the store nor the machine's mirror answers; this is what runs on the machine"
		return api.ServiceList{Services: l.running(), Uncertain: l.uncertain}, nil
	}
	if err != nil {
		return api.ServiceList{}, err
	}
	l.observeOthers(ctx, commits)
	list := []api.ServiceStatus{}
	for _, commit := range commits {
		list = append(list, l.services(commit)...)
	}
	if len(list) == 0 && l.service != "" {
		return api.ServiceList{}, api.Errorf(api.CodeNoSuchService, "the namespace has no service %q", l.service).
			About(l.namespace).WithHint("list them: ployzctl service ls %s", l.namespace)
	}
	if why := l.reads.uncertain(); why != "" {
		l.uncertain = why
	}
	return api.ServiceList{Services: list, Uncertain: l.uncertain}, nil
}

// observe looks at the machine's instances. When that fails their state is unknown, and said to be.
func (l *listing) observe(ctx context.Context) {
	l.seen = map[string]map[string]runtime.Observation{}
	list, err := l.m.Instances.List(ctx)
	if err != nil {
		l.uncertain = "the machine's instances could not be observed: " + err.Error()
		return
	}
	l.seen[l.m.Machine] = byID(list)
}

// observeOthers looks at the other machines that the commits name.
func (l *listing) observeOthers(ctx context.Context, commits []api.Commit) {
	if l.m.Elsewhere == nil {
		return
	}
	named := map[string]bool{}
	for _, commit := range commits {
		for _, slot := range commit.Slots {
			if slot.Machine != l.m.Machine {
				named[slot.Machine] = true
			}
		}
	}
	machines := slices.Sorted(maps.Keys(named))
	lists, errs := everywhere(ctx, machines, func(ctx context.Context, machine string) ([]runtime.Observation, error) {
		return instancesAt(ctx, l.m, machine)
	})
	for i, name := range machines {
		if errs[i] == nil {
			l.seen[name] = byID(lists[i])
		}
	}
	if why := missing(machines, errs); why != "" {
		l.uncertain = why
	}
}

func byID(list []runtime.Observation) map[string]runtime.Observation {
	found := map[string]runtime.Observation{}
	for _, o := range list {
		found[o.ID] = o
	}
	return found
}

func (l *listing) commits(ctx context.Context) ([]api.Commit, error) {
	if l.namespace == "" {
		return deploy.Namespaces(ctx, l.reads)
	}
	if err := deploy.CheckNamespace(l.namespace); err != nil {
		return nil, err
	}
	commit, err := deploy.Current(ctx, l.reads, l.namespace)
	return []api.Commit{commit}, err
}

func (l *listing) services(commit api.Commit) []api.ServiceStatus {
	var list []api.ServiceStatus
	for _, name := range slices.Sorted(maps.Keys(commit.Spec.Services)) {
		if l.service == "" || l.service == name {
			list = append(list, l.status(commit, name))
		}
	}
	return list
}

func (l *listing) status(commit api.Commit, name string) api.ServiceStatus {
	s := commit.Spec.Services[name]
	status := api.ServiceStatus{
		Namespace: commit.Namespace, Service: name, Commit: commit.Number, Image: s.Image, Digest: s.Digest,
		Job: s.Job != nil, Routes: s.Routes, Ports: s.Ports, Instances: []api.InstanceStatus{},
	}
	for _, slot := range slices.Sorted(maps.Keys(commit.Slots)) {
		if commit.Slots[slot].Service != name {
			continue
		}
		in := l.instance(commit.Slots[slot])
		status.Wanted++
		if in.Ready {
			status.Ready++
		}
		status.Instances = append(status.Instances, in)
	}
	return status
}

// instance is a committed slot as it is now.
func (l *listing) instance(slot api.Slot) api.InstanceStatus {
	in := api.InstanceStatus{
		ID: slot.Instance, Slot: slot.Name, Machine: slot.Machine, Unit: unitOf(slot.Instance),
		Addresses: []netip.Addr{slot.V4, slot.V6}, Revision: slot.Revision, State: api.InstanceUnknown,
	}
	there := l.seen[slot.Machine]
	if there == nil {
		return in
	}
	o, found := there[slot.Instance]
	if !found {
		in.State = api.InstanceGone
		return in
	}
	observed(&in, o)
	in.Ready = o.State == runtime.StateRunning
	return in
}

func unitOf(instance string) string { return "ployz-workload@" + instance + ".service" }

func observed(in *api.InstanceStatus, o runtime.Observation) {
	in.State, in.PID, in.Since, in.Restarts, in.Drift = o.State, o.MainPID, o.Started, o.Restarts, o.Drift
	if o.Unit != "" {
		in.Unit = o.Unit
	}
	if o.ExitCode >= 0 && o.State != runtime.StateRunning {
		in.ExitCode = &o.ExitCode
	}
}

// running lists what runs here without knowing what was committed. Nothing is called ready.
func (l *listing) running() []api.ServiceStatus {
	byName := map[string]*api.ServiceStatus{}
	here := l.seen[l.m.Machine]
	for _, id := range slices.Sorted(maps.Keys(here)) {
		o := here[id]
		if l.namespace != "" && o.Spec.Namespace != l.namespace || l.service != "" && o.Spec.Service != l.service {
			continue
		}
		key := o.Spec.Namespace + "/" + o.Spec.Service
		if byName[key] == nil {
			byName[key] = &api.ServiceStatus{
				Namespace: o.Spec.Namespace, Service: o.Spec.Service, Image: o.Spec.Image, Digest: o.Spec.Digest, Job: o.Spec.Job, Ports: o.Spec.Ports,
			}
		}
		in := api.InstanceStatus{ID: o.ID, Slot: o.Spec.Slot, Machine: l.m.Machine, Addresses: []netip.Addr{o.Addresses.V4, o.Addresses.V6}}
		observed(&in, o)
		byName[key].Instances = append(byName[key].Instances, in)
	}
	list := []api.ServiceStatus{}
	for _, key := range slices.Sorted(maps.Keys(byName)) {
		list = append(list, *byName[key])
	}
	return list
}
