package daemon

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/storage"
)

// listVolumes answers GET /v1/volumes?namespace=&machine=: of every machine that answers, or of one.
func listVolumes(r *http.Request, m *Member) (any, error) {
	q := r.URL.Query()
	list, err := volumesOf(r.Context(), m, q.Get("machine"), caller(r))
	if err != nil {
		return nil, err
	}
	if err := compare(r.Context(), m, &list, q.Get("machine")); err != nil {
		return nil, err
	}
	if ns := q.Get("namespace"); ns != "" {
		list.Volumes = slices.DeleteFunc(list.Volumes, func(v api.VolumeEntry) bool { return v.Namespace != ns })
	}
	return list, nil
}

// compare marks what is a copy or nobody's, and adds what is lost: of one machine, or with "" of all.
func compare(ctx context.Context, m *Member, list *api.VolumeList, machine string) error {
	all, err := claimsOf(ctx, m)
	if err != nil || all == nil {
		return err
	}
	members, err := m.others(ctx)
	if err != nil {
		return err
	}
	for i := range list.Volumes {
		all.mark(&list.Volumes[i])
	}
	for _, v := range all.lost(*list, append(members, m.Machine)) {
		if machine == "" || v.Machine == machine {
			list.Volumes = append(list.Volumes, v)
		}
	}
	sortVolumes(list.Volumes)
	return nil
}

// volumesOf are the volumes and pools of one machine, or with "" of all.
func volumesOf(ctx context.Context, m *Member, machine, caller string) (api.VolumeList, error) {
	ask := Ask{Method: http.MethodGet, Path: "/v1/volumes", Caller: caller}
	switch {
	case machine == m.Machine || machine == "" && m.Elsewhere == nil:
		return volumesHere(ctx, m), nil
	case machine != "" && m.Elsewhere == nil:
		return api.VolumeList{}, api.Errorf(api.CodeNotFound, "the cluster has no machine of that name").About(machine).WithHint("list them: ployzctl machine ls")
	case machine != "":
		return askJSON[api.VolumeList](ctx, m, machine, ask)
	}
	machines, err := m.others(ctx)
	if err != nil {
		return api.VolumeList{}, err
	}
	lists, errs := everywhere(ctx, machines, func(ctx context.Context, machine string) (api.VolumeList, error) {
		return askJSON[api.VolumeList](ctx, m, machine, ask)
	})
	list := volumesHere(ctx, m)
	for _, l := range lists {
		list.Volumes, list.Pools = append(list.Volumes, l.Volumes...), append(list.Pools, l.Pools...)
	}
	list.Uncertain = missing(machines, errs)
	sortVolumes(list.Volumes)
	slices.SortFunc(list.Pools, func(a, b api.PoolStatus) int { return cmp.Compare(a.Machine, b.Machine) })
	return list, nil
}

// sortVolumes puts what has one name together: the live one first, then the newest.
func sortVolumes(list []api.VolumeEntry) {
	place := map[string]int{string(storage.StateLive): 0, string(storage.StateKept): 1, string(storage.StateIncoming): 2, api.VolumeLost: 3}
	slices.SortStableFunc(list, func(a, b api.VolumeEntry) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name),
			cmp.Compare(place[a.State], place[b.State]), b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
}

// volumesHere never fails: a pool that cannot be looked at says so in its own line.
func volumesHere(ctx context.Context, m *Member) api.VolumeList {
	status, volumes := observePool(ctx, m.Volumes)
	status.Machine = m.Machine
	list := api.VolumeList{Volumes: []api.VolumeEntry{}, Pools: []api.PoolStatus{status}}
	for _, v := range volumes {
		list.Volumes = append(list.Volumes, volumeEntry(m.Machine, v))
	}
	sortVolumes(list.Volumes)
	return list
}

// observePool looks at a pool and everything in it; nil is none.
func observePool(ctx context.Context, pool storage.Pool) (api.PoolStatus, []storage.Volume) {
	if pool == nil {
		return api.PoolStatus{State: api.StateAbsent, Error: storage.PoolAbsent()}, nil
	}
	usage, err := pool.Usage(ctx)
	var volumes []storage.Volume
	if err == nil {
		volumes, err = pool.List(ctx)
	}
	s := api.PoolStatus{
		State: api.StateUp, Backend: usage.Backend, Pool: usage.Pool,
		SizeBytes: usage.SizeBytes, FreeBytes: usage.FreeBytes, PromisedBytes: usage.PromisedBytes,
	}
	if err != nil {
		s.State, s.Error = api.StateDown, api.AsError(err)
		if s.Error.Code == api.CodeVolumePoolAbsent {
			s.State = api.StateAbsent
		}
		return s, nil
	}
	s.Volumes = map[string]int{}
	for _, v := range volumes {
		s.Volumes[string(v.State)]++
	}
	return s, volumes
}

func volumeEntry(machine string, v storage.Volume) api.VolumeEntry {
	e := api.VolumeEntry{
		ID: v.ID, Namespace: v.Namespace, Name: v.Name, Machine: machine, State: string(v.State), Path: v.Path,
		SizeBytes: v.SizeBytes, UsedBytes: v.UsedBytes, OwnBytes: v.OwnBytes, Created: v.Created, Error: api.AsError(v.Problem),
	}
	if v.Origin != nil {
		e.Origin = &api.SnapshotRef{Volume: v.Origin.Volume, Snapshot: v.Origin.Snapshot, GUID: v.Origin.GUID}
	}
	return e
}

