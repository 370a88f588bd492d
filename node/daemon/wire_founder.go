package daemon

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/filestore"
	"github.com/ployz/ployz/node/store/natsstore"
)

// founder runs the operations that there is no store for yet. Lease, open fact and ledger are in a
// journal file; what is committed goes to the store that the operation itself has made.
type founder struct{ daemon *Daemon }

// rescueTimeout bounds the commit of a recovery, which holds the core's election and its copying.
const rescueTimeout = 2 * time.Minute

// runner runs an operation on the journal. A founding commits into the store that it made, a recovery into the
// one that it rescues; who joins commits nothing but its own note, since the cluster's facts were written by those
// who admitted it.
func (f founder) runner(op operation.Operation) *operation.Runner {
	facts, within := f.daemon.founded.Facts(), time.Duration(0)
	founding := foundingFacts{Facts: facts, daemon: f.daemon}
	switch o := op.(type) {
	case *machine.Init, *machine.Refound, restoring:
		facts = founding
	case *machine.Recover:
		facts, within = rescuingFacts{founding, o}, rescueTimeout
	}
	runner := f.daemon.runner(hostName(), facts, f.daemon.founded.Log())
	runner.CommitTimeout = within
	return runner
}

// shut ends what an operation holds open.
func (d *Daemon) shut(op operation.Operation) {
	if c, ok := op.(io.Closer); ok {
		if err := c.Close(); err != nil {
			d.Log.Warn("after the operation", "kind", op.Kind(), "error", err)
		}
	}
}

// Preview implements Runner.
func (f founder) Preview(ctx context.Context, op operation.Operation, caller string) (api.Plan, error) {
	defer f.daemon.shut(op)
	return f.runner(op).Preview(ctx, op, caller)
}

// Run implements Runner. The ledger of a founding that worked is copied into the cluster's.
func (f founder) Run(ctx context.Context, req operation.Request) api.Outcome {
	defer f.daemon.shut(req.Operation)
	out := f.runner(req.Operation).Run(ctx, req)
	opened := f.daemon.store.Load()
	if opened == nil || out.Outcome != api.Committed {
		return out
	}
	if err := filestore.CopyLog(context.WithoutCancel(ctx), f.daemon.founded.Log(), opened.Log()); err != nil {
		out.Outcome = api.CommittedLeftovers
		out.Leftovers = append(out.Leftovers, api.Leftover{
			Subject: "ledger", Problem: "the ledger of the founding was not copied into the cluster's: " + err.Error(), Clear: "systemctl restart ployzd",
		})
	}
	return out
}

// foundingFacts sends the cluster's own facts to the cluster's store and keeps the rest here.
type foundingFacts struct {
	store.Facts
	daemon *Daemon
}

// Commit implements store.Facts.
func (f foundingFacts) Commit(ctx context.Context, batch store.Batch) (store.Revision, error) {
	if !strings.HasSuffix(batch.ID, "-commit") {
		return f.Facts.Commit(ctx, batch)
	}
	for _, check := range batch.Checks { // the lease is here, so it is checked here
		seen, err := f.Facts.Get(ctx, check.Key)
		if err != nil || seen.Revision != check.Expect {
			return 0, store.Conflict(check.Key)
		}
	}
	batch.Checks = nil
	opened, err := f.open()
	if err != nil {
		return 0, err
	}
	defer opened.Close()
	return opened.Facts().Commit(ctx, batch)
}

// Get implements store.Facts: the cluster's facts are in the cluster's store, once there is one.
func (f foundingFacts) Get(ctx context.Context, key store.Key) (store.Fact, error) {
	if key.Under(store.Leases()) || key.Under(store.Opens()) {
		return f.Facts.Get(ctx, key)
	}
	opened, err := f.open()
	if err != nil {
		return store.Fact{}, err
	}
	defer opened.Close()
	return opened.Facts().Get(ctx, key)
}

// List implements store.Facts, as Get does.
func (f foundingFacts) List(ctx context.Context, prefix store.Key) ([]store.Fact, error) {
	opened, err := f.open()
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	return opened.Facts().List(ctx, prefix)
}

func (f foundingFacts) open() (*natsstore.Store, error) {
	self, err := f.daemon.host.Identity()
	if err != nil {
		return nil, err
	}
	return natsstore.Open(f.daemon.storeConfig(self))
}

// checkedFacts refuses every write until the store was seen to run with settings under which an
// acknowledged fact stays.
type checkedFacts struct {
	store.Facts
	check func(context.Context) error
	ok    atomic.Bool
}

// Commit implements store.Facts. Errors: also store.unsafe-settings.
func (c *checkedFacts) Commit(ctx context.Context, batch store.Batch) (store.Revision, error) {
	if !c.ok.Load() {
		if err := c.check(ctx); err != nil {
			return 0, err
		}
		c.ok.Store(true)
	}
	return c.Facts.Commit(ctx, batch)
}

// imageInUse says whether an instance of this machine was made from the image.
func (d *Daemon) imageInUse(digest string) bool {
	m := d.member.Load()
	if m == nil {
		return false
	}
	list, err := m.Instances.List(context.Background())
	if err != nil {
		return true // not knowing must never cost an image that runs
	}
	for _, o := range list {
		if d.sameImage(o, digest) {
			return true
		}
	}
	return false
}

// sameImage compares by manifest: an instance may carry the digest of an index.
func (d *Daemon) sameImage(o runtime.Observation, digest string) bool {
	if o.Spec.Digest == digest {
		return true
	}
	image, err := d.images.Lookup(context.Background(), o.Spec.Digest)
	return err == nil && image.Digest == digest
}

func notEmpty(err error) bool { return errors.Is(err, syscall.ENOTEMPTY) }
