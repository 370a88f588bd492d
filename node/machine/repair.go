package machine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// Salvage is what a repair knows of facts that are others': which can be read, and what they said before.
type Salvage struct {
	// Problem returns why this version cannot read a fact, or nil.
	Problem func(store.Fact) error
	// Last is what this machine last read of the membership. What could not be read is in it as it was before.
	Last func() Roster
	// Rebuild makes a fact's value anew from other facts; nil where none tell it. Errors: store.*.
	Rebuild func(ctx context.Context, key store.Key) ([]byte, error)
	// Needed returns why a namespace's fact must not be removed, or nil. Errors: store.*.
	Needed func(ctx context.Context, key store.Key) (*api.Error, error)
	// Against returns what other facts say against a value from a backup, or nil. Errors: store.*.
	Against func(ctx context.Context, fact store.Fact) (*api.Error, error)
	// Archive is the backup that the request names.
	Archive Archive
}

// Repaired is the fact about the last repair, at store.LastRepair().
type Repaired struct {
	Operation string         `json:"operation"`
	Key       store.Key      `json:"key"`
	Revision  store.Revision `json:"revision"`
	// Problem is why it could not be read; From where its value was had from, "" when it was removed.
	Problem string `json:"problem"`
	From    string `json:"from,omitempty"`
}

// Repair puts one fact that cannot be read back to what it said before, or removes it: the way out where operations that
// need it are refused. A fact that can be read is none of its business. Its scope is the fact alone, and its commit expects
// the very revision that could not be read: who can neither read nor know it cannot be in the midst of changing it.
type Repair struct {
	kit     Kit
	salvage Salvage
	request api.RepairRequest

	fact    store.Fact
	problem error // why it cannot be read; nil once an earlier try has repaired it
	value   []byte
	from    string // where the value is from
	last    store.Revision
	needs   []operation.Requirement
}

// NewRepair repairs a fact.
func NewRepair(kit Kit, salvage Salvage, request api.RepairRequest) *Repair {
	return &Repair{kit: kit, salvage: salvage, request: request}
}

// Kind implements operation.Operation.
func (r *Repair) Kind() string { return api.KindStoreRepair }

// Scope implements operation.Operation.
func (r *Repair) Scope() string { return "fact/" + r.request.Key }

func (r *Repair) key() store.Key { return store.Key(r.request.Key) }

// Inspect implements operation.Operation.
func (r *Repair) Inspect(ctx context.Context, before operation.Situation) error {
	if err := r.check(); err != nil {
		return err
	}
	last, err := r.kit.Facts.Get(ctx, store.LastRepair())
	if err != nil && !store.IsNotFound(err) {
		return err
	}
	r.last = last.Revision
	r.fact, err = r.kit.Facts.Get(ctx, r.key())
	gone := store.IsNotFound(err)
	if err != nil && !gone {
		return err
	}
	if !gone {
		r.problem = r.salvage.Problem(r.fact)
	}
	switch {
	case r.problem == nil && before.Unfinished != nil: // it came as far as its commit, or there is nothing to do any more
		return nil
	case gone:
		return api.AsError(err).WithHint("those that cannot be read: ployzctl store verify")
	case r.problem == nil:
		return api.Errorf(api.CodeStoreReadable, "the fact at revision %d can be read", r.fact.Revision).About(r.request.Key).
			WithHint("those that cannot be read: ployzctl store verify")
	}
	return r.inspectWayOut(ctx)
}

func (r *Repair) check() error {
	switch {
	case r.key().Valid() != nil:
		return r.key().Valid()
	case r.key().Under(store.Leases()):
		return api.Errorf(api.CodeBadRequest, "a lease frees itself within half a minute").About(r.request.Key)
	case r.request.Remove && r.request.Digest != "":
		return api.Errorf(api.CodeBadRequest, "a fact is put back from a backup, or removed").About(r.request.Key)
	}
	return nil
}

