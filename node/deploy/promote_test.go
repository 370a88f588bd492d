package deploy_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// asBranch is a spec of the shop as a branch of it asks for it: with hostnames of its own, and no port that only one
// namespace can have.
func asBranch(s api.Spec) api.Spec {
	s.Namespace = "try"
	s.Services = maps.Clone(s.Services)
	for name := range s.Services {
		edit(&s, name, func(s *api.Service) {
			s.Ports = nil
			s.Routes = slices.DeleteFunc(slices.Clone(s.Routes), func(r api.Route) bool { return r.TCP != 0 })
			for i := range s.Routes {
				s.Routes[i].Host = "try." + s.Routes[i].Host
			}
		})
	}
	return s
}

// branched makes the branch try of the shop, and deploys what is tried in it.
func branched(t *testing.T, l *lab, s api.Spec) {
	t.Helper()
	l.mustRun(t, l.branch(tryIt))
	l.mustRun(t, deploy.NewDeploy(l.kit, asBranch(s), nil))
}

// fewer is a spec with one instance of each service.
func fewer(s api.Spec) api.Spec {
	edit(&s, "app", func(s *api.Service) { s.Placement.Replicas = 0 })
	return s
}

// tried is a shop whose branch has another version and one instance of each.
func tried(t *testing.T, l *lab) {
	shopRuns(t, l)
	branched(t, l, fewer(shop("v2")))
}

func promote(l *lab) *deploy.Promote {
	return deploy.NewPromote(l.kit, api.PromoteRequest{Branch: "try"})
}

// TestPromote: the target gets the branch's digests and configuration, and keeps what is its own.
func TestPromote(t *testing.T) {
	l := newLab(t)
	shopRuns(t, l)
	next := fewer(shop("v2"))
	next.Configs = map[string]api.Config{"settings": {Content: []byte("colour = 'blue'\n")}}
	next.Secrets = map[string]api.Secret{"password": {Value: []byte("of the branch")}}
	edit(&next, "app", func(s *api.Service) { s.Labels = map[string]string{"tried": "yes"} })
	next.Services["mask"] = api.Service{Image: "app:v1", Job: &api.Job{When: "branch"}}
	branched(t, l, next)
	l.mustRun(t, deploy.NewRestart(l.kit, "shop", "web"))
	of := l.current(t, "try")
	l.images.Serve("app:v2", "the tag has moved meanwhile", runtime.ImageConfig{})

	differ, err := deploy.DiffBranch(t.Context(), l.store.Facts(), "try", "")
	if err != nil || slices.ContainsFunc(differ, func(d api.Difference) bool {
		return strings.Contains(d.Path, "host") || strings.Contains(d.Path, "namespace")
	}) ||
		!slices.Contains(differ, api.Difference{Path: ".services.app.labels.tried", To: "yes"}) {
		t.Errorf("they differ in %+v, %v", differ, err)
	}
	plan := l.preview(t, promote(l))
	expectLines(t, lines(plan)[:3],
		"promote commit 2 of try: its images by digest, and its configuration",
		"keep commit 2: restart at "+l.current(t, "shop").Time.Format("2006-01-02T15:04:05Z")+", after the branch began at commit 1: it stays",
		"keep service app: 2 instances as before, where the branch has 1; another number: ployzctl service scale shop/app N")
	if plan.Scope != "ns/shop" || len(about(lines(plan), "route")) != 0 || len(about(lines(plan), "mask")) != 0 {
		t.Errorf("the plan of %s says %q", plan.Scope, lines(plan))
	}
	out := l.runner().Run(t.Context(), operation.Request{Operation: promote(l), PlanDigest: plan.Digest})
	if out.Outcome != api.Committed || out.Scope != "ns/shop" {
		t.Fatalf("%s %s %v", out.Outcome, out.Scope, out.Error)
	}
	got := l.current(t, "shop")
	if got.Kind != "promote" || got.Branch != "try" || got.Of != 2 || got.Restarts["web"] != 1 {
		t.Errorf("the commit is %s of %d of %q with restarts %v", got.Kind, got.Of, got.Branch, got.Restarts)
	}
	app := got.Spec.Services["app"]
	if app.Digest != of.Spec.Services["app"].Digest || app.Labels["tried"] != "yes" || string(got.Spec.Configs["settings"].Content) != "colour = 'blue'\n" {
		t.Errorf("app is %+v", app)
	}
	if len(app.Routes) != 1 || app.Routes[0].Host != "shop.test" || app.Placement.Replicas != 2 || len(got.Slots) != 4 {
		t.Errorf("app has %+v and %+v", app.Routes, app.Placement)
	}
	if ports := got.Spec.Services["web"].Ports; len(ports) != 1 || ports[0].Published != 8081 {
		t.Errorf("web publishes %+v", ports)
	}
	if got.Secrets["password"].Fingerprint != "print-of-hunter2" {
		t.Errorf("the secrets are %+v", got.Secrets)
	}
	if now := l.current(t, "try"); now.Number != 2 || len(now.Slots) != 3 {
		t.Errorf("the branch is %+v", now.Slots)
	}
	list, err := deploy.History(t.Context(), l.store.Facts(), "shop")
	if err != nil || list[0].Branch != "try" || list[0].Of != 2 {
		t.Errorf("history has %+v, %v", list[0], err)
	}
}

