package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/store"
)

func history(r *http.Request, m *Member) (any, error) {
	ns, err := namespaceParam(r)
	if err != nil {
		return nil, err
	}
	list, err := deploy.History(r.Context(), newReads(m), ns)
	return map[string][]api.CommitSummary{"commits": list}, err
}

// namespaceParam is checked before it becomes part of a key.
func namespaceParam(r *http.Request) (string, error) {
	ns := r.PathValue("ns")
	if err := deploy.CheckNamespace(ns); err != nil {
		return "", err
	}
	return ns, nil
}

func showCommit(r *http.Request, m *Member) (any, error) {
	return readCommit(r, m, r.PathValue("n"))
}

func readCommit(r *http.Request, m *Member, number string) (api.Commit, error) {
	ns, err := namespaceParam(r)
	if err != nil {
		return api.Commit{}, err
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 {
		return api.Commit{}, api.Errorf(api.CodeBadRequest, "%q is not the number of a commit", number).About(ns).
			WithHint("list them: ployzctl history %s", ns)
	}
	return deploy.ReadCommit(r.Context(), newReads(m), ns, n)
}

// diff compares two commits of a namespace, or, where none is named, its present one with another namespace's.
func diff(r *http.Request, m *Member) (any, error) {
	list, err := difference(r, m)
	if list == nil {
		list = []api.Difference{}
	}
	return map[string][]api.Difference{"differences": list}, err
}

func difference(r *http.Request, m *Member) ([]api.Difference, error) {
	if q := r.URL.Query(); q.Get("from")+q.Get("to") == "" {
		ns, err := namespaceParam(r)
		if err != nil {
			return nil, err
		}
		return deploy.DiffBranch(r.Context(), newReads(m), ns, q.Get("with"))
	}
	from, err := readCommit(r, m, r.URL.Query().Get("from"))
	if err != nil {
		return nil, err
	}
	to, err := readCommit(r, m, r.URL.Query().Get("to"))
	if err != nil {
		return nil, err
	}
	return deploy.Diff(from, to)
}

// listValues lists secrets or configs by name, with what tells their values apart.
func listValues(prefix func(ns string) store.Key) answer {
	return func(r *http.Request, m *Member) (any, error) {
		ns, err := namespaceParam(r)
		if err != nil {
			return nil, err
		}
		facts, err := newReads(m).List(r.Context(), prefix(ns))
		if err != nil {
			return nil, err
		}
		list := []api.ValueSummary{}
		for _, fact := range facts {
			summary, removed, err := valueSummary(fact)
			if err != nil {
				return nil, err
			}
			if !removed {
				list = append(list, summary)
			}
		}
		return map[string][]api.ValueSummary{"values": list}, nil
	}
}

// storedValue is what node/deploy writes for a secret or config.
type storedValue struct {
	Operation string           `json:"operation"`
	Sealed    api.SealedSecret `json:"sealed"`
	Content   []byte           `json:"content"`
	Removed   bool             `json:"removed"`
}

// valueSummary also reports a value that stands for its own removal.
func valueSummary(fact store.Fact) (summary api.ValueSummary, removed bool, err error) {
	var v storedValue
	if err := store.Decode(fact, &v); err != nil {
		return summary, false, err
	}
	print := v.Sealed.Fingerprint
	if print == "" {
		sum := sha256.Sum256(v.Content)
		print = hex.EncodeToString(sum[:6])
	}
	return api.ValueSummary{
		Name: fact.Key.Last(), Fingerprint: print, Bytes: len(v.Content), Written: fact.Written, Operation: v.Operation,
	}, v.Removed, nil
}
