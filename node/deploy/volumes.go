package deploy

import (
	"context"
	"crypto/sha256"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// A release asks for volumes. What it gets are data sets: one for a volume of scope namespace, one for each slot that
// mounts a volume of scope slot. Where a data set is decides where its slots are, so placement is first told which
// machines have one (pins), and what it chose then says where new ones come (layout.sets).
//
// An operation makes, grows and restores data sets before its commit and takes that back when it fails; what is no
// longer asked for loses its name only after the commit, once nobody writes it, and is kept. Nothing here destroys
// what an operator may have written to: only what this operation, or one that never committed, made.

// dataset is one volume of the next release on its machine.
type dataset struct {
	name, volume string
	machine      string
	// from is the machine that has it until now, where it moves; "" where it stays.
	from  string
	scope string
	spec  storage.Spec
	// was is the fact of one that there is: live, or kept and now restored. nil makes a new one.
	was *volumeFact
	// seen is what the pool that has it says of it; nil where it says nothing.
	seen *storage.Volume
	// back is the data of an earlier commit that it has; nil for the present data. out is the live one that gives way to
	// it, and outSeen what the pool says of that; both nil where nobody has the name.
	back    *past
	out     *volumeFact
	outSeen *storage.Volume
	// unclaimed is one that the release does not ask for, and that is no part of the commit.
	unclaimed bool
}

type volumeFact struct {
	api.VolumeFact
	revision store.Revision
}

// snapshotName is a commit's among those of a volume.
func snapshotName(commit int) string { return "c" + strconv.Itoa(commit) }

// strayVolume is a live volume of the namespace that no fact, or only another state of one, accounts for.
type strayVolume struct {
	machine string
	volume  storage.Volume
	// maker is the operation that made it and never committed; "" where that cannot be said.
	maker string
}

// datasetName is what a slot's mount of a volume stands for.
func datasetName(v api.Volume, volume, slot string) string {
	if v.PerSlot() {
		return volume + "." + slot
	}
	return volume
}

// volumeOf is the name in the spec that a data set goes back to.
func volumeOf(dataset string) string {
	volume, _, _ := strings.Cut(dataset, ".")
	return volume
}

// volumeID names a data set after the operation that makes it, so that a retry of a step means the same one, two
// operations never do, and the id itself proves who made it.
func volumeID(operation, ns, name string) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{"volume", operation, ns, name}, "\x00")))
	return "v" + idAlphabet.EncodeToString(sum[:10])
}

// Volumes reads a namespace's data sets, live and kept, by id. Errors: store.*.
func Volumes(ctx context.Context, facts store.Facts, ns string) ([]api.VolumeFact, error) {
	list, err := readVolumes(ctx, facts, ns)
	all := make([]api.VolumeFact, len(list))
	for i, v := range list {
		all[i] = v.VolumeFact
	}
	return all, err
}