// TestPromoteTakesWhatTheBranchDropped away, and gives back the ports that only one namespace can have.
func TestPromoteTakesWhatTheBranchDropped(t *testing.T) {
	l := newLab(t)
	s := shop("v1")
	edit(&s, "db", func(s *api.Service) { s.Routes = []api.Route{{TCP: 5432, Port: 5432}} })
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	delete(s.Services, "web")
	edit(&s, "db", func(s *api.Service) { s.Ports = []api.Port{{Published: 8082, Target: 5432, Protocol: "tcp"}} })
	branched(t, l, s)
	branch := asBranch(s)
	edit(&branch, "db", func(s *api.Service) { s.Ports = []api.Port{{Published: 8082, Target: 5432, Protocol: "tcp"}} })
	plan := l.preview(t, promote(l))
	expectLines(t, about(lines(plan), "web"), "remove service web: try does not have it", "remove web-0: no longer asked for")
	l.mustRun(t, promote(l))
	db := l.current(t, "shop").Spec.Services["db"]
	if len(db.Routes) != 1 || db.Routes[0].TCP != 5432 {
		t.Errorf("db has %+v", db.Routes)
	}
	// What the branch has of its own it cannot share.
	l.mustRun(t, deploy.NewDeploy(l.kit, branch, nil))
	expectRefused(t, l.run(promote(l)), "services.db.ports deploy.port-taken")
}

// TestPromoteBetweenBranches: to another branch of the same, and from the original to its branch, hostnames are the
// target's own.
func TestPromoteBetweenBranches(t *testing.T) {
	l := newLab(t)
	tried(t, l)
	l.mustRun(t, l.branch(api.BranchRequest{From: "shop", Namespace: "staging", Secrets: api.BranchSecretsCopy}))
	hosts := func(ns string) string { return l.current(t, ns).Spec.Services["app"].Routes[0].Host }
	l.mustRun(t, deploy.NewPromote(l.kit, api.PromoteRequest{Branch: "try", Namespace: "staging"}))
	if c := l.current(t, "staging"); hosts("staging") != "staging.shop.test" || c.Spec.Services["app"].Image != "app:v2" {
		t.Errorf("staging has %s and %s", hosts("staging"), c.Spec.Services["app"].Image)
	}
	refresh := func() operation.Operation {
		return deploy.NewPromote(l.kit, api.PromoteRequest{Branch: "shop", Namespace: "try"})
	}
	expectRefused(t, l.run(refresh()), "services.web.ports deploy.port-taken")
	s := shop("v1")
	s.Services["web"] = api.Service{Image: "web:v1"}
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	l.mustRun(t, refresh())
	if c := l.current(t, "try"); hosts("try") != "try.shop.test" || c.Spec.Services["app"].Image != "app:v1" {
		t.Errorf("try has %s and %s", hosts("try"), c.Spec.Services["app"].Image)
	}
}

// TestPromoteThrough: a branch of a branch, promoted to what that one came from, serves the hostnames of that.
func TestPromoteThrough(t *testing.T) {
	l := newLab(t)
	tried(t, l)
	l.mustRun(t, l.branch(api.BranchRequest{From: "try", Namespace: "deeper", Secrets: api.BranchSecretsCopy}))
	l.mustRun(t, deploy.NewPromote(l.kit, api.PromoteRequest{Branch: "deeper", Namespace: "shop"}))
	if c := l.current(t, "shop"); c.Spec.Services["app"].Routes[0].Host != "shop.test" || c.Spec.Services["app"].Image != "app:v2" {
		t.Errorf("the shop has %+v", c.Spec.Services["app"])
	}
	list, err := deploy.DiffBranch(t.Context(), l.store.Facts(), "deeper", "shop")
	if err != nil || slices.ContainsFunc(list, func(d api.Difference) bool { return strings.Contains(d.Path, "host") }) {
		t.Errorf("they differ by %+v, %v", list, err)
	}
}

