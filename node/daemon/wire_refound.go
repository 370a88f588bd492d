package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/units"
)

// refounder forms the store anew on this machine: machine.Refounder. What it replaces is put aside in a folder,
// whose identity says that a try has begun, and which goes when one has ended.
type refounder struct {
	daemon *Daemon
	// archive is a backup; nil for the machine's own copy.
	archive *archive
	copies  map[string]natsstore.Digest // as Standing found them, by name
}

// newReform forms the store anew from this machine's own copy.
func (d *Daemon) newReform(r api.ReformRequest) operation.Operation {
	if d.peering.Load() == nil {
		return refusedOperation{api.KindStoreReform, machine.NotInitialised()}
	}
	return machine.NewReform(foundingFacts{d.founded.Facts(), d}, &refounder{daemon: d}, r, time.Now)
}

func (d *Daemon) asidePath(parts ...string) string {
	return d.host.path(append([]string{"nats", "aside"}, parts...)...)
}

// Standing implements machine.Refounder.
func (r *refounder) Standing(ctx context.Context) (s machine.Standing, err error) {
	if s.Self, err = machine.LoadIdentity(r.daemon.State); err != nil {
		return s, err
	}
	s.Was, err = machine.LoadIdentity(r.daemon.asidePath())
	if api.CodeOf(err) == api.CodeNotInitialised {
		s.Was, err = s.Self, nil
	}
	if err != nil {
		return s, err
	}
	opened, err := natsstore.Open(r.daemon.storeConfig(s.Was))
	if err != nil {
		return s, err
	}
	view := opened.Reading()
	defer view.Close()
	if s.Roster, err = r.roster(ctx, s, view); err != nil {
		return s, err
	}
	if s.Source, err = r.source(ctx, s.Was, view); err != nil {
		return s, err
	}
	r.copies = r.ask(ctx, s.Self, s.Roster.Members)
	s.Answer = map[string]uint64{}
	for name, d := range r.copies {
		s.Answer[name] = d.Generation
	}
	return s, nil
}

// roster is that of the new generation once it is committed, else that of the one before; from disk where this
// machine's copy is what was lost.
func (r *refounder) roster(ctx context.Context, s machine.Standing, was store.View) (machine.Roster, error) {
	folder := r.daemon.State
	if exists(r.daemon.asidePath("roster.json")) {
		folder = r.daemon.asidePath()
	}
	last, unknown := machine.LoadRoster(folder)
	now, err := machine.ReadRoster(ctx, r.daemon.store.Load().View(), s.Self.ID, time.Now(), last)
	if err == nil && now.Cluster.Generation == s.Self.Generation {
		return now, nil
	}
	if now, err = machine.ReadRoster(ctx, was, s.Was.ID, time.Now(), last); err == nil {
		return now, nil
	}
	return last, unknown
}

func (r *refounder) source(ctx context.Context, was machine.Identity, view store.View) (machine.Source, error) {
	if r.archive != nil {
		source, err := r.archive.Open(ctx)
		if err == nil && r.archive.opened.Manifest.Cluster != was.Cluster {
			err = api.Errorf(api.CodeStoreBackupForeign, "the backup is of cluster %s, this machine of %s", r.archive.opened.Manifest.Cluster, was.Cluster).
				WithHint("use a backup of this cluster; or restore it on a machine that is in none")
		}
		return source, err
	}
	fresh, err := view.Freshness(ctx)
	if err != nil {
		return machine.Source{}, err
	}
	facts, err := view.List(ctx, "") // at once, since the view is closed before the plan is made
	return machine.Source{Facts: natsstore.ContentsOf(facts), Machine: was.ID, Generation: was.Generation, Last: fresh.Last}, err
}

// ask has machines sum up their copies; who does not answer is not among them.
func (r *refounder) ask(ctx context.Context, self machine.Identity, members []machine.Member) map[string]natsstore.Digest {
	m := r.daemon.member.Load()
	list := make([]string, len(members))
	for i, member := range members {
		list[i] = member.Name
	}
	values, errs := everywhere(ctx, list, func(ctx context.Context, name string) (natsstore.Digest, error) {
		if name != self.Name {
			return askJSON[natsstore.Digest](ctx, m, name, Ask{Method: "GET", Path: copyPath})
		}
		d, err := r.daemon.store.Load().EdgeDigest(ctx)
		if err != nil { // this machine answers, whatever its copy is like
			r.daemon.Log.Warn("this machine's own copy", "error", err)
			d = natsstore.Digest{Generation: self.Generation}
		}
		return d, nil
	})
	copies := map[string]natsstore.Digest{}
	for i, name := range list {
		if errs[i] == nil {
			copies[name] = values[i]
		}
	}
	return copies
}

