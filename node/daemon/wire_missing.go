package daemon

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
)

// lookForVoters bounds the search for those that are there, once the store has not answered.
const lookForVoters = 2 * time.Second

// naming is a runner whose refusals for want of a store name the machines that are missing.
type naming struct {
	Runner
	daemon *Daemon
}

// Preview implements Runner.
func (n naming) Preview(ctx context.Context, op operation.Operation, caller string) (api.Plan, error) {
	defer n.daemon.shut(op)
	plan, err := n.Runner.Preview(ctx, op, caller)
	return plan, n.daemon.nameMissing(ctx, err)
}

// Run implements Runner.
func (n naming) Run(ctx context.Context, req operation.Request) api.Outcome {
	defer n.daemon.shut(req.Operation)
	out := n.Runner.Run(ctx, req)
	if out.Error != nil {
		out.Error = api.AsError(n.daemon.nameMissing(ctx, out.Error))
	}
	return out
}

// nameMissing adds to the error of a store that does not answer which machines would have to be there for it
// to: their names are known from the roster, also where nobody else is to be heard.
func (d *Daemon) nameMissing(ctx context.Context, err error) error {
	opened := d.store.Load()
	if !store.IsUnavailable(err) || opened == nil {
		return err
	}
	roster, unknown := machine.LoadRoster(d.State)
	if unknown != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookForVoters)
	defer cancel()
	t, silent := opened.Topology(ctx)
	if silent != nil {
		t = natsstore.Topology{} // not one of them answers
	}
	missing := missingVoters(roster, t)
	voters := len(roster.Cluster.Voters)
	if voters-len(missing) > voters/2 {
		return err // there are enough; they have no leader at the moment
	}
	named := *api.AsError(err)
	if full := d.outOfRoom(ctx, roster, t); len(full) > 0 {
		if voters-len(missing)+len(full) > voters/2 { // that is all that is in the way
			named.Code, named.Subject, named.Hint = api.CodeStoreDiskFull, "store", full[0].Hint
			named.Message = full[0].Message + "; nothing can be written. What serves goes on"
			named.Details = append(named.Details, full[1:]...)
			return &named
		}
		named.Details = append(named.Details, full...)
	}
	named.Details = append(named.Details, api.Errorf(api.CodeStoreNoQuorum,
		"of %d voters %d must be there to write, and these are not: %s. What serves goes on", voters, voters/2+1, strings.Join(missing, ", ")).
		About("store").WithHint("bring one back; or, %s", d.without(missing, voters)))
	return &named
}

// without is what goes on when those that are missing are gone for good. This machine itself is not: it answers.
func (d *Daemon) without(missing []string, voters int) string {
	gone := slices.DeleteFunc(slices.Clone(missing), func(name string) bool { return name == d.selfName() })
	switch {
	case len(gone) == 0:
		return "with what it held lost: ployzctl store restore FILE"
	case len(missing) == voters:
		return "gone for good, on a machine that is left: ployzctl store reform --abandon " + strings.Join(gone, ",")
	}
	return "gone for good, on a voter that is left: ployzctl store recover --abandon " + strings.Join(gone, ",")
}

// missingVoters names the voters that do not answer.
func missingVoters(r machine.Roster, t natsstore.Topology) []string {
	var names []string
	for _, m := range r.Members {
		if v, votes := voterOf(t, m.ID); slices.Contains(r.Cluster.Voters, m.ID) && !(votes && v.Answers) {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	return names
}