// showVolume answers GET /v1/volumes/{volume}?machine= and GET /v1/namespaces/{ns}/volumes/{name}?machine=.
func showVolume(r *http.Request, m *Member) (any, error) {
	wanted, machine := r.PathValue("volume"), r.URL.Query().Get("machine")
	if wanted == "" {
		wanted = r.PathValue("ns") + "/" + r.PathValue("name")
	}
	all, err := volumesOf(r.Context(), m, "", caller(r))
	if err != nil {
		return nil, err
	}
	facts, err := claimsOf(r.Context(), m)
	if err != nil {
		return nil, err
	}
	v, err := pick(all, wanted, machine)
	if err != nil {
		return nil, facts.insteadOf(r.Context(), m, err, all, wanted)
	}
	facts.mark(&v)
	detail := api.VolumeDetail{VolumeEntry: v, Family: family(all.Volumes, v), Uncertain: all.Uncertain}
	if fact := facts[v.ID]; fact.Machine == v.Machine {
		detail.Copies = fact.Copies
	}
	if v.Error != nil {
		return detail, nil
	}
	if detail.Move, err = deploy.LastMove(r.Context(), m.View, v.Namespace, v.ID); err != nil {
		return nil, err
	}
	detail.Snapshots, err = snapshotsAt(r.Context(), m, v, caller(r))
	return detail, err
}

// pick finds a volume by its ID or its name. A live one stands for a name, and for an ID that more machines have.
func pick(all api.VolumeList, wanted, machine string) (api.VolumeEntry, error) {
	var found []api.VolumeEntry
	for _, v := range all.Volumes {
		if (machine == "" || v.Machine == machine) && (v.ID == wanted || v.Namespace+"/"+v.Name == wanted) {
			found = append(found, v)
		}
	}
	live := slices.DeleteFunc(slices.Clone(found), func(v api.VolumeEntry) bool { return v.State != string(storage.StateLive) })
	if len(live) > 0 {
		found = live
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0 && all.Uncertain != "":
		return api.VolumeEntry{}, api.Errorf(api.CodeMachineSilent, "no machine that answers has it; that is %s", all.Uncertain).About(wanted).Again()
	case len(found) == 0:
		return api.VolumeEntry{}, api.Errorf(api.CodeVolumeNotFound, "no machine has a volume %s", wanted).About(wanted).WithHint("those there are: ployzctl volume ls")
	}
	var which []string
	for _, v := range found {
		which = append(which, v.ID+" on "+v.Machine)
	}
	return api.VolumeEntry{}, api.Errorf(api.CodeBadRequest, "it could be %s", strings.Join(which, ", ")).About(wanted).
		WithHint("say which: ployzctl volume show %s --machine %s", found[0].ID, found[0].Machine)
}

// family are a volume's relatives: everything that is joined to it by origins, in whichever direction.
func family(all []api.VolumeEntry, of api.VolumeEntry) []api.VolumeEntry {
	related := map[string]bool{of.ID: true}
	for grown := true; grown; {
		grown = false
		for _, v := range all {
			if v.Origin != nil && v.ID != "" && related[v.ID] != related[v.Origin.Volume] {
				related[v.ID], related[v.Origin.Volume], grown = true, true, true
			}
		}
	}
	list := []api.VolumeEntry{}
	for _, v := range all {
		if v.ID != "" && related[v.ID] || v == of {
			list = append(list, v)
		}
	}
	return list
}

// snapshots is what a machine says of one volume's snapshots to a peer.
type snapshots struct {
	Snapshots []api.SnapshotEntry `json:"snapshots"`
}

func snapshotsAt(ctx context.Context, m *Member, v api.VolumeEntry, caller string) ([]api.SnapshotEntry, error) {
	if v.Machine == m.Machine {
		s, err := snapshotsOf(ctx, m, v.ID)
		return s.Snapshots, err
	}
	s, err := askJSON[snapshots](ctx, m, v.Machine, Ask{Method: http.MethodGet, Path: "/v1/volumes/" + url.PathEscape(v.ID) + "/snapshots", Caller: caller})
	return s.Snapshots, err
}

// snapshotsHere answers GET /v1/volumes/{volume}/snapshots for peers.
func snapshotsHere(r *http.Request, m *Member) (any, error) {
	return snapshotsOf(r.Context(), m, r.PathValue("volume"))
}

func snapshotsOf(ctx context.Context, m *Member, id string) (snapshots, error) {
	if m.Volumes == nil {
		return snapshots{}, storage.PoolAbsent()
	}
	list, err := m.Volumes.ListSnapshots(ctx, id)
	out := snapshots{Snapshots: []api.SnapshotEntry{}}
	for _, s := range list {
		out.Snapshots = append(out.Snapshots, api.SnapshotEntry{Name: s.Name, GUID: s.GUID, Created: s.Created, Holds: s.Holds, Clones: s.Clones})
	}
	return out, err
}