// Better implements machine.Refounder. A backup is chosen by the operator.
func (r *refounder) Better(ctx context.Context, gone []machine.Member) ([]*api.Error, error) {
	if r.archive != nil || exists(r.daemon.asidePath()) { // a try before has looked
		return nil, nil
	}
	refuse := func(hint, format string, args ...any) ([]*api.Error, error) {
		return []*api.Error{api.Errorf(api.CodeStoreNotRescuable, format, args...).About("store").WithHint("%s", hint)}, nil
	}
	opened := r.daemon.store.Load()
	var survivors []natsstore.Survivor
	if t, err := opened.Topology(ctx); err == nil { // that no voter answers is what this is for
		if t.HasQuorum() {
			return refuse(rescueHint, "a majority of the voters is there: nothing needs to be formed anew")
		}
		if survivors, err = opened.Survivors(ctx); err != nil {
			return nil, err
		}
	}
	var mirrors []natsstore.NamedDigest
	for name, d := range r.copies {
		mirrors = append(mirrors, natsstore.NamedDigest{Name: name, Digest: d})
	}
	way := natsstore.ChooseCopy(survivors, mirrors)
	self, err := machine.LoadIdentity(r.daemon.State)
	if err != nil {
		return nil, err
	}
	members, err := r.daemon.peering.Load().members(ctx)
	if err != nil {
		return nil, err
	}
	switch from := machineOf(members, way.From); {
	case slices.Contains(way.Odd, self.Name):
		return refuse("ployzctl store restore FILE, from a backup", "this machine's copy disagrees with others of the same length: nobody can say which is right")
	case way.InPlace:
		return refuse(storeOn(from, "recover", gone), "the voter %s holds all that anybody holds: it can go on as it is", from)
	case from != self.Name && way.Last > r.copies[self.Name].Last:
		return refuse(storeOn(from, "reform", gone), "%s holds facts up to %d, this machine only up to %d", from, way.Last, r.copies[self.Name].Last)
	}
	return nil, nil
}

// storeOn is the command that goes on elsewhere.
func storeOn(name, verb string, gone []machine.Member) string {
	return fmt.Sprintf("ployzctl --host ssh://root@%s store %s --abandon %s", name, verb, strings.ReplaceAll(names(gone), ", ", ","))
}

// Fence implements machine.Refounder.
func (r *refounder) Fence(ctx context.Context, act *operation.Act, on machine.Member, gone []machine.Member, fenced bool) error {
	list := make([]string, len(gone))
	for i, m := range gone {
		list[i] = m.ID
	}
	if on.ID == r.daemon.peering.Load().self.ID {
		return r.daemon.Fence(ctx, list, fenced)
	}
	return r.tell(ctx, on, fencePath, fenceQuery(list, fenced))
}

// Found implements machine.Refounder.
func (r *refounder) Found(ctx context.Context, act *operation.Act, next machine.Identity, roster machine.Roster) error {
	d := r.daemon
	f := d.following.Load()
	f.mu.Lock() // what follows the membership must not configure the old store meanwhile
	defer f.mu.Unlock()
	backup, done, err := r.backup(ctx, act)
	if err != nil {
		return err
	}
	defer done()
	if err := d.putAside(ctx); err != nil {
		return err
	}
	secret, err := natsstore.NewRouteSecret()
	if err != nil {
		return err
	}
	if err := errors.Join(natsstore.InstallRouteSecret(d.host.routeSecret(), secret), roster.Save(d.State), next.Save(d.State)); err != nil {
		return err
	}
	if err := d.forgetMirrors(ctx, next); err != nil { // of a try before
		return err
	}
	act.Note("founding a core of " + next.ClusterName + " in generation " + fmt.Sprint(next.Generation))
	if err := d.host.makeStore(ctx, next); err != nil {
		return err
	}
	if err := d.putStore(ctx, next); err != nil { // the edge looks to it from now on
		return err
	}
	act.Note(fmt.Sprintf("filling it with %d facts", backup.Manifest.Facts.Messages))
	return d.fill(ctx, next, backup)
}