// inspectWayOut looks whether the fact may be removed, or for the value to put back.
func (r *Repair) inspectWayOut(ctx context.Context) error {
	name, unmet, err := "a value that can be read is there", (*api.Error)(nil), error(nil)
	if r.request.Remove {
		name = "nothing that is needed goes with it"
		unmet, err = r.needed(ctx)
	} else if err = r.find(ctx); api.CodeOf(err) == api.CodeStoreNoCopy {
		unmet, err = api.AsError(err), nil
	}
	if err != nil {
		return err
	}
	r.needs = []operation.Requirement{operation.Met(name, unmet)}
	if !json.Valid(r.fact.Value) {
		return nil // damaged, and of no version
	}
	newer, err := r.newer(ctx)
	r.needs = append(r.needs, operation.Met("no machine runs a version that may have written it", newer))
	return err
}

// find finds the value to put back. Errors: store.no-copy, store.backup-*, store.*.
func (r *Repair) find(ctx context.Context) (err error) {
	own := r.ownCopy()
	if r.request.Digest != "" {
		if own != nil {
			return api.Errorf(api.CodeBadRequest, "%s itself knows what it said last", r.kit.Machine).About(r.request.Key).
				WithHint("without the backup: ployzctl store repair %s", r.key())
		}
		return r.findInBackup(ctx)
	}
	if own != nil {
		r.from = "what " + r.kit.Machine + " last read of it"
		r.value, err = json.Marshal(own)
		return err
	}
	r.value, err = r.salvage.Rebuild(ctx, r.key())
	switch {
	case err != nil:
		return err
	case r.value == nil:
		return r.noCopy("%s keeps no copy of it", r.kit.Machine)
	}
	r.from = "what other facts say of it"
	return nil
}

// ownCopy is this machine's copy of a fact about the membership, as it was when it could be read; nil for every other.
func (r *Repair) ownCopy() any {
	last := r.salvage.Last()
	if r.key() == store.Cluster() && last.Cluster.ID != "" {
		return last.Cluster
	}
	if m, known := last.Self(r.key().Last()); known && r.key() == store.Machine(m.ID) {
		return m
	}
	return nil
}

func (r *Repair) findInBackup(ctx context.Context) error {
	source, err := r.salvage.Archive.Open(ctx)
	if err != nil {
		return err
	}
	if err := r.ofThisCluster(ctx, source); err != nil {
		return err
	}
	fact, err := source.Facts.Get(ctx, r.key())
	if store.IsNotFound(err) {
		return r.noCopy("the backup does not have it")
	}
	if err != nil {
		return err
	}
	if problem := r.salvage.Problem(fact); problem != nil {
		return r.noCopy("the backup's, of revision %d, cannot be read either: %w", fact.Revision, problem)
	}
	against, err := r.salvage.Against(ctx, fact)
	if err != nil {
		return err
	}
	if against != nil {
		return against
	}
	r.value = fact.Value
	r.from = fmt.Sprintf("the backup of %s, as written at revision %d", source.Taken.Format(time.RFC3339), fact.Revision)
	return nil
}

// ofThisCluster refuses the backup of another one.
func (r *Repair) ofThisCluster(ctx context.Context, source Source) error {
	fact, err := source.Facts.Get(ctx, store.Cluster())
	if err != nil {
		return err
	}
	var c Cluster
	if err := store.Decode(fact, &c); err != nil {
		return err
	}
	if ours := r.salvage.Last().Cluster.ID; c.ID != ours {
		return api.Errorf(api.CodeStoreBackupForeign, "the backup is of cluster %s, and this one is %s", c.ID, ours).About(r.request.Digest)
	}
	return nil
}

func (r *Repair) noCopy(format string, args ...any) *api.Error {
	elsewhere := ""
	if r.key().Under(store.Cluster()) || r.key().Under(store.Machines()) {
		elsewhere = "another machine may have one: --host; "
	}
	return api.Errorf(api.CodeStoreNoCopy, format, args...).About(r.request.Key).
		WithHint("%sput it back from a backup: ployzctl store repair %s --from FILE; or take it away: --remove", elsewhere, r.key())
}

