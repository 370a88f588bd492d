package deploy

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// ReadFact returns why a fact of a namespace cannot be read, or nil. Of those that are read by nobody but who wrote them it
// says nothing.
func ReadFact(fact store.Fact) error {
	if into := valueOf(fact.Key); into != nil {
		return json.Unmarshal(fact.Value, into)
	}
	return nil
}

// valueOf is what a key promises, or nil.
func valueOf(key store.Key) any {
	ns := key.Namespace()
	switch {
	case key.Under(store.Hostnames()) || key.Under(store.NamespaceIDs()):
		return &claim{}
	case ns == "":
		return nil
	case key == store.Head(ns):
		return &head{}
	case key == store.Branch(ns):
		return &api.BranchFact{}
	case key == store.LastPrune(ns):
		return &pruned{}
	case key.Under(store.Commits(ns)):
		return &api.Commit{}
	case key.Under(store.Volumes(ns)):
		return &api.VolumeFact{}
	case key.Under(store.Secrets(ns)) || key.Under(store.Configs(ns)):
		return &storedValue{}
	}
	return nil
}

// Rebuild makes a fact anew from others: a namespace's head from its commits and its claim of a number. It returns nil for
// a fact that nothing else tells. Errors: store.no-copy (the others do not tell it either), store.*.
func Rebuild(ctx context.Context, facts store.Facts, key store.Key) ([]byte, error) {
	ns := key.Namespace()
	if ns == "" || key != store.Head(ns) {
		return nil, nil
	}
	commits, err := readCommits(ctx, facts, ns)
	if err != nil {
		return nil, err
	}
	id, err := claimedID(ctx, facts, ns)
	if err != nil {
		return nil, err
	}
	if len(commits) == 0 || id == 0 {
		return nil, api.Errorf(api.CodeStoreNoCopy, "no commit of %s and claim of its number tell what it said", ns).About(string(key)).
			WithHint("from a backup: ployzctl store repair %s --from FILE", key)
	}
	last := commits[len(commits)-1]
	return json.Marshal(head{Operation: last.Operation, Commit: last.Number, NamespaceID: id, Removed: len(last.Spec.Services) == 0})
}

// claimedID is the number that a namespace has claimed, or 0.
func claimedID(ctx context.Context, facts store.Facts, ns string) (uint32, error) {
	list, err := facts.List(ctx, store.NamespaceIDs())
	if err != nil {
		return 0, err
	}
	for _, fact := range list {
		var c claim
		if err := store.Decode(fact, &c); err != nil {
			return 0, err
		}
		if c.Namespace == ns {
			id, err := strconv.ParseUint(fact.Key.Last(), 16, 32)
			return uint32(id), err
		}
	}
	return 0, nil
}

// Needed returns why a fact that cannot be read must not be removed, or nil: what runs now would go, or be forgotten, with
// it. Errors: store.*.
func Needed(ctx context.Context, facts store.Facts, key store.Key) (*api.Error, error) {
	ns := key.Namespace()
	if ns == "" {
		return nil, nil
	}
	if key == store.Head(ns) {
		return staysFor(key, "it says what of %s is live", ns).WithHint("put it back from its commits: ployzctl store repair %s", key), nil
	}
	now, deployed, err := readHead(ctx, facts, ns)
	switch {
	case err != nil || !deployed:
		return nil, err
	case key.Under(store.Volumes(ns)):
		return neededVolume(ctx, facts, key, now.head.Commit)
	case key == store.Route(ns):
		return staysFor(key, "the gateways and resolvers would let go of %s", ns).
			WithHint("the next commit writes it anew: ployzctl service restart %s/SERVICE", ns), nil
	case key == store.Commit(ns, strconv.Itoa(now.head.Commit)):
		return staysFor(key, "it is what of %s is live", ns).
			WithHint("put it back from a backup: ployzctl store repair %s --from FILE; or deploy again", key), nil
	}
	return nil, nil
}

// neededVolume is Needed for the fact of a data set.
func neededVolume(ctx context.Context, facts store.Facts, key store.Key, live int) (*api.Error, error) {
	name, _, err := liveVolume(ctx, facts, key, live)
	if err != nil || name == "" {
		return nil, err
	}
	return staysFor(key, "it is the volume %s of what is live", name).
		WithHint("put it back from a backup: ployzctl store repair %s --from FILE", key), nil
}

// liveVolume is what a commit says of a data set, and the name that it has there; "" where it does not have it.
func liveVolume(ctx context.Context, facts store.Facts, key store.Key, live int) (string, api.CommitVolume, error) {
	commit, err := ReadCommit(ctx, facts, key.Namespace(), live)
	for name, v := range commit.Volumes {
		if v.ID == key.Last() {
			return name, v, err
		}
	}
	return "", api.CommitVolume{}, err
}

// Against returns what other facts say against a value of a fact that is to be put back from a backup, or nil: a backup
// does not know what was committed after it. Errors: store.*.
func Against(ctx context.Context, facts store.Facts, fact store.Fact) (*api.Error, error) {
	ns := fact.Key.Namespace()
	switch {
	case ns == "":
		return nil, nil
	case fact.Key == store.Head(ns) || fact.Key == store.Route(ns):
		return api.Errorf(api.CodeStoreNoCopy, "a backup may know an older commit of %s than the last", ns).About(string(fact.Key)).
			WithHint("the head is made of the commits: ployzctl store repair %s; the next commit writes the routing view anew", store.Head(ns)), nil
	case !fact.Key.Under(store.Volumes(ns)):
		return nil, nil
	}
	now, deployed, err := readHead(ctx, facts, ns)
	if err != nil || !deployed {
		return nil, err
	}
	var was api.VolumeFact
	if err := store.Decode(fact, &was); err != nil {
		return nil, err
	}
	name, is, err := liveVolume(ctx, facts, fact.Key, now.head.Commit)
	if err != nil || name == "" || is.Machine == was.Machine {
		return nil, err
	}
	return api.Errorf(api.CodeStoreNoCopy, "the backup has it on %s, and what is live on %s", was.Machine, is.Machine).About(string(fact.Key)).
		WithHint("take a backup from after it was moved"), nil
}

func staysFor(key store.Key, why string, args ...any) *api.Error {
	return api.Errorf(api.CodeStoreFactNeeded, why, args...).About(string(key))
}
