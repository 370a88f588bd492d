package deploy_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
)

func (l *lab) preview(t *testing.T, op operation.Operation) api.Plan {
	t.Helper()
	plan, err := l.runner().Preview(context.Background(), op, "root")
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// lines renders a plan's changes as "action subject: reason".
func lines(plan api.Plan) []string {
	var list []string
	for _, c := range plan.Changes {
		list = append(list, strings.TrimSuffix(fmt.Sprintf("%s %s: %s", c.Action, c.Subject, c.Reason), ": "))
	}
	return list
}

func phases(plan api.Plan) []string {
	var list []string
	for _, p := range plan.Phases {
		list = append(list, p.Name+": "+strings.Join(p.Steps, ", "))
	}
	return list
}

func expectLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestPreviewOfTheFirst(t *testing.T) {
	l := newLab(t)
	plan := l.preview(t, deploy.NewDeploy(l.kit, shop("v1"), nil))
	const new = "fewest of its kind (%d) among 1 eligible"
	expectLines(t, lines(plan),
		"create app-0: "+fmt.Sprintf(new, 0), "create app-1: "+fmt.Sprintf(new, 1), "create db-0: "+fmt.Sprintf(new, 0),
		"create web-0: "+fmt.Sprintf(new, 0), "run migrate: job before", "create route shop.test/")
	expectLines(t, phases(plan),
		"images: pull app:v1 on m1, pull db:v1 on m1, pull web:v1 on m1",
		"start: start db-0 on m1", "ready: ready db-0 on m1", "announce: announce db",
		"start: start migrate on m1", "ready: ready migrate on m1",
		"start: start app-0 on m1, start app-1 on m1", "ready: ready app-0 on m1, ready app-1 on m1", "announce: announce db, app",
		"start: start web-0 on m1", "ready: ready web-0 on m1",
		"clean up: publish ports on m1, routing applied on m1, remove job migrate on m1")
	if to := plan.Changes[0].To; !strings.HasPrefix(to, "app:v1@sha256:") {
		t.Errorf("the image is shown as %s", to)
	}
}

func TestPreviewOfAnUpdate(t *testing.T) {
	l := newLab(t)
	shopRuns(t, l)
	plan := l.preview(t, deploy.NewDeploy(l.kit, shop("v2"), nil))
	for i, want := range []string{"replace app-0", "replace app-1", "keep db-0", "keep web-0", "run migrate"} {
		if got := lines(plan)[i]; !strings.HasPrefix(got, want+": ") {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if c := plan.Changes[0]; !strings.HasPrefix(c.From, "app:v1@") || !strings.HasPrefix(c.To, "app:v2@") || !strings.Contains(c.Reason, "revision changes from") {
		t.Errorf("got %+v", c)
	}
}

// TestDigest: the same world gives the same digest, whoever asks and however often; a moved one refuses.
func TestDigest(t *testing.T) {
	l := newLab(t)
	shopRuns(t, l)
	update := func() operation.Operation { return deploy.NewDeploy(l.kit, shop("v2"), nil) }
	shown := l.preview(t, update())
	if again := l.preview(t, update()); again.Digest != shown.Digest {
		t.Errorf("digests %s and %s", shown.Digest, again.Digest)
	}
	apply := func() api.Outcome {
		return l.runner().Run(context.Background(), operation.Request{Operation: update(), Caller: "another", PlanDigest: shown.Digest})
	}
	for name, move := range map[string]struct{ there, back func() }{
		"an instance ended": {func() { l.runtime.End(l.instance(t, "web-0"), 1) }, func() { l.start(t, "web-0") }},
		"the tag moved": {
			func() { l.images.Serve("app:v2", "another", runtime.ImageConfig{}) },
			func() { l.images.Serve("app:v2", "app:v2", runtime.ImageConfig{}) },
		},
	} {
		move.there()
		if out := apply(); out.Outcome != api.Refused || out.Error.Code != api.CodePlanStale {
			t.Errorf("%s: %s %v", name, out.Outcome, out.Error)
		}
		move.back()
	}
	if out := apply(); out.Outcome != api.Committed {
		t.Errorf("in the world that was shown: %s %v", out.Outcome, out.Error)
	}
	if out := apply(); out.Outcome != api.Refused || out.Error.Code != api.CodePlanStale {
		t.Errorf("a second time: %s %v", out.Outcome, out.Error)
	}
}

func (l *lab) instance(t testing.TB, slot string) string {
	t.Helper()
	s, ok := l.current(t, "shop").Slots[slot]
	if !ok {
		t.Fatalf("no slot %s", slot)
	}
	return s.Instance
}

func (l *lab) start(t testing.TB, slot string) {
	t.Helper()
	if err := l.runtime.Start(context.Background(), l.instance(t, slot)); err != nil {
		t.Fatal(err)
	}
}

// TestSecretMovesTheDigest, and sealing the same value anew does not.
func TestSecretMovesTheDigest(t *testing.T) {
	l := newLab(t)
	with := func(value string) string {
		s := shop("v1")
		s.Secrets = map[string]api.Secret{"password": {Value: []byte(value)}}
		return l.preview(t, deploy.NewDeploy(l.kit, s, nil)).Digest
	}
	if with("a") != with("a") || with("a") == with("b") {
		t.Error("the digest does not follow the secret's value")
	}
}

// TestRequirements is every refusal that a deploy decides by looking, all of them at once where there are several.
func TestRequirements(t *testing.T) {
	external := func(s *api.Spec) {
		s.Secrets["password"] = api.Secret{External: true, Name: "db-password"}
		s.Configs["settings"] = api.Config{External: true}
	}
	for name, c := range map[string]struct {
		world func(t *testing.T, l *lab)
		spec  func(s *api.Spec)
		want  []string
	}{
		"an image that is nowhere": {nil, func(s *api.Spec) { edit(s, "web", func(s *api.Service) { s.Image = "gone:v1" }) },
			[]string{"services.web.image image.not-found"}},
		"stored values that are not there": {nil, external, []string{"configs.settings deploy.config-missing", "secrets.password deploy.secret-missing"}},
		"a listener of the machine": {func(_ *testing.T, l *lab) { l.listening = map[string]string{"tcp/8081": "nginx"} }, nil,
			[]string{"services.web.ports deploy.port-taken"}},
		"a port of another namespace": {otherRuns, nil, []string{"services.app.routes deploy.hostname-taken", "services.web.ports deploy.port-taken"}},
		"a limit without its controller": {nil, func(s *api.Spec) { edit(s, "db", func(s *api.Service) { s.Resources.CPUs, s.Resources.PIDs = 1, 10 }) },
			[]string{"services.db.resources deploy.limit-not-enforceable"}},
		"no machine": {nil, func(s *api.Spec) { edit(s, "db", func(s *api.Service) { s.Placement.Zones = []string{"z9"} }) },
			[]string{"db-0 deploy.no-eligible-machine"}},
		"configs that fit into no commit": {nil, func(s *api.Spec) { s.Configs["settings"] = api.Config{Content: make([]byte, 600_000)} },
			[]string{"configs deploy.spec-invalid"}},
		"more instances than fit into a commit": {nil, func(s *api.Spec) { edit(s, "db", func(s *api.Service) { s.Placement.Replicas = 1000 }) },
			[]string{"shop deploy.spec-invalid"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			s := shop("v1")
			if c.world != nil {
				c.world(t, l)
			}
			if c.spec != nil {
				c.spec(&s)
			}
			was := l.snapshot()
			out := l.run(deploy.NewDeploy(l.kit, s, nil))
			expectRefused(t, out, c.want...)
			if got := l.snapshot(); got != was {
				t.Errorf("a refusal changed\n%s\nto\n%s", was, got)
			}
		})
	}
}

func edit(s *api.Spec, service string, change func(*api.Service)) {
	one := s.Services[service]
	change(&one)
	s.Services[service] = one
}

// otherRuns lets another namespace have the shop's hostname and published port.
func otherRuns(t *testing.T, l *lab) {
	l.mustRun(t, deploy.NewDeploy(l.kit, other(), nil))
}

func other() api.Spec {
	return api.Spec{Namespace: "other", Services: map[string]api.Service{"web": {
		Image: "web:v1", Ports: []api.Port{{Published: 8081, Target: 80, Protocol: "tcp"}},
		Routes: []api.Route{{Host: "shop.test", Port: 80}, {TCP: 5432, Port: 5432}},
	}}}
}

// expectRefused wants a refusal of exactly these subjects and codes.
func expectRefused(t *testing.T, out api.Outcome, want ...string) {
	t.Helper()
	if out.Outcome != api.Refused || out.Error == nil {
		t.Fatalf("it ended %s: %v", out.Outcome, out.Error)
	}
	all := out.Error.Details
	if len(all) == 0 {
		all = []*api.Error{out.Error}
	}
	var got []string
	for _, e := range all {
		got = append(got, e.Subject+" "+string(e.Code))
		if e.Hint == "" && e.Code != api.CodeImageNotFound {
			t.Errorf("%v has no hint", e)
		}
	}
	expectLines(t, got, want...)
}

// TestPortsOfWhatStays: ports can change under an instance that stays, so they are looked at too.
func TestPortsOfWhatStays(t *testing.T) {
	l := newLab(t)
	shopRuns(t, l)
	l.listening = map[string]string{"tcp/9000": "sshd"}
	s := shop("v1")
	edit(&s, "web", func(s *api.Service) { s.Ports = []api.Port{{Published: 9000, Target: 80, Protocol: "tcp"}} })
	expectRefused(t, l.run(deploy.NewDeploy(l.kit, s, nil)), "services.web.ports deploy.port-taken")
}

func TestNothingThere(t *testing.T) {
	l := newLab(t)
	shopRuns(t, l)
	for name, c := range map[string]struct {
		op   operation.Operation
		want string
	}{
		"scale of nothing":      {deploy.NewScale(l.kit, "none", "web", 1), "none deploy.namespace-not-found"},
		"scale of no service":   {deploy.NewScale(l.kit, "shop", "cache", 1), "shop deploy.service-not-found"},
		"restart of no service": {deploy.NewRestart(l.kit, "shop", "cache"), "shop deploy.service-not-found"},
		"rm of nothing":         {deploy.NewRemove(l.kit, "none"), "none deploy.namespace-not-found"},
		"rollback of nothing":   {deploy.NewRollback(l.kit, "none", 0), "none deploy.namespace-not-found"},
		"rollback of the first": {deploy.NewRollback(l.kit, "shop", 0), "shop deploy.commit-not-found"},
		"rollback to nowhere":   {deploy.NewRollback(l.kit, "shop", 9), "shop deploy.commit-not-found"},
	} {
		t.Run(name, func(t *testing.T) { expectRefused(t, l.run(c.op), c.want) })
	}
	for name, op := range map[string]operation.Operation{
		"scale of a job":      deploy.NewScale(l.kit, "shop", "migrate", 2),
		"scale below nothing": deploy.NewScale(l.kit, "shop", "app", -1),
		"a secret's name":     deploy.NewSetSecret(l.kit, "shop", "a.b", []byte("x")),
		"a namespace's name":  deploy.NewSetConfig(l.kit, "Shop", "a", []byte("x")),
		"no such secret":      deploy.NewRemoveSecret(l.kit, "shop", "none"),
		"a bad spec":          deploy.NewDeploy(l.kit, api.Spec{Namespace: "shop", Services: map[string]api.Service{"web": {}}}, nil),
	} {
		if out := l.run(op); out.Outcome != api.Refused || out.Error.Code == api.CodeInternal {
			t.Errorf("%s: %s %v", name, out.Outcome, out.Error)
		}
	}
	if _, err := deploy.History(context.Background(), l.store.Facts(), "none"); api.CodeOf(err) != api.CodeNamespaceAbsent {
		t.Errorf("a history of nothing: %v", err)
	}
}