func readVolumes(ctx context.Context, facts store.Facts, ns string) ([]volumeFact, error) {
	list, err := facts.List(ctx, store.Volumes(ns))
	if err != nil {
		return nil, err
	}
	all := make([]volumeFact, len(list))
	for i, fact := range list {
		all[i].revision = fact.Revision
		if err := store.Decode(fact, &all[i].VolumeFact); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// inspectVolumes reads the facts of the namespace's data sets and asks the machines what they keep, if a volume may be
// in question.
func (c *change) inspectVolumes(ctx context.Context) (err error) {
	had := c.now.commit != nil && len(c.now.commit.Volumes) > 0
	// Without a commit, or after an operation that did not come to its end, only the pools know what is left.
	left := c.now.commit == nil || c.unfinished != nil
	keeps := slices.ContainsFunc(c.machines, func(m candidate) bool { return m.seen.Keeps })
	if !had && len(c.next.spec.Volumes) == 0 && !(left && keeps) && c.kind != api.KindMigrate {
		return nil
	}
	if c.volumes, err = readVolumes(ctx, c.kit.Facts, c.ns); err == nil {
		c.inspectPools(ctx)
		c.inspectAbandoned(ctx)
	}
	return err
}

func (c *change) inspectPools(ctx context.Context) {
	var all sync.WaitGroup
	for i := range c.machines {
		m := &c.machines[i]
		if m.silent != nil {
			continue
		}
		if !m.seen.Keeps {
			m.stored.None = noPool()
			continue
		}
		all.Go(func() {
			p, err := c.kit.Participants.Participant(ctx, m.member.Name)
			if err == nil {
				m.stored, err = p.Stored(ctx, c.ns)
			}
			if err != nil {
				m.stored.None = api.AsError(err)
			}
		})
	}
	all.Wait()
}

// live is the fact of the data set that has a name, or nil.
func (c *change) live(name string) *volumeFact {
	for i, v := range c.volumes {
		if v.State == api.VolumeLive && v.Name == name {
			return &c.volumes[i]
		}
	}
	return nil
}

func (c *change) volumeByID(id string) *volumeFact {
	for i, v := range c.volumes {
		if v.ID == id {
			return &c.volumes[i]
		}
	}
	return nil
}

// before is the data set that is to have a name: the one that has it, else one that gets it back; nil for a new one.
func (c *change) before(name string) *volumeFact {
	if v := c.live(name); v != nil {
		return v
	}
	return c.volumeByID(c.revive[name])
}

// pins are the machines of the data sets that there are, by name.
func (c *change) pins() map[string]string {
	pins := map[string]string{}
	for name, id := range c.revive {
		pins[name] = c.volumeByID(id).Machine
	}
	for name, p := range c.back {
		if p.err == nil {
			pins[name] = p.of.Machine
		}
	}
	for _, v := range c.volumes {
		if v.State == api.VolumeLive {
			pins[v.Name] = v.Machine
		}
	}
	maps.Copy(pins, c.moves)
	return pins
}

// datasets are what the next release needs, by name: what its slots mount, and what is declared and there while
// nobody mounts it.
func (c *change) datasets(placed placement) []dataset {
	sets := map[string]dataset{}
	for service, choices := range placed.choices {
		for _, choice := range choices {
			for _, m := range c.next.spec.Services[service].Mounts {
				name := datasetName(c.next.spec.Volumes[m.Volume], m.Volume, choice.slot)
				sets[name] = c.dataset(name, choice.machine)
			}
		}
	}
	for _, v := range c.volumes {
		switch _, mounted := sets[v.Name]; {
		case mounted || v.State != api.VolumeLive:
		case c.declared(v):
			sets[v.Name] = c.dataset(v.Name, v.Machine)
		case c.moves[v.Name] != "" || c.lostName(v):
			sets[v.Name] = c.unclaimed(v)
		}
	}
	for name, p := range c.back {
		if _, mounted := sets[name]; !mounted && p.err == nil && c.declared(p.of) {
			sets[name] = c.dataset(name, p.of.Machine)
		}
	}
	var list []dataset
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		list = append(list, sets[name])
	}
	return list
}

// unclaimed is a data set that the release does not ask for, such as one made in advance, or a clone, and that changes all
// the same. It stays as it is asked of the pool, and out of the commit: the next deploy must not take its name for it.
func (c *change) unclaimed(v volumeFact) dataset {
	d := c.dataset(v.Name, v.Machine)
	d.spec, d.scope, d.unclaimed = specOf(v.VolumeFact), v.Scope, true
	return d
}

// lostName says that a migration which did not come to its end took the name of a data set in its pool.
func (c *change) lostName(v volumeFact) bool {
	seen := c.inPool(v.Machine, v.ID)
	return seen != nil && seen.State == storage.StateKept && c.migrationUnended()
}

// declared says that a data set which no slot mounts is asked for all the same: a volume of the namespace, or that of
// a slot whose service is stopped.
func (c *change) declared(v volumeFact) bool {
	volume, slot, _ := strings.Cut(v.Name, ".")
	asked, ok := c.next.spec.Volumes[volume]
	if !ok || asked.PerSlot() != (slot != "") {
		return false
	}
	if slot == "" {
		return true
	}
	for name, s := range c.next.spec.Services {
		mounts := slices.ContainsFunc(s.Mounts, func(m api.Mount) bool { return m.Volume == volume })
		if mounts && s.Placement.Zero && strings.HasPrefix(slot, name+"-") {
			return true
		}
	}
	return false
}

func (c *change) dataset(name, machineName string) dataset {
	v := c.next.spec.Volumes[volumeOf(name)]
	d := dataset{name: name, volume: volumeOf(name), machine: machineName, scope: v.Scope, was: c.before(name)}
	d.spec = storageSpec(c.ns, name, v)
	d.spec.ID = volumeID(c.operation, c.ns, name)
	if d.was != nil {
		d.spec.ID, d.machine = d.was.ID, d.was.Machine
	}
	if to, moves := c.moves[name]; moves {
		d.from, d.machine = d.machine, to
	}
	if p, comes := c.back[name]; comes && p.err == nil {
		c.giveBack(&d, p)
	}
	d.seen = c.inPool(d.at(), d.spec.ID)
	return d
}

// at is the machine that has a data set until now.
func (d dataset) at() string {
	if d.from != "" {
		return d.from
	}
	return d.machine
}

// inPool is a data set as its machine has it, or nil.
func (c *change) inPool(machineName, id string) *storage.Volume {
	m := c.candidate(machineName)
	if m == nil {
		return nil
	}
	at := slices.IndexFunc(m.stored.Volumes, func(v storage.Volume) bool { return v.ID == id })
	if at < 0 {
		return nil
	}
	return &m.stored.Volumes[at]
}

func (c *change) candidate(machineName string) *candidate {
	for i, m := range c.machines {
		if m.member.Name == machineName {
			return &c.machines[i]
		}
	}
	return nil
}

// storageSpec is what a pool is asked for, without the id.
func storageSpec(ns, name string, v api.Volume) storage.Spec {
	s := storage.Spec{Namespace: ns, Name: name, SizeBytes: v.SizeBytes, Mode: folderMode(v.Mode)}
	if v.Owner != nil {
		s.Owner = &storage.Owner{UID: v.Owner.UID, GID: v.Owner.GID}
	}
	return s
}

// specOf is what a pool was asked for of a data set that there is.
func specOf(v api.VolumeFact) storage.Spec {
	s := storageSpec(v.Namespace, v.Name, api.Volume{SizeBytes: v.SizeBytes, Owner: v.Owner, Mode: v.Mode})
	s.ID = v.ID
	return s
}

// folderMode is a mode in octal digits as Go has it.
func folderMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode) & fs.ModePerm
	for bit, as := range map[uint32]fs.FileMode{0o1000: fs.ModeSticky, 0o2000: fs.ModeSetgid, 0o4000: fs.ModeSetuid} {
		if mode&bit != 0 {
			m |= as
		}
	}
	return m
}

