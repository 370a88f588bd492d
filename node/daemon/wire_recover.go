package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/deploy/agebox"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/units"
)

// Commands of a rescue.
const (
	verbFence  = "machine.fence"
	verbRekey  = "store.rekey"
	rescueHint = "ployzctl store status; ployzctl store verify"
)

type fenceBody struct {
	Gone   []string `json:"gone"`
	Fenced bool     `json:"fenced"`
}

// rekeyBody is a new secret for the voters, sealed to the one that gets it.
type rekeyBody struct {
	Secret []byte `json:"secret"`
}

// newRecover gives machines up; it is coordinated on the journal, since the store cannot be written.
func (d *Daemon) newRecover(r api.RecoverRequest) operation.Operation {
	p := d.peering.Load()
	if p == nil {
		return refusedOperation{api.KindStoreRecover, machine.NotInitialised()}
	}
	kit := d.machineKit(p.self, foundingFacts{d.founded.Facts(), d})
	return machine.NewRecover(kit, p.view, rescuer{d}, r)
}

// refusedOperation is one that this machine cannot even begin.
type refusedOperation struct {
	kind string
	err  error
}

// Kind implements operation.Operation.
func (r refusedOperation) Kind() string { return r.kind }

// Scope implements operation.Operation.
func (r refusedOperation) Scope() string { return "cluster" }

// Inspect implements operation.Operation.
func (r refusedOperation) Inspect(context.Context, operation.Situation) error { return r.err }

// Plan implements operation.Operation.
func (r refusedOperation) Plan() operation.Plan { return operation.Plan{} }

// rescuer is machine.Rescuer on the real store and mesh.
type rescuer struct{ daemon *Daemon }

// Check implements machine.Rescuer.
func (r rescuer) Check(ctx context.Context, abandoned, rest []machine.Member) ([]*api.Error, error) {
	t, err := r.daemon.store.Load().Topology(ctx)
	if err != nil {
		return nil, err
	}
	var unmet []*api.Error
	add := func(format string, args ...any) {
		unmet = append(unmet, api.Errorf(api.CodeStoreNotRescuable, format, args...).About("store").WithHint(rescueHint))
	}
	if t.HasQuorum() {
		add("a majority of the voters is there: machine remove --lost does what is needed")
	}
	for _, m := range abandoned {
		if v, votes := voterOf(t, m.ID); votes && (v.Answers || v.NoRoom) {
			add("%s answers: it is not gone", m.Name)
		}
	}
	for _, m := range rest {
		if v, votes := voterOf(t, m.ID); !votes || !v.Answers {
			add("%s does not answer either: bring it back, or abandon it too", m.Name)
		}
	}
	return append(unmet, r.ahead(ctx, abandoned, rest)...), nil
}

// ahead refuses while a machine that answers holds facts that no voter that is left holds: they would be lost, and
// its mirror would mix two histories.
func (r rescuer) ahead(ctx context.Context, gone, rest []machine.Member) []*api.Error {
	members, err := r.daemon.peering.Load().members(ctx)
	if err != nil {
		return []*api.Error{api.AsError(err)}
	}
	var most, held store.Revision
	var who string
	for _, m := range members {
		d, err := command[natsstore.Digest](ctx, r.daemon, m.ID, coordination.Command{Verb: verbDigest}, struct{}{})
		if err != nil {
			continue // it is gone, or about to be
		}
		if slices.ContainsFunc(rest, func(x machine.Member) bool { return x.ID == m.ID }) {
			held = max(held, d.Last)
		}
		if d.Last > most {
			most, who = d.Last, m.Name
		}
	}
	if most > held {
		return []*api.Error{api.Errorf(api.CodeStoreNotRescuable, "%s holds facts up to %d, and the voters that are left only up to %d", who, most, held).
			About("store").WithHint("go on from the copy of %s: %s", who, storeOn(who, "reform", gone))}
	}
	return nil
}

