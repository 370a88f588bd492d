package deploy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
)

// Migrate moves data sets of a namespace, and with them who mounts them, to another machine. The release stays what it
// is: its next commit has the same services, with the slots of those data sets where the data sets come.
//
//	copy                 snapshots are carried while everybody goes on writing, in rounds   Precopy.Run
//	hold                 gateways let requests wait, where that was asked for
//	stop the writers  ┐  all who mount one of them
//	last changes      │  the last round                                                     Precopy.Finish
//	hand over         │  the name goes here, beside the commit's snapshot of the copy,
//	take over         │  and is given there then: never two
//	start, ready      │
//	(commit)          │
//	routing applied   │  on every machine
//	let go            ┘  of the requests that wait
//	forget               what the rounds needed                                             Precopy.Forget
//
// Until the commit the data set of the old machine is the one that counts. A failure inside the stop gives it its name
// back and starts who was stopped. What an instance may have written to the copy by then is nobody's history: no pool can
// take a data set back to a snapshot, so that such a copy is destroyed, and the next migration sends in full. A copy that
// nobody can have written stays, and the next one begins with it. Where the coordinator died, nobody may know which it
// is; then the pool does (volume.base-missing), and it goes as well.
type Migrate struct {
	change
	request api.MigrateRequest

	// from and to are the machines; from is "" where everything is there already.
	from, to string
	// along are the moved data sets that the request does not name, each with the service that takes it along.
	along map[string]string
	pre   *Precopy
	// names are the data sets' by id.
	names map[string]string

	// timing guards the rest: steps of one phase may run at once.
	timing sync.Mutex
	stated time.Duration
	// stopping are the writers' stops, carrying is the last changes' way, routing ends when the last machine routes to the
	// new instances; starting are the starts, a layer's and then until they are ready.
	stopping, carrying, routing span
	starting                    []*span
	// launched says that an instance may have written to a copy.
	launched bool
	// away are the data sets whose name may be gone here, given those that may have it there, by name.
	away, given map[string]bool
}

// NewMigrate prepares it.
func NewMigrate(kit Kit, request api.MigrateRequest) *Migrate {
	return &Migrate{change: change{kit: kit, ns: request.Namespace, kind: api.KindMigrate}, request: request, to: request.To}
}

// Inspect implements operation.Operation.
func (m *Migrate) Inspect(ctx context.Context, before operation.Situation) error {
	if err := m.inspect(ctx, before); err != nil {
		return err
	}
	if err := m.needRequest(ctx); err != nil {
		return err
	}
	m.next = m.present()
	if err := m.inspectVolumes(ctx); err != nil {
		return err
	}
	if err := m.choose(); err != nil {
		return err
	}
	m.complete(ctx)
	if err := m.inspectClaims(ctx); err != nil {
		return err
	}
	if m.from == "" {
		return nil
	}
	return m.prepare(ctx)
}

// needRequest refuses what names nothing that is there.
func (m *Migrate) needRequest(ctx context.Context) error {
	if m.request.MaxStop < 0 || m.request.BytesPerSecond < 0 {
		return api.Errorf(api.CodeBadRequest, "neither a stop nor a rate can be less than nothing").About(m.ns)
	}
	if err := m.needCommit(); err != nil {
		return m.onlyVolumes(ctx, err)
	}
	if m.request.Service != "" {
		return m.needService(m.request.Service)
	}
	return nil
}

// onlyVolumes says so of a namespace that has volumes and no release: it has no commit that could say where they are. Else it
// is what was refused.
func (m *Migrate) onlyVolumes(ctx context.Context, refused error) error {
	all, err := readVolumes(ctx, m.kit.Facts, m.ns)
	if err != nil {
		return err
	}
	for _, v := range all {
		if v.State == api.VolumeLive {
			return api.Errorf(api.CodeNamespaceAbsent, "nothing is deployed under that name that could move with the volume %s", v.Name).About(m.ns).
				WithHint("deploy what is to mount it first; or, if nobody needs it: ployzctl volume rm %s/%s", m.ns, v.Name)
		}
	}
	return refused
}

