package deploy_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// starts writes down which slots of a namespace start, in order.
func (l *lab) starts(ns string) func() []string {
	var mu sync.Mutex
	var slots []string
	l.runtime.Program = func(s runtime.Spec) memruntime.Program {
		mu.Lock()
		defer mu.Unlock()
		if s.Namespace == ns {
			slots = append(slots, s.Slot)
		}
		return memruntime.Program{Ends: s.Job}
	}
	return func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(slots) }
}

func (l *lab) lineage(t *testing.T, ns string) (f api.BranchFact, there bool) {
	t.Helper()
	fact, err := l.store.Facts().Get(t.Context(), store.Branch(ns))
	if store.IsNotFound(err) {
		return f, false
	}
	must(t, err)
	must(t, json.Unmarshal(fact.Value, &f))
	return f, true
}

func (l *lab) route(t *testing.T, ns string) (v routing.View) {
	t.Helper()
	fact, err := l.store.Facts().Get(t.Context(), store.Route(ns))
	must(t, err)
	must(t, json.Unmarshal(fact.Value, &v))
	return v
}

// TestBranch: the branch runs what the original runs, with clones of its data, hostnames of its own and nothing that
// has one owner; the original is as it was.
func TestBranch(t *testing.T) {
	l := newLab(t)
	maskedRuns(t, l)
	l.mustRun(t, deploy.NewRestart(l.kit, "shop", "app"))
	was := l.current(t, "shop")
	ask := tryIt
	ask.Expires = api.Duration(72 * time.Hour)
	plan := l.preview(t, l.branch(ask))
	expectLines(t, about(lines(plan), "omit "), "omit job migrate: it runs with deploys: the data is as it left it",
		"omit port 8081/tcp of web: shop publishes it, and a machine's port has one owner")
	expectLines(t, about(lines(plan), "route "), "create route try.shop.test/")
	if again, other := l.preview(t, l.branch(ask)), l.preview(t, l.branch(tryIt)); again.Digest != plan.Digest || other.Digest == plan.Digest {
		t.Errorf("the digests are %s, again %s, without an expiry %s", plan.Digest, again.Digest, other.Digest)
	}
	out := l.mustRun(t, l.branch(ask))
	if again := l.current(t, "shop"); again.Number != was.Number || again.Operation != was.Operation {
		t.Errorf("the original is at commit %d of %s", again.Number, again.Operation)
	}
	is := l.current(t, "try")
	if is.Number != 1 || is.Kind != "branch" || is.Namespace != "try" || is.Spec.Namespace != "try" || len(is.Slots) != len(was.Slots) {
		t.Errorf("the branch is %+v", is)
	}
	for name, s := range is.Spec.Services {
		if of := was.Spec.Services[name]; s.Digest == "" || s.Digest != of.Digest || s.Image != of.Image {
			t.Errorf("%s is %s@%s, of %s@%s", name, s.Image, s.Digest, of.Image, of.Digest)
		}
	}
	if len(is.Restarts) != 0 || len(was.Restarts) != 1 || len(is.Spec.Services["web"].Ports) != 0 || len(was.Spec.Services["web"].Ports) != 1 {
		t.Errorf("restarts %v, ports %v", is.Restarts, is.Spec.Services["web"].Ports)
	}
	if v := l.route(t, "try"); len(v.Services["app"].Routes) != 1 || v.Services["app"].Routes[0].Host != "try.shop.test" {
		t.Errorf("it routes %+v", v.Services["app"].Routes)
	}
	var r api.BranchResult
	must(t, json.Unmarshal(out.Value, &r))
	f, there := l.lineage(t, "try")
	if !there || f.From != "shop" || f.Commit != was.Number || f.Operation != out.Operation || f.Expires.Sub(f.Created) != 72*time.Hour || f.Hosts["try.shop.test"] != "shop.test" {
		t.Errorf("its lineage is %+v", f)
	}
	data := l.volumesOf(t, "try")["data"]
	if f.Volumes["data"] != *data.Origin || len(f.Volumes) != 4 || r.Volumes["data"] != *data.Origin || r.From != "shop" {
		t.Errorf("it says %+v, and the result %+v", f.Volumes, r)
	}
	l.mountsOnlyLive(t)
}