// Fence implements machine.Rescuer.
func (r rescuer) Fence(ctx context.Context, act *operation.Act, on machine.Member, gone []machine.Member, fenced bool) error {
	body := fenceBody{Fenced: fenced}
	for _, m := range gone {
		body.Gone = append(body.Gone, m.ID)
	}
	_, err := command[struct{}](ctx, r.daemon, on.ID, local(act, verbFence), body)
	if code := api.CodeOf(err); code == api.CodeParticipantAbsent {
		act.Note(on.Name + " is not there; it follows once it is back")
		return nil
	}
	return err
}

// local is a command whose fence is of this machine's own journal, where the lease is: it is under a scope of
// its own, so that it is never compared with the store's.
func local(act *operation.Act, verb string) coordination.Command {
	cmd := commandOf(act, verb)
	cmd.Scope = "recover/" + act.Operation
	return cmd
}

// rescuingFacts carries a recovery's commit out: it makes the core one that can be written, and then writes. What
// goes wrong before the writing is no commit.
type rescuingFacts struct {
	foundingFacts
	op *machine.Recover
}

// Commit implements store.Facts.
func (f rescuingFacts) Commit(ctx context.Context, batch store.Batch) (store.Revision, error) {
	if strings.HasSuffix(batch.ID, "-commit") {
		gone, left := f.op.Given()
		if err := f.daemon.rescue(ctx, batch.ID, gone, left); err != nil {
			return 0, store.Unavailable("the rescue of the store", err)
		}
	}
	return f.foundingFacts.Commit(ctx, batch)
}

// rescue gives the voters that are left a new secret, and takes the others out of the core.
func (d *Daemon) rescue(ctx context.Context, id string, gone, left []machine.Member) error {
	secret, err := natsstore.NewRouteSecret()
	if err != nil {
		return err
	}
	box, err := agebox.Open(d.keys())
	if err != nil {
		return err
	}
	operation.Tell(ctx, "giving the voters that are left a new secret: "+names(left))
	for _, m := range left {
		sealed, err := box.Seal(secret, []string{m.Recipient})
		if err != nil {
			return err
		}
		cmd := coordination.Command{Verb: verbRekey, Operation: id, Step: "rekey " + m.Name, Scope: "recover/" + id, Fence: 1}
		if _, err := command[struct{}](ctx, d, m.ID, cmd, rekeyBody{sealed}); err != nil {
			return err
		}
	}
	t, err := d.store.Load().Topology(ctx)
	if err != nil {
		return err
	}
	var servers []string
	for _, v := range t.Voters {
		// A survivor that was restarted knows the others by their peer ids only.
		if !slices.ContainsFunc(left, func(m machine.Member) bool { return strings.HasPrefix(v.Name, m.ID+"-") }) {
			servers = append(servers, v.Called())
		}
	}
	if len(servers) == 0 {
		return nil // an earlier try did it
	}
	if err := d.store.Load().Rescue(ctx, servers, func(doing string) { operation.Tell(ctx, doing) }); err != nil {
		return fmt.Errorf("without %s: %w", names(gone), err)
	}
	return d.useCores(machine.Identity{Voters: overlays(left)})
}

func names(members []machine.Member) string {
	list := make([]string, len(members))
	for i, m := range members {
		list[i] = m.Name
	}
	return strings.Join(list, ", ")
}

// rekey takes the voters' new secret over, for routes to come; those that are there stay.
func (d *Daemon) rekey(ctx context.Context, b rekeyBody) error {
	secret, err := agebox.Unseal(d.keys(), b.Secret)
	if err != nil {
		return err
	}
	if err := natsstore.InstallRouteSecret(d.host.routeSecret(), secret); err != nil {
		return err
	}
	if err := d.units.Reload(ctx, units.NATSCoreService); err != nil {
		return fmt.Errorf("the core's new secret: %w", err)
	}
	return nil
}

// fence leaves peers out of the mesh whatever the facts say, until they say it too. It goes by the roster, since the
// facts may be what was lost, and leaves the store alone.
func (m *membership) fence(ctx context.Context, b fenceBody) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	self, err := machine.LoadIdentity(m.daemon.State)
	if err != nil {
		return err
	}
	if m.fenced, m.placed = nil, ""; b.Fenced {
		m.fenced = b.Gone
	}
	return m.putPeers(ctx, self, m.roster)
}
