package deploy

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// A run sees the volumes of its service, each on the machine that has it: read-only, so that the instances go on writing;
// to write them it has to be the only one that does.

// mountVolumes makes the run's mounts those of the service, or of one of its slots.
func (r *Run) mountVolumes(ctx context.Context) (err error) {
	spec := r.next.spec
	if r.request.Slot != "" && !r.hasSlot(r.request.Service, spec.Services[r.request.Service], r.request.Slot) {
		return api.Errorf(api.CodeVolumeSlot, "the service has no slot %q", r.request.Slot).About(r.ns+"/"+r.request.Service).
			WithHint("those it has: ployzctl service show %s/%s", r.ns, r.request.Service)
	}
	if len(r.service.Mounts) == 0 {
		return nil
	}
	if r.volumes, err = readVolumes(ctx, r.kit.Facts, r.ns); err != nil {
		return err
	}
	// Each data set stands for itself: the run is no slot that could have one of its own.
	volumes := map[string]api.Volume{}
	r.service.Mounts = slices.Clone(r.service.Mounts)
	for i, m := range r.service.Mounts {
		name, err := r.datasetOf(spec.Volumes[m.Volume], m.Volume)
		if err != nil {
			return err
		}
		r.service.Mounts[i].Volume, r.service.Mounts[i].ReadOnly = name, m.ReadOnly || !r.request.WriteVolumes
		volumes[name] = api.Volume{}
		if err := r.written(name); err != nil && !r.service.Mounts[i].ReadOnly {
			return err
		}
	}
	r.next.spec.Volumes = volumes
	return nil
}

// datasetOf is the data set that the run gets for a volume. Errors: volume.which-slot, volume.not-found.
func (r *Run) datasetOf(v api.Volume, volume string) (string, error) {
	if v.PerSlot() && r.request.Slot == "" {
		slots := slices.Sorted(maps.Keys(r.slots()))
		slots = slices.DeleteFunc(slots, func(name string) bool { return r.slots()[name].Service != r.request.Service })
		return "", api.Errorf(api.CodeVolumeSlot, "the volume %s is one for each slot, and it was not said whose is to be mounted", volume).
			About(r.ns+"/"+r.request.Service).WithHint("say which with --slot: %s", orNone(strings.Join(slots, ", ")))
	}
	name := datasetName(v, volume, r.request.Slot)
	if r.live(name) == nil {
		return "", api.Errorf(api.CodeVolumeNotFound, "the namespace has no live volume %s", name).About(r.ns+"/"+name).
			WithHint("those there are: ployzctl volume ls %s", r.ns)
	}
	return name, nil
}

// written refuses to write a data set that a slot of the present commit writes.
func (r *Run) written(name string) error {
	for _, slot := range slices.Sorted(maps.Keys(r.slots())) {
		service := r.slots()[slot].Service
		if writes(r.presentSpec(), service, slot)[name] {
			return api.Errorf(api.CodeVolumeInUse, "%s writes the volume %s, and two never write one at once", slot, name).About(r.ns+"/"+name).
				WithHint("stop it first: ployzctl service scale %s/%s 0; or read only: leave --write-volumes out; or use its instance: ployzctl exec", r.ns, service)
		}
	}
	return nil
}

// sets are the data sets of the mounts.
func (r *Run) sets() (list []dataset) {
	for _, m := range r.service.Mounts {
		list = append(list, dataset{name: m.Volume, volume: m.Volume, machine: r.live(m.Volume).Machine, spec: storage.Spec{ID: r.live(m.Volume).ID}})
	}
	return list
}