// TestBranchMasks: the jobs of branches run when what they need is ready and before anything else starts, and in
// nothing but a branch.
func TestBranchMasks(t *testing.T) {
	l := newLab(t)
	started := l.starts("shop")
	maskedRuns(t, l)
	l.mustRun(t, deploy.NewClear(l.kit, "shop"))
	if all := started(); slices.Contains(all, "mask-0") || slices.Contains(all, "mask") || !slices.ContainsFunc(all, func(s string) bool { return strings.HasPrefix(s, "migrate") }) {
		t.Errorf("a deploy starts %q", all)
	}
	started = l.starts("try")
	l.mustRun(t, l.branch(tryIt))
	all := started()
	at := func(service string) int {
		return slices.IndexFunc(all, func(slot string) bool { return strings.HasPrefix(slot, service) })
	}
	if at("db") != 0 || at("mask") != 1 || at("scrub") != 2 || at("migrate") >= 0 || at("app") < 3 || at("web") < 3 {
		t.Errorf("the branch starts %q", all)
	}
	started = l.starts("try")
	for _, again := range []string{"deploy", "restart"} {
		if again == "restart" {
			l.mustRun(t, deploy.NewRestart(l.kit, "try", "db"))
			continue
		}
		l.mustRun(t, deploy.NewScale(l.kit, "try", "app", 3))
	}
	if all := started(); slices.ContainsFunc(all, func(s string) bool { return strings.HasPrefix(s, "mask") || strings.HasPrefix(s, "scrub") }) {
		t.Errorf("later it starts %q", all)
	}
}

// TestBranchUnmasked leaves them out, and says so.
func TestBranchUnmasked(t *testing.T) {
	l := newLab(t)
	maskedRuns(t, l)
	ask := tryIt
	ask.Unmasked = true
	if said := about(lines(l.preview(t, l.branch(ask))), "omit job mask"); len(said) != 1 || !strings.Contains(said[0], "unmasked was asked for") {
		t.Errorf("the plan says %q", said)
	}
	started := l.starts("try")
	l.mustRun(t, l.branch(ask))
	if all := started(); slices.ContainsFunc(all, func(s string) bool { return strings.HasPrefix(s, "mask") || strings.HasPrefix(s, "scrub") }) {
		t.Errorf("it starts %q", all)
	}
}