// choose decides what moves, from where.
func (m *Migrate) choose() error {
	if err := m.needTarget(); err != nil {
		return err
	}
	asked, there := m.asked()
	switch {
	case len(asked) == 0 && len(there) == 0:
		return m.nothingMoves()
	case len(asked) == 0 && m.now.commit.Kind != m.kind && m.unfinished == nil:
		return api.Errorf(api.CodeVolumeThere, "%s has them already: %s", m.to, strings.Join(there, ", ")).About(m.ns).
			WithHint("look: ployzctl volume ls %s", m.ns)
	case len(asked) == 0: // a migration that is repeated: what it left is cleared
		return nil
	}
	m.from = asked[0].Machine
	for _, v := range asked {
		if v.Machine != m.from {
			return api.Errorf(api.CodeBadRequest, "they are on several machines: %s on %s, %s on %s", asked[0].Name, m.from, v.Name, v.Machine).About(m.ns).
				WithHint("name one: --from %s", m.from)
		}
	}
	m.moves, m.along = map[string]string{}, map[string]string{}
	for _, v := range asked {
		m.moves[v.Name] = m.to
	}
	m.takeAlong()
	if m.request.Hold {
		m.hold = m.servicesThatWait()
	}
	return m.needFit()
}

// asked are the live data sets that the request means, and the names of those that are on the target already.
func (m *Migrate) asked() (asked []volumeFact, there []string) {
	for _, v := range m.volumes {
		mounters := m.mounters(v.Name)
		means := m.request.Service == "" || slices.Contains(mounters, m.request.Service)
		if v.State != api.VolumeLive || !means || m.request.Service == "" && m.bound(v.Name, mounters) {
			continue
		}
		switch {
		case v.Machine == m.to:
			there = append(there, v.Name)
		case m.request.From == "" || v.Machine == m.request.From:
			asked = append(asked, v)
		}
	}
	slices.SortFunc(asked, func(a, b volumeFact) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(there)
	return asked, there
}

// bound says that a data set is of a slot that is one on every machine, and so does not leave its own.
func (m *Migrate) bound(dataset string, mounters []string) bool {
	return strings.Contains(dataset, ".") && slices.ContainsFunc(mounters, func(name string) bool {
		return m.next.spec.Services[name].Placement.Global
	})
}

// takeAlong adds what the slots that move mount besides, and so who mounts that, until nobody is left behind.
func (m *Migrate) takeAlong() {
	for again := true; again; {
		again = false
		for _, slot := range m.slotsThatMove() {
			for _, name := range mounted(m.presentSpec(), slot.Service, slot.Name) {
				if v := m.live(name); v != nil && m.moves[name] == "" {
					m.moves[name], m.along[name], again = m.to, slot.Service, true
				}
			}
		}
	}
}

// slotsThatMove are those of the present commit that mount a moved data set, by name.
func (m *Migrate) slotsThatMove() (list []api.Slot) {
	for _, name := range slices.Sorted(maps.Keys(m.now.commit.Slots)) {
		slot := m.now.commit.Slots[name]
		moves := func(dataset string) bool { return m.moves[dataset] != "" }
		if slices.ContainsFunc(mounted(m.presentSpec(), slot.Service, slot.Name), moves) {
			list = append(list, slot)
		}
	}
	return list
}

// servicesThatWait are those of which a slot moves, and those that depend on them, directly or not: what reaches one of
// these during the stop could only fail.
func (m *Migrate) servicesThatWait() (names []string) {
	wait, all := map[string]bool{}, m.presentSpec().Services
	for _, slot := range m.slotsThatMove() {
		wait[slot.Service] = true
	}
	for again := true; again; {
		again = false
		for name, s := range all {
			for other := range s.DependsOn {
				if wait[other] && !wait[name] {
					wait[name], again = true, true
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wait)) {
		if all[name].Job == nil {
			names = append(names, name)
		}
	}
	return names
}

// prepare makes what carries the data sets.
func (m *Migrate) prepare(ctx context.Context) error {
	m.names, m.away, m.given = map[string]string{}, map[string]bool{}, map[string]bool{}
	m.pre = &Precopy{BytesPerSecond: m.request.BytesPerSecond, MaxStop: m.request.MaxStop.D(0)}
	for _, name := range slices.Sorted(maps.Keys(m.moves)) {
		v := m.live(name)
		m.pre.Volumes, m.names[v.ID] = append(m.pre.Volumes, specOf(v.VolumeFact)), name
	}
	m.pre.FromID, m.pre.ToID = m.candidate(m.from).member.ID, m.candidate(m.to).member.ID
	var err error
	if m.pre.From, err = m.kit.Carriers.Carrier(ctx, m.from); err != nil {
		return err
	}
	if m.pre.To, err = m.kit.Carriers.Carrier(ctx, m.to); err != nil {
		return err
	}
	if err := m.needRoom(ctx); err != nil {
		return err
	}
	if m.pre.Fixed, err = m.fixed(ctx); err != nil {
		return err
	}
	return m.needStop()
}

// moveReason says what a data set's move takes.
func (c *change) moveReason(d dataset) string {
	reason := "from " + d.from + ", which keeps a copy; "
	if c.inPool(d.machine, d.spec.ID) != nil {
		return reason + d.machine + " has one, and gets what was written since"
	}
	used := int64(0)
	if d.seen != nil {
		used = d.seen.UsedBytes
	}
	return reason + fmt.Sprintf("it holds %s", storage.SizeText(used))
}

// copiesOf are a data set's copies once it has moved.
func (c *change) copiesOf(d dataset, op string) []api.VolumeCopy {
	c.mu.Lock()
	defer c.mu.Unlock()
	stays := api.VolumeCopy{
		Machine: d.from, Snapshot: c.moved[d.name].Snapshot, GUID: c.moved[d.name].GUID,
		Reason: api.CopyMoved, Since: c.kit.Now().UTC(), Operation: op,
	}
	return withCopy(d.was.Copies, stays, func(v api.VolumeCopy) bool { return v.Machine == d.machine })
}

// withCopy are a data set's copies with one more, in place of any on its machine, and without those that go.
func withCopy(list []api.VolumeCopy, one api.VolumeCopy, goes func(api.VolumeCopy) bool) []api.VolumeCopy {
	list = slices.DeleteFunc(slices.Clone(list), func(c api.VolumeCopy) bool { return c.Machine == one.Machine || goes(c) })
	list = append(list, one)
	slices.SortFunc(list, func(a, b api.VolumeCopy) int { return strings.Compare(a.Machine, b.Machine) })
	return list
}

// Result implements operation.Resulter.
func (m *Migrate) Result() any {
	m.timing.Lock()
	defer m.timing.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	r := api.MigrateResult{Namespace: m.ns, Volumes: maps.Clone(m.moved), StopStated: api.Duration(m.stated)}
	r.Stop, r.StopParts = m.measured()
	for _, name := range slices.Sorted(maps.Keys(m.moves)) {
		r.Kept = append(r.Kept, m.live(name).ID)
	}
	return r
}

// LastMove is how a data set came to the machine that it lives on; nil if no commit moved it. Errors: store.*.
func LastMove(ctx context.Context, facts machine.Lister, ns, id string) (*api.VolumeMove, error) {
	commits, err := readCommits(ctx, facts, ns)
	if err != nil {
		return nil, err
	}
	var last *api.VolumeMove
	for _, c := range commits {
		for _, v := range c.Volumes {
			if v.ID == id && v.Move != nil {
				last = v.Move
			}
		}
	}
	return last, nil
}

// evidence is what became of a data set's rounds.
func evidence(from, to string, rounds [][]storage.Carried, at int) api.VolumeMove {
	move := api.VolumeMove{From: from, To: to}
	for _, round := range rounds {
		got := round[at]
		move.Rounds = append(move.Rounds, api.MoveRound{Bytes: got.Bytes, Took: api.Duration(got.Took.Round(time.Millisecond))})
		move.Bytes += got.Bytes
		move.Snapshot, move.GUID = got.Snapshot, got.GUID
	}
	return move
}