// needed returns why the fact must not be removed.
func (r *Repair) needed(ctx context.Context) (*api.Error, error) {
	last := r.salvage.Last()
	why := ""
	switch {
	case r.key() == store.Cluster():
		why = "without it there is no cluster"
	case r.ownCopy() != nil:
		why = r.kit.Machine + " knows what it said"
	case r.key().Under(store.Machines()) && slices.Contains(last.Cluster.Voters, r.key().Last()):
		why = "the machine votes in the store"
	default:
		return r.salvage.Needed(ctx, r.key())
	}
	return api.Errorf(api.CodeStoreFactNeeded, "%s", why).About(r.request.Key).
		WithHint("put it back: ployzctl store repair %s", r.key()), nil
}

// newer returns a machine that runs a newer version than this one: that may be the one which can read the fact. One that
// does not answer says nothing.
func (r *Repair) newer(ctx context.Context) (*api.Error, error) {
	members, _, err := Readable(ctx, r.kit.Facts)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, fenceWithin)
	defer cancel()
	seen := make([]string, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() {
			if v, err := r.kit.Packages.Observe(ctx, m); err == nil {
				seen[i] = v.Version
			}
		})
	}
	all.Wait()
	for i, version := range seen {
		if newerMinor(version, r.kit.Version) {
			return api.Errorf(api.CodeMachineVersion, "%s runs %s, which may be what wrote it", members[i].Name, version).About(r.request.Key).
				WithHint("ask that machine: --host; or install that version here"), nil
		}
	}
	return nil, nil
}

func newerMinor(version, than string) bool {
	a, okA := minor(version)
	b, okB := minor(than)
	return okA && okB && (a[0] > b[0] || a[0] == b[0] && a[1] > b[1])
}

// Plan implements operation.Operation.
func (r *Repair) Plan() operation.Plan {
	return operation.Plan{
		Requirements: r.needs,
		Changes:      r.changes(),
		Commit: operation.Commit{
			Witness: store.LastRepair(), Expect: r.last, Batch: r.batch,
			Content: map[string]any{"request": r.request, "revision": r.fact.Revision, "value": r.value},
		},
		Resolves: true, // it leaves nothing half done
	}
}

func (r *Repair) changes() []api.Change {
	if r.problem == nil {
		return nil
	}
	c := api.Change{
		Action: "update", Subject: "fact " + r.request.Key, To: r.from,
		From:   fmt.Sprintf("revision %d of %s, %d bytes", r.fact.Revision, r.fact.Written.UTC().Format(time.RFC3339), len(r.fact.Value)),
		Reason: "it cannot be read: " + r.problem.Error(),
	}
	if r.request.Remove {
		c.Action, c.To = "remove", ""
		c.Reason += "; " + goesWith(r.key())
	}
	return []api.Change{c}
}

// goesWith says in words what is lost with a fact.
func goesWith(key store.Key) string {
	switch ns := key.Namespace(); {
	case key.Under(store.Machines()):
		return "the machine is no member any more, and must be added anew"
	case key.Under(store.Tokens()):
		return "the invitation is gone: ployzctl machine token makes another"
	case key == store.SharedKey():
		return "the next machine that is added writes it anew"
	case key.Under(store.Opens()):
		return "what the operation left that it names is nobody's to clear any more"
	case ns == "":
		return "what it said is forgotten"
	case key.Under(store.Volumes(ns)):
		return "the data set stays on its machine, and nothing knows it: ployzctl volume prune would take it"
	case key.Under(store.Secrets(ns)) || key.Under(store.Configs(ns)):
		return "set it again before the next deploy"
	case key.Under(store.Commits(ns)):
		return "there is no way back to that commit"
	}
	return "what it said is forgotten"
}

func (r *Repair) batch(op string) ([]store.Put, error) {
	did := Repaired{Operation: op, Key: r.key(), Revision: r.fact.Revision, From: r.from}
	if r.problem != nil {
		did.Problem = r.problem.Error()
	}
	witness, err := put(store.LastRepair(), did, r.last)
	list := []store.Put{witness}
	if r.problem != nil {
		list = append(list, store.Put{Key: r.key(), Value: r.value, Remove: r.request.Remove, Expect: store.Expect(r.fact.Revision)})
	}
	return list, err
}