// formerly is what the pool was asked for before this change.
func (d dataset) formerly() storage.Spec {
	return specOf(d.was.VolumeFact)
}

// grows reports whether a size allows more than another, where 0 is no limit.
func grows(from, to int64) bool { return from != 0 && (to == 0 || to > from) }

// neverShrink asks for no less than the live data sets may hold already.
func (c *change) neverShrink() {
	c.next.spec.Volumes = maps.Clone(c.next.spec.Volumes)
	for _, v := range c.volumes {
		asked, known := c.next.spec.Volumes[volumeOf(v.Name)]
		if known && v.State == api.VolumeLive && grows(asked.SizeBytes, v.SizeBytes) {
			asked.SizeBytes = v.SizeBytes
			c.next.spec.Volumes[volumeOf(v.Name)] = asked
		}
	}
}

// action is what becomes of the data set, in the preview's words.
func (d dataset) action() string {
	switch {
	case d.from != "":
		return "move"
	case d.out != nil:
		return "swap"
	case d.back != nil:
		return "clone"
	case d.was == nil:
		return "create"
	case d.was.State == api.VolumeKept || d.seen != nil && d.seen.State == storage.StateKept:
		return "restore"
	case grows(d.was.SizeBytes, d.spec.SizeBytes):
		return "grow"
	case grows(d.spec.SizeBytes, d.was.SizeBytes):
		return "shrink"
	case d.changes():
		return "update"
	}
	return "keep"
}