// backup is what the new core is filled from. A copy of this machine's own is made while nothing is changed yet.
func (r *refounder) backup(ctx context.Context, act *operation.Act) (_ *natsstore.Backup, done func(), err error) {
	if r.archive != nil {
		b, err := r.archive.backup()
		return b, func() {}, err
	}
	was, err := machine.LoadIdentity(r.daemon.asidePath())
	if api.CodeOf(err) == api.CodeNotInitialised {
		was, err = machine.LoadIdentity(r.daemon.State)
	}
	if err != nil {
		return nil, nil, err
	}
	act.Note("copying this machine's own copy of the facts")
	spool, err := os.CreateTemp(r.daemon.host.path("nats"), "copy-")
	if err != nil {
		return nil, nil, api.Errorf(api.CodeInternal, "a place for the copy: %w", err)
	}
	done = func() {
		spool.Close()
		os.Remove(spool.Name()) // what is left of it is removed with the store
	}
	b, err := r.daemon.copyOf(ctx, was, spool)
	if err != nil {
		done()
	}
	return b, done, err
}

// copyOf is a backup of this machine's mirror.
func (d *Daemon) copyOf(ctx context.Context, was machine.Identity, spool *os.File) (*natsstore.Backup, error) {
	opened, err := natsstore.Open(d.storeConfig(was))
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	m, err := opened.Backup(ctx, spool, was.Cluster)
	if err != nil {
		return nil, err
	}
	return natsstore.OpenBackup(spool, m.Digest)
}

// aside are the files and the folder that a core's machine has, by their place beside the new ones.
func (d *Daemon) aside() map[string]string {
	return map[string]string{
		d.host.path("nats", "core"): d.asidePath("core"), d.host.routeSecret(): d.asidePath("route.secret"),
		d.host.path("roster.json"): d.asidePath("roster.json"),
	}
}

