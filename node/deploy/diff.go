package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// Diff compares what two commits asked for, key by key. Secrets compare by fingerprint.
func Diff(from, to api.Commit) ([]api.Difference, error) {
	a, err := flatten(from)
	if err != nil {
		return nil, err
	}
	b, err := flatten(to)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(a)
	maps.Copy(all, b)
	var list []api.Difference
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if a[path] != b[path] {
			list = append(list, api.Difference{Path: path, From: a[path], To: b[path]})
		}
	}
	return list, nil
}

// DiffBranch compares what a namespace asks for now with what a branch of it does, as a promotion would take it over.
// with "" is what the branch began as; any other namespace can be compared, too. Secrets compare by name only, since each
// namespace has its own. Errors: branch.not-a-branch, deploy.namespace-not-found, store.*.
func DiffBranch(ctx context.Context, facts store.Facts, branch, with string) ([]api.Difference, error) {
	lineage, err := readLineage(ctx, facts, branch)
	if err != nil {
		return nil, err
	}
	if with == "" {
		with = lineage.From
	}
	if with == "" {
		if _, err := Current(ctx, facts, branch); err != nil {
			return nil, err
		}
		return nil, api.Errorf(api.CodeBranchAbsent, "it did not begin as a branch, so nothing says what it is to be compared with").About(branch).
			WithHint("name it: ployzctl diff %s --with NAMESPACE", branch)
	}
	from, err := Current(ctx, facts, with)
	if err != nil {
		return nil, err
	}
	to, err := Current(ctx, facts, branch)
	if err != nil {
		return nil, err
	}
	hosts, err := targetHosts(ctx, facts, lineage, branch, with)
	if err != nil {
		return nil, err
	}
	to.Spec = asTarget(to.Spec, from.Spec, hosts)
	return Diff(withoutPrints(from), withoutPrints(to))
}

func withoutPrints(c api.Commit) api.Commit {
	secrets := map[string]api.SealedSecret{}
	for name := range c.Secrets {
		secrets[name] = api.SealedSecret{Fingerprint: "set"}
	}
	c.Secrets = secrets
	return c
}

// flatten turns a commit's spec into paths and values.
func flatten(c api.Commit) (map[string]string, error) {
	text, err := json.Marshal(c.Spec)
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "encoding commit %d: %w", c.Number, err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		return nil, api.Errorf(api.CodeInternal, "decoding commit %d: %w", c.Number, err)
	}
	out := map[string]string{}
	walk("", tree, out)
	for name, config := range c.Spec.Configs {
		out[".configs."+name+".content"] = string(config.Content)
	}
	for name, secret := range c.Secrets {
		out[".secrets."+name] = secret.Fingerprint
	}
	return out, nil
}

func walk(path string, node any, out map[string]string) {
	switch v := node.(type) {
	case map[string]any:
		for key, child := range v {
			walk(path+"."+key, child, out)
		}
	case []any:
		for i, child := range v {
			walk(fmt.Sprintf("%s[%d]", path, i), child, out)
		}
	default:
		out[path] = fmt.Sprint(v)
	}
}