// changes reports whether the pool is asked for anything else than before.
func (d dataset) changes() bool {
	was := d.formerly()
	owner := (was.Owner == nil) != (d.spec.Owner == nil) || was.Owner != nil && *was.Owner != *d.spec.Owner
	return owner || was.Mode != d.spec.Mode || was.SizeBytes != d.spec.SizeBytes
}

// unasked are the data sets of the present commit that the next release no longer asks for.
func (c *change) unasked(sets []dataset) []volumeFact {
	if c.now.commit == nil {
		return nil
	}
	var list []volumeFact
	for _, name := range slices.Sorted(maps.Keys(c.now.commit.Volumes)) {
		v := c.live(name)
		if v != nil && v.ID == c.now.commit.Volumes[name].ID && !slices.ContainsFunc(sets, func(d dataset) bool { return d.name == name }) {
			list = append(list, *v)
		}
	}
	return list
}

// strayVolumes are what operations left in the pools that did not come to their end.
func (c *change) strayVolumes() []strayVolume {
	var list []strayVolume
	for _, m := range c.machines {
		for _, v := range m.stored.Volumes {
			fact := c.volumeByID(v.ID)
			s := strayVolume{machine: m.member.Name, volume: v}
			if fact == nil {
				s.maker = c.makerOf(v)
			}
			intended := fact != nil && fact.State == api.VolumeLive && fact.Machine == m.member.Name
			if s.maker != "" || v.State == storage.StateLive && !intended {
				list = append(list, s)
			}
		}
	}
	return list
}

// makerOf is the unfinished operation that made a volume, or "".
func (c *change) makerOf(v storage.Volume) string {
	for _, u := range c.unended() {
		if !u.Committed && volumeID(u.Operation, v.Namespace, v.Name) == v.ID {
			return u.Operation
		}
	}
	return ""
}

// writes are the data sets that a slot of a service may write.
func writes(spec api.Spec, service, slot string) map[string]bool {
	names := map[string]bool{}
	for _, m := range spec.Services[service].Mounts {
		if !m.ReadOnly {
			names[datasetName(spec.Volumes[m.Volume], m.Volume, slot)] = true
		}
	}
	return names
}

// oldWriters are the instances that have to stop before anything starts, by id, each with a data set that it and a new
// one write: two never write one at once. Who mounts a data set that is swapped or moves stops as well, also if it only
// reads.
func (c *change) oldWriters(l layout) map[string]string {
	starting := map[string]bool{}
	for _, p := range slices.Concat(l.places, l.early()) {
		if !p.keep {
			maps.Copy(starting, writes(c.next.spec, p.service, p.slot))
		}
	}
	old, leaving := map[string]string{}, l.leaving()
	for _, slot := range l.retired() {
		for _, name := range mounted(c.presentSpec(), slot.Service, slot.Name) {
			if leaving[name] && c.isMember(slot.Machine) {
				old[slot.Instance] = name
			}
		}
		for _, name := range slices.Sorted(maps.Keys(writes(c.presentSpec(), slot.Service, slot.Name))) {
			if starting[name] && c.isMember(slot.Machine) {
				old[slot.Instance] = name
			}
		}
	}
	return old
}