// putAside stops this machine's core and keeps what it had; what an earlier try has put in its place is removed. The
// identity is written last: without it nothing is aside.
func (d *Daemon) putAside(ctx context.Context) error {
	if err := d.units.Remove(ctx, units.NATSCoreService); err != nil {
		return err
	}
	was, err := machine.LoadIdentity(d.asidePath())
	begun := err == nil
	if api.CodeOf(err) == api.CodeNotInitialised {
		was, err = machine.LoadIdentity(d.State)
	}
	if err != nil {
		return err
	}
	if begun {
		if err := d.retireNew(was); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(d.asidePath(), 0o700); err != nil {
		return api.Errorf(api.CodeInternal, "putting the core aside: %w", err)
	}
	for here, there := range d.aside() {
		if exists(there) { // by an earlier try
			continue
		}
		if err := rename(here, there); err != nil {
			return err
		}
	}
	return was.Save(d.asidePath())
}

// retireNew removes the core that was put in the place of this machine's own, but not its own one: an undo that was
// cut short may have put that back.
func (d *Daemon) retireNew(was machine.Identity) error {
	if was.Votes() && !exists(d.asidePath("core")) {
		return nil
	}
	return natsstore.RetireCore(d.host.path("nats", "core"))
}

func rename(from, to string) error {
	err := os.Rename(from, to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return api.Errorf(api.CodeInternal, "putting the core aside, or back: %w", err)
	}
	return nil
}

// Unfound implements machine.Refounder.
func (r *refounder) Unfound(ctx context.Context) error {
	d := r.daemon
	f := d.following.Load()
	f.mu.Lock()
	defer f.mu.Unlock()
	was, err := machine.LoadIdentity(d.asidePath())
	if api.CodeOf(err) == api.CodeNotInitialised {
		return nil
	}
	if err != nil {
		return err
	}
	next, err := machine.LoadIdentity(d.State)
	if err != nil {
		return err
	}
	if next.Generation != was.Generation {
		if err := d.forgetMirrors(ctx, next); err != nil {
			return err
		}
	}
	if err := errors.Join(d.units.Remove(ctx, units.NATSCoreService), d.retireNew(was)); err != nil {
		return err
	}
	for here, there := range d.aside() {
		if err := rename(there, here); err != nil {
			return err
		}
	}
	if !was.Votes() {
		if err := errors.Join(os.RemoveAll(d.host.path("nats", "core.conf")), os.RemoveAll(d.host.path("nats", "core.founding"))); err != nil {
			return api.Errorf(api.CodeInternal, "removing what the new core left: %w", err)
		}
	}
	f.placed = ""
	if err := errors.Join(was.Save(d.State), d.putStore(ctx, was)); err != nil {
		return err
	}
	return os.RemoveAll(d.asidePath())
}

// forgetMirrors removes this machine's mirrors of a generation.
func (d *Daemon) forgetMirrors(ctx context.Context, of machine.Identity) error {
	opened, err := natsstore.Open(d.storeConfig(of))
	if err != nil {
		return err
	}
	defer opened.Close()
	return opened.RemoveMirrors(ctx)
}

// Settle implements machine.Refounder.
func (r *refounder) Settle(ctx context.Context, next machine.Identity) error {
	d := r.daemon
	if err := d.Join(next); err != nil {
		return err
	}
	if err := d.store.Load().AwaitMirror(ctx, 1); err != nil {
		return err
	}
	was, err := machine.LoadIdentity(d.asidePath())
	if api.CodeOf(err) == api.CodeNotInitialised {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(d.forgetMirrors(ctx, was), os.RemoveAll(d.asidePath()))
}

// moveLook is the pause between two looks at a machine that moves.
const moveLook = 500 * time.Millisecond

// Move implements machine.Refounder. Its ployzd restarts for it.
func (r *refounder) Move(ctx context.Context, m machine.Member, next machine.Identity) error {
	fresh, err := r.daemon.store.Load().View().Freshness(ctx)
	if err != nil {
		return err
	}
	if err := r.tell(ctx, m, movePath, moveQuery(next.Generation, next.Overlay)); err != nil {
		return err
	}
	for {
		d, err := askJSON[natsstore.Digest](ctx, r.daemon.member.Load(), m.Name, Ask{Method: "GET", Path: copyPath})
		if err == nil && d.Generation == next.Generation && d.Last >= fresh.Last {
			return nil
		}
		select {
		case <-ctx.Done():
			return api.Errorf(api.CodeMachineNotFollowed, "its copy is of generation %d up to %d: %w", d.Generation, d.Last, errors.Join(ctx.Err(), err)).About(m.Name)
		case <-time.After(moveLook):
		}
	}
}

// tell has another machine do something, beside the store's bus, which may not be there.
func (r *refounder) tell(ctx context.Context, m machine.Member, path string, q map[string][]string) error {
	resp, err := r.daemon.peering.Load().Neighbours.Do(ctx, m.Name, Ask{Method: "POST", Path: path, Query: q, Caller: "ployzd"})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Copy implements PeerStore.
func (d *Daemon) Copy(ctx context.Context) (any, error) { return d.store.Load().EdgeDigest(ctx) }

// Fence implements PeerStore.
func (d *Daemon) Fence(ctx context.Context, gone []string, fenced bool) error {
	return d.following.Load().fence(ctx, fenceBody{Gone: gone, Fenced: fenced})
}

// Move implements PeerStore: this machine follows another generation of the store, of which it holds no core.
func (d *Daemon) Move(ctx context.Context, generation uint64, voter netip.Addr) error {
	f := d.following.Load()
	f.mu.Lock()
	defer f.mu.Unlock()
	self, err := machine.LoadIdentity(d.State)
	if err != nil {
		return err
	}
	if generation < self.Generation || generation == self.Generation && !slices.Equal(self.Voters, []netip.Addr{voter}) {
		return api.Errorf(api.CodeParticipantRefused, "the machine is in generation %d of the store", self.Generation).About(self.Name)
	}
	if generation == self.Generation {
		return nil
	}
	roster, err := machine.LoadRoster(d.State)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(roster.Members, func(m machine.Member) bool { return m.Overlay == voter }) {
		return api.Errorf(api.CodeParticipantRefused, "%s is no member's address", voter).About(self.Name)
	}
	was := self
	if err := d.unseat(ctx); err != nil {
		return err
	}
	self.Generation, self.Voters = generation, []netip.Addr{voter}
	if err := errors.Join(self.Save(d.State), d.putStore(ctx, self)); err != nil {
		return err
	}
	opened, err := natsstore.Open(d.storeConfig(self))
	if err != nil {
		return err
	}
	defer opened.Close()
	if err := opened.EnsureMirrors(ctx); err != nil {
		return err
	}
	go d.moved(was)
	return nil
}

// moved begins anew in another generation, once the answer is out.
func (d *Daemon) moved(was machine.Identity) {
	time.Sleep(leaveAfter)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := d.forgetMirrors(ctx, was); err != nil {
		d.Log.Warn("the mirrors of the generation before stay", "error", err)
	}
	d.restart()
}
