package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/store"
)

// head is the namespace's guarded fact; every batch about the namespace writes it.
type head struct {
	Operation   string `json:"operation"`
	Commit      int    `json:"commit"`
	NamespaceID uint32 `json:"namespaceID"`
	// Removed says that the last commit took everything away; the number goes on counting.
	Removed bool `json:"removed,omitempty"`
}

// claim is the value of facts that only say whom something belongs to.
type claim struct {
	Namespace string `json:"namespace"`
}

// current is a namespace as the store has it.
type current struct {
	head     head
	revision store.Revision
	// commit is nil when nothing was ever deployed, or everything was removed.
	commit *api.Commit
}

func readCurrent(ctx context.Context, facts store.Facts, ns string) (current, error) {
	now, deployed, err := readHead(ctx, facts, ns)
	if err != nil || !deployed {
		return now, err
	}
	commit, err := ReadCommit(ctx, facts, ns, now.head.Commit)
	now.commit = &commit
	return now, err
}

// readHead reads the head alone; deployed says that it names a live commit.
func readHead(ctx context.Context, facts store.Facts, ns string) (now current, deployed bool, err error) {
	fact, err := facts.Get(ctx, store.Head(ns))
	if store.IsNotFound(err) {
		return current{revision: fact.Revision}, false, nil
	}
	if err != nil {
		return current{}, false, err
	}
	now.revision = fact.Revision
	if err := store.Decode(fact, &now.head); err != nil {
		return current{}, false, err
	}
	return now, !now.head.Removed, nil
}

// ReadCommit reads one commit. Errors: deploy.commit-not-found, store.*.
func ReadCommit(ctx context.Context, facts store.Facts, ns string, number int) (api.Commit, error) {
	fact, err := facts.Get(ctx, store.Commit(ns, strconv.Itoa(number)))
	if store.IsNotFound(err) {
		return api.Commit{}, noCommit(ns, number)
	}
	if err != nil {
		return api.Commit{}, err
	}
	var c api.Commit
	return c, store.Decode(fact, &c)
}

// Current returns a namespace's live commit. Errors: deploy.namespace-not-found, store.*.
func Current(ctx context.Context, facts store.Facts, ns string) (api.Commit, error) {
	now, err := readCurrent(ctx, facts, ns)
	if err != nil {
		return api.Commit{}, err
	}
	if now.commit == nil {
		return api.Commit{}, noNamespace(ns)
	}
	return *now.commit, nil
}

func noNamespace(ns string) error {
	return api.Errorf(api.CodeNamespaceAbsent, "nothing is deployed under that name").About(ns).
		WithHint("list what is: ployzctl service ls")
}

func noCommit(ns string, number int) error {
	return api.Errorf(api.CodeCommitAbsent, "there is no commit %d", number).About(ns).WithHint("list them: ployzctl history %s", ns)
}

// History returns a namespace's commits, newest first. Errors: deploy.namespace-not-found, store.*.
func History(ctx context.Context, facts store.Facts, ns string) ([]api.CommitSummary, error) {
	now, err := readCurrent(ctx, facts, ns)
	if err != nil {
		return nil, err
	}
	list, err := readCommits(ctx, facts, ns)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, noNamespace(ns)
	}
	lines := make([]api.CommitSummary, len(list))
	for i, c := range list {
		lines[i] = summary(c)
		lines[i].Current = c.Number == now.head.Commit
	}
	slices.Reverse(lines)
	return lines, nil
}

// readCommits reads a namespace's commits, oldest first. Errors: store.*.
func readCommits(ctx context.Context, facts machine.Lister, ns string) ([]api.Commit, error) {
	list, err := facts.List(ctx, store.Commits(ns))
	if err != nil {
		return nil, err
	}
	commits := make([]api.Commit, len(list))
	for i, fact := range list {
		if err := store.Decode(fact, &commits[i]); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(commits, func(a, b api.Commit) int { return a.Number - b.Number })
	return commits, nil
}

func summary(c api.Commit) api.CommitSummary {
	images := map[string]string{}
	for name, service := range c.Spec.Services {
		images[name] = service.Image
	}
	var volumes map[string]string
	for name, v := range c.Volumes {
		if volumes == nil {
			volumes = map[string]string{}
		}
		volumes[name] = v.Snapshot
	}
	return api.CommitSummary{
		Number: c.Number, Of: c.Of, Branch: c.Branch, Kind: c.Kind, Operation: c.Operation, Caller: c.Caller, Time: c.Time, Images: images, Volumes: volumes,
	}
}

// Namespaces returns the live commit of every namespace, by name.
func Namespaces(ctx context.Context, facts store.Facts) ([]api.Commit, error) {
	list, err := facts.List(ctx, store.Heads())
	if err != nil {
		return nil, err
	}
	var commits []api.Commit
	for _, fact := range list {
		now, err := readCurrent(ctx, facts, fact.Key.Last())
		if err != nil {
			return nil, err
		}
		if now.commit != nil {
			commits = append(commits, *now.commit)
		}
	}
	return commits, nil
}

func encode(key store.Key, value any, expect *store.Revision) (store.Put, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return store.Put{}, api.Errorf(api.CodeInternal, "encoding %s: %w", key, err)
	}
	return store.Put{Key: key, Value: text, Expect: expect}, nil
}

func scopeOf(ns string) string { return fmt.Sprintf("ns/%s", ns) }