// TestBranchMaskFails: nothing but what the job needs has started by then, and nothing of the branch is left.
func TestBranchMaskFails(t *testing.T) {
	l := newLab(t)
	l.pool.ClonesDepend = true
	maskedRuns(t, l)
	before := l.snapshot()
	var others []string
	l.runtime.Program = func(s runtime.Spec) memruntime.Program {
		if s.Namespace == "try" && s.Service != "db" && s.Service != "mask" {
			others = append(others, s.Slot)
		}
		if s.Service == "mask" {
			return memruntime.Program{Ends: true, ExitCode: 3}
		}
		return memruntime.Program{Ends: s.Job}
	}
	out := l.run(l.branch(tryIt))
	if out.Outcome != api.RolledBack || found(out.Error, api.CodeJobFailed) == nil || len(others) != 0 {
		t.Fatalf("%s %v, and %q started", out.Outcome, out.Error, others)
	}
	if after := l.snapshot(); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

// TestBranchStoresTooMuch: what a branch stores for the deploys that follow counts as its commit's writes.
func TestBranchStoresTooMuch(t *testing.T) {
	l := newLab(t)
	s := compact()
	s.Configs = map[string]api.Config{}
	for i := range store.MaxBatch {
		name := fmt.Sprintf("settings-%d", i)
		l.mustRun(t, deploy.NewSetConfig(l.kit, "shop", name, []byte("one")))
		s.Configs[name] = api.Config{External: true}
	}
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	l.refused(t, l.branch(tryIt), api.CodeSpecInvalid, "stores so much that its commit has 9", "change fewer services at a time")
}

// TestBranchSecrets: each is decided on: with a value, by one that the branch's namespace has, or as the original's.
func TestBranchSecrets(t *testing.T) {
	l := newLab(t)
	l.mustRun(t, deploy.NewSetSecret(l.kit, "shop", "api-key", []byte("of the shop")))
	l.mustRun(t, deploy.NewSetConfig(l.kit, "shop", "settings", []byte("one")))
	s := compact()
	s.Secrets["key"] = api.Secret{External: true, Name: "api-key"}
	s.Configs = map[string]api.Config{"settings": {External: true}, "again": {External: true, Name: "settings"}}
	edit(&s, "app", func(s *api.Service) {
		s.Process.SecretEnv = map[string]string{"KEY": "key"}
		s.Files = []api.File{{Config: "settings", Target: "/etc/settings"}}
	})
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	undecided := api.BranchRequest{From: "shop", Namespace: "try"}
	l.refused(t, l.branch(undecided), api.CodeBranchSecrets, "nobody said what these secrets are in the branch: key, password", "ployzctl branch shop try --secrets copy")
	undecided.SecretValues = map[string][]byte{"password": []byte("own"), "passwort": nil}
	l.refused(t, l.branch(undecided), api.CodeBranchSecrets, "in the branch: key", "--secret key=FILE")
	l.refused(t, l.branch(undecided), api.CodeSecretAbsent, `shop has no secret "passwort"`, "key, password")
	delete(undecided.SecretValues, "passwort")
	l.mustRun(t, deploy.NewSetSecret(l.kit, "try", "api-key", []byte("of the branch")))
	l.mustRun(t, l.branch(undecided))
	got := l.current(t, "try").Secrets
	if got["password"].Fingerprint != "print-of-own" || got["key"].Fingerprint != "print-of-of the branch" {
		t.Errorf("given and stored they are %+v", got)
	}
	copied := tryIt
	copied.Namespace = "copy"
	l.mustRun(t, l.branch(copied))
	got = l.current(t, "copy").Secrets
	if got["password"].Fingerprint != "print-of-hunter2" || got["key"].Fingerprint != "print-of-of the shop" || len(got["key"].For) != 1 {
		t.Errorf("copied they are %+v", got)
	}
	// The branch can be deployed to as the original can, and nothing of it is made anew by that.
	before := slotsOf(l.current(t, "copy"))
	s.Namespace = "copy"
	edit(&s, "app", func(s *api.Service) { s.Routes = nil })
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	if after := slotsOf(l.current(t, "copy")); after["app-0"] != before["app-0"] || after["db-0"] != before["db-0"] {
		t.Errorf("%v became %v", before, after)
	}
	bad := tryIt
	bad.Secrets, bad.Namespace = "all", "bad"
	l.refused(t, l.branch(bad), api.CodeBadRequest, "no way to decide", "--secrets copy")
}

// TestBranchSecretsAreNowhereInPlainText, as in a deploy.
func TestBranchSecretsAreNowhereInPlainText(t *testing.T) {
	const value = "correct-horse-battery"
	l := newLab(t)
	l.kit.Sealer = hashSealer{}
	smallRuns(t, l)
	l.mustRun(t, l.branch(api.BranchRequest{From: "shop", Namespace: "try", SecretValues: map[string][]byte{"password": []byte(value)}}))
	if contains(l.everywhere(t), value) {
		t.Error("a secret's value is somewhere in plain text")
	}
}

// TestBranchHosts: by template, by name, and what cannot be.
func TestBranchHosts(t *testing.T) {
	l := newLab(t)
	s := compact()
	edit(&s, "app", func(s *api.Service) {
		s.Routes = []api.Route{
			{Host: "shop.test", Port: 80}, {Host: "shop.test", Path: "/api", Port: 81}, {Host: "*.shop.test", Port: 80}, {Host: "www.test", Port: 80}, {TCP: 5432, Port: 5432},
		}
	})
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	ask := tryIt
	ask.Hosts, ask.HostNames = "{branch}-{host}", map[string]string{"www.test": "trial.example.test"}
	plan := l.preview(t, l.branch(ask))
	expectLines(t, about(lines(plan), "create route"), "create route *.try-shop.test/", "create route trial.example.test/", "create route try-shop.test/", "create route try-shop.test/api")
	expectLines(t, about(lines(plan), "omit route"), "omit route tcp/5432 of app: shop routes it, and a gateway's port has one owner")
	for name, c := range map[string]struct {
		hosts, says string
		names       map[string]string
	}{
		"no hostname":  {hosts: "{branch}_{host}", says: `"try_shop.test", for shop.test, is not a hostname`},
		"unknown word": {hosts: "{name}.{host}", says: "is not a hostname"},
		"two the same": {hosts: "{branch}.test", says: "shop.test and www.test would both be try.test"},
		"named twice":  {names: map[string]string{"www.test": "try.shop.test"}, says: "shop.test and www.test would both be try.shop.test"},
		"not routed":   {names: map[string]string{"ww.test": "a.test"}, says: "shop does not route ww.test"},
		"too long":     {hosts: strings.Repeat("a", 64) + ".{host}", says: "is not a hostname"},
	} {
		t.Run(name, func(t *testing.T) {
			ask := tryIt
			ask.Hosts, ask.HostNames = c.hosts, c.names
			l.refused(t, l.branch(ask), api.CodeBranchHosts, c.says, "ployzctl branch shop try --hostname ")
		})
	}
	ask = tryIt
	ask.Hosts = "{host}"
	l.refused(t, l.branch(ask), api.CodeHostnameTaken, "belongs to namespace shop", "choose another")
}

// TestBranchRefusals: before anything is touched.
func TestBranchRefusals(t *testing.T) {
	l := newLab(t)
	smallRuns(t, l)
	to := func(from, ns string) api.BranchRequest {
		return api.BranchRequest{From: from, Namespace: ns, Secrets: api.BranchSecretsCopy}
	}
	l.refused(t, l.branch(to("shop", "shop")), api.CodeBranchExists, "at commit 1", "ployzctl rm shop")
	l.refused(t, l.branch(to("nobody", "try")), api.CodeNamespaceAbsent, "nothing is deployed", "ployzctl service ls")
	l.refused(t, l.branch(to("shop", "Try")), api.CodeSpecInvalid, "lower-case", "")
	l.mustRun(t, l.branch(tryIt))
	l.refused(t, l.branch(tryIt), api.CodeBranchExists, "a namespace of that name", "ployzctl rm try")
}

// TestBranchOfWhatMoves: an original that got another commit meanwhile is not committed as a branch: its data would be
// of another moment than its code.
func TestBranchOfWhatMoves(t *testing.T) {
	l := newLab(t)
	smallRuns(t, l)
	var inner api.Outcome
	l.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if inner.Outcome == "" && strings.HasSuffix(b.ID, "-commit") {
			l.store.SetHooks(memstore.Hooks{})
			inner = l.run(deploy.NewRestart(l.kit, "shop", "app"))
		}
		return nil
	}})
	out := l.run(l.branch(tryIt))
	if inner.Outcome != api.Committed || out.Outcome != api.RolledBack || out.Error.Code != api.CodeConflict || !strings.Contains(out.Error.Message, "shop was changed meanwhile") {
		t.Errorf("they ended %s and %s: %v", inner.Outcome, out.Outcome, out.Error)
	}
	l.mustRun(t, l.branch(tryIt))
}

