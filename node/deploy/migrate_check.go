package deploy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// What cannot move is refused before anything is carried, with one reason.

// needTarget refuses a machine that can take nothing.
func (m *Migrate) needTarget() error {
	if err := m.needReceiver(m.to); err != nil {
		return err
	}
	if role := m.candidate(m.to).member.Role; !role.Takes() {
		return api.Errorf(api.CodeNoMachine, "%s is %s", m.to, role).About(m.to).
			WithHint("choose another, or let it take instances again: ployzctl machine set %s --role compute", m.to)
	}
	return nil
}

// nothingMoves says why there is nothing to move.
func (m *Migrate) nothingMoves() error {
	service := m.next.spec.Services[m.request.Service]
	switch {
	case m.request.Service != "" && len(service.Mounts) == 0:
		return api.Errorf(api.CodeVolumeNotFound, "the service %s has no volumes, so that a deploy moves it", m.request.Service).About(m.ns+"/"+m.request.Service).
			WithHint("say where it may run in x-ployz.placement.machines and deploy it again: ployzctl deploy; or empty a machine: ployzctl machine drain %s", m.fromOr("MACHINE"))
	case m.request.From != "":
		return api.Errorf(api.CodeVolumeNotFound, "none of its volumes are on %s", m.request.From).About(m.ns).
			WithHint("where they are: ployzctl volume ls %s", m.ns)
	}
	return api.Errorf(api.CodeVolumeNotFound, "it has no volumes, so that a deploy moves it").About(m.ns).
		WithHint("empty a machine: ployzctl machine drain MACHINE")
}

func (m *Migrate) fromOr(otherwise string) string {
	if m.request.From != "" {
		return m.request.From
	}
	return otherwise
}

// needFit refuses where the data or who mounts it cannot be on the target.
func (m *Migrate) needFit() error {
	if err := m.unreachable(m.from); err != nil {
		return err
	}
	from, to := m.candidate(m.from).stored.Usage, m.candidate(m.to).stored.Usage
	if from.Backend != to.Backend {
		return storage.StreamForeign(from.Backend, to.Backend)
	}
	return m.needPlaces()
}

// needPlaces refuses where a slot that moves may not be on the target.
func (m *Migrate) needPlaces() error {
	empty := placement{of: map[string]map[string]int{}}
	for _, slot := range m.slotsThatMove() {
		s := m.next.spec.Services[slot.Service]
		if s.Placement.Global {
			return api.Errorf(api.CodeNoMachine, "%s runs on every machine, and its volume %s is of the one on %s", slot.Service, mounted(m.presentSpec(), slot.Service, slot.Name)[0], m.from).
				About(m.ns + "/" + slot.Service).WithHint("clone or send the volume instead: ployzctl volume send --help")
		}
		if why := empty.unfitBesides(slot.Service, s, *m.candidate(m.to)); why != "" {
			return api.Errorf(api.CodeNoMachine, "%s may not run on %s: %s", slot.Name, m.to, why).About(m.ns + "/" + slot.Service).
				WithHint("choose another machine, or let it in x-ployz.placement and deploy that first: ployzctl deploy")
		}
	}
	return nil
}

// needRoom refuses what the target's pool could not hold: all that a data set holds now or, where it has a copy, what was
// written since the last snapshot of both.
func (m *Migrate) needRoom(ctx context.Context) error {
	to, since := m.candidate(m.to).stored.Usage, m.since(ctx)
	var bytes int64
	for _, name := range slices.Sorted(maps.Keys(m.moves)) {
		v := m.live(name)
		isHere := m.inPool(m.to, v.ID) != nil
		if seen := m.inPool(m.from, v.ID); isHere {
			bytes += since[v.ID]
		} else if seen != nil {
			bytes += seen.UsedBytes
		}
		spec := storageSpec(m.ns, name, api.Volume{SizeBytes: v.SizeBytes})
		if err := storage.CheckRoom(to, spec, bytes, isHere); err != nil {
			return api.AsError(err).WithHint("make room on %s: ployzctl volume prune; or choose another machine", m.to)
		}
	}
	return nil
}

// since is how much was written to the data sets that have a copy, by id. What cannot be told shows when it is carried.
func (m *Migrate) since(ctx context.Context) map[string]int64 {
	var copies []string
	for id := range m.names {
		if m.inPool(m.to, id) != nil {
			copies = append(copies, id)
		}
	}
	if len(copies) == 0 {
		return nil
	}
	here, there, err := m.snapshotsOfBoth(ctx, copies)
	if err != nil {
		return nil
	}
	written := map[string]int64{}
	for _, id := range copies {
		var have []string
		for _, s := range there[id] {
			have = append(have, s.GUID)
		}
		if base := storage.NewestShared(here[id], have); base != "" {
			written[id], _ = m.pre.From.WrittenVolume(ctx, id, base)
		}
	}
	return written
}

// needStop refuses a stop that is longer than it may be with nothing left to carry. The hint allows what there is to carry
// as much again.
func (m *Migrate) needStop() error {
	if m.pre.MaxStop == 0 || m.pre.Fixed <= m.pre.MaxStop {
		return nil
	}
	enough := (2*m.pre.Fixed + time.Second).Truncate(time.Second)
	return api.Errorf(api.CodeVolumeNotConverging, "with nothing left to carry the stop takes about %s, and it may take %s", m.pre.Fixed, m.pre.MaxStop).
		About(m.ns).WithHint("nothing was carried; allow a longer stop: %s --max-stop %s", m.command(), enough)
}

// command is the request as it is typed, without its limits.
func (m *Migrate) command() string {
	what := m.ns
	if m.request.Service != "" {
		what += "/" + m.request.Service
	}
	return fmt.Sprintf("ployzctl migrate %s --to %s", what, m.to)
}

// alongText says, in the preview, why a data set moves that nobody named.
func (m *Migrate) alongText(name string) string {
	if by := m.along[name]; by != "" {
		return fmt.Sprintf("; %s mounts it too, and moves", by)
	}
	return ""
}