// TestPromoteToNew: a target that is not there, such as one that was removed, is made, with the original's hostnames.
func TestPromoteToNew(t *testing.T) {
	l := newLab(t)
	tried(t, l)
	expectRefused(t, l.run(deploy.NewPromote(l.kit, api.PromoteRequest{Branch: "try", Namespace: "other", Secrets: "copy"})),
		"services.app.routes deploy.hostname-taken")
	l.mustRun(t, deploy.NewRemove(l.kit, "shop"))
	plan := l.preview(t, deploy.NewPromote(l.kit, api.PromoteRequest{Branch: "try", Namespace: "other", Secrets: "copy"}))
	expectLines(t, lines(plan)[:3], "promote commit 2 of try: its images by digest, and its configuration",
		"copy secret password: other has none of that name", "create app-0: fewest of its kind (0) among 1 eligible")
	l.mustRun(t, deploy.NewPromote(l.kit, api.PromoteRequest{Branch: "try", Namespace: "other", Secrets: "copy"}))
	got := l.current(t, "other")
	if got.Spec.Services["app"].Routes[0].Host != "shop.test" || got.Secrets["password"].Fingerprint != "print-of-hunter2" || len(got.Slots) != 3 {
		t.Errorf("it is %+v", got)
	}
}

// TestPromoteSecrets: a value that was set for the target counts as its own, and one that the branch gives is there for
// the next deploy.
func TestPromoteSecrets(t *testing.T) {
	l := newLab(t)
	shopRuns(t, l)
	for _, ns := range []string{"try", "shop"} {
		l.mustRun(t, deploy.NewSetSecret(l.kit, ns, "stored-key", []byte("of "+ns)))
	}
	l.mustRun(t, deploy.NewSetSecret(l.kit, "try", "token", []byte("of try")))
	next := shop("v2")
	next.Secrets["key"], next.Secrets["token"] = api.Secret{External: true, Name: "stored-key"}, api.Secret{External: true}
	edit(&next, "app", func(s *api.Service) { s.Process.SecretEnv = map[string]string{"KEY": "key", "TOKEN": "token"} })
	branched(t, l, next)
	l.refused(t, promote(l), api.CodeBranchSecrets, "shop does not have: token", "ployzctl secret set shop/token FILE), or take the branch's: ployzctl promote try shop --secrets copy")
	l.mustRun(t, deploy.NewPromote(l.kit, api.PromoteRequest{Branch: "try", Secrets: api.BranchSecretsCopy}))
	got := l.current(t, "shop")
	if got.Secrets["key"].Fingerprint != "print-of-of shop" || got.Secrets["token"].Fingerprint != "print-of-of try" {
		t.Errorf("the secrets are %+v", got.Secrets)
	}
	next.Namespace = "shop"
	l.mustRun(t, deploy.NewDeploy(l.kit, next, nil))
}

// TestPromoteRefusals: each is made before anything is touched, and says what to do.
func TestPromoteRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		world      func(t *testing.T, l *lab)
		request    api.PromoteRequest
		code       api.Code
		says, hint string
	}{
		"not there": {shopRuns, api.PromoteRequest{Branch: "nope"}, api.CodeNamespaceAbsent, "nothing is deployed under that name", "ployzctl service ls"},
		"no branch": {shopRuns, api.PromoteRequest{Branch: "shop"}, api.CodeBranchAbsent, "did not begin as a branch", "ployzctl promote shop NAMESPACE"},
		"no name":   {shopRuns, api.PromoteRequest{Branch: "No"}, api.CodeSpecInvalid, "lower-case", ""},
		"nothing there": {func(t *testing.T, l *lab) {
			tried(t, l)
			l.mustRun(t, deploy.NewRemove(l.kit, "try"))
		}, api.PromoteRequest{Branch: "try", Namespace: "shop"}, api.CodeNamespaceAbsent, "nothing is deployed", "ployzctl service ls"},
		"itself":  {tried, api.PromoteRequest{Branch: "try", Namespace: "try"}, api.CodeBadRequest, "to itself", "ployzctl promote try NAMESPACE"},
		"secrets": {tried, api.PromoteRequest{Branch: "try", Secrets: "all"}, api.CodeBadRequest, `"all"`, ""},
		"hostname": {func(t *testing.T, l *lab) {
			tried(t, l)
			s := asBranch(shop("v2"))
			edit(&s, "web", func(s *api.Service) { s.Routes = []api.Route{{Host: "new.try.test", Port: 80}} })
			l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
		}, api.PromoteRequest{Branch: "try"}, api.CodePromoteUnlike, "new.try.test is the branch's own", "promote, and add it to shop with a deploy"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			c.world(t, l)
			l.refused(t, deploy.NewPromote(l.kit, c.request), c.code, c.says, c.hint)
		})
	}
}