// TestBranchLeft: what a branch left that nobody finished is taken away by resolving it, and does not stand in the
// original's way.
func TestBranchLeft(t *testing.T) {
	l := newLab(t)
	l.pool.ClonesDepend = true
	smallRuns(t, l)
	lost := true
	l.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if lost && strings.HasSuffix(b.ID, "-commit") {
			lost = false
			return memstore.ReplyLost()
		}
		return nil
	}})
	if out := l.run(l.branch(tryIt)); out.Outcome != api.Uncertain {
		t.Fatalf("%s %v", out.Outcome, out.Error)
	}
	if left := l.operationSnapshots(); len(left) != 1 || len(about(l.pool.World(), "volume try/")) != 1 {
		t.Fatalf("it left %q of %q", left, l.pool.World())
	}
	l.mustRun(t, deploy.NewDeploy(l.kit, compact(), nil)) // the original goes on
	l.clock.Advance(time.Minute)                          // its lease runs out
	l.mustRun(t, deploy.NewClear(l.kit, "try"))
	if left := l.operationSnapshots(); len(left) != 0 || len(about(l.pool.World(), "try/")) != 0 || len(about(l.runtime.World(), "try-")) != 0 {
		t.Errorf("cleared, there is still %q, %q", l.pool.World(), l.runtime.World())
	}
	l.mustRun(t, l.branch(tryIt))
}