// TestPromoteOfAnyNamespace: to a target that is named also what is no branch can be promoted, if it has no hostnames.
func TestPromoteOfAnyNamespace(t *testing.T) {
	l := newLab(t)
	s := asBranch(shop("v1"))
	edit(&s, "app", func(s *api.Service) { s.Routes = nil })
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	l.mustRun(t, deploy.NewPromote(l.kit, api.PromoteRequest{Branch: "try", Namespace: "shop", Secrets: api.BranchSecretsCopy}))
	if got := l.current(t, "shop"); len(got.Slots) != 4 {
		t.Errorf("it runs %v", got.Slots)
	}
}

// TestPromoteAsShown: a target that changed since the plan was shown is refused, and a branch that changes while it is
// promoted keeps the commit from being made.
func TestPromoteAsShown(t *testing.T) {
	l := newLab(t)
	tried(t, l)
	shown := l.preview(t, promote(l)).Digest
	if again := l.preview(t, promote(l)).Digest; again != shown {
		t.Errorf("the digest was %s and is %s", shown, again)
	}
	l.mustRun(t, deploy.NewScale(l.kit, "shop", "app", 3))
	out := l.runner().Run(t.Context(), operation.Request{Operation: promote(l), PlanDigest: shown})
	if out.Outcome != api.Refused || out.Error.Code != api.CodePlanStale {
		t.Fatalf("%s %v", out.Outcome, out.Error)
	}
	before, meddled := l.snapshot(), false
	l.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if !strings.HasSuffix(b.ID, "-commit") || meddled {
			return nil
		}
		meddled = true
		head, err := l.store.Facts().Get(context.Background(), store.Head("try"))
		if err == nil { // another revision of the same
			_, err = l.store.Facts().Commit(context.Background(), store.Batch{ID: operation.NewID(), Puts: []store.Put{{Key: head.Key, Value: head.Value}}})
		}
		return err
	}})
	out = l.run(promote(l))
	if out.Outcome != api.RolledBack || out.Error.Code != api.CodeConflict || !strings.Contains(out.Error.Message, "try was changed meanwhile") ||
		!strings.Contains(out.Error.Hint, "ployzctl history try; then repeat the command") {
		t.Fatalf("%s %v", out.Outcome, out.Error)
	}
	if after := l.snapshot(); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

// TestPromoteNamesTheLast of many commits that the target made.
func TestPromoteNamesTheLast(t *testing.T) {
	l := newLab(t)
	tried(t, l)
	for range 6 {
		l.mustRun(t, deploy.NewDeploy(l.kit, shop("v1"), nil))
		l.mustRun(t, deploy.NewRollback(l.kit, "shop", 1))
	}
	undone := about(lines(l.preview(t, promote(l))), "undo ")
	if len(undone) != 11 || !strings.HasPrefix(undone[0], "undo commit 13: rollback of commit 1 at ") ||
		!strings.HasSuffix(undone[1], "after the branch began at commit 1: what it changed goes, unless the branch has it too") || undone[10] != "undo 2 commits before those: likewise; see them: ployzctl history shop" {
		t.Errorf("the plan says %q", undone)
	}
}

// TestPromoteFindsItsTarget also where a runner is not told, as in optest's.
func TestPromoteFindsItsTarget(t *testing.T) {
	l := newLab(t)
	tried(t, l)
	op := promote(l)
	if err := op.FindScope(context.Background()); err != nil || op.Scope() != "ns/shop" {
		t.Errorf("%s, %v", op.Scope(), err)
	}
}