// TestBranchOfABranch has no end of depth.
func TestBranchOfABranch(t *testing.T) {
	l := newLab(t)
	l.pool.ClonesDepend = true
	smallRuns(t, l)
	from := "shop"
	for _, ns := range []string{"one", "two", "three"} {
		l.mustRun(t, l.branch(api.BranchRequest{From: from, Namespace: ns, Secrets: api.BranchSecretsCopy}))
		from = ns
	}
	if f, _ := l.lineage(t, "three"); f.From != "two" || f.Hosts["three.two.one.shop.test"] != "two.one.shop.test" {
		t.Errorf("its lineage is %+v", f)
	}
}

// TestBranchOnTwo: each machine's data sets are snapshot in one order of their own, and the clones are where they are.
func TestBranchOnTwo(t *testing.T) {
	l := newLab(t)
	l.second(t)
	s := compact()
	s.Volumes["cache"] = api.Volume{Scope: api.ScopeSlot}
	edit(&s, "app", func(s *api.Service) {
		s.Placement, s.Mounts = api.Placement{Global: true}, []api.Mount{{Volume: "cache", Target: "/cache"}}
	})
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	if got := about(phases(l.preview(t, l.branch(tryIt))), "snapshot the origin:"); len(got) != 1 || got[0] != "snapshot the origin: snapshot the origin on m1, snapshot the origin on m2" {
		t.Errorf("it plans %q", got)
	}
	l.mustRun(t, l.branch(tryIt))
	was := l.volumesOf(t, "shop")
	for name, v := range l.volumesOf(t, "try") {
		if v.Machine != was[name].Machine || v.Origin == nil || v.Origin.Volume != was[name].ID {
			t.Errorf("%s is %+v, of %+v", name, v, was[name])
		}
	}
}

// TestRemoveBranch: the branch goes with its lineage, its volumes are kept, and once they are pruned nothing of it is left
// on the original's.
func TestRemoveBranch(t *testing.T) {
	for name, remove := range map[string]func(l *lab) api.Outcome{
		"branch.rm": func(l *lab) api.Outcome { return l.run(deploy.NewRemoveBranch(l.kit, "try")) },
		"rm":        func(l *lab) api.Outcome { return l.run(deploy.NewRemove(l.kit, "try")) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.pool.ClonesDepend = true
			smallRuns(t, l)
			before := l.pool.World()
			l.mustRun(t, l.branch(tryIt))
			id := l.volumesOf(t, "try")["data"].ID
			if out := remove(l); out.Outcome != api.Committed {
				t.Fatalf("%s %v %v", out.Outcome, out.Error, out.Leftovers)
			}
			if _, there := l.lineage(t, "try"); there {
				t.Error("its lineage is still there")
			}
			expectPlace(t, l, id, storage.StateKept)
			l.mustRun(t, deploy.NewPruneVolumes(l.kit, api.VolumePruneRequest{Namespace: "try", KeepCommits: 1, OlderThan: new(api.Duration)}))
			if now := l.pool.World(); !slices.Equal(now, before) {
				t.Errorf("the pool had\n%s\nand has\n%s", strings.Join(before, "\n"), strings.Join(now, "\n"))
			}
			l.mustRun(t, l.branch(tryIt)) // the name is free again
			if f, _ := l.lineage(t, "try"); f.From != "shop" {
				t.Errorf("its lineage is %+v", f)
			}
		})
	}
}

func TestRemoveNoBranch(t *testing.T) {
	l := newLab(t)
	smallRuns(t, l)
	l.refused(t, deploy.NewRemoveBranch(l.kit, "shop"), api.CodeBranchAbsent, "did not begin as a branch", "ployzctl rm shop")
	l.refused(t, deploy.NewRemoveBranch(l.kit, "try"), api.CodeNamespaceAbsent, "nothing is deployed", "ployzctl service ls")
}
